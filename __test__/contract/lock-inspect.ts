/** What can be seen of locks, force, the locks of others, and bad input. Whatever it runs on. */
import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { after, afterEach, before, describe, it } from 'node:test'
import { ArgumentError, type ListedLock, LockError, RedisLockManager, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { deferred, until } from '../helpers/wait'

const INVALID = (error: unknown): boolean =>
  like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /./ })(error)

export function lockInspect(backend: Backend): void {
  let target: Target
  let data: Data
  let manager: RedisLockManager
  let hasty: RedisLockManager

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    manager = new RedisLockManager(target)
    hasty = new RedisLockManager(target, { maxRetries: 0, holder: 'hasty' })
  })
  after(async () => {
    await Promise.all([manager.close(), hasty.close(), data.close()])
  })
  afterEach(() => data.clear())

  async function listed(limit = 100): Promise<ListedLock[]> {
    const all: ListedLock[] = []
    for (let cursor: number | null = 0; cursor !== null;) {
      const page = await manager.list({ cursor, limit })
      assert.ok(page.locks.length <= limit)
      all.push(...page.locks)
      cursor = page.cursor
    }
    return all
  }

  describe('inspect', () => {
    it('of a free lock says that', async () => {
      assert.deepEqual(await manager.inspect('k'), { locked: false, ttlMs: null, waiters: 0 })
    })

    it('says who holds it, since when, for how long, and who waits', async () => {
      const begin = Date.now()
      const entered = deferred()
      const leave = deferred()
      const holding = manager.withLock('k', () => (entered.resolve(), leave.promise), {
        ttl: 5000,
        maxHoldMs: 60_000,
        holder: 'a:b%c',
      })
      await entered.promise
      const { locked, holder, ttlMs, waiters } = await hasty.inspect('k')
      assert.deepEqual([locked, waiters], [true, 0])
      assert.ok(ttlMs !== null && ttlMs > 3000 && ttlMs <= 5000)
      assert.ok(holder !== undefined)
      const { acquiredAt, fence, ...rest } = holder
      assert.deepEqual(rest, {
        name: 'a:b%c',
        host: hostname(),
        pid: process.pid,
        renewed: true,
        jsLivenessMs: 50_000,
        maxHoldMs: 60_000,
      })
      assert.ok(Math.abs(acquiredAt.getTime() - begin) < 5000 && Number.isSafeInteger(fence))
      const unfair = manager.acquire('k')
      await until('one listens', async () => (await hasty.inspect('k')).waiters === 1)
      const fair = [1, 2, 3].map(() => manager.acquire('k', { fair: true }))
      await until('three queue', async () => (await hasty.inspect('k')).waiters === 3)
      leave.resolve()
      const freed = [unfair, ...fair].map(async (lock) => {
        const got = await lock
        await (typeof got === 'string' ? manager.release('k', got) : got?.release())
      })
      await Promise.all([holding, ...freed])
      const token = await manager.acquire('k', 4000)
      const plain = await hasty.inspect('k')
      assert.deepEqual([plain.holder?.name, plain.holder?.renewed], [`${hostname()}:${process.pid}`, false])
      assert.ok(!('maxHoldMs' in (plain.holder ?? {})))
      await manager.release('k', token as string)
    })
  })

  describe('list', () => {
    it('has what is held for some time, in the order of acquisition, by pages', async () => {
      for (let n = 0; n < 25; n += 1) await manager.acquire(`k${n}`, 60_000)
      await until('all are listed', async () => (await listed()).length === 25)
      const expected = Array.from({ length: 25 }, (_, n) => `k${n}`)
      for (const limit of [1, 7, 25, 100])
        assert.deepEqual(
          (await listed(limit)).map(({ key }) => key),
          expected,
        )
      const [first] = await listed()
      assert.equal(first?.holder?.pid, process.pid)
      assert.ok((first?.ttlMs ?? 0) > 50_000)
    })

    it('forgets what is released, expired, deleted or closed', async () => {
      const own = new RedisLockManager(target)
      const released = await manager.acquire('released')
      await manager.acquire('deleted')
      await manager.acquire('expired', 400)
      await own.acquire('closed')
      await manager.acquire('stays')
      await until('all are listed', async () => (await listed()).length === 5, 2000)
      await manager.release('released', released as string)
      await data.command('DEL', 'fm:lock:deleted')
      await own.close()
      await until('one is left', async () => (await listed()).map(({ key }) => key).join() === 'stays')
      if (backend.isServer)
        await until(
          'also in the index',
          async () => (await data.command('ZCARD', 'fm:lock:ferroflow:held')) === 1,
        )
    })

    it('walks past what comes and goes without missing what stays', async () => {
      for (let n = 0; n < 20; n += 1) await manager.acquire(`stays${n}`, 60_000)
      await until('they are listed', async () => (await listed()).length === 20)
      const stop = new AbortController()
      const churn = (async () => {
        for (let n = 0; !stop.signal.aborted; n += 1)
          await hasty.withLock(`comes${n % 5}`, () => data.command('PING'))
      })()
      for (let round = 0; round < 20; round += 1) {
        const keys = (await listed(3)).map(({ key }) => key).filter((key) => key.startsWith('stays'))
        assert.deepEqual(
          keys,
          Array.from({ length: 20 }, (_, n) => `stays${n}`),
        )
      }
      stop.abort()
      await churn
    })

    it('refuses what is no cursor, limit or options', async () => {
      for (const options of [
        { cursor: -1 },
        { cursor: 0.5 },
        { cursor: '1' },
        { limit: 0 },
        { limit: 10_001 },
        { limit: Number.NaN },
        null,
        5,
      ] as never[])
        await assert.rejects(manager.list(options), INVALID, JSON.stringify(options))
    })
  })

  describe('forceRelease', () => {
    it('frees the lock of whoever holds it, and says so', async () => {
      const events: unknown[] = []
      manager.on('forceReleased', (event) => events.push(event))
      assert.equal(await manager.forceRelease('k'), false)
      const token = await hasty.acquire('k')
      assert.equal(await manager.forceRelease('k'), true)
      assert.equal(await data.exists('fm:lock:k'), false)
      assert.equal(await hasty.release('k', token as string), false)
      await data.set('fm:lock:foreign', 'x')
      assert.equal(await manager.forceRelease('foreign'), true)
      const [{ key, holder }, foreign] = events as [{ key: string; holder: { name: string } }, unknown]
      assert.deepEqual([key, holder.name, foreign], ['k', 'hasty', { key: 'foreign' }])
      assert.equal(events.length, 2)
    })

    it('wakes whoever waits', async () => {
      await hasty.acquire('k')
      const next = manager.withLock('k', () => 'next', { waitMs: 20_000, retryDelay: 20_000 })
      await until('it waits', async () => (await manager.inspect('k')).waiters === 1)
      await manager.forceRelease('k')
      assert.equal(await next, 'next')
    })
  })

  describe('the lock of another package', () => {
    for (const value of ['4d0ee5d3-3f0a-4a4c-a1ce-2f6b1c0d9e11', '{"owner":"x","expiresAt":1}', '', 'ff1:']) {
      it(`is respected: ${JSON.stringify(value)}`, async () => {
        await data.command('SET', 'fm:lock:k', value, 'PX', 30_000)
        assert.equal(await hasty.acquire('k'), null)
        await assert.rejects(
          hasty.withLock('k', () => 1),
          (error: LockError) => error.code === 'LOCK_HELD' && !('holder' in error),
        )
        const { locked, ttlMs, ...rest } = await manager.inspect('k')
        assert.ok(locked && ttlMs !== null && ttlMs > 20_000)
        assert.deepEqual(rest, { waiters: 0 })
        assert.equal(await manager.release('k', 'mine'), false)
        assert.equal(await manager.extend('k', 'mine', 1000), false)
        assert.equal(await data.get('fm:lock:k'), value)
        const strict = new RedisLockManager(target, { strict: true })
        await assert.rejects(
          strict.release('k', 'mine'),
          like({ type: LockError, code: 'LOCK_LOST', message: /held by somebody else/, key: 'fm:lock:k' }),
        )
        await strict.close()
        if (value !== '') assert.equal(await manager.release('k', value), true, 'with its token')
      })
    }

    it('that took over an entry of the list is listed', async () => {
      await manager.acquire('k')
      await until('it is listed', async () => (await listed()).length === 1)
      await data.set('fm:lock:k', 'foreign')
      assert.deepEqual(await listed(), [{ key: 'k', ttlMs: null }])
    })
  })

  describe('bad input', () => {
    const badTtls = [0, 9, -1, 10.5, Number.NaN, Infinity, 24 * 86_400_000 + 1, '100', null, true, {}, []]

    it('of a TTL is refused, and nothing is sent', async () => {
      for (const ttl of badTtls as never[]) {
        const calls: (() => Promise<unknown>)[] = [
          () => manager.acquireLock('k', ttl),
          () => manager.extend('k', 't', ttl),
          () => manager.acquire('k', { ttl }),
          () => manager.withLock('k', () => 1, { ttl }),
        ]
        if (typeof ttl !== 'object' || ttl === null)
          calls.push(
            () => manager.acquire('k', ttl),
            () => manager.tryAcquire('k', ttl),
            () => manager.withLock('k', () => 1, ttl),
            () => manager.withLocks(['k'], () => 1, ttl),
          )
        // `extend` takes its default for null, like the documented one.
        for (const call of calls) if (ttl !== null || call !== calls[1]) await assert.rejects(call(), INVALID)
        assert.throws(() => new RedisLockManager(target, { defaultTTL: ttl }), INVALID)
      }
      assert.deepEqual(await data.contracted(), {})
      for (const ttl of [10, 24 * 86_400_000]) {
        const token = await manager.acquire(`edge${ttl}`, ttl)
        assert.equal(typeof token, 'string')
      }
    })

    it('of any option is refused, and nothing is sent', async () => {
      const bad: Record<string, unknown[]> = {
        waitMs: [-1, 0.5, Number.NaN, '5', null],
        retryDelay: [-1, 0, 0.5, Number.NaN, '5'],
        signal: [{}, 'abort', 5, { aborted: false }, { aborted: true }],
        fair: [1, 'yes', null],
        renew: [1, 'yes', null],
        jsLivenessMs: [0, 999, Number.NaN, '5000'],
        maxHoldMs: [-1, 0, 0.5, Number.NaN, '5'],
        replicas: [-1, 0.5, 1001, '1'],
        replicaTimeoutMs: [0, -1, 60_001, '5'],
        holder: [5, 'a\nb', 'x'.repeat(513)],
        reentrant: [1, 'yes'],
        onLoss: ['throw', true],
      }
      for (const [name, values] of Object.entries(bad))
        for (const value of values) {
          const options = { ttl: 1000, [name]: value } as never
          await assert.rejects(
            manager.withLock('k', () => assert.fail(), options),
            INVALID,
            `${name}: ${String(value)}`,
          )
        }
      for (const options of [null, 'x', []] as never[])
        await assert.rejects(
          manager.withLock('k', () => 1, options),
          INVALID,
        )
      assert.deepEqual(await data.contracted(), {})
    })

    it('of the manager is refused', () => {
      for (const options of [
        { strict: 1 },
        { warnings: 'no' },
        { returns: 'object' },
        { releaseOnSignal: 'SIGTERM' },
        { releaseOnSignal: ['TERM'] },
        { releaseOnSignal: ['SIGNOSUCH'] },
        { releaseOnSignal: ['SIGKILL'] },
        { reentrant: 1 },
        { fair: 'x' },
        { maxHoldMs: 0 },
        { jsLivenessMs: 5 },
      ] as never[])
        assert.throws(() => new RedisLockManager(target, options), INVALID, JSON.stringify(options))
    })

    it('of a key or a token is refused, and nothing is sent', async () => {
      for (const key of ['', 'a\nb', 'x'.repeat(513), 5, null, undefined, {}, 'ferroflow:held'] as never[])
        for (const call of [
          () => manager.acquire(key),
          () => manager.withLock(key, () => 1),
          () => manager.release(key, 't'),
          () => manager.extend(key, 't'),
          () => manager.isLocked(key),
          () => manager.inspect(key),
          () => manager.forceRelease(key),
        ])
          await assert.rejects(call(), INVALID)
      for (const token of ['', 5, null, undefined, {}, { token: 5 }, 'a\nb'] as never[]) {
        await assert.rejects(manager.release('k', token), INVALID)
        await assert.rejects(manager.extend('k', token), INVALID)
      }
      assert.deepEqual(await data.contracted(), {})
    })

    it('of another key is no reason to end the renewal of this one', async () => {
      const lock = await manager.acquire('k', { ttl: 100, renew: true })
      assert.ok(lock !== null)
      assert.equal(await manager.release('another', lock), false)
      assert.equal(await manager.extend('another', lock, 50_000), false)
      const end = performance.now() + 250
      await until('more than a TTL is over', () => performance.now() > end)
      assert.equal(lock.held, true)
      assert.ok(lock.ttlLeft <= 100)
      await lock.release()
    })

    it('of another key does not keep close from freeing the lock', async () => {
      const own = new RedisLockManager(target)
      const token = await own.acquire('k')
      const lock = await own.acquire('kept', { ttl: 60_000, renew: true })
      assert.ok(token !== null && lock !== null)
      await Promise.all([token, lock].map((held) => own.release('another', held)))
      await Promise.all([token, lock].map((held) => own.extend('another', held)))
      await own.close()
      assert.equal(lock.held, false)
      assert.deepEqual(await data.contracted(), {})
    })

    it('released while nobody holds it has expired, also if it is acquired at the same time', async () => {
      const strict = new RedisLockManager(target, { strict: true })
      const token = (await strict.acquire('held')) as string
      const names = ['held', 'held', 'a', 'b', 'c']
      const released = [
        strict.release('held', token),
        ...names.map((name, index) => strict.release(name, index === 0 ? token : 'stale')),
      ]
      const acquired = [...new Set(names)].map((name) => strict.tryAcquire(name))
      const [first, ...others] = await Promise.allSettled(released)
      assert.deepEqual(first, { status: 'fulfilled', value: true })
      assert.deepEqual(
        others.map((other) => other.status === 'rejected' && other.reason.code),
        names.map(() => 'LOCK_EXPIRED'),
      )
      assert.ok((await Promise.all(acquired)).every((granted) => granted !== null))
      await strict.close()
    })

    it('released twice, or extended too late, is false; strict makes it an error', async () => {
      const strict = new RedisLockManager(target, { strict: true })
      const expired = like({ type: LockError, code: 'LOCK_EXPIRED', message: /not held/, key: 'fm:lock:k' })
      for (const by of [manager, strict]) {
        const token = (await by.acquire('k')) as string
        assert.equal(await by.extend('k', token, 5000), true)
        assert.equal(await by.release('k', token), true)
        if (by === manager) {
          assert.equal(await by.release('k', token), false)
          assert.equal(await by.extend('k', token), false)
        } else {
          await assert.rejects(by.release('k', token), expired)
          await assert.rejects(by.extend('k', token), expired)
          await manager.acquire('k')
          await assert.rejects(by.extend('k', token), { code: 'LOCK_LOST' })
        }
      }
      await strict.close()
    })
  })
}
