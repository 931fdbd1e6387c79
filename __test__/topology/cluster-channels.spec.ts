/** Channels of our own in a cluster: sharded where servers know that, wherever the slot goes, and on the bus elsewhere. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { type Workstation, RedisLockManager, RedisWakeSignaler, createWorkstation } from '../../index.js'
import { RedisCluster } from '../helpers/redis-cluster'
import type { RedisClusterOptions } from '../helpers/redis-cluster-node'
import { type RedisServer, serverVersion } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { SECRET } from '../helpers/errors'
import { until } from '../helpers/wait'

const isOld = serverVersion()[0] < 7
const skip = isOld && 'before Redis 7 there are no sharded channels'
/** As a server before 7, for what matters here. */
const WITHOUT_SHARDS = isOld
  ? []
  : ['SPUBLISH', 'SSUBSCRIBE', 'SUNSUBSCRIBE'].flatMap((name) => ['--rename-command', name, ''])

/** Who waits looks so rarely that only a message wakes it in time. */
const PATIENT = { defaultTTL: 120_000, retryDelay: 120_000, maxRetries: 1 }

type Ask<T> = (client: RespClient, server: RedisServer) => Promise<T>

async function ofNodes<T>(cluster: RedisCluster, ask: Ask<T>): Promise<T[]> {
  return Promise.all(
    cluster.servers
      .filter((server) => server.running)
      .map(async (server) => {
        using client = await server.client()
        return await ask(client, server)
      }),
  )
}

/** Sharded channels that somebody listens to, by node. */
async function channels(cluster: RedisCluster, pattern = '*'): Promise<string[]> {
  const ask: Ask<string[]> = (client) => client.command<string[]>('PUBSUB', 'SHARDCHANNELS', pattern)
  return (await ofNodes(cluster, ask)).flat()
}

/** How often a command ran on all nodes. */
async function count(cluster: RedisCluster, command: string): Promise<number> {
  const calls = await ofNodes(cluster, async (client) => (await client.commandStats())[command]?.calls ?? 0)
  return calls.reduce((sum, some) => sum + some, 0)
}

async function cutListeners(cluster: RedisCluster): Promise<void> {
  await ofNodes(cluster, (client) => client.command('CLIENT', 'KILL', 'TYPE', 'pubsub'))
}

const open: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()))
})

function locksOf(cluster: RedisCluster): RedisLockManager {
  const locks = new RedisLockManager({ cluster: cluster.addresses, redialDelay: 50 }, PATIENT)
  open.push(locks)
  return locks
}

function workstationOf(cluster: RedisCluster): Workstation {
  const workstation = createWorkstation({ redis: { cluster: cluster.addresses, redialDelay: 50 } })
  open.push(workstation)
  return workstation
}

/** A lock that one holds and another waits for. */
class Contest {
  readonly waiting: Promise<string | null>
  readonly #locks: RedisLockManager
  readonly #key: string
  readonly #token: string
  hasIt = false

  private constructor(locks: RedisLockManager, key: string, token: string) {
    this.#locks = locks
    this.#key = key
    this.#token = token
    this.waiting = locks.acquire(key).then((next) => {
      this.hasIt = next !== null
      return next
    })
  }

  static async begin(locks: RedisLockManager, key: string): Promise<Contest> {
    const token = await locks.tryAcquire(key)
    assert.ok(token !== null)
    return new Contest(locks, key, token)
  }

