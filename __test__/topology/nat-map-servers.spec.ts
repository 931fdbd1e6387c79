/** Servers that are reached only where a function natMap says, while they change places. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Cluster, Redis } from 'ioredis'
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis-5'
import { RedisLockManager, RedisWorkflowStateService, type Target, connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { Load } from '../helpers/load'
import { Program } from '../helpers/program'
import { RedisCluster } from '../helpers/redis-cluster'
import type { RedisClusterOptions } from '../helpers/redis-cluster-node'
import { SentinelTrio } from '../helpers/redis-sentinel'
import { type RedisServer, serverVersion } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const isOld = serverVersion()[0] < 7

/** Where servers know how, nodes announce names that lead nowhere. */
async function startCluster(options: RedisClusterOptions): Promise<RedisCluster> {
  if (isOld) return RedisCluster.start(options)
  const cluster = await RedisCluster.start({
    ...options,
    args: ['--cluster-preferred-endpoint-type', 'hostname'],
    argsOf: (node) => ['--cluster-announce-hostname', `node-${node}.invalid`],
  })
  await named(cluster)
  return cluster
}

/** Waits until every node knows the names of all others. */
async function named(cluster: RedisCluster): Promise<void> {
  await until('every node has been named', async () => {
    const nodes = await Promise.all(
      cluster.servers.map(async (server) => {
        using client = await server.client()
        return await client.command<string>('CLUSTER', 'NODES')
      }),
    )
    return nodes.every((rows) => rows.match(/\.invalid /g)?.length === cluster.servers.length)
  })
}

async function channels(server: RedisServer): Promise<string[]> {
  using client = await server.client()
  return await client.command<string[]>('PUBSUB', 'SHARDCHANNELS')
}

/** A proxy before each server, and the function that leads there. */
class Nat {
  readonly proxies = new Map<number, CountingProxy>()
  readonly asked = new Set<string>()

  static async before(servers: readonly RedisServer[]): Promise<Nat> {
    const nat = new Nat()
    await Promise.all(servers.map((server) => nat.add(server)))
    return nat
  }

  async add(server: RedisServer): Promise<void> {
    this.proxies.set(server.port, await CountingProxy.start({ port: server.port }))
  }

  /** Where a client begins. */
  get entrance(): { host: string; port: number } {
    const [{ host, port }] = [...this.proxies.values()] as [CountingProxy]
    return { host, port }
  }

  readonly map = (key: string): { host: string; port: number } | null => {
    this.asked.add(key)
    const proxy = this.proxies.get(Number(key.split(':').at(-1)))
    return proxy === undefined ? null : { host: proxy.host, port: proxy.port }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.proxies.values()].map((proxy) => proxy.close()))
  }
}

describe('a cluster behind a function natMap', () => {
  it('is reached on every node', async () => {
    await using cluster = await startCluster({ replicas: 0 })
    await using nat = await Nat.before(cluster.servers)
    const natMap = nat.map
    for (const target of [
      { cluster: [nat.entrance], natMap },
      { cluster: [nat.entrance], natMap, protocol: 2 },
      new Cluster([nat.entrance], { natMap, lazyConnect: true }),
      new Cluster5([nat.entrance], { natMap, lazyConnect: true }) as unknown as Target,
    ] satisfies Target[]) {
      for (const proxy of nat.proxies.values()) proxy.reset()
      const service = new RedisWorkflowStateService(target)
      // oxlint-disable-next-line no-await-in-loop -- one target after the other
      const runs = await Promise.all(Array.from({ length: 20 }, () => service.createRun('w', 1)))
      assert.equal(new Set(runs).size, 20)

      for (const proxy of nat.proxies.values()) assert.ok(proxy.commands.some((name) => name === 'HSET'))
      // oxlint-disable-next-line no-await-in-loop -- one target after the other
      await service.close()
    }
    assert.equal(nat.asked.size, 3)
    if (!isOld) for (const key of nat.asked) assert.match(key, /^node-\d\.invalid:\d+$/)
  })

  it('costs no call while slots move, also to a node that was not there before', async () => {
    await using cluster = await startCluster({ replicas: 0 })
    await using nat = await Nat.before(cluster.servers)
    const connection = connect({ cluster: [nat.entrance], natMap: nat.map })
    const slot = await cluster.slotOf('{t}')
    const from = await cluster.ownerOf(slot)
    await using load = new Load(10, async (lane, index) => {
      // Keys that exist, and keys that are made while the slot is in motion.
      await connection.command('INCR', `{t}${lane}`)
      await connection.command('SET', `{t}${lane}:${index}`, 'x')
      assert.equal(await connection.command('GET', `{t}${lane}:${index}`), 'x')
    })
    await load.more(50)
    const added = await cluster.addMaster()
    if (!isOld) await named(cluster)
    await nat.add(added)
    for (const target of [added, from]) {
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await cluster.migrateSlot(slot, target, () => load.more(50))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await load.more(50)
    }
    await load.stop()
    assert.deepEqual([...load.codes], [])
    assert.ok(nat.proxies.get(added.port)!.commands.includes('ASKING'))
    await connection.close()
  })

  it(
    'is heard on channels whose slot moves to a node that was not there before',
    { skip: isOld && 'before Redis 7 there are no sharded channels' },
    async () => {
      await using cluster = await startCluster({ replicas: 0 })
      await using nat = await Nat.before(cluster.servers)
      // Only a message wakes who waits.
      const patient = { defaultTTL: 120_000, retryDelay: 120_000, maxRetries: 1 }
      const open = [1, 2].map(
        () => new RedisLockManager({ cluster: [nat.entrance], natMap: nat.map, redialDelay: 50 }, patient),
      )
      const [holder, other] = open as [RedisLockManager, RedisLockManager]
      const token = await holder.acquire('k')
      const waiting = other.acquire('k')
      let channel: string | undefined
      await until('it listens', async () => {
        const heard = await Promise.all(cluster.servers.map(channels))
        channel = heard.flat().at(0)
        return channel !== undefined
      })
      const added = await cluster.addMaster()
      if (!isOld) await named(cluster)
      await nat.add(added)
      await cluster.migrateSlot(await cluster.slotOf(channel as string), added)
      await until('it listens there', async () => (await channels(added)).length === 1)
      await holder.release('k', token as string)
      assert.ok(await waiting)
      await Promise.all(open.map((locks) => locks.close()))
    },
  )
})

