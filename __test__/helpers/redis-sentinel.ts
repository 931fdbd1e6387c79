/** A master, a replica and three Sentinels that watch them: real processes of the test's own, on free ports. */
import { RedisServer } from './redis-server'
import { until } from './wait'

export interface SentinelTrioOptions {
  /** Name of the master. Default: `mymaster` */
  name?: string
  /** `requirepass` of master and replica. */
  password?: string
  /** `requirepass` of the Sentinels. */
  sentinelPassword?: string
  /** Lines of access control for the Sentinels. */
  sentinelUsers?: string[]
  /** After so many milliseconds of silence the master is held for down. Default: 500 */
  downAfterMs?: number
  /** More arguments for master and replica. */
  args?: string[]
}

const READY_MS = 30_000

export class SentinelTrio {
  readonly name: string
  readonly data: readonly [RedisServer, RedisServer]
  readonly sentinels: readonly RedisServer[]
  readonly password: string | undefined

  private constructor(
    options: SentinelTrioOptions,
    data: [RedisServer, RedisServer],
    sentinels: RedisServer[],
  ) {
    this.name = options.name ?? 'mymaster'
    this.password = options.password
    this.data = data
    this.sentinels = sentinels
  }

  /** Starts all five and waits until the Sentinels know each other and the replica. */
  static async start(options: SentinelTrioOptions = {}): Promise<SentinelTrio> {
    const {
      name = 'mymaster',
      password,
      sentinelPassword,
      sentinelUsers,
      downAfterMs = 500,
      args = [],
    } = options
    const started: RedisServer[] = []
    const start = async (server: Promise<RedisServer>): Promise<RedisServer> => {
      started.push(await server)
      return server
    }
    try {
      const auth = password === undefined ? {} : { password }
      const replication = [
        '--repl-diskless-sync-delay',
        '0',
        ...(password === undefined ? [] : ['--masterauth', password]),
        ...args,
      ]
      const master = await start(RedisServer.start({ ...auth, args: replication }))
      const replica = await start(
        RedisServer.start({
          ...auth,
          args: [...replication, '--replicaof', master.host, String(master.port)],
        }),
      )
      const lines = [
        `sentinel monitor ${name} ${master.host} ${master.port} 2`,
        `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
        `sentinel failover-timeout ${name} 3000`,
        ...(password === undefined ? [] : [`sentinel auth-pass ${name} ${password}`]),
        ...(sentinelPassword === undefined ? [] : [`sentinel sentinel-pass ${sentinelPassword}`]),
      ]
      const sentinelOptions = {
        sentinel: lines,
        ...(sentinelPassword === undefined ? {} : { password: sentinelPassword }),
        ...(sentinelUsers === undefined ? {} : { users: sentinelUsers }),
      }
      const sentinels = await Promise.all([1, 2, 3].map(() => start(RedisServer.start(sentinelOptions))))
      const trio = new SentinelTrio(options, [master, replica], sentinels)
      await trio.settled()
      return trio
    } catch (error) {
      await Promise.all(started.map((server) => server.stop()))
      throw error
    }
  }

  /** The options of a client. */
  get target(): { sentinels: { host: string; port: number }[]; name: string; password?: string } {
    const sentinels = this.sentinels.map(({ host, port }) => ({ host, port }))
    return { sentinels, name: this.name, ...(this.password === undefined ? {} : { password: this.password }) }
  }

  /** The master as the first Sentinel that runs names it. */
  async master(): Promise<RedisServer> {
    const sentinel = this.sentinels.find(({ running }) => running) as RedisServer
    const named = await this.#named(sentinel)
    return this.data.find(({ port }) => port === named) as RedisServer
  }

  /** The one of the two that is not the master. */
  async replica(): Promise<RedisServer> {
    const master = await this.master()
    return this.data.find((server) => server !== master) as RedisServer
  }

  /** Asks for a failover while the master is well, and waits until the other one takes writes. */
  async failover(): Promise<RedisServer> {
    const next = await this.replica()
    using client = await (this.sentinels[0] as RedisServer).client()
    await client.command('SENTINEL', 'FAILOVER', this.name)
    await this.promoted(next)
    return next
  }

  /** Waits until a server takes writes, and every Sentinel names it. */
  async promoted(server: RedisServer): Promise<void> {
    await until('the replica is a master', () => isMaster(server), READY_MS)
    const running = this.sentinels.filter((sentinel) => sentinel.running)
    await until(
      'every Sentinel names it',
      async () =>
        (await Promise.all(running.map((sentinel) => this.#named(sentinel)))).every(
          (port) => port === server.port,
        ),
      READY_MS,
    )
  }

  /** Waits until every Sentinel knows the two others and a replica that is in sync. */
  async settled(): Promise<void> {
    const running = this.sentinels.filter((sentinel) => sentinel.running)
    await Promise.all(
      running.map(async (sentinel) => {
        using client = await sentinel.client()
        await until(
          `the Sentinel on port ${sentinel.port} knows everybody`,
          async () => {
            const master = pairs(await client.command<string[]>('SENTINEL', 'MASTER', this.name))
            const replicas = await client.command<string[][]>('SENTINEL', 'REPLICAS', this.name)
            const inSync = replicas.map(pairs).some((replica) => replica['master-link-status'] === 'ok')
            return Number(master['num-other-sentinels']) === running.length - 1 && inSync
          },
          READY_MS,
        )
      }),
    )
  }

  /** The port of the master as a Sentinel knows it. */
  async #named(sentinel: RedisServer): Promise<number> {
    using client = await sentinel.client()
    const [, port] = await client.command<string[]>('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.name)
    return Number(port)
  }

  async stop(): Promise<void> {
    await Promise.all([...this.sentinels, ...this.data].map((server) => server.stop()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}

/** A change of role ends the connections that there are, also this one. */
async function isMaster(server: RedisServer): Promise<boolean> {
  try {
    using client = await server.client()
    return (await client.info('replication'))['role'] === 'master'
  } catch {
    return false
  }
}

function pairs(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1] ?? '']] : [])),
  )
}
