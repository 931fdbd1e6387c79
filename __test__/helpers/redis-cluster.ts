/**
 * A real Redis Cluster of the test's own: masters with all slots spread evenly, and replicas, on free ports. Built with
 * nothing but commands, so that no `redis-cli` is needed.
 */
import { BUS_OFFSET, type RedisClusterOptions, startNode, withArgsOf } from './redis-cluster-node'
import type { RedisServer } from './redis-server'
import type { RespClient } from './resp-client'
import { until } from './wait'

/** A node as `CLUSTER NODES` shows it. */
export interface ClusterNode {
  id: string
  port: number
  isMaster: boolean
  isFailed: boolean
  /** First and last slots of its ranges. */
  slots: [first: number, last: number][]
  /** The id of a replica's master. */
  masterId: string | undefined
}

export const SLOTS = 16_384
const READY_MS = 30_000
/** Longer than the nodes take for an attempt. */
const FAILOVER_MS = 7000
const FAILOVER_ATTEMPTS = 4

export class RedisCluster {
  /** Masters first, in the order of their slots, then replicas in the order of their masters, then what was added. */
  readonly servers: readonly RedisServer[]
  /** Where the nodes listen with TLS, in the order of `servers`. */
  readonly tlsPorts: readonly (number | undefined)[]
  readonly #masters: number
  readonly #replicas: number
  readonly #options: RedisClusterOptions
  readonly #servers: RedisServer[]

  private constructor(
    nodes: { server: RedisServer; tlsPort: number | undefined }[],
    options: RedisClusterOptions,
  ) {
    const { masters = 3, replicas = 1 } = options
    this.#servers = nodes.map(({ server }) => server)
    this.servers = this.#servers
    this.tlsPorts = nodes.map(({ tlsPort }) => tlsPort)
    this.#masters = masters
    this.#replicas = replicas
    this.#options = options
  }

  /** Starts a cluster and waits until every node says that it works. */
  static async start(options: RedisClusterOptions = {}): Promise<RedisCluster> {
    const { masters = 3, replicas = 1 } = options
    const started = await Promise.allSettled(
      Array.from({ length: masters * (1 + replicas) }, (_, node) => startNode(withArgsOf(options, node))),
    )
    const nodes = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    const cluster = new RedisCluster(nodes, options)
    try {
      const failed = started.find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      await cluster.#join()
    } catch (error) {
      await cluster.stop()
      throw error
    }
    return cluster
  }

  get masters(): readonly RedisServer[] {
    return this.servers.slice(0, this.#masters)
  }

  get replicas(): readonly RedisServer[] {
    return this.servers.slice(this.#masters, this.#masters * (1 + this.#replicas))
  }

  /** Startup nodes as a client takes them. */
  get addresses(): { host: string; port: number }[] {
    return this.servers.map(({ host, port }) => ({ host, port }))
  }

  /** The nodes as one of them sees them. */
  async nodes(seenBy: RedisServer = this.#anyRunning()): Promise<ClusterNode[]> {
    using client = await seenBy.client()
    return parseNodes(await client.command<string>('CLUSTER', 'NODES'))
  }

  async slotOf(key: string): Promise<number> {
    using client = await this.#anyRunning().client()
    return await client.command<number>('CLUSTER', 'KEYSLOT', key)
  }

  /** The master that serves a slot, as the nodes that run see it. */
  async ownerOf(slot: number, by?: RedisServer): Promise<RedisServer> {
    const nodes = await this.nodes(by)
    const owner = nodes.find(({ slots }) => slots.some(([first, last]) => first <= slot && slot <= last))
    if (owner === undefined) throw new Error(`No node serves slot ${slot}`)
    return this.#byPort(owner.port)
  }

  /** The first replica of a master. */
  async replicaOf(master: RedisServer): Promise<RedisServer> {
    const nodes = await this.nodes()
    const { id } = nodes.find(({ port }) => port === master.port) as ClusterNode
    const replica = nodes.find(({ masterId, isFailed }) => masterId === id && !isFailed)
    if (replica === undefined) throw new Error(`The master on port ${master.port} has no replica`)
    return this.#byPort(replica.port)
  }

  /** Makes a replica the master of its slots, in agreement with the present one or (`force`) without it. */
  async failover(replica: RedisServer, { force = false } = {}): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
      using client = await replica.client()
      // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
      await client.command('CLUSTER', 'FAILOVER', ...(force ? ['TAKEOVER'] : []))
      try {
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        return await this.promoted(replica, FAILOVER_MS)
      } catch (error) {
        // Nodes give an attempt up if they do not agree in time.
        if (attempt === FAILOVER_ATTEMPTS) throw error
      }
    }
  }

