/** A server that is slow, or has no more room: nothing waits longer than it was told to, or claims what is not so. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { RedisLockManager, RedisSagaStore, connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { like } from '../helpers/errors'
import { RedisServer } from '../helpers/redis-server'
import { timed } from '../helpers/wait'
import { TimeoutError } from '../../index.js'

describe('on a slow server', () => {
  let server: RedisServer
  let proxy: CountingProxy
  before(async () => {
    server = await RedisServer.start()
    proxy = await CountingProxy.start({ port: server.port })
  })
  after(async () => {
    await proxy.close()
    await server.stop()
  })

  it('a deletion of several steps keeps the one deadline of its call', async () => {
    const connection = connect({ host: '127.0.0.1', port: proxy.port, commandTimeout: 600 })
    const store = new RedisSagaStore({ redis: connection })
    await store.insert('S', 'c', { id: 'i' })
    proxy.delayReplies(400)
    const calls: (() => Promise<unknown>)[] = [() => store.delete('S', 'i'), () => store.deleteById('S', 'i')]
    for (const call of calls) {
      const { ms, outcome } = await timed(call)
      assert.equal(outcome.status, 'rejected')
      assert.ok(ms < 600 + 250, `${ms} ms`)
    }
    proxy.delayReplies(0)
    await connection.close()
  })

  it('a lock whose grant arrives after its TTL is not held', async () => {
    const slow = new RedisLockManager({ host: '127.0.0.1', port: proxy.port })
    await slow.isLocked('warm-up')
    proxy.delayReplies(300)
    assert.equal(await slow.tryAcquire('late', 100), null)
    proxy.delayReplies(0)
    const other = new RedisLockManager(server.url)
    assert.equal(typeof (await other.tryAcquire('late')), 'string')
    await Promise.all([slow.close(), other.close()])
  })

  it('a wait for a lock is no longer than asked for, also where nothing can be subscribed to', async () => {
    const crowded = await RedisServer.start({ args: ['--maxclients', '3'] })
    const holder = new RedisLockManager(crowded.url)
    const token = (await holder.acquire('k')) as string
    // RESP2 needs a second connection to listen, and there is room for one more only.
    const waiter = new RedisLockManager(
      { host: '127.0.0.1', port: crowded.port, protocol: 2 },
      { retryDelay: 20, maxRetries: 15 },
    )
    await waiter.isLocked('k')
    const last = await crowded.client()
    const { ms, outcome } = await timed(() => waiter.acquire('k'))
    assert.deepEqual(outcome, { status: 'fulfilled', value: null })
    assert.ok(ms >= 290 && ms < 300 + 250, `${ms} ms`)
    const waiting = timed(() => waiter.acquire('k'))
    await holder.release('k', token)
    const released = await waiting
    assert.equal(released.outcome.status, 'fulfilled')
    assert.ok(released.ms < 250, `${released.ms} ms`)
    last.close()
    await Promise.all([holder.close(), waiter.close()])
    await crowded.stop()
  })

  it('calls that wait behind one long reply do not end a connection that is at work', async () => {
    const connection = connect({ host: '127.0.0.1', port: proxy.port, commandTimeout: 300 })
    await connection.command('SET', 'n', 1)
    let losses = 0
    connection.on('status', () => losses++)
    proxy.delayReplies(450)
    const expected = like({ type: TimeoutError, code: 'TIMEOUT', message: /did not reply in time/ })
    const calls = Array.from({ length: 5 }, () => assert.rejects(connection.command('GET', 'n'), expected))
    await Promise.all(calls)
    proxy.delayReplies(0)
    // The late replies belong to those who gave up.
    for (;;) {
      const reply = await connection.command('ECHO', 'mine').catch(() => undefined)
      if (reply === undefined) continue
      assert.equal(reply, 'mine')
      break
    }
    assert.equal(losses, 0)
    await connection.close()
  })
})
