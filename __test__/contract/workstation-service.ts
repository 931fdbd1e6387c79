import assert from 'node:assert/strict'
import { it } from 'node:test'
import { ArgumentError, FerroflowError } from '../../index.js'
import type { Backend } from '../helpers/backends'
import { placesOf } from '../helpers/workstations'

export function redisServiceSuite(backend: Backend): void {
  const place = placesOf(backend)

  it('strings', async () => {
    const { workstation, data } = await place()
    const { redisService } = workstation
    assert.equal(await redisService.get('k'), null)
    assert.equal(await redisService.set('k', 'v'), true)
    assert.equal(await redisService.get('k'), 'v')
    assert.equal(await redisService.ttl('k'), -1)
    assert.equal(await redisService.set('k', 'w', 100), true)
    assert.equal(await redisService.ttl('k'), 100)
    assert.equal(await redisService.exists('k'), true)
    assert.equal(await redisService.setNX('k', 'x', 10), false)
    assert.equal(await redisService.setNX('lock', 'x', 10), true)
    assert.ok((await data.pttl('lock')) <= 10_000)
    assert.equal(await redisService.del('k'), true)
    assert.equal(await redisService.del('k'), true)
    assert.equal(await redisService.exists('k'), false)
    assert.equal(await redisService.incr('n'), 1)
    assert.equal(await redisService.incr('n'), 2)
    assert.equal(await redisService.expire('n', 50), true)
    assert.equal(await redisService.incr('n'), 3)
    assert.equal(await redisService.ttl('n'), 50)
    assert.equal(await redisService.expire('absent', 50), false)
    assert.equal(await redisService.ttl('absent'), -2)
    await redisService.set('empty', '')
    assert.equal(await redisService.get('empty'), '')
  })

  it('sets keep their time to live, and are gone when they are empty', async () => {
    const { redisService } = (await place()).workstation
    assert.equal(await redisService.sadd('s', 'a', 'b', 'a'), 2)
    assert.equal(await redisService.sadd('s', 'b', 'c'), 1)
    assert.equal(await redisService.expire('s', 50), true)
    assert.equal(await redisService.srem('s', 'a', 'x'), 1)
    assert.equal(await redisService.ttl('s'), 50)
    assert.deepEqual((await redisService.smembers('s')).toSorted(), ['b', 'c'])
    assert.equal(await redisService.srem('s', 'b', 'c'), 2)
    assert.equal(await redisService.exists('s'), false)
    assert.deepEqual(await redisService.smembers('s'), [])
  })

  it('hashes', async () => {
    const { redisService } = (await place()).workstation
    assert.equal(await redisService.hset('h', 'f', ''), 1)
    assert.equal(await redisService.hset('h', 'f', ''), 0)
    assert.equal(await redisService.hget('h', 'f'), '')
    assert.equal(await redisService.hget('h', 'g'), null)
    await redisService.hset('h', '__proto__', 'x')
    const all = await redisService.hgetall('h')
    assert.deepEqual(Object.entries(all).toSorted(), [
      ['__proto__', 'x'],
      ['f', ''],
    ])
    assert.deepEqual(await redisService.hgetall('absent'), {})
  })

  it('a key of another type is an error, not an answer', async () => {
    const { redisService } = (await place()).workstation
    await redisService.set('k', 'v')
    for (const call of [
      redisService.smembers('k'),
      redisService.sadd('k', 'a'),
      redisService.hget('k', 'f'),
    ]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(call, { code: 'WRONG_TYPE' })
    }
  })

  it('bad arguments reject', async () => {
    const { redisService } = (await place()).workstation
    await assert.rejects(redisService.get(7 as never), ArgumentError)
    await assert.rejects(redisService.set('k', 7 as never), ArgumentError)
    await assert.rejects(redisService.set('k', 'v', -1), ArgumentError)
    await assert.rejects(redisService.sadd('k'), ArgumentError)
  })

  it('after disconnecting, the next call connects anew; after closing, none does', async () => {
    const { workstation } = await place()
    const { redisService } = workstation
    await redisService.set('k', 'v')
    assert.equal(redisService.isAvailable(), true)
    await redisService.disconnect()
    assert.equal(redisService.isAvailable(), false)
    assert.equal(await redisService.get('k'), 'v')
    await workstation.close()
    await workstation.close()
    await assert.rejects(redisService.get('k'), (error: FerroflowError) => error.code === 'CLOSED')
  })

  it('health says what is so', async () => {
    const { workstation } = await place()
    const health = await workstation.redisHealthCheck()
    assert.deepEqual(
      [health.healthy, health.usingRedis, health.connected, health.status],
      [true, true, true, 'up'],
    )
    assert.ok(health.latency! >= 1 && health.degradation.state === 'up' && !health.degradation.disabled)
    assert.equal((await workstation.checkReadiness()).ready, true)
  })
}