  /** Waits until every running node sees that a replica has become a master with slots, and the cluster works. */
  async promoted(replica: RedisServer, timeoutMs = READY_MS): Promise<void> {
    const running = this.servers.filter((server) => server.running)
    const isSeen = async (server: RedisServer): Promise<boolean> => {
      const nodes = await this.nodes(server)
      const node = nodes.find(({ port }) => port === replica.port)
      return node !== undefined && node.isMaster && node.slots.length > 0
    }
    await until(
      'every node sees that the replica is a master',
      async () => (await Promise.all(running.map(isSeen))).every(Boolean),
      timeoutMs,
    )
    await until('the cluster works', () => isWritable(replica), timeoutMs)
  }

  /**
   * Moves a slot with all its keys to another master, as resharding does. `between` runs while the slot is in
   * motion, after half of the keys have gone.
   */
  async migrateSlot(slot: number, to: RedisServer, between?: () => Promise<void>): Promise<void> {
    const from = await this.ownerOf(slot)
    const nodes = await this.nodes()
    const idOf = ({ port }: RedisServer): string =>
      (nodes.find((node) => node.port === port) as ClusterNode).id
    using source = await from.client()
    using target = await to.client()
    await target.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', idOf(from))
    await source.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', idOf(to))
    const keys = await source.command<string[]>('CLUSTER', 'GETKEYSINSLOT', slot, 100_000)
    await moveKeys(source, to, keys.slice(0, Math.ceil(keys.length / 2)))
    await between?.()
    // Traffic may have made keys on the way.
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop -- until none is left
      const left = await source.command<string[]>('CLUSTER', 'GETKEYSINSLOT', slot, 1000)
      if (left.length === 0) break
      // oxlint-disable-next-line no-await-in-loop -- until none is left
      await moveKeys(source, to, left)
    }
    // The new owner first, so that the slot is never without one.
    await target.command('CLUSTER', 'SETSLOT', slot, 'NODE', idOf(to))
    await source.command('CLUSTER', 'SETSLOT', slot, 'NODE', idOf(to))
    const running = this.servers.filter((server) => server.running)
    await until('every node knows who serves the slot', async () => {
      const owners = await Promise.all(running.map((server) => this.ownerOf(slot, server)))
      return owners.every((owner) => owner === to)
    })
  }

  /** Adds a master without slots. */
  async addMaster(): Promise<RedisServer> {
    const { server } = await startNode(withArgsOf(this.#options, this.servers.length))
    this.#servers.push(server)
    using client = await (this.servers[0] as RedisServer).client()
    await client.command('CLUSTER', 'MEET', server.host, server.port, server.port + BUS_OFFSET)
    await this.settled()
    return server
  }

  /** Waits until every running node holds the cluster for working and knows all running nodes. */
  async settled(): Promise<void> {
    const running = this.servers.filter((server) => server.running)
    await Promise.all(
      running.map(async (server) => {
        using client = await server.client()
        await until(
          `the node on port ${server.port} sees the cluster work`,
          async () => {
            const nodes = parseNodes(await client.command<string>('CLUSTER', 'NODES'))
            const alive = nodes.filter(({ isFailed }) => !isFailed)
            return (
              (await stateOf(client)) === 'ok' && alive.length >= running.length && (await inSync(client))
            )
          },
          READY_MS,
        )
      }),
    )
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #join(): Promise<void> {
    const clients = await Promise.all(this.servers.map((server) => server.client()))
    try {
      const [first, ...others] = clients as [RespClient, ...RespClient[]]
      // Equal epochs would have to be sorted out by the nodes, one after the other.
      await Promise.all(
        clients.map((client, index) => client.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)),
      )
      await Promise.all(
        this.servers.slice(1).map(({ host, port }, index) => {
          const meetPort = this.tlsPorts[index + 1] ?? port
          return first.command('CLUSTER', 'MEET', host, meetPort, meetPort + BUS_OFFSET)
        }),
      )
      const size = Math.ceil(SLOTS / this.#masters)
      const masters = clients.slice(0, this.#masters)
      await Promise.all(masters.map((client, index) => addSlots(client, index * size, size)))
      const ids = await Promise.all(masters.map((client) => client.command<string>('CLUSTER', 'MYID')))
      const replicas = others.slice(this.#masters - 1)
      await Promise.all(
        replicas.map((client, index) => replicate(client, ids[index % this.#masters] as string)),
      )
    } finally {
      for (const client of clients) client.close()
    }
    await this.settled()
    const replicas = this.servers.length - this.#masters
    const isComplete = async (server: RedisServer): Promise<boolean> =>
      (await this.nodes(server)).filter(({ isMaster }) => !isMaster).length === replicas
    await until(
      'every node knows who is a replica',
      async () => (await Promise.all(this.servers.map(isComplete))).every(Boolean),
      READY_MS,
    )
  }

  #anyRunning(): RedisServer {
    const server = this.servers.find(({ running }) => running)
    if (server === undefined) throw new Error('No node of the cluster is running')
    return server
  }

  #byPort(port: number): RedisServer {
    return this.servers.find((server) => server.port === port) as RedisServer
  }
}

/** Rows of `CLUSTER NODES`. */
export function parseNodes(text: string): ClusterNode[] {
  const rows = text.trim().split('\n')
  return rows.map((row) => {
    const [id = '', address = '', flags = '', master = '', , , , , ...ranges] = row.split(' ')
    const owned = ranges.filter((range) => !range.startsWith('['))
    return {
      id,
      port: Number(/:(\d+)/.exec(address)?.[1]),
      isMaster: flags.includes('master'),
      isFailed: /\bfail\b/.test(flags) || flags.includes('noaddr'),
      slots: owned.map((range): [number, number] => {
        const [first, last = first] = range.split('-').map(Number) as [number, number?]
        return [first, last]
      }),
      masterId: master === '-' ? undefined : master,
    }
  })
}

async function addSlots(client: RespClient, first: number, count: number): Promise<void> {
  const last = Math.min(first + count, SLOTS) - 1
  const slots = Array.from({ length: last - first + 1 }, (_, index) => first + index)
  // ADDSLOTSRANGE is younger than the oldest server that the tests run on.
  await client.command('CLUSTER', 'ADDSLOTS', ...slots)
}

async function replicate(client: RespClient, masterId: string): Promise<void> {
  await until(
    'the replica knows its master',
    async () => {
      const nodes = parseNodes(await client.command<string>('CLUSTER', 'NODES'))
      return nodes.some(({ id }) => id === masterId)
    },
    READY_MS,
  )
  await client.command('CLUSTER', 'REPLICATE', masterId)
}

async function moveKeys(source: RespClient, to: RedisServer, keys: readonly string[]): Promise<void> {
  if (keys.length === 0) return
  const auth = to.password === undefined ? [] : ['AUTH', to.password]
  await source.command('MIGRATE', to.host, to.port, '', 0, 5000, 'REPLACE', ...auth, 'KEYS', ...keys)
}

async function stateOf(client: RespClient): Promise<string | undefined> {
  const text = await client.command<string>('CLUSTER', 'INFO')
  return /cluster_state:(\w+)/.exec(text)?.[1]
}

/** A change of role ends the connections that there are, also this one. */
async function isWritable(server: RedisServer): Promise<boolean> {
  try {
    using client = await server.client()
    return (await client.info('replication'))['role'] === 'master' && (await stateOf(client)) === 'ok'
  } catch {
    return false
  }
}

async function inSync(client: RespClient): Promise<boolean> {
  const info = await client.info('replication')
  return info['role'] === 'master' || info['master_link_status'] === 'up'
}
