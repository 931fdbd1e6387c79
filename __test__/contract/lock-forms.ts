/** The forms of `RedisLockManager` beside token strings: Lock objects, and `acquireLock` of flowmonkey's store. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { ArgumentError, type Lock, RedisLockManager, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { timed, until } from '../helpers/wait'

export function lockForms(backend: Backend): void {
  let target: Target
  let data: Data
  let manager: RedisLockManager

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    manager = new RedisLockManager(target, { retryDelay: 20, maxRetries: 5 })
  })
  after(async () => {
    await Promise.all([manager.close(), data.close()])
  })
  afterEach(() => data.clear())

  async function assertHeld(key: string, lock: Lock | null, ttl: number): Promise<Lock> {
    assert.ok(lock !== null && typeof lock === 'object')
    assert.equal(lock.key, key)
    assert.ok(typeof lock.token === 'string' && lock.token !== '')
    // The bare token, whatever the form.
    assert.deepEqual(await data.contracted(), { [`fm:lock:${key}`]: lock.token })
    const left = await data.pttl(`fm:lock:${key}`)
    assert.ok(left > ttl - 2000 && left <= ttl, `${left} ms left of ${ttl}`)
    return lock
  }

  async function taken(key: string, ttl = 5000): Promise<Lock> {
    return assertHeld(key, await manager.tryAcquire(key, { ttl }), ttl)
  }

  describe('the argument decides', () => {
    it('options yield a Lock, with their TTL or the default', async () => {
      const first = await assertHeld('a', await manager.acquire('a', { ttl: 7000 }), 7000)
      await first.release()
      const second = await assertHeld('a', await manager.acquire('a', {}), 30_000)
      await second.release()
      const third = await assertHeld('a', await manager.acquire('a', { ttl: undefined }), 30_000)
      await third.release()
      const fourth = await assertHeld('a', await manager.tryAcquire('a', {}), 30_000)
      await fourth.release()
      await assertHeld('a', await manager.tryAcquire('a', { ttl: 8000 }), 8000)
    })

    it('a number, undefined or nothing yields a plain string', async () => {
      for (const acquire of [
        () => manager.acquire('s', 5000),
        () => manager.acquire('s'),
        () => manager.acquire('s', undefined),
        () => manager.tryAcquire('s', 5000),
        () => manager.tryAcquire('s'),
      ]) {
        const token = await acquire()
        assert.equal(typeof token, 'string')
        assert.equal(token, await data.get('fm:lock:s'))
        assert.equal(await manager.release('s', token as string), true)
      }
    })

    it('is null in both forms while somebody else holds it, after the same time', async () => {
      const lock = await taken('held')
      const waits = await timed(() => manager.acquire('held', { ttl: 5000 }))
      assert.deepEqual(waits.outcome, { status: 'fulfilled', value: null })
      assert.ok(waits.ms >= 95 && waits.ms < 1000, `${waits.ms} ms`)
      for (const attempt of [
        () => manager.tryAcquire('held', {}),
        () => manager.tryAcquire('held'),
        () => manager.acquireLock('held', 5000),
      ]) {
        const { ms, outcome } = await timed<unknown>(attempt)
        assert.deepEqual(outcome, { status: 'fulfilled', value: null })
        assert.ok(ms < 90, `${ms} ms`)
      }
      assert.equal(await data.get('fm:lock:held'), lock.token)
    })

    it('a TTL in options is checked as one outside', async () => {
      const refused = like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /./ })
      for (const ttl of [0, -1, 1.5, Number.NaN, Infinity, '5000', 1n, true] as never[]) {
        await assert.rejects(manager.acquire('b', { ttl }), refused, String(ttl))
        await assert.rejects(manager.tryAcquire('b', { ttl }), refused, String(ttl))
        await assert.rejects(manager.acquireLock('b', ttl), refused, String(ttl))
      }
      for (const options of [[], 'x', true] as never[])
        await assert.rejects(manager.acquire('b', options), refused, String(options))
      assert.deepEqual(await data.contracted(), {})
    })
  })

  describe('acquireLock', () => {
    it('yields a Lock at once, or null', async () => {
      const lock = await assertHeld('e', await manager.acquireLock('e', 6000), 6000)
      assert.equal(await manager.acquireLock('e', 6000), null)
      await lock.release()
      await assertHeld('e', await manager.acquireLock('e', 6000), 6000)
    })

    it('lets exactly one of 50 in', async () => {
      const locks = await Promise.all(Array.from({ length: 50 }, () => manager.acquireLock('one', 5000)))
      assert.equal(locks.filter((lock) => lock !== null).length, 1)
    })
  })

  describe('the option returns', () => {
    it('lock makes Locks of every form', async () => {
      const locks = new RedisLockManager(target, { returns: 'lock', maxRetries: 0 })
      for (const acquire of [
        () => locks.acquire('r', 30_000),
        () => locks.acquire('r'),
        () => locks.acquire('r', {}),
        () => locks.tryAcquire('r', 30_000),
        () => locks.tryAcquire('r'),
        () => locks.acquireLock('r', 30_000),
      ]) {
        const lock = await assertHeld('r', (await acquire()) as Lock | null, 30_000)
        assert.equal(await locks.acquire('r'), null)
        await lock.release()
      }
      assert.equal(await locks.withLock('r', () => 5), 5)
      await locks.close()
    })

    it('token leaves strings strings, and options still yield a Lock', async () => {
      const tokens = new RedisLockManager(target, { returns: 'token' })
      assert.equal(typeof (await tokens.acquire('t1')), 'string')
      assert.equal(typeof (await tokens.acquire('t2', {})), 'object')
      await tokens.close()
    })

    it('is nothing else', () => {
      for (const returns of ['tokens', '', 1, {}] as never[])
        assert.throws(
          () => new RedisLockManager(target, { returns }),
          like({
            type: ArgumentError,
            code: 'INVALID_ARGUMENT',
            message: 'returns must be "token" or "lock"',
          }),
        )
    })
  })

  describe('release', () => {
    it('of the Lock frees it once; the second time nothing happens', async () => {
      const lock = await taken('r')
      assert.equal(await lock.release(), undefined)
      assert.equal(await data.exists('fm:lock:r'), false)
      assert.equal(await lock.release(), undefined)
      const next = await taken('r')
      assert.equal(await lock.release(), undefined)
      assert.equal(await data.get('fm:lock:r'), next.token)
    })

    it('works without its object, as a callback', async () => {
      const { release, extend } = await taken('r')
      assert.equal(await extend(6000), true)
      await release()
      assert.equal(await manager.isLocked('r'), false)
    })

    it('of the manager takes the Lock or its token', async () => {
      const first = await taken('r')
      assert.equal(await manager.release('r', first), true)
      assert.equal(await manager.release('r', first), false)
      const second = await taken('r')
      assert.equal(await manager.release('r', second.token), true)
    })

    it('with the Lock of another acquisition or key does nothing', async () => {
      const other = await taken('other')
      await data.clear()
      const lock = await taken('r')
      assert.equal(await manager.release('r', other), false)
      assert.equal(await manager.extend('r', other, 60_000), false)
      await assertHeld('r', lock, 5000)
    })
  })

  describe('extend', () => {
    it('of the Lock and of the manager set the time that is left', async () => {
      const lock = await taken('e')
      assert.equal(await lock.extend(60_000), true)
      await assertHeld('e', lock, 60_000)
      assert.equal(await manager.extend('e', lock, 8000), true)
      await assertHeld('e', lock, 8000)
      assert.equal(await manager.extend('e', lock), true)
      await assertHeld('e', lock, 30_000)
      assert.equal(await manager.extend('e', lock.token, 7000), true)
      await assertHeld('e', lock, 7000)
    })

    it('is false once the lock has expired or was released, and brings nothing back', async () => {
      const lock = await manager.acquire('e', { ttl: 20 })
      assert.ok(lock !== null)
      await until('the lock expired', async () => !(await data.exists('fm:lock:e')))
      assert.equal(await lock.extend(60_000), false)
      assert.equal(await manager.extend('e', lock, 60_000), false)
      await lock.release()
      const released = await taken('e')
      await released.release()
      assert.equal(await released.extend(60_000), false)
      assert.deepEqual(await data.contracted(), {})
    })

    it('of an expired Lock leaves the next holder alone', async () => {
      // Long enough that a busy machine does not get it too late.
      const stale = await manager.acquire('e', { ttl: 250 })
      assert.ok(stale !== null)
      await until('the lock expired', async () => !(await data.exists('fm:lock:e')))
      const lock = await taken('e')
      assert.equal(await stale.extend(60_000), false)
      await stale.release()
      await assertHeld('e', lock, 5000)
    })

    it('refuses a TTL that is none', async () => {
      const lock = await taken('e')
      for (const ttl of [0, -1, 1.5, Number.NaN, undefined] as never[])
        await assert.rejects(lock.extend(ttl), { code: 'INVALID_ARGUMENT' }, String(ttl))
      await assertHeld('e', lock, 5000)
    })
  })
}
