import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { type Lock, RedisLockManager } from '../../index.js'
import { onEveryBackend } from '../helpers/backends'
import { RedisServer } from '../helpers/redis-server'
import { lockForms } from './lock-forms'

onEveryBackend('lock forms', lockForms)

describe('lock forms by client', () => {
  it('an ioredis client makes tokens, a node-redis client Locks', async () => {
    await using server = await RedisServer.start()
    const ioredis = new Redis(server.url, { lazyConnect: true })
    const tokens = new RedisLockManager(ioredis)
    assert.equal(typeof (await tokens.acquire('a', 5000)), 'string')
    const nodeRedis = createClient({ url: server.url })
    const locks = new RedisLockManager(nodeRedis)
    const lock = (await locks.acquire('b', 5000)) as unknown as Lock
    assert.equal(typeof lock.token, 'string')
    await lock.release()
    assert.equal(await locks.isLocked('b'), false)
    const overridden = new RedisLockManager(nodeRedis, { returns: 'token' })
    assert.equal(typeof (await overridden.acquire('c', 5000)), 'string')
    await Promise.all([tokens.close(), locks.close(), overridden.close()])
    ioredis.disconnect()
  })
})
