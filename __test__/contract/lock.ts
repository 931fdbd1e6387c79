/** What `RedisLockManager` promises, whatever it runs on. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { ConnectionError, LockError, RedisLockManager, connect, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { deferred, median, timed, until } from '../helpers/wait'

export function lock(backend: Backend): void {
  let target: Target
  let data: Data
  let manager: RedisLockManager
  /** Never waits for more than 100 ms. */
  let hasty: RedisLockManager

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    manager = new RedisLockManager(target)
    hasty = new RedisLockManager(target, { retryDelay: 20, maxRetries: 5 })
  })
  after(async () => {
    await Promise.all([manager.close(), hasty.close(), data.close()])
  })
  afterEach(() => data.clear())

  async function taken(key: string, ttl?: number): Promise<string> {
    const token = await manager.tryAcquire(key, ttl)
    assert.ok(typeof token === 'string' && token !== '')
    return token
  }

  async function assertTtl(key: string, ttl: number): Promise<void> {
    const left = await data.pttl(key)
    assert.ok(left > ttl - 2000 && left <= ttl, `${left} ms left of ${ttl}`)
  }

  describe('acquire', () => {
    it('stores the token, and nothing else, with the TTL', async () => {
      const token = await manager.acquire('job', 12_345)
      assert.equal(typeof token, 'string')
      assert.deepEqual(await data.contracted(), { 'fm:lock:job': token })
      await assertTtl('fm:lock:job', 12_345)
    })

    it('sets the default TTL where none is given', async () => {
      await manager.acquire('a')
      await manager.acquire('b', undefined)
      await assertTtl('fm:lock:a', 30_000)
      await assertTtl('fm:lock:b', 30_000)
    })

    it('takes prefix and TTL from the options; undefined means the default', async () => {
      const other = new RedisLockManager(target, {
        keyPrefix: 'mine:',
        defaultTTL: 5000,
        retryDelay: undefined,
      })
      await other.acquire('job')
      await assertTtl('mine:job', 5000)
      const bare = new RedisLockManager(target, { keyPrefix: '', maxRetries: 0 })
      await bare.acquire('job')
      assert.ok(await data.exists('job'))
      const same = new RedisLockManager(target, { keyPrefix: undefined, maxRetries: 0 })
      await same.acquire('job')
      assert.ok(await data.exists('fm:lock:job'))
      await Promise.all([other.close(), bare.close(), same.close()])
    })

    it('gives every acquisition a token of its own', async () => {
      const tokens = await Promise.all(Array.from({ length: 50 }, (_, n) => manager.acquire(`k${n}`)))
      assert.equal(new Set(tokens).size, 50)
    })

    it('lets exactly one of 100 in', async () => {
      const tokens = await Promise.all(
        Array.from({ length: 100 }, (_, n) => (n % 2 ? manager : hasty).tryAcquire('one')),
      )
      const winners = tokens.filter((token) => token !== null)
      assert.equal(winners.length, 1)
      assert.equal(await data.get('fm:lock:one'), winners[0])
    })

    it('resolves null after maxRetries x retryDelay, and leaves the holder alone', async () => {
      const token = await taken('held')
      const { ms, outcome } = await timed(() => hasty.acquire('held'))
      assert.deepEqual(outcome, { status: 'fulfilled', value: null })
      assert.ok(ms >= 95 && ms < 1000, `${ms} ms`)
      assert.equal(await data.get('fm:lock:held'), token)
    })

    it('waits 5 s by default', async () => {
      await taken('default')
      const { ms, outcome } = await timed(() => manager.acquire('default'))
      assert.deepEqual(outcome, { status: 'fulfilled', value: null })
      assert.ok(ms >= 4950 && ms < 7000, `${ms} ms`)
    })

    it('never waits with maxRetries 0', async () => {
      const strict = new RedisLockManager(target, { maxRetries: 0, retryDelay: 10_000 })
      const token = await strict.acquire('once')
      assert.equal(typeof token, 'string')
      const { ms, outcome } = await timed(() => strict.acquire('once'))
      assert.deepEqual(outcome, { status: 'fulfilled', value: null })
      assert.ok(ms < 500, `${ms} ms`)
      await strict.close()
    })

    it('tryAcquire never waits', async () => {
      const token = await manager.tryAcquire('try', 5000)
      assert.equal(await data.get('fm:lock:try'), token)
      await assertTtl('fm:lock:try', 5000)
      const { ms, outcome } = await timed(() => manager.tryAcquire('try'))
      assert.deepEqual(outcome, { status: 'fulfilled', value: null })
      assert.ok(ms < 500, `${ms} ms`)
    })

    it('is woken by the release, long before it would look again', async () => {
      const patient = new RedisLockManager(target, { retryDelay: 10_000, maxRetries: 1 })
      const waits: number[] = []
      for (let round = 0; round < 9; round += 1) {
        const token = await taken('woken')
        const next = patient.acquire('woken').then((acquired) => ({ acquired, at: performance.now() }))
        await new Promise((resolve) => setTimeout(resolve, 20))
        const freed = performance.now()
        assert.equal(await manager.release('woken', token), true)
        const { acquired, at } = await next
        assert.equal(await data.get('fm:lock:woken'), acquired)
        waits.push(at - freed)
        await patient.release('woken', acquired as string)
      }
      const shown = waits.map((ms) => ms.toFixed(1)).join(', ')
      assert.ok(Math.max(...waits) < 1000 && median(waits) < 50, `hand-overs took ${shown} ms`)
      await patient.close()
    })

    it('does not miss a release between its attempt and its wait', async () => {
      const patient = new RedisLockManager(target, { retryDelay: 10_000, maxRetries: 1 })
      for (let round = 0; round < 100; round += 1) {
        const token = await taken('close')
        const next = timed(() => patient.acquire('close'))
        // Somewhere between at once and a few turns later.
        for (let turn = 0; turn < round % 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
        await manager.release('close', token)
        const { ms, outcome } = await next
        assert.ok(outcome.status === 'fulfilled' && outcome.value !== null)
        assert.ok(ms < 2000, `${ms} ms in round ${round}`)
        await patient.release('close', outcome.value)
      }
      await patient.close()
    })

    it('gets a lock as soon as it expires', async () => {
      const patient = new RedisLockManager(target, { retryDelay: 10_000, maxRetries: 1 })
      await taken('expiring', 120)
      const { ms, outcome } = await timed(() => patient.acquire('expiring'))
      assert.ok(outcome.status === 'fulfilled' && outcome.value !== null)
      assert.ok(ms >= 80 && ms < 1000, `${ms} ms`)
      await patient.close()
    })

    it('respects a lock that somebody else set without an end', async () => {
      await data.set('fm:lock:eternal', 'foreign')
      assert.equal(await hasty.acquire('eternal'), null)
      assert.equal(await hasty.isLocked('eternal'), true)
      assert.equal(await data.get('fm:lock:eternal'), 'foreign')
      assert.equal(await data.pttl('fm:lock:eternal'), -1)
    })
  })

  describe('release', () => {
    it('frees the lock once', async () => {
      const token = await taken('r')
      assert.equal(await manager.release('r', token), true)
      assert.equal(await data.exists('fm:lock:r'), false)
      assert.equal(await manager.release('r', token), false)
    })

    it('frees nothing under another token', async () => {
      const token = await taken('r')
      assert.equal(await manager.release('r', 'not-the-token'), false)
      assert.equal(await data.get('fm:lock:r'), token)
    })

    it('of an expired lock does not touch the next holder', async () => {
      const stale = await taken('r', 20)
      await until('the lock expired', async () => !(await data.exists('fm:lock:r')))
      const token = await taken('r')
      assert.equal(await manager.release('r', stale), false)
      assert.equal(await manager.extend('r', stale, 60_000), false)
      assert.equal(await data.get('fm:lock:r'), token)
      await assertTtl('fm:lock:r', 30_000)
    })

    it('of an expired lock takes no longer than any other', async () => {
      const { ms, outcome } = await timed(() => manager.release('never', 'token'))
      assert.deepEqual(outcome, { status: 'fulfilled', value: false })
      assert.ok(ms < 500, `${ms} ms`)
    })

    it('by one of 50 concurrent callers is the only one that counts', async () => {
      const token = await taken('r')
      const released = await Promise.all(Array.from({ length: 50 }, () => manager.release('r', token)))
      assert.equal(released.filter(Boolean).length, 1)
    })
  })

  describe('extend', () => {
    it('sets the time that is left, longer or shorter', async () => {
      const token = await taken('e', 5000)
      assert.equal(await manager.extend('e', token, 60_000), true)
      await assertTtl('fm:lock:e', 60_000)
      assert.equal(await manager.extend('e', token, 8000), true)
      await assertTtl('fm:lock:e', 8000)
      assert.equal(await manager.extend('e', token), true)
      await assertTtl('fm:lock:e', 30_000)
      assert.equal(await data.get('fm:lock:e'), token)
    })

    it('does nothing under another token', async () => {
      await taken('e', 5000)
      assert.equal(await manager.extend('e', 'not-the-token', 60_000), false)
      await assertTtl('fm:lock:e', 5000)
    })

    it('does not bring an expired lock back', async () => {
      const token = await taken('e', 20)
      await until('the lock expired', async () => !(await data.exists('fm:lock:e')))
      assert.equal(await manager.extend('e', token, 60_000), false)
      assert.equal(await data.exists('fm:lock:e'), false)
    })
  })

  describe('isLocked', () => {
    it('tells whether anybody holds the lock', async () => {
      assert.equal(await manager.isLocked('i'), false)
      const token = await taken('i')
      assert.equal(await hasty.isLocked('i'), true)
      await manager.release('i', token)
      assert.equal(await manager.isLocked('i'), false)
      // Long enough that a busy machine does not get it too late.
      await taken('i', 250)
      await until('the lock expired', async () => !(await manager.isLocked('i')))
    })
  })

  describe('withLock', () => {
    it('holds the lock during the function, with the TTL, and gives back its result', async () => {
      const result = await manager.withLock(
        'w',
        async () => {
          assert.equal(await manager.isLocked('w'), true)
          await assertTtl('fm:lock:w', 7000)
          return { ok: true }
        },
        7000,
      )
      assert.deepEqual(result, { ok: true })
      assert.equal(await manager.isLocked('w'), false)
      assert.equal(await manager.withLock('w', () => 5), 5)
    })

    it('passes on what the function throws, at once or later, and frees the lock', async () => {
      const error = new TypeError('mine')
      for (const fn of [
        () => {
          throw error
        },
        () => Promise.reject(error),
      ]) {
        await assert.rejects(manager.withLock('w', fn), (thrown) => thrown === error)
        assert.equal(await manager.isLocked('w'), false)
      }
    })

    it('refuses with a typed error if somebody else holds the lock all the time', async () => {
      await taken('w')
      let called = false
      await assert.rejects(
        hasty.withLock('w', () => (called = true)),
        like({ type: LockError, code: 'LOCK_TIMEOUT', message: /^Failed to acquire lock for w/ }),
      )
      assert.equal(called, false)
      assert.equal(await manager.isLocked('w'), true)
    })

    it('rejects when the lock was lost meanwhile, and leaves the next holder alone', async () => {
      const steal = async (): Promise<string> => {
        await data.set('fm:lock:w', 'another')
        return 'kept'
      }
      await assert.rejects(
        manager.withLock('w', steal),
        like({ type: LockError, code: 'LOCK_LOST', message: /^Lost the lock "w": /, key: 'fm:lock:w' }),
      )
      assert.equal(await data.get('fm:lock:w'), 'another')
      await data.clear()
      assert.equal(await manager.withLock('w', steal, { onLoss: 'warn' }), 'kept')
      assert.equal(await data.get('fm:lock:w'), 'another')
    })

    it('loses no increment of 100 callers', async () => {
      let counter = 0
      const increment = async (): Promise<void> => {
        const read = counter
        await data.command('PING')
        counter = read + 1
      }
      await Promise.all(
        Array.from({ length: 100 }, (_, n) => {
          const by =
            n % 2 ? manager : new RedisLockManager(data.connection, { retryDelay: 100, maxRetries: 50 })
          return by.withLock('counter', increment)
        }),
      )
      assert.equal(counter, 100)
    })

    it('is not re-entrant', async () => {
      const inner = await manager.withLock('w', () => manager.tryAcquire('w'))
      assert.equal(inner, null)
    })
  })

  it('what is asked at once is answered one by one', async () => {
    await data.command('HSET', 'fm:lock:hash', 'a', 'b')
    const [one, other, wrong] = await Promise.allSettled(
      ['one', 'other', 'hash'].map((key) => manager.tryAcquire(key)),
    )
    assert.ok(one?.status === 'fulfilled' && other?.status === 'fulfilled')
    assert.ok(wrong?.status === 'rejected' && (wrong.reason as { code: string }).code === 'WRONG_TYPE')
    const token = one.value as string
    const freed = await Promise.all([
      manager.release('one', token),
      manager.release('one', token),
      manager.release('other', 'not its token'),
    ])
    assert.deepEqual(freed, [true, false, false])
    assert.equal(await data.get('fm:lock:other'), other.value)
  })

  it('locks by any name do not meet', async () => {
    const names = ['a', 'A', 'a:b', '*', 'ünï', ' ', '__proto__', 'k'.repeat(512)]
    const tokens = await Promise.all(names.map((name) => manager.tryAcquire(name)))
    assert.equal(new Set(tokens).size, names.length)
    assert.ok(!tokens.includes(null))
  })

  it('closes a connection of its own, and only that', async () => {
    const shared = connect(target)
    const guest = new RedisLockManager(shared)
    assert.equal(guest.connection, shared)
    await guest.close()
    assert.equal(shared.status === 'closed', false)
    const owner = new RedisLockManager(target)
    const token = await owner.acquire('c')
    await owner.close()
    await owner.close()
    const closed = like({ type: ConnectionError, code: 'CLOSED', message: /closed/ })
    for (const call of [
      () => owner.acquire('c'),
      () => owner.tryAcquire('c'),
      () => owner.release('c', token as string),
      () => owner.extend('c', token as string),
      () => owner.isLocked('c'),
      () => owner.withLock('c', () => 1),
    ])
      await assert.rejects(call(), closed)
    assert.equal(await data.exists('fm:lock:c'), false, 'what it held is free')
    await shared.close()
  })

  it('a caller that waits settles when its manager is closed', async () => {
    await taken('waits')
    const owner = new RedisLockManager(target)
    const started = deferred()
    const waiting = timed(() => {
      started.resolve()
      return owner.acquire('waits')
    })
    await started.promise
    await owner.isLocked('waits')
    await owner.close()
    const { ms, outcome } = await waiting
    assert.ok(ms < 2000, `${ms} ms`)
    assert.ok(outcome.status === 'rejected' && outcome.reason.code === 'CLOSED', JSON.stringify(outcome))
  })
}