  async release(): Promise<void> {
    assert.equal(this.hasIt, false)
    assert.equal(await this.#locks.release(this.#key, this.#token), true)
  }

  /** Who waits has been woken. */
  async handedOver(): Promise<void> {
    await until(`who waits for ${this.#key} has it`, () => this.hasIt)
    assert.equal(await this.#locks.release(this.#key, (await this.waiting) as string), true)
  }

  async end(): Promise<void> {
    await this.release()
    await this.handedOver()
  }
}

async function isHeard(cluster: RedisCluster, key: string): Promise<RedisServer> {
  const owner = await cluster.ownerOf(await cluster.slotOf(`fm:lock:${key}`))
  await until(`the owner of ${key} knows who listens`, async () => {
    using client = await owner.client()
    const names = await client.command<string[]>('PUBSUB', 'SHARDCHANNELS', `*fm:lock:${key}`)
    return names.length === 1
  })
  return owner
}

async function heardOnBus(cluster: RedisCluster, key: string): Promise<void> {
  const name = `ferroflow:released:fm:lock:${key}`
  const ask: Ask<number> = async (client) =>
    (await client.command<[string, number]>('PUBSUB', 'NUMSUB', name))[1]
  await until(`somebody listens on the bus for ${key}`, async () =>
    (await ofNodes(cluster, ask)).some((listening) => listening > 0),
  )
}

describe('channels of our own in a cluster', { skip }, () => {
  let cluster: RedisCluster
  before(async () => {
    cluster = await RedisCluster.start({ replicas: 0 })
  })
  after(() => cluster.stop())

  it('reach who waits for a lock without the bus, and nobody listens afterwards', async () => {
    const locks = locksOf(cluster)
    const published = await count(cluster, 'publish')
    const keys = Array.from({ length: 30 }, (_, index) => `job:${index}`)
    const contests = await Promise.all(keys.map((key) => Contest.begin(locks, key)))
    await Promise.all(keys.map((key) => isHeard(cluster, key)))
    assert.equal((await locks.inspect('job:0')).waiters, 1)
    const each = await ofNodes(cluster, (client) => client.command<string[]>('PUBSUB', 'SHARDCHANNELS'))
    assert.ok(
      each.every((names) => names.length > 3),
      'spread over all masters',
    )
    await Promise.all(contests.map((contest) => contest.end()))
    assert.equal(await count(cluster, 'publish'), published)
    assert.ok((await count(cluster, 'spublish')) >= 2 * keys.length)
    await until('nobody listens any more', async () => (await channels(cluster)).length === 0)
  })

  for (const keyPrefix of ['', '{app}:'])
    it(`reach who watches executions, each change in its turn, with the prefix "${keyPrefix}"`, async () => {
      const redis = { cluster: cluster.addresses, keyPrefix }
      const [one, other] = [createWorkstation({ redis }), createWorkstation({ redis })]
      open.push(one, other)
      const published = await count(cluster, 'publish')
      const heard = new Map<string, (number | undefined)[]>()
      await one.watchProgress({
        progress: ({ executionId, state }) => {
          heard.set(executionId, [...(heard.get(executionId) ?? []), state?.completedSteps])
        },
      })
      const ids = Array.from({ length: 20 }, (_, index) => `e${index}`)
      await Promise.all(
        ids.map(async (id) => {
          await other.startWorkflowTracking(id, 'wf', 3)
          await other.updateWorkflowProgress(id, 1, 'one')
          await other.updateWorkflowProgress(id, 2, 'two')
          await other.clearWorkflowState(id)
        }),
      )
      await until('all is heard', () => [...heard.values()].flat().length === 4 * ids.length)
      for (const id of ids) assert.deepEqual(heard.get(id), [0, 1, 2, undefined])
      assert.equal(await count(cluster, 'publish'), published)
    })

  it('are not those that other packages listen to', async () => {
    const receiver = new RedisWakeSignaler({ cluster: cluster.addresses })
    const ids: string[] = []
    await receiver.subscribe((id) => void ids.push(id))
    assert.deepEqual(await channels(cluster), [])
    await receiver.signal('e')
    await until('it is heard', () => ids.length === 1)
    await receiver.disconnect()
  })

  it('are all listened to again after two interruptions in a row, and no longer than needed', async () => {
    const locks = locksOf(cluster)
    const keys = Array.from({ length: 1000 }, (_, index) => `many:${index}`)
    const contests = await Promise.all(keys.map((key) => Contest.begin(locks, key)))
    const listening = async (): Promise<boolean> =>
      (await channels(cluster, '*many:*')).length === keys.length
    await until('all are listened to', listening, 20_000)
    for (const time of ['once', 'twice']) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await cutListeners(cluster)
      if (time === 'once') {
        const isBack = async (): Promise<boolean> => (await channels(cluster, '*many:*')).length > 0
        // oxlint-disable-next-line no-await-in-loop -- again in the middle of it
        await until('some are listened to again', isBack)
      }
    }
    await until('all are listened to again', listening, 20_000)
    assert.equal(new Set(await channels(cluster, '*many:*')).size, keys.length, 'each on one node')
    await Promise.all(contests.map((contest) => contest.end()))
    await until('nobody listens any more', async () => (await channels(cluster)).length === 0)
  })

  it('tell of each interruption once', async () => {
    const [one, other] = [workstationOf(cluster), workstationOf(cluster)]
    let gaps = 0
    const ids: string[] = []
    await one.watchProgress({
      progress: ({ executionId }) => void ids.push(executionId),
      gap: () => void (gaps += 1),
    })
    for (let round = 1; round <= 3; round += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one interruption after the other
      await cutListeners(cluster)
      // oxlint-disable-next-line no-await-in-loop -- one interruption after the other
      await until('the interruption is known', () => gaps === round)
      // oxlint-disable-next-line no-await-in-loop -- one interruption after the other
      await other.startWorkflowTracking(`e${round}`, 'wf', 3)
      // oxlint-disable-next-line no-await-in-loop -- one interruption after the other
      await until('it hears again', () => ids.length === round)
    }
    assert.equal(gaps, 3)
    assert.deepEqual(ids, ['e1', 'e2', 'e3'])
  })
})

describe('a channel whose slot moves', { skip }, () => {
  it('is listened to where the slot is, and its move hides no message', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const locks = locksOf(cluster)
    const slot = await cluster.slotOf('fm:lock:{t}')
    const home = await cluster.ownerOf(slot)
    const others = cluster.masters.filter((master) => master !== home)
    const keys = Array.from({ length: 10 }, (_, index) => `{t}${index}`)
    // Nobody has been told of the last one: it has no slots yet.
    for (const to of [...others, await cluster.addMaster(), home]) {
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      const contests = await Promise.all(keys.map((key) => Contest.begin(locks, key)))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      const early = contests.splice(-2)
      // The node that takes the slot over cannot publish for it yet; the end of the move wakes who waits as well.
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await cluster.migrateSlot(slot, to, async () => {
        await Promise.all(early.map((contest) => contest.release()))
      })
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await Promise.all(early.map((contest) => contest.handedOver()))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      const owners = await Promise.all(keys.slice(0, -2).map((key) => isHeard(cluster, key)))
      assert.ok(owners.every((owner) => owner === to))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await Promise.all(contests.map((contest) => contest.end()))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await until('nobody listens any more', async () => (await channels(cluster)).length === 0)
    }
  })

  it('tells who watches that changes may have been missed', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const [one, other] = [workstationOf(cluster), workstationOf(cluster)]
    const slot = await cluster.slotOf('ferroflow:progress:0:wks:executions')
    const home = await cluster.ownerOf(slot)
    let gaps = 0
    const steps: (number | undefined)[] = []
    await one.watchProgress({
      progress: ({ state }) => void steps.push(state?.completedSteps),
      gap: () => void (gaps += 1),
    })
    await other.startWorkflowTracking('e', 'wf', 100)
    await until('the start is heard', () => steps.length === 1)
    const to = cluster.masters.find((master) => master !== home) as RedisServer
    await cluster.migrateSlot(slot, to)
    await until('the gap is known', () => gaps > 0)
    await other.updateWorkflowProgress('e', 7, 'seven')
    await until('the change is heard', () => steps.at(-1) === 7)
    assert.deepEqual([gaps, steps], [1, [0, 7]])
  })

