/**
 * Where the contract suites run: the same suite, unchanged, on every backend of the list. Cluster and Sentinel get
 * their places here once they exist.
 */
import { randomUUID } from 'node:crypto'
import { after, before, describe } from 'node:test'
import { type CommandArgument, type CommandReply, type Connection, connect } from '../../index.js'
import { RedisServer } from './redis-server'

export interface Backend {
  readonly name: string
  /** A server behind a socket, with scripts and other clients. */
  readonly isServer: boolean
  start(): Promise<void>
  stop(): Promise<void>
  /** A place of its own, where nobody else's data is. Only between `start` and `stop`. */
  freshTarget(): string
}

export type Suite = (backend: Backend) => void

/** Each call of `freshTarget` takes a database for itself. */
const DATABASES = 512

function memory(): Backend {
  return {
    name: 'memory',
    isServer: false,
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    freshTarget: () => `memory://${randomUUID()}`,
  }
}

function single(): Backend {
  let server: RedisServer | undefined
  let used = 0
  return {
    name: 'redis',
    isServer: true,
    async start() {
      server = await RedisServer.start({ args: ['--databases', String(DATABASES)] })
    },
    async stop() {
      await server?.stop()
    },
    freshTarget() {
      if (server === undefined) throw new Error('The backend was not started')
      if (used >= DATABASES) throw new Error(`A suite has ${DATABASES} places and no more`)
      const target = `${server.url}/${used}`
      used += 1
      return target
    },
  }
}

/** Who may see and clear everything, by the target of a user who may not. */
const administrators = new Map<string, string>()

/**
 * A server that lets the code under test do only what these rules of access control say, on any key and channel;
 * the tests' own looks at the data are free.
 */
export function limitedBackend(name: string, rules: () => readonly string[]): Backend {
  const server = single()
  return {
    ...server,
    name,
    async start() {
      await server.start()
      const target = server.freshTarget()
      const admin = connect(target)
      // Places are databases, and a few tests send a PING of their own.
      await admin.command(
        'ACL',
        'SETUSER',
        'limited',
        ...rules(),
        '+select',
        '+ping',
        'allkeys',
        'allchannels',
        '>limited',
      )
      await admin.close()
    },
    freshTarget() {
      const free = server.freshTarget()
      const target = free.replace('redis://', 'redis://limited:limited@')
      administrators.set(target, free)
      return target
    },
  }
}

/** Runs a suite on every backend. */
export function onEveryBackend(title: string, suite: Suite): void {
  for (const backend of [memory(), single()]) {
    describe(`${title} on ${backend.name}`, () => {
      before(() => backend.start())
      after(() => backend.stop())
      suite(backend)
    })
  }
}

/**
 * What is stored, past the code under test. Works on every backend, since it only sends plain commands; keys are
 * given in full.
 */
export class Data {
  readonly connection: Connection

  constructor(target: string) {
    this.connection = connect(administrators.get(target) ?? target)
  }

  command(name: string, ...args: CommandArgument[]): Promise<CommandReply> {
    return this.connection.command(name, ...args)
  }

  /** A string as it is stored, or null. */
  async get(key: string): Promise<string | null> {
    return (await this.command('GET', key)) as string | null
  }

  async set(key: string, value: string): Promise<void> {
    await this.command('SET', key, value)
  }

  /** A hash as it is stored; empty if there is none. */
  async hash(key: string): Promise<Record<string, string>> {
    const words = (await this.command('HGETALL', key)) as string[]
    const pairs = words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1]]] : []))
    return Object.fromEntries(pairs) as Record<string, string>
  }

  async setHash(key: string, fields: Record<string, string>): Promise<void> {
    await this.command('HSET', key, ...Object.entries(fields).flat())
  }

  /** Milliseconds left; -1 without an end, -2 without an entry. */
  async pttl(key: string): Promise<number> {
    return (await this.command('PTTL', key)) as number
  }

  async exists(key: string): Promise<boolean> {
    return (await this.command('EXISTS', key)) === 1
  }

  async keys(): Promise<string[]> {
    return ((await this.command('KEYS', '*')) as string[]).toSorted()
  }

  /** Everything that is stored, to compare with later. */
  async snapshot(): Promise<Record<string, unknown>> {
    const entries = (await this.keys()).map(async (key) => {
      const type = await this.command('TYPE', key)
      const value = type === 'hash' ? await this.hash(key) : type === 'string' ? await this.get(key) : type
      return [key, value] as const
    })
    return Object.fromEntries(await Promise.all(entries))
  }

  /** Of that, what the contracts name: without the keys of our own beside the locks. */
  async contracted(): Promise<Record<string, unknown>> {
    const all = Object.entries(await this.snapshot())
    return Object.fromEntries(all.filter(([key]) => !key.includes('ferroflow:')))
  }

  async clear(): Promise<void> {
    await this.command('FLUSHDB')
  }

  close(): Promise<void> {
    return this.connection.close()
  }
}
