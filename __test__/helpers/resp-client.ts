/**
 * A tiny Redis client for the tests themselves: what is stored, which commands ran, who is connected.
 *
 * It shares nothing with the code under test (own socket, own parser), so that a mistake in that code cannot hide
 * itself by making the same mistake when the test looks.
 */
import { connect as connectSocket, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { RespParser, type RespValue } from './resp-parser'

export interface RespClientOptions {
  /** Default: 127.0.0.1 */
  host?: string
  port?: number
  /** A Unix socket instead of host and port. */
  path?: string
  username?: string
  password?: string
  /** Wait at most so long for the connection. Default: 2000 */
  connectTimeoutMs?: number
}

/** A reply in plain JavaScript values: strings in UTF-8, maps as objects, integers as numbers where they fit. */
export type Reply = string | number | bigint | boolean | null | Reply[] | { [key: string]: Reply }

/** The server answered with an error. `code` is its first word, for instance `WRONGTYPE`. */
export class RespError extends Error {
  override readonly name = 'RespError'
  readonly code: string

  constructor(message: string) {
    super(message)
    this.code = message.split(' ', 1)[0] ?? ''
  }
}

/** One row of `INFO commandstats`. */
export interface CommandStats {
  calls: number
  usec: number
  rejected_calls: number
  failed_calls: number
}

/** One command that the server ran, as `MONITOR` shows it. */
export interface MonitoredCommand {
  time: number
  db: number
  /** `127.0.0.1:51234`, `unix:/path` or `lua`. */
  source: string
  /** The command and its arguments, unescaped. */
  args: string[]
}

interface Waiting {
  resolve: (value: RespValue) => void
  reject: (error: Error) => void
}

export class RespClient {
  readonly #socket: Socket
  readonly #waiting: Waiting[] = []
  readonly #pushHandlers: ((value: RespValue) => void)[] = []
  #closedBy: Error | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    const parser = new RespParser({ onMessage: (value) => this.#receive(value) })
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      try {
        parser.push(chunk)
      } catch (error) {
        socket.destroy(error as Error)
      }
    })
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(new Error('The server closed the connection')))
  }

  static async connect(options: RespClientOptions): Promise<RespClient> {
    const socket = await open(options)
    const client = new RespClient(socket)
    if (options.password !== undefined)
      await client.command('AUTH', ...(options.username ? [options.username] : []), options.password)
    return client
  }

  /** Sends a command. Commands that are sent without waiting form a pipeline. @throws RespError */
  async command<T extends Reply = Reply>(...args: (string | number | Buffer)[]): Promise<T> {
    return toReply(await this.rawCommand(...args)) as T
  }

  /** As `command`, with bytes and types kept; an error reply is a value here. */
  rawCommand(...args: (string | number | Buffer)[]): Promise<RespValue> {
    if (this.#closedBy !== undefined) return Promise.reject(this.#closedBy)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#socket.write(encodeCommand(args))
    })
  }

  /** Called for everything that answers no command: RESP3 pushes, and lines of MONITOR. */
  onPush(handler: (value: RespValue) => void): void {
    this.#pushHandlers.push(handler)
  }

  /** `INFO` of one section as key and value. */
  async info(section: string): Promise<Record<string, string>> {
    const text = await this.command<string>('INFO', section)
    const pairs = text.split('\r\n').filter((line) => line.includes(':') && !line.startsWith('#'))
    return Object.fromEntries(
      pairs.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
    )
  }

  /** Sets a user by these rules. Those for channels are left out where the server knows none, as Redis 6.0 does. */
  async setUser(name: string, ...rules: readonly string[]): Promise<void> {
    try {
      await this.command('ACL', 'SETUSER', name, ...rules)
    } catch (error) {
      if (!/modifier '(?:&|\w+channels')/.test(String(error))) throw error
      const known = rules.filter((rule) => !/^(?:&|\w+channels$)/.test(rule))
      await this.command('ACL', 'SETUSER', name, ...known)
    }
  }

  /** How often each command ran since `resetCommandStats`, by its name in lower case (`set`, `client|list`). */
  async commandStats(): Promise<Record<string, CommandStats>> {
    const info = await this.info('commandstats')
    return Object.fromEntries(
      Object.entries(info).map(([key, value]) => {
        const fields = Object.fromEntries(
          value.split(',').map((field) => field.split('=') as [string, string]),
        )
        const number = (name: string): number => Number(fields[name] ?? 0)
        const stats = {
          calls: number('calls'),
          usec: number('usec'),
          rejected_calls: number('rejected_calls'),
          failed_calls: number('failed_calls'),
        }
        return [key.replace(/^cmdstat_/, ''), stats]
      }),
    )
  }

  async resetCommandStats(): Promise<void> {
    await this.command('CONFIG', 'RESETSTAT')
  }

  /** `CLIENT LIST`, a row per connection. Tell connections apart by `name`, never by their number. */
  async clientList(): Promise<Record<string, string>[]> {
    const text = await this.command<string>('CLIENT', 'LIST')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) =>
        Object.fromEntries(
          line.split(' ').map((field) => {
            const equals = field.indexOf('=')
            return [field.slice(0, equals), field.slice(equals + 1)]
          }),
        ),
      )
  }

  /** All keys with a pattern. For servers that the test has to itself. */
  async keys(pattern = '*'): Promise<string[]> {
    return (await this.command<string[]>('KEYS', pattern)).toSorted()
  }

  close(): void {
    this.#fail(new Error('The client was closed'))
    this.#socket.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #receive(value: RespValue): void {
    const waiting = value.type === 'push' ? undefined : this.#waiting.shift()
    if (waiting !== undefined) waiting.resolve(value)
    else for (const handler of this.#pushHandlers) handler(value)
  }

  #fail(error: Error): void {
    this.#closedBy ??= error
    for (const { reject } of this.#waiting.splice(0)) reject(this.#closedBy)
  }
}