  for (const [what, end] of [
    ['killed', (server: RedisServer) => server.kill()],
    ['frozen', (server: RedisServer) => Promise.resolve(server.pause())],
  ] as const)
    it(`is listened to on the new master after the old one was ${what}`, async () => {
      await using cluster = await RedisCluster.start()
      const locks = locksOf(cluster)
      const victim = cluster.masters[0] as RedisServer
      const replica = cluster.replicas[0] as RedisServer
      const keys = Array.from({ length: 30 }, (_, index) => `job:${index}`)
      const contests = await Promise.all(keys.map((key) => Contest.begin(locks, key)))
      await Promise.all(keys.map((key) => isHeard(cluster, key)))
      const slots = await Promise.all(keys.map((key) => cluster.slotOf(`fm:lock:${key}`)))
      const owners = await Promise.all(slots.map((slot) => cluster.ownerOf(slot)))
      const orphans = keys.filter((_, index) => owners[index] === victim)
      assert.ok(orphans.length > 3)
      await end(victim)
      // A frozen one answers nobody.
      const promoted = async (): Promise<boolean> => {
        using client = await replica.client()
        const names = await client.command<string[]>('PUBSUB', 'SHARDCHANNELS', '*job:*')
        return names.length === orphans.length
      }
      await until('the new master knows who listens', promoted, 20_000)
      await Promise.all(contests.map((contest) => contest.end()))
      if (victim.running) victim.resume()
      else await victim.restart()
      await cluster.settled()
      await until('nobody listens any more', async () => (await channels(cluster)).length === 0)
    })
})

