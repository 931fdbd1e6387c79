// What the examples of idioteque-redis.md take for granted, and what must work after them.
import assert from 'node:assert/strict'
import { Redis } from 'ioredis'

export const redis = new Redis(process.env.REDIS_URL)

export const checks = {
  async store(store) {
    await store.beginExecution('x')
    assert.equal(await store.isExecutionInProgress('x'), true)
    await store.beginExecutionTask('x', 'a')
    assert.equal(await store.isExecutionTaskInProgress('x', 'a'), true)
    assert.deepEqual((await redis.keys('*')).toSorted(), ['x', 'x-transactions'])
    await store.commitExecutionTaskResult('x', 'a', { n: 1 })
    assert.deepEqual(await store.getExecutionTaskResult('x', 'a'), { n: 1 })
    assert.deepEqual(await redis.hgetall('x-results'), { a: '{"n":1}' })
    assert.deepEqual({ ...(await store.getExecutionTaskResults('x')) }, { a: { n: 1 } })
    left.push(await redis.pttl('x'))
    await store.disposeExecution('x')
    assert.deepEqual(await redis.keys('*'), [])
  },
  Usage: ({ worker, store }) => {
    assert.equal(worker.store, store)
    assertDay()
  },
  Examples: () => assert.equal(left.length, 1),
}

/** Time to live of an execution, as the check of a store found it. */
const left = []

function assertDay() {
  const day = 24 * 60 * 60 * 1000
  assert.ok(left[0] > day - 5000 && left[0] <= day, `${left[0]} ms left`)
}
