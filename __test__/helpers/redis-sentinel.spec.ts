import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SentinelTrio } from './redis-sentinel'
import type { RedisServer } from './redis-server'

describe('SentinelTrio', () => {
  it('replaces a master that is asked to go', async () => {
    await using trio = await SentinelTrio.start({ password: 'secret', sentinelPassword: 'watch' })
    const [first, second] = trio.data
    assert.equal(await trio.master(), first)
    using sentinel = await (trio.sentinels[2] as RedisServer).client()
    assert.equal(await sentinel.command('PING'), 'PONG')
    assert.equal(await trio.failover(), second)
    assert.equal(await trio.replica(), first)
  })

  it('replaces a master that is killed', async () => {
    await using trio = await SentinelTrio.start()
    const [first, second] = trio.data
    await first.kill()
    await trio.promoted(second)
    assert.equal(await trio.master(), second)
  })
})
