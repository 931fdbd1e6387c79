// What the examples of workstation-redis.md take for granted, and what must work after them.
import assert from 'node:assert/strict'
import nodeCrypto from 'node:crypto'
import { Redis } from 'ioredis'
import { getSession, isWorkflowLocked, listActiveWorkflows, redisHealthCheck } from 'workstation-redis'

// The documented way to say where Redis is.
Object.assign(process.env, {
  REDIS_ENABLED: 'true',
  REDIS_HOST: 'localhost',
  REDIS_PORT: '6379',
  REDIS_DB: '0',
})

export const crypto = nodeCrypto
export const redisClient = new Redis(process.env.REDIS_URL)
export const ours = {}

const worked = []
export const doWork = async () => {
  worked.push(await isWorkflowLocked('exec-123'))
  return 'worked'
}

let computed = 0
export const expensiveOperation = async () => ({ rows: (computed += 1) })
export const req = { query: { page: '2' } }
const answered = []
export const res = { json: (body) => answered.push(body) }

const own = (keys) => keys.filter((key) => !key.includes('ferroflow:'))

export const checks = {
  async session(session) {
    assert.deepEqual([session.token, session.role], ['abc...', 'admin'])
    assert.equal(await getSession('user123'), null)
    assert.deepEqual(own(await redisClient.keys('*')), [])
  },
  async state(state) {
    assert.deepEqual([state.status, state.progress, state.completedSteps], ['completed', 100, 2])
    assert.deepEqual(state.data, { userId: 'user123', recordsProcessed: 100, totalRecords: 500 })
    assert.deepEqual(await listActiveWorkflows(), [])
    assert.deepEqual(JSON.parse(await redisClient.get('wks:workflow:exec-123')), state)
  },
  async locked(locked) {
    assert.equal(locked, true)
    assert.deepEqual(worked, [{ locked: true, workerId: 'worker-1' }])
    assert.deepEqual(own(await redisClient.keys('*')), [])
  },
  async cacheKey(cacheKey) {
    assert.deepEqual([computed, answered], [1, [{ rows: 1 }]])
    assert.equal(await redisClient.get(`wks:cache:api:${cacheKey}`), '{"rows":1}')
    assert.equal((await redisHealthCheck()).status, 'up')
  },
  async pipeline() {
    assert.equal(await redisClient.get('key2'), 'value2')
  },
}