describe('without sharded channels', () => {
  const narrow = `narrow on >${SECRET} ~* &* +@all -spublish -ssubscribe -sunsubscribe`
  for (const [what, options, user, unless] of [
    ['a cluster', { args: WITHOUT_SHARDS }, {}, false],
    ['a user', { users: [narrow] }, { username: 'narrow', password: SECRET }, skip],
  ] as const)
    it(`${what} gets along with the bus`, { skip: unless }, async () => {
      await using cluster = await RedisCluster.start({
        replicas: 0,
        ...(options as RedisClusterOptions),
      })
      const target = { cluster: cluster.addresses, ...user }
      // The bus of a young cluster may lose a message; then a look at the lock makes up for it.
      const locks = new RedisLockManager(target, { retryDelay: 3000, maxRetries: 20 })
      const [one, other] = [createWorkstation({ redis: target }), createWorkstation({ redis: target })]
      open.push(locks, one, other)
      const keys = Array.from({ length: 10 }, (_, index) => `job:${index}`)
      const contests = await Promise.all(keys.map((key) => Contest.begin(locks, key)))
      await Promise.all(keys.map((key) => heardOnBus(cluster, key)))
      const begin = performance.now()
      const woken = contests.map(async (contest) => {
        await contest.end()
        return performance.now() - begin < 2000
      })
      assert.ok((await Promise.all(woken)).filter(Boolean).length >= 5)
      const heard = new Set<number | undefined>()
      await one.watchProgress({ progress: ({ state }) => void heard.add(state?.completedSteps) })
      await other.startWorkflowTracking('e', 'wf', 3)
      await other.updateWorkflowProgress('e', 1, 'one')
      await until('changes are heard', () => heard.has(0) && heard.has(1))
    })

  it('a part of a cluster is asked for its own slots, also for those that move there', { skip }, async () => {
    await using cluster = await RedisCluster.start({
      replicas: 0,
      argsOf: (node) => (node === 0 ? WITHOUT_SHARDS : []),
    })
    const locks = locksOf(cluster)
    const [old, young] = cluster.masters as [RedisServer, RedisServer]
    const keys = Array.from({ length: 60 }, (_, index) => `job:${index}`)
    const owners = await Promise.all(
      keys.map(async (key) => cluster.ownerOf(await cluster.slotOf(`fm:lock:${key}`))),
    )
    const onOld = keys.filter((_, index) => owners[index] === old)
    const onYoung = keys.filter((_, index) => owners[index] === young)
    const [first, second] = [onOld[0] as string, onYoung[0] as string]
    const contests = await Promise.all([first, second].map((key) => Contest.begin(locks, key)))
    await heardOnBus(cluster, first)
    await isHeard(cluster, second)
    // They change places.
    await cluster.migrateSlot(await cluster.slotOf(`fm:lock:${first}`), young)
    await cluster.migrateSlot(await cluster.slotOf(`fm:lock:${second}`), old)
    // A first call for the slot finds out; until then, who listens on the bus has no reason to look.
    await Promise.all([first, second].map((key) => locks.isLocked(key)))
    await isHeard(cluster, first)
    await heardOnBus(cluster, second)
    await Promise.all(contests.map((contest) => contest.end()))
    // What one node refuses says nothing of the others.
    const [one, other] = [workstationOf(cluster), workstationOf(cluster)]
    const heard = new Set<string>()
    const slot = await cluster.slotOf('ferroflow:progress:0:wks:executions')
    await one.watchProgress({ progress: ({ executionId }) => void heard.add(executionId) })
    for (const to of [young, old, young]) {
      const id = `e${heard.size}`
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      if ((await cluster.ownerOf(slot)) !== to) await cluster.migrateSlot(slot, to)
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await other.startWorkflowTracking(id, 'wf', 2)
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await until('a change is heard', async () => {
        await other.updateWorkflowProgress(id, 1, 'again, for who listens elsewhere may find out by and by')
        return heard.has(id)
      })
    }
  })
})
