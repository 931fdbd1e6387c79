/** What a fence promises, in every store that takes one. */
/* oxlint-disable no-await-in-loop -- one after the other */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import {
  ArgumentError,
  type Connection,
  CorruptEntryError,
  LockError,
  RedisExecutionCache,
  RedisSagaStore,
  RedisWorkflowStateService,
  ServerError,
  connect,
  type Target,
} from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { type Stores, WRITES, fenceKey, openStores } from '../helpers/fenced'
import { createRun } from '../helpers/pikku'
import { type Counter, counter, stateKey } from '../helpers/saga-states'

const WEEK = 7 * 24 * 60 * 60 * 1000

function stale(key: string, fence: number, currentFence: number): (error: unknown) => true {
  const expected = like({
    type: LockError,
    code: 'STALE_FENCE',
    message: /a later holder of the lock has written.*nothing was written/,
    key,
  })
  return (error) => {
    expected(error)
    const refused = error as LockError
    assert.deepEqual([refused.fence, refused.currentFence, refused.retryable], [fence, currentFence, false])
    return true
  }
}

export function fences(backend: Backend, journalPrefix = 'workflows'): void {
  let target: Target
  let connection: Connection
  let data: Data
  let stores: Stores

  before(async () => {
    target = await backend.freshTarget()
    connection = connect(target)
    data = new Data(target)
    stores = await openStores(connection, journalPrefix)
  })
  after(() => Promise.all([connection.close(), data.close()]))
  beforeEach(() => data.clear())

  /** The TTL is one that was just set. */
  async function assertLives(key: string, ttl: number): Promise<void> {
    const left = await data.pttl(key)
    assert.ok(left > ttl - 20_000 && left <= ttl, `${key}: ${left} ms of ${ttl}`)
  }

  for (const [name, prepare] of Object.entries(WRITES))
    describe(name, () => {
      it('is refused under an older fence, and nothing changes', async () => {
        const { record, write } = await prepare(stores)
        await data.set(fenceKey(record), '5')
        const earlier = await data.snapshot()
        await assert.rejects(write({ fence: 4 }), stale(record, 4, 5))
        assert.deepEqual(await data.snapshot(), earlier)
        assert.equal(await data.pttl(fenceKey(record)), -1)
      })

      it('happens under the same fence and under a newer one, which is kept for a week', async () => {
        for (const [seen, own] of [
          [undefined, 1],
          ['5', 5],
          ['9', 10],
          ['9007199254740990', Number.MAX_SAFE_INTEGER],
        ] as const) {
          const { record, write } = await prepare(stores)
          if (seen !== undefined) await data.set(fenceKey(record), seen)
          const { [fenceKey(record)]: _, ...earlier } = await data.snapshot()
          await write({ fence: own })
          const { [fenceKey(record)]: stored, ...later } = await data.snapshot()
          assert.equal(stored, String(own))
          assert.notDeepEqual(later, earlier)
          await assertLives(fenceKey(record), WEEK)
        }
      })

      it('happens without a fence, and leaves what is kept', async () => {
        const { record, write } = await prepare(stores)
        await data.set(fenceKey(record), '5')
        const earlier = await data.snapshot()
        await write()
        const later = await data.snapshot()
        assert.notDeepEqual(later, earlier)
        assert.equal(later[fenceKey(record)], '5')
        const other = await prepare(stores)
        await other.write({})
        assert.equal(await data.exists(fenceKey(other.record)), false)
      })

      it('is refused where the fence is none, and nothing changes', async () => {
        const { record, write } = await prepare(stores)
        const key = fenceKey(record)
        const corrupt = like({ type: CorruptEntryError, code: 'CORRUPT_ENTRY', message: /is no fence/, key })
        for (const bytes of ['', 'x', '-1', '0', '1.5', '5 ', '9007199254740992']) {
          await data.set(key, bytes)
          const earlier = await data.snapshot()
          await assert.rejects(write({ fence: 7 }), corrupt)
          assert.deepEqual(await data.snapshot(), earlier)
        }
        await data.command('DEL', key)
        await data.setHash(key, { a: '1' })
        const earlier = await data.snapshot()
        const mistyped = like({ type: ServerError, code: 'WRONG_TYPE', message: /WRONGTYPE/, key })
        await assert.rejects(write({ fence: 7 }), mistyped)
        assert.deepEqual(await data.snapshot(), earlier)
      })

      it('takes whole numbers from 1 only', async () => {
        const { write } = await prepare(stores)
        const earlier = await data.snapshot()
        const bad = [0, -1, 1.5, Number.NaN, Infinity, 2 ** 53, '5', null, 5n, {}, []] as number[]
        const expected = like({
          type: ArgumentError,
          code: 'INVALID_ARGUMENT',
          message: /the fence must be a whole number from 1 to 9007199254740991/,
        })
        await Promise.all(bad.map((value) => assert.rejects(write({ fence: value }), expected)))
        assert.deepEqual(await data.snapshot(), earlier)
      })
    })

  describe('of a run', () => {
    it('is kept from its creation on', async () => {
      const id = await stores.runs.createRun('w', { a: 1 }, { fence: 5 })
      const record = `workflows:run:${id}`
      assert.equal(await data.get(fenceKey(record)), '5')
      assert.deepEqual((await stores.runs.getRun(id))?.input, { a: 1 })
      const older = stores.runs.updateRunStatus(id, 'failed', undefined, undefined, { fence: 4 })
      await assert.rejects(older, stale(record, 4, 5))
      const options = { fence: 6 }
      const other: string = await stores.service.createRunImpl('w', 1, false, 'h', { type: 'test' }, options)
      assert.equal(await data.get(fenceKey(`${stores.prefix}:run:${other}`)), '6')
    })

    it('is one with its steps, in both services', async () => {
      const id = await createRun(stores.service)
      const record = `${stores.prefix}:run:${id}`
      const { stepId } = await stores.service.insertStepStateImpl(id, 's', 'rpc', {}, { fence: 5 })
      await assert.rejects(
        stores.journalRuns.setStepResult(id, 'other', 1, { fence: 4 }),
        stale(record, 4, 5),
      )
      await stores.journalRuns.setStepResult(id, 'other', 1, { fence: 7 })
      await assert.rejects(stores.service.setStepResultImpl(stepId, 1, { fence: 6 }), stale(record, 6, 7))
      await assert.rejects(stores.journal.deleteRun(id, { fence: 6 }), stale(record, 6, 7))
      await stores.service.setStepResultImpl(stepId, 1, { fence: 7 })
    })

    it('cannot be told from a step id that does not say which run it is of', async () => {
      for (const run of ['a:b', 'a'])
        for (const step of ['s', 's:t'])
          await stores.service.insertStepStateImpl(run, step, 'rpc', {}, { fence: 5 })
      const { stepId } = await stores.service.getStepState('a:b', 's')
      const unclear = stores.service.setStepResultImpl(stepId, 1, { fence: 9 })
      await assert.rejects(
        unclear,
        like({
          type: ArgumentError,
          code: 'INVALID_ARGUMENT',
          message: /does not say where the run id ends/,
        }),
      )
      await stores.service.setStepResultImpl(stepId, 1)
      const clear = await stores.service.getStepState('a', 's')
      await assert.rejects(
        stores.service.setStepResultImpl(clear.stepId, 1, { fence: 4 }),
        stale(`${stores.prefix}:run:a`, 4, 5),
      )
    })

    it('of the engine comes with the options of createRun and insertStepState', async () => {
      const options = { fence: 5 }
      const id = await stores.service.createRun('w', 1, false, 'h', { type: 'test' }, options)
      await assert.rejects(
        stores.service.insertStepState(id, 's', 'rpc', {}, { fence: 4 }),
        stale(`${stores.prefix}:run:${id}`, 4, 5),
      )
    })
  })

  it('outlives the deletion of its record', async () => {
    await stores.saga.insert('S', 'c', counter('i'), { fence: 5 })
    await stores.saga.delete('S', 'i', { fence: 6 })
    const late = stores.saga.insert('S', 'c', counter('i'), { fence: 5 })
    await assert.rejects(late, stale(stateKey('S', 'c'), 5, 6))
    assert.deepEqual(await data.keys(), [fenceKey(stateKey('S', 'c'))])
    await assertLives(fenceKey(stateKey('S', 'c')), WEEK)

    const run = await createRun(stores.service)
    await stores.journal.deleteRun(run, { fence: 2 })
    const update = stores.journalRuns.setStepResult(run, 's', 1, { fence: 1 })
    await assert.rejects(update, stale(`${stores.prefix}:run:${run}`, 1, 2))

    await stores.cache.invalidate('never cached', { fence: 2 })
    const cached = stores.cache.set({ id: 'never cached' }, 1000, { fence: 1 })
    await assert.rejects(cached, stale('fm:exec:never cached', 1, 2))
    await stores.cache.clear()
    assert.equal(await data.get(fenceKey('fm:exec:never cached')), '2')
  })

  it('of one of several executions refuses all of them', async () => {
    const ids = ['a', 'b', 'c']
    await Promise.all(ids.map((id) => stores.cache.set({ id })))
    await data.set(fenceKey('fm:exec:b'), '5')
    await assert.rejects(stores.cache.invalidateMany(ids, { fence: 4 }), stale('fm:exec:b', 4, 5))
    assert.equal((await stores.cache.getMany(ids)).size, 3)
    await stores.cache.invalidateMany(ids, { fence: 5 })
    assert.equal((await stores.cache.getMany(ids)).size, 0)
    assert.deepEqual(await Promise.all(ids.map((id) => data.get(fenceKey(`fm:exec:${id}`)))), ['5', '5', '5'])
  })

  it('lives as long as a record that lives longer than a week', async () => {
    await stores.cache.set({ id: 'e' }, 3 * WEEK, { fence: 1 })
    await assertLives(fenceKey('fm:exec:e'), 3 * WEEK)
    await stores.cache.set({ id: 'e' }, 1000, { fence: 2 })
    await assertLives(fenceKey('fm:exec:e'), 3 * WEEK)
    const lasting = new RedisSagaStore<Counter>({ redis: connection, defaultTtlSeconds: (2 * WEEK) / 1000 })
    await lasting.insert('S', 'c', counter('i'), { fence: 1 })
    await assertLives(fenceKey(stateKey('S', 'c')), 2 * WEEK)
  })

  it('is raised by a write that changes nothing: it shows that a later holder is at work', async () => {
    const id = await stores.runs.createRun('w')
    await stores.runs.setStepResult(id, 's', 1, { fence: 1 })
    await stores.runs.setStepScheduled(id, 's', { fence: 2 })
    assert.equal(await data.get(fenceKey(`workflows:run:${id}`)), '2')
    await stores.runs.updateRunStatus(id, 'completed')
    const ended = stores.runs.updateRunStatus(id, 'failed', undefined, undefined, { fence: 3 })
    await assert.rejects(ended, { code: 'INVALID_TRANSITION' })
    assert.equal(await data.get(fenceKey(`workflows:run:${id}`)), '3')
    assert.equal(await stores.journal.deleteRun('unknown', { fence: 4 }), false)
    assert.equal(await data.get(fenceKey(`${stores.prefix}:run:unknown`)), '4')
    await stores.cache.set({ id: 'e', updatedAt: 2 })
    await stores.cache.set({ id: 'e', updatedAt: 1 }, 1000, { fence: 5 })
    assert.equal(await data.get(fenceKey('fm:exec:e')), '5')
    await stores.saga.insert('S', 'c', counter('i', 0, { version: 3 }), { fence: 1 })
    const conflict = stores.saga.update('S', counter('i', 1), 0, { fence: 6 })
    await assert.rejects(conflict, { code: 'CONCURRENCY_CONFLICT' })
    assert.equal(await data.get(fenceKey(stateKey('S', 'c'))), '6')
  })

  it('is not raised by a write that finds another record than it means, or one that it cannot read', async () => {
    await stores.saga.insert('S', 'c', counter('i'), { fence: 1 })
    await assert.rejects(stores.saga.insert('S', 'c', counter('j'), { fence: 9 }), { code: 'SAGA_EXISTS' })
    await assert.rejects(stores.saga.update('S', counter('j'), 0, { fence: 9 }), { code: 'SAGA_NOT_FOUND' })
    // Another process gives the saga another correlation id, and its old one to another saga.
    const other = new RedisSagaStore<Counter>({ redis: target })
    await other.delete('S', 'i')
    await other.insert('S', 'c', counter('j'), { fence: 2 })
    await other.insert('S', 'd', counter('i'), { fence: 3 })
    await other.close()
    await stores.saga.update('S', counter('i', 1, { version: 1 }), 0, { fence: 9 })
    assert.equal(await data.get(fenceKey(stateKey('S', 'c'))), '2')
    assert.equal(await data.get(fenceKey(stateKey('S', 'd'))), '9')
    await data.set('workflows:step:r:s', 'no hash')
    await assert.rejects(stores.runs.setStepResult('r', 's', 1, { fence: 9 }), { code: 'WRONG_TYPE' })
    // Where the step lies in another slot, the fence of its run is raised before it.
    assert.equal(await data.exists(fenceKey('workflows:run:r')), backend.isCluster)
  })

  it('guards a saga whose JSON only the client can read', async () => {
    // An empty list of metadata and an empty object are one to the server.
    await data.set(stateKey('S', 'c'), '{"metadata":{},"n":0}')
    await data.set('saga-bus:saga:S:idx:id:i', 'c')
    await data.set(fenceKey(stateKey('S', 'c')), '5')
    const earlier = await data.snapshot()
    const older = stores.saga.update('S', counter('i', 1), 0, { fence: 4 })
    await assert.rejects(older, stale(stateKey('S', 'c'), 4, 5))
    assert.deepEqual(await data.snapshot(), earlier)
    await stores.saga.update('S', counter('i', 1), 0, { fence: 6 })
    assert.equal((await stores.saga.getById('S', 'i'))?.n, 1)
    assert.equal(await data.get(fenceKey(stateKey('S', 'c'))), '6')
  })

  it('is no matter to reads', async () => {
    await stores.saga.insert('S', 'c', counter('i'))
    await data.set(fenceKey(stateKey('S', 'c')), 'x')
    assert.equal((await stores.saga.getByCorrelationId('S', 'c'))?.n, 0)
    assert.equal((await stores.saga.getById('S', 'i'))?.n, 0)
  })

  it('has a key behind the keyPrefix, in the slot of its record', async () => {
    const everywhere = [
      ['', 'p:', 'ferroflow:fence:{p:e}'],
      ['', '{p}:', 'ferroflow:fence:{p}:e'],
    ]
    const onServers = [
      ['app:', 'p:', 'app:ferroflow:fence:{app:p:e}'],
      ['{app}:', 'p:', '{app}:ferroflow:fence:p:e'],
    ]
    for (const [keyPrefix, prefix, key] of [...everywhere, ...(backend.isServer ? onServers : [])]) {
      const own = connect(target, keyPrefix ? { keyPrefix } : {})
      const cache = new RedisExecutionCache(own, { keyPrefix: prefix })
      await cache.set({ id: 'e' }, 1000, { fence: 3 })
      assert.deepEqual(await data.keys(), [key, `${keyPrefix}${prefix}e`].toSorted())
      await Promise.all([own.close(), data.clear()])
    }
  })

  it('is seen by every connection', async () => {
    const others = connect(target, backend.isServer ? { connectionName: 'another' } : {})
    const second = new RedisWorkflowStateService(others)
    const id = await stores.runs.createRun('w')
    await second.setStepResult(id, 'a', 1, { fence: 2 })
    const late = stores.runs.setStepResult(id, 'b', 1, { fence: 1 })
    await assert.rejects(late, stale(`workflows:run:${id}`, 1, 2))
    await Promise.all([second.close(), others.close()])
  })

  it('lets the highest of many at once win', async () => {
    const numbers = Array.from({ length: 100 }, (_, index) => ((index * 37) % 100) + 1)
    const outcomes = await Promise.allSettled(
      numbers.map((own) => stores.cache.set({ id: 'e', own }, 60_000, { fence: own })),
    )
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') assert.equal((outcome.reason as LockError).code, 'STALE_FENCE')
    assert.equal((await stores.cache.get('e'))?.own, 100)
    assert.equal(await data.get(fenceKey('fm:exec:e')), '100')
  })
}