describe('a master of Sentinels behind a function natMap', () => {
  for (const [what, target] of [
    ['as options', (options: object) => options],
    ['in ioredis 6', (options: object) => new Redis({ ...options, lazyConnect: true })],
    ['in ioredis 5', (options: object) => new Redis5({ ...options, lazyConnect: true })],
  ] as const)
    it(`is followed: ${what}`, async () => {
      await using trio = await SentinelTrio.start()
      await using nat = await Nat.before(trio.data)
      const connection = connect(target({ ...trio.target, natMap: nat.map }) as Target, { redialDelay: 50 })
      const [first, second] = trio.data.map(({ port }) => nat.proxies.get(port)) as [
        CountingProxy,
        CountingProxy,
      ]
      assert.equal(await connection.command('SET', 'k', '1'), 'OK')
      assert.ok(first.commands.includes('SET'))
      assert.ok(!second.commands.includes('SET'))
      await trio.failover()
      assert.equal(await connection.command('SET', 'k', '2'), 'OK')
      assert.ok(second.commands.includes('SET'))
      await connection.close()
    })
})

interface Failing {
  target: object
  servers: readonly RedisServer[]
  /** Makes another server the master of a key. */
  failover: (key: string) => Promise<RedisServer>
  stop: () => Promise<void>
}

const FAILING: Record<string, () => Promise<Failing>> = {
  'a cluster': async () => {
    const cluster = await startCluster({ replicas: 1 })
    const failover = async (key: string): Promise<RedisServer> => {
      const replica = await cluster.replicaOf(await cluster.ownerOf(await cluster.slotOf(key)))
      await cluster.failover(replica)
      return replica
    }
    const { servers } = cluster
    return { target: { cluster: cluster.addresses }, servers, failover, stop: () => cluster.stop() }
  },
  Sentinels: async () => {
    const trio = await SentinelTrio.start()
    const { target, data: servers } = trio
    return { target, servers, failover: () => trio.failover(), stop: () => trio.stop() }
  },
}

/** Holds a lock over a function natMap, and blocks its event loop until a file is there. */
function blocked({ target, servers }: Failing, end: string): Program {
  return new Program([
    '--eval',
    `
    const { existsSync, writeSync } = require('node:fs')
    const { RedisLockManager } = require('ferroflow')
    const asked = new Set()
    const natMap = (key) => {
      const port = Number(key.split(':').at(-1))
      asked.add(port)
      return { host: '127.0.0.1', port }
    }
    const locks = new RedisLockManager({ ...${JSON.stringify(target)}, natMap, redialDelay: 50 })
    locks.on('lost', ({ message }) => writeSync(1, message))
    locks
      .withLock('k', async (context) => {
        // A replica is not named before it has any data.
        const servers = ${JSON.stringify(servers.map(({ port }) => port))}
        while (!servers.every((port) => asked.has(port))) await new Promise((done) => setTimeout(done, 5))
        writeSync(1, 'blocked ')
        while (!existsSync(${JSON.stringify(end)})) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
        writeSync(1, String(context.held))
      }, { ttl: 10_000 })
      .catch((error) => writeSync(1, error.message))
      .finally(() => locks.close())
    `,
  ])
}

describe('a blocked event loop, with a function natMap', () => {
  for (const [what, start] of Object.entries(FAILING))
    it(`does not keep locks from being renewed through a failover of ${what}`, async () => {
      const servers = await start()
      const folder = await mkdtemp(join(tmpdir(), 'ferroflow-nat-'))
      const end = join(folder, 'end')
      await using program = blocked(servers, end)
      try {
        await until('it holds the lock and is blocked', () => program.output === 'blocked ', 15_000)
        const master = await servers.failover('fm:lock:k')
        for (const server of servers.servers) {
          // oxlint-disable-next-line no-await-in-loop -- one server after the other
          using client = await server.client()
          // oxlint-disable-next-line no-await-in-loop -- one server after the other
          await client.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes').catch((error: Error) => {
            // The Sentinels do the same to a master that they have deposed.
            assert.match(error.message, /closed the connection/)
          })
        }
        using client = await master.client()
        let left = Infinity
        await until(
          'the lock is renewed on the new master',
          async () => {
            const before = left
            left = await client.command<number>('PTTL', 'fm:lock:k')
            assert.ok(left > 0, `it has expired; ${program.output}`)
            return left > before
          },
          8000,
        )
        await writeFile(end, '')
        const { code } = await program.ended()
        assert.deepEqual({ code, output: program.output }, { code: 0, output: 'blocked true' })
      } finally {
        await rm(folder, { recursive: true })
        await servers.stop()
      }
    })
})
