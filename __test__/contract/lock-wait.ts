/** What waiting for a lock means: order, giving up, entering again, several at once, closing. Whatever it runs on. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { ConnectionError, LockError, RedisLockManager, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { whileLate } from '../helpers/lateness'
import { deferred, timed, until } from '../helpers/wait'

const REENTRANT = like({ type: LockError, code: 'LOCK_REENTRANT', message: /^Failed to acquire lock for / })
const ABORTED = like({ type: LockError, code: 'ABORTED', message: /^Failed to acquire lock for k: / })
const CLOSED = like({ type: ConnectionError, code: 'CLOSED', message: /closed/ })

export function lockWait(backend: Backend): void {
  let target: Target
  let data: Data
  let manager: RedisLockManager
  let other: RedisLockManager

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    manager = new RedisLockManager(target)
    other = new RedisLockManager(target)
  })
  after(async () => {
    await Promise.all([manager.close(), other.close(), data.close()])
  })
  afterEach(() => data.clear())

  async function waiters(key = 'k'): Promise<number> {
    return (await other.inspect(key)).waiters
  }

  async function assertNothingLeft(): Promise<void> {
    const left = await data.keys()
    const kept = left.filter(
      (key) => !/ferroflow:(fence(:\{\w+\})?|held|(withdrawn|request|forced):.*)$/.test(key),
    )
    assert.deepEqual(kept, [])
  }

  describe('giving up', () => {
    for (const fair of [false, true])
      it(`by a signal takes no time and leaves nothing${fair ? ' in the queue' : ''}`, async () => {
        const token = await manager.acquire('k', 60_000)
        const reason = new Error('enough')
        const taken: number[] = []
        for (let round = 0; round < 10; round += 1) {
          const control = new AbortController()
          const waiting = manager.withLock('k', () => 1, { waitMs: 30_000, fair, signal: control.signal })
          const outcome = assert.rejects(waiting, (error: LockError) => {
            taken.push(performance.now())
            return ABORTED(error) && error.cause === reason
          })
          await until('it waits', async () => (await waiters()) > 0)
          const begin = performance.now()
          const { late } = await whileLate(async () => {
            control.abort(reason)
            await outcome
          })
          taken.push(Math.max(0, (taken.pop() as number) - begin - late))
        }
        const shown = taken.map((ms) => ms.toFixed(1)).join(', ')
        assert.ok(taken.toSorted((a, b) => a - b)[5]! < 10 && Math.max(...taken) < 250, `${shown} ms`)
        await until('nobody waits', async () => (await waiters()) === 0)
        await manager.release('k', token as string)
        await assertNothingLeft()
      })

    it('before it begins sends nothing', async () => {
      for (const call of [
        () => manager.acquire('k', { signal: AbortSignal.abort() }),
        () => manager.tryAcquire('k', { signal: AbortSignal.abort() }),
        () => manager.withLock('k', () => assert.fail(), { signal: AbortSignal.abort() }),
        () => manager.withLocks(['k', 'l'], () => assert.fail(), { signal: AbortSignal.abort() }),
      ])
        await assert.rejects(call(), ABORTED)
      assert.deepEqual(await data.keys(), [])
    })

    it('at the moment of the grant leaves no lock', async () => {
      for (let round = 0; round < 100; round += 1) {
        const control = new AbortController()
        const call = manager.acquire('k', { signal: control.signal, ttl: 60_000 })
        for (let turn = 0; turn < round % 7; turn += 1) await new Promise((done) => setImmediate(done))
        control.abort()
        const [outcome] = await Promise.allSettled([call])
        if (outcome.status === 'fulfilled') await outcome.value?.release()
        else assert.ok(ABORTED(outcome.reason))
      }
      await until('it is free', async () => !(await data.exists('fm:lock:k')))
      await assertNothingLeft()
    })

    it('after waitMs says who holds it', async () => {
      const lock = await manager.acquire('k', { ttl: 60_000, holder: 'the importer' })
      const { ms, outcome } = await timed(() => other.withLock('k', () => 1, { waitMs: 120, retryDelay: 30 }))
      assert.ok(outcome.status === 'rejected' && ms >= 118 && ms < 4000, `${ms} ms`)
      like({ type: LockError, code: 'LOCK_TIMEOUT', message: /^Failed to acquire lock for k/ })(
        outcome.reason,
      )
      const { holder, attempts, retryable, key } = outcome.reason as LockError
      assert.deepEqual([holder?.name, holder?.pid, key], ['the importer', process.pid, 'fm:lock:k'])
      assert.equal(holder?.fence, lock?.fence)
      assert.ok((attempts as number) >= 2 && retryable)
      await assert.rejects(
        other.withLock('k', () => 1, { waitMs: 0 }),
        { code: 'LOCK_HELD', attempts: 1 },
      )
      assert.doesNotMatch(JSON.stringify(outcome.reason), new RegExp(lock?.token as string), 'not the token')
      await lock?.release()
    })
  })

  describe('a fair wait', () => {
    it('is served in the order of arrival', async () => {
      const order: number[] = []
      const token = await manager.acquire('k')
      const all = Array.from({ length: 50 }, (_, n) =>
        (n % 2 ? manager : other).withLock('k', () => order.push(n), { fair: true, waitMs: 30_000 }),
      )
      await until('all wait', async () => (await waiters()) === 50)
      await manager.release('k', token as string)
      await Promise.all(all)
      // Both managers of one target share one connection, so this is the order at the server.
      assert.deepEqual(
        order,
        Array.from({ length: 50 }, (_, n) => n),
      )
      await assertNothingLeft()
    })

    it('keeps its place, however rarely it looks', { timeout: 20_000 }, async () => {
      const token = await manager.acquire('k')
      const options = { fair: true, waitMs: 30_000, retryDelay: 20_000 }
      const order: string[] = []
      const first = manager.withLock('k', () => order.push('first'), options)
      await until('one waits', async () => (await waiters()) === 1)
      const left = Date.now() + 4000
      const second = other.withLock('k', () => order.push('second'), { ...options, retryDelay: 100 })
      await until('two wait', async () => (await waiters()) === 2)
      // Longer than a lease.
      await until('a lease is over', () => Date.now() > left, 6000)
      assert.equal(await waiters(), 2)
      await manager.release('k', token as string)
      await Promise.all([first, second])
      assert.deepEqual(order, ['first', 'second'])
    })
  })

  describe('the same chain', () => {
    it('is refused at once', async () => {
      await manager.withLock('k', async () => {
        for (const by of [manager, other]) {
          const { ms, outcome } = await timed(() => by.withLock('k', () => 1))
          assert.ok(outcome.status === 'rejected' && REENTRANT(outcome.reason))
          assert.ok(ms < 1000, `${ms} ms`)
        }
        await assert.rejects(
          manager.withLocks(['a', 'k'], () => 1),
          REENTRANT,
        )
        assert.equal(await manager.isLocked('a'), false)
      })
      await assertNothingLeft()
    })

    it('may enter again if it says so, through any manager', async () => {
      const result = await manager.withLock('k', ({ token }) =>
        other.withLock(
          'k',
          async (inner) => {
            assert.equal(inner.token, token)
            return manager.withLock('k', () => 'inside', { reentrant: true })
          },
          { reentrant: true },
        ),
      )
      assert.equal(result, 'inside')
      await assertNothingLeft()
    })

    it('keeps its siblings apart, and the lock until the last has left', async () => {
      let inside = 0
      let most = 0
      const ran: number[] = []
      let last: Promise<unknown> = Promise.resolve()
      const enter = (n: number): Promise<unknown> =>
        manager.withLock(
          'k',
          async () => {
            inside += 1
            most = Math.max(most, inside)
            await data.command('PING')
            await delay(1)
            assert.equal(await data.exists('fm:lock:k'), true, 'still held')
            inside -= 1
            ran.push(n)
          },
          { reentrant: true },
        )
      await manager.withLock('k', async () => {
        // Nobody waits for these here.
        last = Promise.all(Array.from({ length: 20 }, (_, n) => enter(n)))
      })
      assert.equal(ran.length, 20, 'the lock was held for them')
      await last
      assert.equal(most, 1)
      await assertNothingLeft()
    })

    it('of another one waits like everybody', async () => {
      const order: string[] = []
      const holding = manager.withLock('k', async () => {
        await delay(50)
        order.push('first')
      })
      await until('it is held', () => manager.isLocked('k'))
      await manager.withLock('k', () => order.push('second'), { reentrant: true })
      await holding
      assert.deepEqual(order, ['first', 'second'])
    })

    it('that left the function holds nothing any more', async () => {
      const escaped = deferred<() => Promise<number>>()
      const go = deferred()
      await manager.withLock('k', () => {
        const later = go.promise.then(() => manager.withLock('k', () => 7))
        escaped.resolve(() => later)
      })
      go.resolve()
      assert.equal(await (await escaped.promise)(), 7)
    })
  })

  describe('several locks', () => {
    it('are held together, and freed together', async () => {
      const result = await manager.withLocks(['b', 'a', 'c', 'a'], async (context) => {
        assert.deepEqual(context.keys, ['a', 'b', 'c'])
        assert.equal(context.held, true)
        context.assertHeld()
        const fences = context.keys.map((key) => context.fences[key] as number)
        assert.deepEqual(
          fences,
          fences.toSorted((x, y) => x - y),
        )
        await context.extend(50_000)
        for (const key of ['a', 'b', 'c']) assert.ok((await data.pttl(`fm:lock:${key}`)) > 40_000)
        return 'all'
      })
      assert.equal(result, 'all')
      await assertNothingLeft()
    })

    it('are all or none', async () => {
      const token = await other.acquire('b')
      const { ms, outcome } = await timed(() =>
        manager.withLocks(['a', 'b', 'c'], () => assert.fail(), { waitMs: 100 }),
      )
      assert.ok(outcome.status === 'rejected' && ms < 4000)
      like({ type: LockError, code: 'LOCK_TIMEOUT', message: /for b/, key: 'fm:lock:b' })(outcome.reason)
      assert.equal(await manager.isLocked('a'), false)
      await other.release('b', token as string)
      await assertNothingLeft()
    })

    it('of which one is lost are lost', async () => {
      await assert.rejects(
        manager.withLocks(
          ['a', 'b'],
          async ({ signal }) => {
            await other.forceRelease('a')
            await until('the signal', () => signal.aborted)
          },
          1000,
        ),
        { code: 'LOCK_LOST', key: 'fm:lock:a' },
      )
      await assertNothingLeft()
    })

    it('are refused without a name', async () => {
      for (const keys of [[], 'a', undefined, null, [''], [5], ['a', 'b\n']] as never[])
        await assert.rejects(
          manager.withLocks(keys, () => 1),
          { code: 'INVALID_ARGUMENT' },
        )
      await assertNothingLeft()
    })
  })

  it('close frees what is held, ends what waits, and says so', async () => {
    const own = new RedisLockManager(target)
    const lost: string[] = []
    own.on('lost', (error) => lost.push(error.code))
    await other.acquire('taken')
    const tokens = await Promise.all(Array.from({ length: 20 }, (_, n) => own.acquire(`plain${n}`)))
    assert.ok(!tokens.includes(null))
    const lock = await own.acquire('object', { ttl: 60_000, renew: true })
    const entered = deferred<AbortSignal>()
    const running = own.withLock('k', async ({ signal }) => {
      entered.resolve(signal)
      await until('the signal', () => signal.aborted)
    })
    const lostRunning = assert.rejects(running, { code: 'LOCK_LOST' })
    const signal = await entered.promise
    const waiting = [
      own.acquire('taken'),
      own.acquire('taken', { fair: true, waitMs: 60_000 }),
      own.withLock('taken', () => assert.fail(), { waitMs: 60_000 }),
      own.withLocks(['a', 'taken'], () => assert.fail(), { waitMs: 60_000 }),
    ].map((call) => timed(() => call as Promise<unknown>))
    await until('they wait', async () => (await waiters('taken')) > 0 && (await data.exists('fm:lock:a')))
    const begin = performance.now()
    const closed = timed(() => own.close())
    for (const { outcome } of await Promise.all(waiting))
      assert.ok(outcome.status === 'rejected' && CLOSED(outcome.reason))
    const ended = performance.now() - begin
    assert.ok(ended < 1000, `the waiters ended after ${ended} ms`)
    assert.ok((await closed).ms < 3000)
    await lostRunning
    assert.equal(signal.aborted, true)
    assert.equal(lock?.held, false)
    assert.equal(lock?.signal.aborted, true)
    // The object, that of the function, and the first of the two.
    assert.deepEqual(lost, ['LOCK_LOST', 'LOCK_LOST', 'LOCK_LOST'])
    await until('only the other one is left', async () => {
      const left = (await data.keys()).filter(
        (key) => !/ferroflow:(fence(:\{\w+\})?|held|(withdrawn|request|forced):.*)$/.test(key),
      )
      return left.join() === 'fm:lock:taken'
    })
  })

  it('close leaves no lock of a call that is on its way', async () => {
    for (let round = 0; round < 20; round += 1) {
      const own = new RedisLockManager(target)
      const calls = Array.from({ length: 30 }, (_, n) => own.acquire(`way${n}`, 60_000))
      for (let turn = 0; turn < round % 6; turn += 1) await new Promise((done) => setImmediate(done))
      const settled = Promise.allSettled(calls)
      await own.close()
      for (const one of await settled)
        if (one.status === 'rejected') assert.ok(CLOSED(one.reason))
        else assert.equal(typeof one.value, 'string')
      await until(`round ${round}`, async () => !(await data.keys()).some((key) => /lock:way/.test(key)))
    }
  })
}
