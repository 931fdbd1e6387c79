/**
 * A real redis-server of the test's own: a free port on 127.0.0.1, a temporary folder, nothing kept on disk.
 *
 * Tests never use a server that somebody else started, so that no test can delete or depend on foreign data.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { RespClient, RespError, type RespClientOptions } from './resp-client'

export interface RedisServerOptions {
  /** `requirepass` */
  password?: string
  /** Listen on a Unix socket in the temporary folder as well. Default: false */
  unixSocket?: boolean
  /** Lines of access control, for instance `alice on >secret ~app:* +@all`. */
  users?: string[]
  /** Default: notice */
  logLevel?: 'debug' | 'verbose' | 'notice' | 'warning'
  /** More arguments, for instance `['--cluster-enabled', 'yes']`. They win over everything above. */
  args?: string[]
  /** How long to wait until the server answers. Default: 10000 */
  readyTimeoutMs?: number
  /** A port that must be used. Default: any free one */
  port?: number
  /** Run as a Sentinel with these lines in its configuration, which may say nothing about data. */
  sentinel?: string[]
}

type Signal = 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'

const HOST = '127.0.0.1'
const BIND_ATTEMPTS = 5

export class RedisServer {
  readonly host = HOST
  readonly port: number
  /** Path of the Unix socket, where one was asked for. */
  readonly socketPath: string | undefined
  readonly password: string | undefined
  readonly #options: RedisServerOptions
  readonly #folder: string
  #child: ChildProcess | undefined

