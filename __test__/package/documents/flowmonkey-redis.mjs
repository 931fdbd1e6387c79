// What the examples of flowmonkey-redis.md take for granted, and what must work after them.
import assert from 'node:assert/strict'
import { RedisExecutionCache, RedisLockManager, RedisWakeSignaler } from '@flowmonkey/redis'
import { Redis } from 'ioredis'

export const redis = new Redis(process.env.REDIS_URL)
export const lockManager = new RedisLockManager(redis)
export const signaler = new RedisWakeSignaler(redis)
export const cache = new RedisExecutionCache(redis)

export const executionId = 'execution-1'
export const [exec1, exec2, exec3] = ['e1', 'e2', 'e3']
export const executionIds = [exec1, exec2]

const ran = []
const resumed = []
export const engine = {
  run: async (id) => void ran.push(id),
  resume: async (id, data) => void resumed.push([id, data]),
}

const executions = new Map([['due', { id: 'due', updatedAt: 1, wakeAt: 1 }]])
let loads = 0
export const store = {
  findWaiting: async () => [...executions.values(), { id: 'early', wakeAt: Date.now() + 60_000 }],
  get: async (id) => {
    loads += 1
    return executions.get(id) ?? null
  },
  update: async (execution) => void executions.set(execution.id, execution),
  delete: async (id) => void executions.delete(id),
}

const routes = new Map()
export const app = { post: (path, handler) => routes.set(path, handler) }

/** Polls, as signals arrive when they arrive. */
async function until(what, condition) {
  const deadline = Date.now() + 5000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export const checks = {
  async lockManager(manager) {
    const token = await manager.acquire('another')
    assert.equal(typeof token, 'string')
    assert.equal(await manager.isLocked('another'), true)
    assert.equal(await manager.extend('another', token, 1000), true)
    assert.equal(await manager.release('another', token), true)
  },
  async signaler(made) {
    const heard = []
    await made.subscribe(async (id) => void heard.push(id))
    await made.signalMany(['a', 'b'])
    await until('two signals', () => heard.length === 2)
    await made.unsubscribe()
  },
  async cache(made) {
    await made.set({ id: 'c', updatedAt: 1 })
    assert.deepEqual(await made.get('c'), { id: 'c', updatedAt: 1 })
    assert.deepEqual([...(await made.getMany(['c', 'd'])).keys()], ['c'])
    await made.invalidateMany(['c', 'd'])
    assert.equal(await made.get('c'), null)
  },
  async RedisLockManager() {
    assert.deepEqual(ran, [executionId, executionId])
    assert.deepEqual(
      (await redis.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow:')),
      [],
    )
  },
  RedisWakeSignaler: () => {
    // The example unsubscribes at once; what was heard by then was one of its own signals.
    for (const id of ran) assert.ok([executionId, exec1, exec2, exec3].includes(id), id)
  },
  async 'Wake Pattern'({ pollWaiting }) {
    await pollWaiting()
    await until('the due one ran', () => ran.includes('due'))
    const answers = []
    const request = { params: { id: 'resumed' }, body: { ok: true } }
    await routes.get('/executions/:id/resume')(request, { json: (body) => answers.push(body) })
    assert.deepEqual([resumed, answers], [[['resumed', { ok: true }]], [{ success: true }]])
    await until('the resumed one ran', () => ran.includes('resumed'))
    assert.ok(!ran.includes('early'))
    await signaler.unsubscribe()
  },
  async RedisExecutionCache({ CachedStore, cache: made }) {
    const cached = new CachedStore(store, made)
    assert.equal((await cached.get('due')).wakeAt, 1)
    assert.equal((await cached.get('due')).wakeAt, 1)
    assert.equal(loads, 1)
    await cached.update({ id: 'due', updatedAt: 2, wakeAt: 2 })
    assert.equal((await cached.get('due')).wakeAt, 2)
    await cached.delete('due')
    assert.equal(await cached.get('due'), null)
    assert.equal(loads, 2)
  },
  async 'Connection Options'(made) {
    const manager = new RedisLockManager(made.redis)
    assert.equal(typeof (await manager.acquire('k')), 'string')
    // Nobody is where they lead; what can be seen is that they are accepted, and let go of at once.
    for (const client of [made.cluster, made.sentinel]) {
      const elsewhere = new RedisLockManager(client)
      const acquiring = assert.rejects(elsewhere.acquire('k'), { code: 'CLOSED' })
      await elsewhere.close()
      await acquiring
    }
    made.cluster.disconnect()
    made.sentinel.disconnect()
  },
  async 'Key Prefixes'(made) {
    await made.lockManager.acquire('k')
    await made.cache.set({ id: 'e', updatedAt: 1 })
    const keys = (await redis.keys('*')).filter((key) => !key.includes('ferroflow:'))
    assert.deepEqual(keys.toSorted(), ['myapp:fm:exec:e', 'myapp:fm:lock:k'])
  },
  async '1. Handle Connection Errors'() {
    assert.equal(await redis.ping(), 'PONG')
    assert.equal(await lockManager.isLocked('k'), false)
  },
  async '2. Graceful Shutdown'() {
    await signaler.subscribe(async () => {})
    process.kill(process.pid, 'SIGTERM')
    await until('the client has quit', () => redis.status === 'end')
  },
  '3. Monitor Memory': ({ info }) => assert.match(info, /used_memory:\d+/),
  async '4. Use Pipelining for Batch Operations'({ results }) {
    assert.deepEqual(results, [
      [null, null],
      [null, null],
    ])
    await cache.set({ id: exec2, updatedAt: 5 })
    assert.deepEqual(JSON.parse(await redis.get(`fm:exec:${exec2}`)), { id: exec2, updatedAt: 5 })
  },
}
