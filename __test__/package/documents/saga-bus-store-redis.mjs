// What the examples of saga-bus-store-redis.md take for granted, and what must work after them.
import assert from 'node:assert/strict'
import { RedisSagaStore } from '@saga-bus/store-redis'
import { Redis } from 'ioredis'

export const store = new RedisSagaStore({ redis: process.env.REDIS_URL })

/** Loaded, and then somebody else was faster. Only where an example takes a state for granted. */
export let state

/** What `store.save` threw in an example. */
const thrown = []

export async function prepare(heading) {
  if (heading !== 'Error Handling') return
  const saga = { id: 'saga-456', correlationId: 'order-123', status: 'running', data: {}, metadata: {} }
  await store.save('OrderSaga', saga)
  state = await store.findById('OrderSaga', 'saga-456')
  await store.save('OrderSaga', await store.findById('OrderSaga', 'saga-456'))
  const save = store.save.bind(store)
  store.save = (...args) => save(...args).catch((error) => Promise.reject(thrown.push(error) && error))
}

/** Stores a saga, running and completed. Resolves the seconds that the two have left. */
async function lifetimes(made, redis, prefix = 'saga-bus:') {
  await made.initialize()
  const times = []
  for (const isCompleted of [false, true]) {
    const [id, correlationId] = [`i-${isCompleted}`, `c-${isCompleted}`]
    const saved = await made.save('S', {
      id,
      correlationId,
      status: 'x',
      data: {},
      metadata: { isCompleted },
    })
    assert.equal(saved.metadata.version, 1)
    const key = `${prefix}saga:S:${correlationId}`
    assert.equal(JSON.parse(await redis.get(key)).id, id)
    assert.equal(await redis.get(`${prefix}saga:S:idx:id:${id}`), correlationId)
    times.push(await redis.ttl(key))
    const stale = { id, correlationId, status: 'y', data: {}, metadata: {} }
    await assert.rejects(made.save('S', stale), /Optimistic concurrency conflict/)
    await made.delete('S', correlationId)
    assert.equal(await made.findById('S', id), null)
  }
  await made.close()
  return times
}

const near = (seconds, wanted) => assert.ok(seconds > wanted - 10 && seconds <= wanted, `${seconds} s left`)

async function assertLifetimes(made, running, completed) {
  const redis = new Redis(process.env.REDIS_URL)
  const times = await lifetimes(made, redis)
  near(times[0], running)
  near(times[1], completed)
}

export const checks = {
  async 'Quick Start'(made) {
    assert.equal(made.bus.started, true)
    await assertLifetimes(made.store, -1, 86_400)
  },
  async 'Basic Usage'(made) {
    assert.deepEqual([made.state, made.stateById], [null, null])
    assert.equal(await made.store.findByCorrelationId('OrderSaga', 'order-123'), null)
    await assertLifetimes(made.store, -1, -1)
  },
  async 'With Existing Redis Client'(made) {
    assert.deepEqual(await lifetimes(made.store, made.redis, 'myapp:'), [-1, -1])
    assert.equal(await made.redis.ping(), 'PONG')
  },
  'With TTL for Auto-Cleanup': (made) => assertLifetimes(made.store, 604_800, 86_400),
  'Optimistic Concurrency': (made) => assertLifetimes(made.store, -1, -1),
  async 'Error Handling'() {
    assert.equal(thrown.length, 1)
    assert.match(thrown[0].message, /Optimistic concurrency conflict/)
    assert.equal(thrown[0].actualVersion, 2)
  },
}