  private constructor(options: RedisServerOptions, port: number) {
    this.#options = options
    this.port = port
    this.password = options.password
    this.#folder = mkdtempSync(join(tmpdir(), 'ferroflow-redis-'))
    servers.add(this)
    this.socketPath = options.unixSocket ? join(this.#folder, 'redis.sock') : undefined
  }

  /** Starts a server and waits until it answers. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    for (let attempt = 1; ; attempt += 1) {
      const server = new RedisServer(options, options.port ?? (await findFreePort()))
      try {
        // oxlint-disable-next-line no-await-in-loop -- the next attempt depends on this one
        await server.#launch()
        return server
      } catch (error) {
        const log = server.log()
        server.#discard()
        // Between looking for a free port and using it another process may have taken it.
        const retry = options.port === undefined && attempt < BIND_ATTEMPTS && log.includes('already in use')
        if (!retry) throw error
      }
    }
  }

  /** `redis://127.0.0.1:port`, with the password if there is one. */
  get url(): string {
    const credentials = this.password === undefined ? '' : `:${encodeURIComponent(this.password)}@`
    return `redis://${credentials}${HOST}:${this.port}`
  }

  /** Process id, or undefined while the server is down. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  get running(): boolean {
    return this.#child !== undefined
  }

  /** How the test's own client reaches the server. */
  get address(): RespClientOptions {
    return {
      host: HOST,
      port: this.port,
      ...(this.password === undefined ? {} : { password: this.password }),
    }
  }

  /** A client of the test's own; the caller closes it. */
  client(options: RespClientOptions = {}): Promise<RespClient> {
    return RespClient.connect({ ...this.address, ...options })
  }

  /** Everything that the server has logged, over all restarts. */
  log(): string {
    try {
      return readFileSync(join(this.#folder, 'redis.log'), 'utf8')
    } catch {
      return ''
    }
  }

  /** Ends the server in order and removes its folder. May be called twice. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
    this.#discard()
  }

  /** Ends the server as a crash would. `restart` or `stop` may follow. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** Starts the server again on the same port, after `kill` or instead of a running one. Its data is gone. */
  async restart(): Promise<void> {
    await this.#end('SIGTERM')
    await this.#launch()
  }

  /** Freezes the process: connections stay open, and nothing is answered until `resume`. */
  pause(): void {
    this.#signal('SIGSTOP')
  }

  resume(): void {
    this.#signal('SIGCONT')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #launch(): Promise<void> {
    const { readyTimeoutMs = 10_000, args = [] } = this.#options
    const config = join(this.#folder, 'redis.conf')
    writeFileSync(config, this.#config(), { mode: 0o600 })
    const log = openSync(join(this.#folder, 'redis.log'), 'a')
    const mode = this.#options.sentinel === undefined ? [] : ['--sentinel']
    const child = spawn(serverProgram(), [config, ...mode, ...args], {
      cwd: this.#folder,
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    this.#child = child
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(`could not be started: ${error.message}`))
      child.once('exit', (code, signal) => resolve(`ended with ${signal ?? `code ${code}`}`))
    })
    void ended.then(() => this.#forget(child))
    const failure = await Promise.race([ended, this.#ready(Date.now() + readyTimeoutMs)])
    if (failure === undefined) return
    await this.#end('SIGKILL')
    throw new Error(
      `${serverProgram()} on port ${this.port} ${failure}. Its log:\n${this.log() || '(empty)'}`,
    )
  }

  #config(): string {
    const { password, users = [], logLevel = 'notice', sentinel } = this.#options
    return [
      `bind ${HOST}`,
      `port ${this.port}`,
      `dir "${this.#folder}"`,
      ...(sentinel ?? ['save ""', 'appendonly no']),
      `loglevel ${logLevel}`,
      ...(this.socketPath === undefined ? [] : [`unixsocket "${this.socketPath}"`]),
      ...(password === undefined ? [] : [`requirepass "${password}"`]),
      ...users.map((user) => `user ${knowsChannelRules() ? user : withoutChannelRules(user)}`),
      '',
    ].join('\n')
  }

  /** Resolves with undefined once the server answers, with a reason when it is too late. */
  async #ready(deadline: number): Promise<string | undefined> {
    let last = 'did not answer'
    while (Date.now() < deadline && this.running) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- polling
        const client = await RespClient.connect({ host: HOST, port: this.port, connectTimeoutMs: 500 })
        try {
          const late = delay(1000, 'did not answer PING', { ref: false })
          // oxlint-disable-next-line no-await-in-loop -- polling
          const answer = await Promise.race([client.command('PING'), late])
          if (answer === 'PONG') return undefined
          last = String(answer)
        } finally {
          client.close()
        }
      } catch (error) {
        // Whoever asks for a password is up.
        if (error instanceof RespError && ['NOAUTH', 'NOPERM'].includes(error.code)) return undefined
        last = `did not answer: ${(error as Error).message}`
      }
      // oxlint-disable-next-line no-await-in-loop -- polling
      await delay(20)
    }
    return last
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const exited = child.pid === undefined ? Promise.resolve() : once(child, 'exit')
    // A frozen process acts on SIGTERM only after it continues.
    child.kill('SIGCONT')
    child.kill(signal)
    const late = setTimeout(() => child.kill('SIGKILL'), 5000)
    await exited
    clearTimeout(late)
    this.#forget(child)
  }

  #signal(signal: Signal): void {
    if (this.#child === undefined) throw new Error('The server is not running')
    this.#child.kill(signal)
  }

  #forget(child: ChildProcess): void {
    if (this.#child === child) this.#child = undefined
  }

  #discard(): void {
    servers.delete(this)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Ends everything at once, where there is no time left to wait. */
  static abandonAll(): void {
    for (const server of servers) {
      server.#child?.kill('SIGKILL')
      server.#discard()
    }
  }
}

/** What tests run on; FERROFLOW_REDIS_SERVER names another than the installed one. */
function serverProgram(): string {
  return process.env['FERROFLOW_REDIS_SERVER'] || 'redis-server'
}

/** `[major, minor]` of the server that tests run on; those of Valkey are later than those of Redis. */
export function serverVersion(): readonly [major: number, minor: number] {
  const text = execFileSync(serverProgram(), ['--version'], { encoding: 'utf8' })
  const [, major, minor] = /v=(\d+)\.(\d+)/.exec(text) ?? []
  return [Number(major), Number(minor)]
}

/** Redis 6.0 lets everybody use every channel, and knows no rule about it. */
function knowsChannelRules(): boolean {
  const [major, minor] = serverVersion()
  return major > 6 || (major === 6 && minor >= 2)
}

function withoutChannelRules(user: string): string {
  const rules = user.split(' ').filter((rule) => !rule.startsWith('&'))
  return rules.filter((rule) => !/^(?:all|reset)channels$/.test(rule)).join(' ')
}

/** A port that nobody listens on at this moment. */
export async function findFreePort(): Promise<number> {
  const probe = createServer()
  probe.listen(0, HOST)
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

/** Servers that were not stopped yet. None of them survives the process that started it. */
const servers = new Set<RedisServer>()

process.once('exit', () => RedisServer.abandonAll())
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => {
    RedisServer.abandonAll()
    process.kill(process.pid, signal)
  })
