/** What holding a lock means: renewal, its limits, loss, and who is told. Whatever it runs on. */
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { after, afterEach, before, describe, it } from 'node:test'
import { type LockContext, LockError, RedisLockManager, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { block, deferred, timed, until } from '../helpers/wait'

const LOST = like({ type: LockError, code: 'LOCK_LOST', message: /^Lost the lock "k": /, key: 'fm:lock:k' })

export function lockHold(backend: Backend): void {
  let target: Target
  let data: Data
  let manager: RedisLockManager
  let other: RedisLockManager
  let losses: LockError[]

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    manager = new RedisLockManager(target, { retryDelay: 20, maxRetries: 5 })
    other = new RedisLockManager(target, { retryDelay: 20, maxRetries: 5 })
    manager.on('lost', (error) => losses.push(error))
    losses = []
    // Connects to every node: locks of 200 ms are too short to wait for that.
    await data.clear()
  })
  after(async () => {
    await Promise.all([manager.close(), other.close(), data.close()])
  })
  afterEach(async () => {
    losses = []
    await data.clear()
  })

  /** The lock is free, and nothing else of this call is left but what expires. */
  async function assertFree(key = 'k'): Promise<void> {
    assert.deepEqual(await data.contracted(), {})
    const token = await other.tryAcquire(key)
    assert.notEqual(token, null)
    await other.release(key, token as string)
  }

  describe('the event loop', () => {
    it('may be blocked for five TTLs', async () => {
      const result = await manager.withLock(
        'k',
        async (context) => {
          block(2500)
          assert.equal(context.held, true, 'by its own clock, at once')
          assert.ok(context.ttlLeft > 0 && context.ttlLeft <= 500)
          assert.equal(await data.get('fm:lock:k'), context.token, 'and on the server')
          assert.equal(await other.tryAcquire('k'), null)
          assert.equal(context.signal.aborted, false)
          return 'kept'
        },
        500,
      )
      assert.equal(result, 'kept')
      assert.deepEqual(losses, [])
      await assertFree()
    })

    it('loses the lock if it is blocked for longer than jsLivenessMs, and learns so', async () => {
      let seen: { held: boolean; next: string | null; aborted: boolean } | undefined
      await assert.rejects(
        manager.withLock(
          'k',
          async (context) => {
            block(1500)
            const { held } = context
            const next = await other.tryAcquire('k')
            await until('it is told', () => context.signal.aborted)
            seen = { held, next, aborted: true }
          },
          { ttl: 300, jsLivenessMs: 600 },
        ),
        (error: LockError) => LOST(error) && /jsLivenessMs/.test(error.message),
      )
      assert.equal(seen?.held, false)
      assert.equal(await data.get('fm:lock:k'), seen?.next, 'the next holder is left alone')
      assert.equal(losses.length, 1)
    })

    it('blocked before the grant arrives misses no loss', async () => {
      const never = new Promise<never>(() => {})
      const entered = deferred<LockContext>()
      const holding = timed(() =>
        manager.withLock(
          'k',
          (context) => {
            entered.resolve(context)
            return never
          },
          { ttl: 500, maxHoldMs: 600 },
        ),
      )
      block(1500)
      const { outcome } = await holding
      assert.ok(outcome.status === 'rejected')
      LOST(outcome.reason)
      assert.equal((await entered.promise).signal.aborted, true)
      await assertFree()
    })
  })

  describe('maxHoldMs', () => {
    it('ends the call of a function that never settles, and frees the lock', async () => {
      const entered = deferred<LockContext>()
      const { ms, outcome } = await timed(() =>
        manager.withLock(
          'k',
          (context) => {
            entered.resolve(context)
            return new Promise(() => {})
          },
          { ttl: 5000, maxHoldMs: 150 },
        ),
      )
      assert.ok(outcome.status === 'rejected')
      LOST(outcome.reason)
      assert.match(outcome.reason.message, /maxHoldMs/)
      assert.ok(ms >= 148 && ms < 4000, `${ms} ms`)
      const { signal, held } = await entered.promise
      assert.deepEqual([signal.aborted, signal.reason, held], [true, outcome.reason, false])
      await until('it is free', async () => !(await data.exists('fm:lock:k')))
      await assertFree()
      assert.equal(losses.length, 1)
    })

    it('ends it also if the lock is lost before', { timeout: 20_000 }, async () => {
      const { ms, outcome } = await timed(() =>
        manager.withLock(
          'k',
          async () => {
            await other.forceRelease('k')
            return new Promise(() => {})
          },
          { ttl: 600, maxHoldMs: 1000 },
        ),
      )
      assert.ok(outcome.status === 'rejected')
      LOST(outcome.reason)
      assert.doesNotMatch(outcome.reason.message, /maxHoldMs/)
      assert.ok(ms >= 998 && ms < 6000, `${ms} ms`)
      assert.equal(losses.length, 1)
      await assertFree()
    })

    it('changes nothing for a function that ends earlier', async () => {
      assert.equal(await manager.withLock('k', () => 5, { ttl: 60_000, maxHoldMs: 20_000 }), 5)
      await assertFree()
      assert.deepEqual(losses, [])
    })
  })

  describe('a loss', () => {
    it('by force is known at the next renewal, and said once', async () => {
      let told = 0
      await assert.rejects(
        manager.withLock(
          'k',
          async (context) => {
            context.signal.addEventListener('abort', () => (told = performance.now()))
            assert.equal(await other.forceRelease('k'), true)
            const begin = performance.now()
            await until('the signal', () => context.signal.aborted)
            assert.ok(told - begin < 2000, `${told - begin} ms`)
            assert.throws(() => context.assertHeld(), LOST)
            assert.ok(LOST(context.signal.reason))
            assert.equal(context.ttlLeft, 0)
            await assert.rejects(context.extend(), LOST)
            return 'kept'
          },
          3000,
        ),
        LOST,
      )
      assert.equal(losses.length, 1)
      await assertFree()
    })

    it('without renewal is known when the time is over', async () => {
      const begin = performance.now()
      await assert.rejects(
        manager.withLock(
          'k',
          async ({ signal }) => {
            await until('the signal', () => signal.aborted)
            const ms = performance.now() - begin
            assert.ok(ms > 90 && ms < 3000, `${ms} ms`)
          },
          { ttl: 100, renew: false },
        ),
        LOST,
      )
      assert.equal(losses.length, 1)
    })

    it('that is only worth a warning leaves the result alone', async () => {
      const result = await manager.withLock('k', () => other.forceRelease('k'), { onLoss: 'warn' })
      assert.equal(result, true)
      assert.equal(losses.length, 1)
    })

    it('is the error, and what the function threw is its cause', async () => {
      const error = new Error('mine')
      await assert.rejects(
        manager.withLock('k', async () => {
          await other.forceRelease('k')
          throw error
        }),
        (lost: LockError) => LOST(lost) && lost.cause === error,
      )
    })
  })

  describe('the context', () => {
    it('has key, token and a fence that only grows', async () => {
      let last = 0
      for (let round = 0; round < 20; round += 1) {
        // Whatever becomes of the counter meanwhile.
        if (round % 5 === 4) await data.clear()
        const by = round % 2 ? manager : other
        await by.withLock('k', async ({ key, token, fence, held, signal }) => {
          assert.deepEqual([key, held, signal.aborted], ['k', true, false])
          assert.equal(await data.get('fm:lock:k'), token)
          assert.ok(Number.isSafeInteger(fence) && fence > last, `${fence} after ${last}`)
          last = fence
        })
      }
    })

    it('extends with the TTL that it is given, or its own', async () => {
      await manager.withLock(
        'k',
        async (context) => {
          await context.extend(60_000)
          assert.ok((await data.pttl('fm:lock:k')) > 50_000)
          assert.ok(context.ttlLeft > 50_000)
          await context.extend()
          assert.ok((await data.pttl('fm:lock:k')) <= 10_000)
          assert.ok(context.ttlLeft > 5000 && context.ttlLeft <= 10_000)
          await assert.rejects(context.extend(5), { code: 'INVALID_ARGUMENT' })
          await assert.rejects(context.extend(Number.NaN), { code: 'INVALID_ARGUMENT' })
          await Promise.all([context.extend(20_000), context.extend(30_000), context.extend(40_000)])
          assert.ok((await data.pttl('fm:lock:k')) > 35_000)
        },
        10_000,
      )
    })

    it('of the caller survives in the function', async () => {
      const storage = new AsyncLocalStorage<string>()
      const seen = await storage.run('request-7', () =>
        manager.withLock('k', async () => {
          await data.command('PING')
          return storage.getStore()
        }),
      )
      assert.equal(seen, 'request-7')
    })
  })

  describe('a Lock object', () => {
    it('expires unless it is renewed, and says so', async () => {
      const lock = await manager.acquire('k', { ttl: 100 })
      assert.ok(lock !== null && lock.held)
      await until('the signal', () => lock.signal.aborted)
      assert.equal(lock.held, false)
      assert.throws(() => lock.assertHeld(), LOST)
      assert.equal(await lock.extend(1000), false)
      await lock.release()
      assert.equal(losses.length, 1)
    })

    it('with renewal is held until it is released', async () => {
      const lock = await manager.acquire('k', { ttl: 600, renew: true })
      assert.ok(lock !== null)
      block(1800)
      assert.equal(lock.held, true)
      await lock.release()
      await lock.release()
      assert.equal(lock.held, false)
      assert.equal(lock.signal.aborted, false)
      assert.deepEqual(losses, [])
      await assertFree()
    })

    it('extends as often as it is asked to, also at once', async () => {
      const lock = await manager.acquire('k', { ttl: 20_000 })
      assert.ok(lock !== null)
      const all = timed(() => Promise.all([50_000, 60_000, 70_000].map((ttl) => lock.extend(ttl))))
      const { ms, outcome } = await all
      assert.deepEqual(outcome, { status: 'fulfilled', value: [true, true, true] })
      assert.ok(ms < 3000, `${ms} ms`)
      assert.ok(lock.ttlLeft > 60_000)
      await lock.release()
    })

    it('may be given to its manager', async () => {
      const lock = await manager.acquire('k', { ttl: 1000 })
      assert.ok(lock !== null)
      assert.equal(await manager.extend('k', lock, 20_000), true)
      assert.ok(lock.ttlLeft > 15_000, `${lock.ttlLeft} ms`)
      block(1200)
      await data.command('PING')
      assert.equal(lock.held, true)
      assert.equal(await manager.release('k', lock), true)
      assert.equal(lock.held, false)
      assert.equal(await manager.extend('k', lock, 20_000), false)
      assert.equal(await manager.release('k', lock), false)
      assert.deepEqual(losses, [])
    })

    it('is never waited for by tryAcquire', async () => {
      const lock = await manager.acquire('k', { ttl: 20_000 })
      const { ms, outcome } = await timed(() => other.tryAcquire('k', { waitMs: 3000 }))
      assert.deepEqual(outcome, { status: 'fulfilled', value: null })
      assert.ok(ms < 2900, `${ms} ms`)
      await lock?.release()
    })
  })

  it('a function that throws at once frees the lock, and one that is none is refused', async () => {
    const error = new Error('mine')
    const fails = (): never => {
      throw error
    }
    await assert.rejects(manager.withLock('k', fails), (thrown) => thrown === error)
    await assertFree()
    for (const none of [undefined, null, 5, {}, 'fn'] as never[]) {
      await assert.rejects(manager.withLock('k', none), { code: 'INVALID_ARGUMENT' })
      await assert.rejects(manager.withLocks(['k'], none), { code: 'INVALID_ARGUMENT' })
    }
    await assertFree()
  })

  it('the wall clock has no say', async () => {
    const { now } = Date
    try {
      for (const hours of [1, -1]) {
        const seen = await manager.withLock(
          'k',
          async (context) => {
            Date.now = () => now() + hours * 3_600_000
            block(1000)
            await data.command('PING')
            return [context.held, context.ttlLeft <= 500, await other.tryAcquire('k')]
          },
          500,
        )
        assert.deepEqual(seen, [true, true, null])
      }
    } finally {
      Date.now = now
    }
    assert.deepEqual(losses, [])
  })
}
