/** `withRunLock`: exclusive, patient for a second, woken early, and it never touches what the function gave back. */
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { after, before, it } from 'node:test'
import { LockError, RedisWorkflowStateService } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { deferred, median, timed } from '../helpers/wait'

const TTL = 30_000

const keyOf = (id: string): string => `workflows:lock:${id}`

export function runLock(backend: Backend): void {
  let service: RedisWorkflowStateService
  let other: RedisWorkflowStateService
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    service = new RedisWorkflowStateService(target)
    other = new RedisWorkflowStateService(target)
    data = new Data(target)
  })
  after(async () => {
    await Promise.all([service.close(), other.close(), data.close()])
  })

  it('gives back what the function returns, and frees the lock', async () => {
    assert.equal(await service.withRunLock('r', () => 5), 5)
    assert.deepEqual(await service.withRunLock('r', async () => ({ a: 1 })), { a: 1 })
    assert.equal(await service.withRunLock('r', () => {}), undefined)
    assert.equal(await data.exists(keyOf('r')), false)
  })

  it('holds a lock with a token of its own for 30 s', async () => {
    const tokens = new Set<string | null>()
    for (const id of ['t', 't', 't2'])
      await service.withRunLock(id, async () => {
        tokens.add(await data.get(keyOf(id)))
        const left = await data.pttl(keyOf(id))
        assert.ok(left > TTL - 5000 && left <= TTL, `${left} ms`)
      })
    assert.equal(tokens.size, 3)
    assert.ok(!tokens.has(null))
  })

  it('passes on what the function throws, at once or later, and frees the lock', async () => {
    const error = new TypeError('mine')
    await assert.rejects(
      service.withRunLock('throws', () => {
        throw error
      }),
      (thrown) => thrown === error,
    )
    assert.equal(await data.exists(keyOf('throws')), false)
    await assert.rejects(
      service.withRunLock('throws', () => Promise.reject(error)),
      (thrown) => thrown === error,
    )
    assert.equal(await data.exists(keyOf('throws')), false)
  })

  it('lets one of 50 concurrent callers in at a time', async () => {
    let inside = 0
    let most = 0
    let done = 0
    const callers = Array.from({ length: 50 }, (_, n) =>
      (n % 2 === 0 ? service : other).withRunLock('crowd', async () => {
        inside += 1
        most = Math.max(most, inside)
        await new Promise((resolve) => setImmediate(resolve))
        inside -= 1
        done += 1
        return n
      }),
    )
    assert.deepEqual(
      await Promise.all(callers),
      Array.from({ length: 50 }, (_, n) => n),
    )
    assert.deepEqual([most, done], [1, 50])
    assert.equal(await data.exists(keyOf('crowd')), false)
  })

  it('locks of different runs do not meet', async () => {
    const inner = await service.withRunLock('one', () => other.withRunLock('two', () => 'both'))
    assert.equal(inner, 'both')
  })

  it('gives up after the budget of the original, in its words', async () => {
    await data.command('SET', keyOf('held'), 'somebody', 'PX', '60000')
    let called = false
    const { ms, outcome } = await timed(() => service.withRunLock('held', () => (called = true)))
    assert.ok(outcome.status === 'rejected')
    like({
      type: LockError,
      code: 'LOCK_TIMEOUT',
      message: 'Failed to acquire lock for run held after 10 retries',
    })(outcome.reason)
    assert.equal(outcome.reason.retryable, true)
    assert.ok(ms > 950 && ms < 2000, `${ms} ms`)
    assert.equal(called, false)
    assert.equal(await data.get(keyOf('held')), 'somebody')
  })

  it('is woken when the lock is freed', async () => {
    const waits: number[] = []
    for (let round = 0; round < 9; round += 1) {
      const held = deferred()
      const free = deferred()
      const holder = service.withRunLock('handed', async () => {
        held.resolve()
        await free.promise
      })
      await held.promise
      const next = other.withRunLock('handed', () => performance.now())
      // Long enough to have subscribed, and not a multiple of the interval of the polling.
      await new Promise((resolve) => setTimeout(resolve, 20 + 9 * round))
      const freed = performance.now()
      free.resolve()
      waits.push((await next) - freed)
      await holder
    }
    assert.ok(median(waits) < 40, `hand-overs took ${waits.map((ms) => ms.toFixed(1)).join(', ')} ms`)
  })

  it('gets a lock that expires meanwhile', async () => {
    await data.command('SET', keyOf('dying'), 'crashed', 'PX', '150')
    const { ms, outcome } = await timed(() => service.withRunLock('dying', () => 'mine'))
    assert.equal(outcome.status, 'fulfilled')
    assert.ok(ms >= 100 && ms < 900, `${ms} ms`)
  })

  for (const [what, spoil] of [
    ['was taken over', (key: string) => data.set(key, 'another')],
    ['expired', (key: string) => data.command('DEL', key)],
    [
      'cannot be released',
      (key: string) => data.command('DEL', key).then(() => data.setHash(key, { a: '1' })),
    ],
  ] as const) {
    it(`the outcome of the function survives a lock that ${what}; a warning tells`, async () => {
      const key = keyOf(`lost-${what}`)
      const warned = once(process, 'warning')
      const result = await service.withRunLock(`lost-${what}`, async () => {
        await spoil(key)
        return 'result'
      })
      assert.equal(result, 'result')
      const [warning] = (await warned) as [Error & { code?: string }]
      assert.equal(warning.code, 'FERROFLOW_LOCK')
      const earlier = await data.snapshot()
      assert.equal(key in earlier, what !== 'expired', 'what belongs to somebody else stays')

      await data.command('DEL', key)
      const again = once(process, 'warning')
      const error = new Error('of the function')
      await assert.rejects(
        service.withRunLock(`lost-${what}`, async () => {
          await spoil(key)
          throw error
        }),
        (thrown) => thrown === error,
      )
      await again
    })
  }

  it("keeps the caller's asynchronous context", async () => {
    const storage = new AsyncLocalStorage<string>()
    const seen = await storage.run('context', () =>
      service.withRunLock('als', async () => {
        await data.command('PING')
        return storage.getStore()
      }),
    )
    assert.equal(seen, 'context')
  })
}