/** Records what the server executes, on a connection of its own. */
export class Monitor {
  readonly commands: MonitoredCommand[] = []
  readonly #client: RespClient
  readonly #options: RespClientOptions

  private constructor(client: RespClient, options: RespClientOptions) {
    this.#client = client
    this.#options = options
    client.onPush((value) => {
      if (value.type === 'simple-string') this.commands.push(parseMonitorLine(value.text))
    })
  }

  static async start(options: RespClientOptions): Promise<Monitor> {
    const client = await RespClient.connect(options)
    const monitor = new Monitor(client, options)
    await client.command('MONITOR')
    return monitor
  }

  /** Names of the commands in the order in which they ran, in upper case. */
  get names(): string[] {
    return this.commands.map(({ args }) => (args[0] ?? '').toUpperCase())
  }

  /** Waits until everything that the server has run by now is recorded, then ends. */
  async stop(): Promise<void> {
    const marker = `end of monitor ${Math.random()}`
    using client = await RespClient.connect(this.#options)
    await client.command('ECHO', marker)
    const isMarker = ({ args }: MonitoredCommand): boolean => args[1] === marker
    const deadline = Date.now() + 5000
    while (!this.commands.some(isMarker)) {
      if (Date.now() > deadline) throw new Error('MONITOR did not show the last command within 5 s')
      // oxlint-disable-next-line no-await-in-loop -- polling
      await delay(1)
    }
    this.#client.close()
    this.commands.splice(this.commands.findIndex(isMarker))
  }
}

/** A command as a RESP array of bulk strings. */
export function encodeCommand(args: readonly (string | number | Buffer)[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${args.length}\r\n`)]
  for (const arg of args) {
    const bytes = Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg))
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'))
  }
  return Buffer.concat(parts)
}

/** Plain values. @throws RespError for an error reply */
export function toReply(value: RespValue): Reply {
  switch (value.type) {
    case 'simple-string':
      return value.text
    case 'bulk-string':
    case 'verbatim-string':
      return value.bytes.toString('utf8')
    case 'error':
      throw new RespError(value.text)
    case 'bulk-error':
      throw new RespError(value.bytes.toString('utf8'))
    case 'integer':
      return Number.isSafeInteger(Number(value.value)) ? Number(value.value) : value.value
    case 'big-number':
    case 'double':
    case 'boolean':
      return value.value
    case 'null':
      return null
    case 'map':
      return Object.fromEntries(value.entries.map(([key, item]) => [String(toReply(key)), toReply(item)]))
    case 'inline-command':
      return value.words.map(String)
    default:
      return value.items.map(toReply)
  }
}

/** `1700000000.123456 [0 127.0.0.1:5000] "set" "k" "v\r\n"` */
export function parseMonitorLine(line: string): MonitoredCommand {
  const head = /^(\d+\.\d+) \[(\d+) ([^\]]*)\] /.exec(line)
  if (head === null) throw new Error(`Not a line of MONITOR: ${line}`)
  const quoted = line.slice(head[0].length).match(/"(?:[^"\\]|\\.)*"/g) ?? []
  return {
    time: Number(head[1]),
    db: Number(head[2]),
    source: head[3] ?? '',
    args: quoted.map((word) => unescape(word.slice(1, -1))),
  }
}

const ESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', a: '\u0007', b: '\b' }

/** MONITOR escapes bytes, not characters, so the text is rebuilt byte by byte. */
function unescape(text: string): string {
  const bytes = text.replaceAll(/\\(x[0-9a-f]{2}|.)/g, (_all, escape: string) =>
    escape.length === 3
      ? String.fromCodePoint(Number.parseInt(escape.slice(1), 16))
      : (ESCAPES[escape] ?? escape),
  )
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

function open(options: RespClientOptions): Promise<Socket> {
  const { host = '127.0.0.1', port, path, connectTimeoutMs = 2000 } = options
  if (path === undefined && port === undefined) throw new TypeError('Either port or path is needed')
  return new Promise((resolve, reject) => {
    const socket =
      path === undefined ? connectSocket({ host, port: port as number }) : connectSocket({ path })
    const timer = setTimeout(
      () => socket.destroy(new Error(`No connection within ${connectTimeoutMs} ms`)),
      connectTimeoutMs,
    )
    socket.once('error', reject)
    socket.once('close', () => clearTimeout(timer))
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', reject)
      resolve(socket)
    })
  })
}
