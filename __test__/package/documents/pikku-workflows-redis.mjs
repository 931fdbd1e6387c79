// What the examples of pikku-workflows-redis.md take for granted, and what must work after them.
import assert from 'node:assert/strict'
import { Redis } from 'ioredis'

export const redis = new Redis(process.env.REDIS_URL)
export const host = 'localhost'
export const port = 6379
export const password = undefined

const queued = []
export const queueService = {
  supportsResults: false,
  add: async (queue, data) => String(queued.push({ queue, data })),
}

export const checks = {
  async workflowState(service) {
    if (service.connection.status === 'closed') return
    const runId = await service.createRun('order', { n: 1 })
    await service.withRunLock(runId, () => service.setStepResult(runId, 'charge', { paid: true }))
    assert.deepEqual((await service.getStepState(runId, 'charge')).result, { paid: true })
    await service.addToQueue('order', runId)
    assert.deepEqual(queued.at(-1)?.data, { runId })
    await service.close()
  },
  async 'Custom Key Prefix'() {
    assert.equal((await redis.keys('myapp_workflows:run:*')).length, 1)
    assert.deepEqual(await redis.keys('workflows:*'), [])
  },
  async 'With Existing Connection'(made) {
    assert.equal(await made.redis.ping(), 'PONG')
    assert.equal((await redis.keys('workflows:run:*')).length, 1)
  },
  'With Config (Owned Connection)': ({ workflowState }) =>
    assert.equal(workflowState.connection.status, 'closed'),
}
