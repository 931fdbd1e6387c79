/** Where the contract suites run: the same suite, unchanged, on every backend of the list. */
import { randomUUID } from 'node:crypto'
import { after, before, describe } from 'node:test'
import {
  type CommandArgument,
  type CommandReply,
  type Connection,
  type Target,
  connect,
} from '../../index.js'
import { RedisCluster } from './redis-cluster'
import { SentinelTrio } from './redis-sentinel'
import { RedisServer } from './redis-server'
import { RespClient } from './resp-client'

export interface Backend {
  readonly name: string
  /** Servers behind sockets, with scripts and other clients. */
  readonly isServer: boolean
  /** Keys lie on several servers. */
  readonly isCluster: boolean
  start(): Promise<void>
  stop(): Promise<void>
  /** A place of its own, where nobody else's data is. Only between `start` and `stop`. */
  freshTarget(): Promise<Target>
}

export type Suite = (backend: Backend) => void

export interface SuiteOptions {
  /**
   * On a cluster also where all keys of a place lie in one slot: it has a `keyPrefix` with a hash tag. What takes steps
   * without one is a single script there.
   */
  tagged?: boolean
}

/** Each call of `freshTarget` takes a database for itself. */
const DATABASES = 512

function memory(): Backend {
  return {
    name: 'memory',
    isServer: false,
    isCluster: false,
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    freshTarget: () => Promise.resolve(`memory://${randomUUID()}`),
  }
}

/** Something with numbered databases. */
function withDatabases<S extends { stop(): Promise<void> }>(
  name: string,
  start: (args: string[]) => Promise<S>,
  place: (server: S, database: number) => Target,
): Backend {
  let server: S | undefined
  let used = 0
  return {
    name,
    isServer: true,
    isCluster: false,
    async start() {
      server = await start(['--databases', String(DATABASES)])
    },
    async stop() {
      await server?.stop()
    },
    async freshTarget() {
      if (server === undefined) throw new Error('The backend was not started')
      if (used >= DATABASES) throw new Error(`A suite has ${DATABASES} places and no more`)
      used += 1
      return place(server, used - 1)
    },
  }
}

function cluster({ tagged = false }: SuiteOptions = {}): Backend {
  let servers: RedisCluster | undefined
  return {
    name: tagged ? 'a cluster, with a hash tag' : 'a cluster',
    isServer: true,
    isCluster: true,
    async start() {
      // No suite has a master fail: a machine that is busy shall not look like one that does.
      servers = await RedisCluster.start({ replicas: 0, nodeTimeoutMs: 15_000 })
    },
    async stop() {
      await servers?.stop()
    },
    /** Without a hash tag there is one place only, which is cleared. */
    async freshTarget() {
      if (servers === undefined) throw new Error('The backend was not started')
      const target = { cluster: servers.addresses }
      if (tagged) return { ...target, keyPrefix: `{${randomUUID()}}:` }
      await Promise.all(
        servers.masters.map(async (master) => {
          using client = await master.client()
          await client.command('FLUSHALL')
        }),
      )
      return target
    },
  }
}

function single(): Backend {
  return withDatabases(
    'redis',
    (args) => RedisServer.start({ args }),
    ({ url }, database) => `${url}/${database}`,
  )
}

/** Who may see and clear everything, by the target of a user who may not. */
const administrators = new Map<Target, Target>()

/**
 * A server, or a cluster, that lets the code under test do only what these rules of access control say, on any key and
 * channel; the tests' own looks at the data are free.
 */
export function limitedBackend(name: string, rules: () => readonly string[], isCluster = false): Backend {
  const backend = isCluster ? cluster() : single()
  return {
    ...backend,
    name,
    async start() {
      await backend.start()
      const free = await backend.freshTarget()
      const ports =
        typeof free === 'string'
          ? [Number(new URL(free).port)]
          : (free as { cluster: { port: number }[] }).cluster.map(({ port }) => port)
      // Places are databases, and a few tests send a PING of their own.
      const own = ['+select', '+ping', 'allkeys', 'allchannels', '>limited']
      await Promise.all(
        ports.map(async (port) => {
          using admin = await RespClient.connect({ port })
          await admin.setUser('limited', ...rules(), ...own)
        }),
      )
    },
    async freshTarget() {
      const free = await backend.freshTarget()
      const target =
        typeof free === 'string'
          ? free.replace('redis://', 'redis://limited:limited@')
          : { ...free, username: 'limited', password: 'limited' }
      administrators.set(target, free)
      return target
    },
  }
}

/** Runs a suite on every backend. */
export function onEveryBackend(title: string, suite: Suite, options: SuiteOptions = {}): void {
  const backends = [
    memory(),
    single(),
    withDatabases(
      'Sentinels',
      (args) => SentinelTrio.start({ args }),
      ({ target }, db) => ({ ...target, db }),
    ),
    cluster(),
    ...(options.tagged === true ? [cluster(options)] : []),
  ]
  for (const backend of backends) {
    describe(`${title} on ${backend.name}`, () => {
      before(() => backend.start())
      after(() => backend.stop())
      suite(backend)
    })
  }
}

/**
 * What is stored, past the code under test. Works on every backend, since it only sends plain commands; keys are
 * given in full, but for the prefix that makes a place in a cluster.
 */
export class Data {
  readonly connection: Connection
  /** The `keyPrefix` of the target, which callers leave out: it only makes the place. */
  readonly #prefix: string

  constructor(target: Target) {
    this.connection = connect(administrators.get(target) ?? target)
    const { keyPrefix = '' } = typeof target === 'string' ? {} : (target as { keyPrefix?: string })
    this.#prefix = keyPrefix
  }

  /** The first argument is a key, if there is one. */
  command(name: string, ...args: CommandArgument[]): Promise<CommandReply> {
    const [key, ...rest] = args
    if (this.#prefix === '' || key === undefined) return this.connection.command(name, ...args)
    return this.connection.command(name, this.full(String(key)), ...rest)
  }

  /** A key as it is on the server, and in errors. */
  full(key: string): string {
    return `${this.#prefix}${key}`
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

  /** Without what says for a minute that a request was carried out. */
  async keys(): Promise<string[]> {
    const keys = (await this.connection.command('KEYS', '*')) as string[]
    const own = keys.filter((key) => key.startsWith(this.#prefix) && !key.includes('ferroflow:request:'))
    return own.map((key) => key.slice(this.#prefix.length)).toSorted()
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
    await this.connection.command('FLUSHDB')
  }

  close(): Promise<void> {
    return this.connection.close()
  }
}
