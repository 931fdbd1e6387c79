/** Operations on keys in several slots of a cluster: what is left when they break off between two steps. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import {
  LockError,
  RedisExecutionCache,
  RedisSagaStore,
  RedisWorkflowStateService,
  createRedisStore,
} from '../../index.js'
import { Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { RedisCluster } from '../helpers/redis-cluster'
import type { RedisServer } from '../helpers/redis-server'
import { type Counter, counter, indexKey, next, stateKey } from '../helpers/saga-states'

const RUNS = 10_000

describe('steps in a cluster', () => {
  let cluster: RedisCluster
  let data: Data
  /** Gives up on a node that is gone before the others notice. */
  let target: { cluster: { host: string; port: number }[]; commandTimeout: number }
  let sagas: RedisSagaStore<Counter>

  before(async () => {
    cluster = await RedisCluster.start({
      replicas: 0,
      nodeTimeoutMs: 60_000,
      args: ['--appendonly', 'yes', '--appendfsync', 'always'],
    })
    target = { cluster: cluster.addresses, commandTimeout: 500 }
    data = new Data({ cluster: cluster.addresses })
    sagas = new RedisSagaStore<Counter>({ redis: target, defaultTtlSeconds: 1000, completedTtlSeconds: 100 })
  })
  after(async () => {
    await Promise.all([sagas.close(), data.close()])
    await cluster.stop()
  })
  afterEach(() => data.clear())

  async function ownerOf(key: string): Promise<RedisServer> {
    return cluster.ownerOf(await cluster.slotOf(key))
  }

  /** A name for which the keys lie on different nodes. */
  async function apart(keys: (name: string) => string[]): Promise<{ name: string; nodes: RedisServer[] }> {
    for (let number = 0; ; number += 1) {
      const name = `n${number}`
      // oxlint-disable-next-line no-await-in-loop -- until one fits
      const nodes = await Promise.all(keys(name).map(ownerOf))
      if (new Set(nodes).size === nodes.length) return { name, nodes }
    }
  }

  /** Runs a call while a node is dead: what belongs there never happens. */
  async function without<T>(node: RedisServer, call: () => Promise<T>): Promise<PromiseSettledResult<T>> {
    await node.kill()
    const [outcome] = await Promise.allSettled([call()])
    await node.restart()
    await cluster.settled()
    // Every node is connected again.
    await data.keys()
    return outcome as PromiseSettledResult<T>
  }

  /** What every reader sees of a saga, who must all see the same. */
  async function seen(name: string): Promise<Counter | null> {
    const fresh = new RedisSagaStore<Counter>({ redis: { cluster: cluster.addresses } })
    const [byId, byCorrelation] = [await fresh.getById('S', name), await fresh.getByCorrelationId('S', name)]
    await fresh.close()
    assert.deepEqual(byId, byCorrelation)
    return byId
  }

  /** A saga whose keys lie on different nodes. */
  async function placeOfSaga(): Promise<{ name: string; state: RedisServer; index: RedisServer }> {
    const { name, nodes } = await apart((id) => [stateKey('S', id), indexKey('S', id)])
    return { name, state: nodes[0] as RedisServer, index: nodes[1] as RedisServer }
  }

  describe('of a saga', () => {
    for (const dead of ['state', 'index'] as const) {
      it(`an insert without the node of its ${dead} leaves no saga, and a repeat makes it`, async () => {
        const { name, [dead]: node } = await placeOfSaga()
        const outcome = await without(node, () => sagas.insert('S', name, counter(name)))
        assert.equal(outcome.status, 'rejected')
        assert.equal(await seen(name), null)
        await sagas.insert('S', name, counter(name))
        assert.equal((await seen(name))?.n, 0)
      })

      it(`an update without the node of its ${dead} leaves the old state, and a repeat succeeds`, async () => {
        const { name, [dead]: node } = await placeOfSaga()
        await sagas.insert('S', name, counter(name))
        const changed = next(counter(name), { n: 1 })
        const outcome = await without(node, () => sagas.update('S', changed, 0))
        assert.equal(outcome.status, 'rejected')
        assert.equal((await seen(name))?.n, 0)
        await sagas.update('S', changed, 0)
        assert.equal((await seen(name))?.n, 1)
      })

      it(`a save without the node of its ${dead} leaves what was there, and a repeat succeeds`, async () => {
        const { name, [dead]: node } = await placeOfSaga()
        const save = (): Promise<unknown> => {
          const saved = { ...counter(name), correlationId: name }
          return sagas.save('S', saved as Counter)
        }
        assert.equal((await without(node, save)).status, 'rejected')
        assert.equal(await seen(name), null)
        await save()
        assert.equal((await seen(name))?.metadata.version, 1)
      })

      it(`a deletion without the node of its ${dead} leaves the saga, and a repeat deletes it`, async () => {
        const { name, [dead]: node } = await placeOfSaga()
        await sagas.insert('S', name, counter(name))
        const outcome = await without(node, () => sagas.deleteById('S', name))
        assert.equal(outcome.status, 'rejected')
        assert.equal((await seen(name))?.n, 0)
        await sagas.deleteById('S', name)
        assert.equal(await seen(name), null)
        assert.equal(await data.exists(indexKey('S', name)), false)
      })
    }

    it('a deletion that broke off before the index was gone is finished by the next one', async () => {
      const { name } = await placeOfSaga()
      await sagas.insert('S', name, counter(name))
      await data.command('DEL', stateKey('S', name))
      assert.equal(await seen(name), null)
      await assert.rejects(sagas.update('S', next(counter(name)), 0), { code: 'SAGA_NOT_FOUND' })
      await sagas.deleteById('S', name)
      assert.deepEqual(await data.keys(), [])
    })

    it('a state that is frozen on its way is there or not for all, and a repeat succeeds', async () => {
      const { name, state } = await placeOfSaga()
      state.pause()
      const insert = sagas.insert('S', name, counter(name))
      await assert.rejects(insert)
      state.resume()
      await cluster.settled()
      // Behind everything that the node was sent before.
      await seen(name)
      await sagas.insert('S', name, counter(name)).catch((error: unknown) => {
        assert.equal((error as { code: string }).code, 'SAGA_EXISTS')
      })
      assert.equal((await seen(name))?.n, 0)
    })

    it('leaves the index to live as long as the state, longer and shorter', async () => {
      const { name } = await placeOfSaga()
      await sagas.insert('S', name, counter(name))
      const ttls = (): Promise<number[]> =>
        Promise.all([data.pttl(stateKey('S', name)), data.pttl(indexKey('S', name))])
      assert.ok((await ttls()).every((ttl) => ttl > 990_000 && ttl <= 1_000_000))
      const changed = next(counter(name))
      await sagas.update('S', { ...changed, metadata: { ...changed.metadata, isCompleted: true } }, 0)
      assert.ok((await ttls()).every((ttl) => ttl > 90_000 && ttl <= 100_000))
      await sagas.update('S', next(changed), 1)
      assert.ok((await ttls()).every((ttl) => ttl > 990_000 && ttl <= 1_000_000))
      // Nothing of our own is left behind.
      assert.deepEqual(await data.keys(), [stateKey('S', name), indexKey('S', name)].toSorted())
    })

    it('refuses a second saga of an id, but not for an index that leads nowhere', async () => {
      await sagas.insert('S', 'c1', counter('i'))
      await assert.rejects(sagas.insert('S', 'c2', counter('i')), { code: 'SAGA_EXISTS' })
      await data.command('DEL', stateKey('S', 'c1'))
      await sagas.insert('S', 'c2', counter('i', 2))
      assert.equal((await sagas.getById('S', 'i'))?.n, 2)
    })

    it('lets one of many inserts win, under one correlation id and under many', async () => {
      for (const correlation of [(): string => 'c', (index: number): string => `c${index}`]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const outcomes = await Promise.allSettled(
          Array.from({ length: 30 }, (_, index) =>
            sagas.insert('S', correlation(index), counter('i', index)),
          ),
        )
        assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
        for (const outcome of outcomes)
          if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'SAGA_EXISTS')
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await sagas.deleteById('S', 'i')
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assert.deepEqual(await data.keys(), [])
      }
    })

    it('never loses the index of a saga that is inserted, changed and deleted by many', async () => {
      const stores = Array.from({ length: 4 }, (_, index) =>
        index % 2 === 0
          ? new RedisSagaStore<Counter>({
              redis: { cluster: cluster.addresses, connectionName: `w${index}` },
            })
          : new RedisSagaStore<Counter>({
              redis: { cluster: cluster.addresses, connectionName: `w${index}` },
              defaultTtlSeconds: 500,
              completedTtlSeconds: 50,
            }),
      )
      const expected = new Set(['SAGA_EXISTS', 'SAGA_NOT_FOUND', 'CONCURRENCY_CONFLICT', 'SERVER_NOT_READY'])
      const work = async (store: RedisSagaStore<Counter>): Promise<void> => {
        for (let round = 0; round < 100; round += 1) {
          try {
            // oxlint-disable-next-line no-await-in-loop -- a worker does one after the other
            if (round % 5 === 4) await store.deleteById('S', 'i')
            // oxlint-disable-next-line no-await-in-loop -- a worker does one after the other
            else await store.save('S', { ...counter('i', round), correlationId: 'c' } as Counter)
            // oxlint-disable-next-line no-await-in-loop -- a worker does one after the other
            const state = await store.getById('S', 'i')
            if (state !== null) {
              const completed = { ...state, metadata: { ...state.metadata, isCompleted: round % 2 === 0 } }
              // oxlint-disable-next-line no-await-in-loop -- a worker does one after the other
              await store.save('S', completed)
            }
          } catch (error) {
            assert.ok(expected.has((error as { code: string }).code), String(error))
          }
        }
      }
      await Promise.all(stores.map(work))
      await sagas.insert('S', 'c', counter('i')).catch((error: unknown) => {
        assert.equal((error as { code: string }).code, 'SAGA_EXISTS')
      })
      const left = [await data.pttl(stateKey('S', 'c')), await data.pttl(indexKey('S', 'i'))] as const
      assert.ok(left[1] === -1 || (left[0] >= 0 && left[1] >= left[0] - 1000), String(left))
      assert.notEqual(await sagas.getById('S', 'i'), null)
      await Promise.all(stores.map((store) => store.close()))
    })
  })

  describe('of a task store', () => {
    it('each have one that decides, and a repeat finishes the others', async () => {
      const { name, nodes } = await apart((id) => [id, `${id}-transactions`, `${id}-results`])
      const [marker, transactions, results] = nodes as [RedisServer, RedisServer, RedisServer]
      const store = createRedisStore(target)
      const patient = createRedisStore({ cluster: cluster.addresses })
      const state = (): Promise<unknown[]> =>
        Promise.all([
          patient.isExecutionInProgress(name),
          patient.isExecutionTaskInProgress(name, 't'),
          patient.getExecutionTaskResult(name, 't'),
        ])

      assert.equal((await without(marker, () => store.beginExecution(name))).status, 'rejected')
      assert.deepEqual(await state(), [false, false, undefined])
      await store.beginExecution(name)
      const began = await without(transactions, () => store.beginExecutionTask(name, 't'))
      assert.equal(began.status, 'rejected')
      assert.deepEqual(await state(), [true, false, undefined])
      await store.beginExecutionTask(name, 't')
      assert.deepEqual(await state(), [true, true, undefined])

      const commit = (): Promise<void> => store.commitExecutionTaskResult(name, 't', 1)
      assert.equal((await without(results, commit)).status, 'rejected')
      assert.deepEqual(await state(), [true, true, undefined])
      // The result decides; the mark that is left means nothing.
      await without(transactions, commit)
      assert.deepEqual(await data.hash(`${name}-transactions`), { t: 'true' })
      assert.deepEqual(await state(), [true, false, 1])
      await commit()
      assert.deepEqual(await data.hash(`${name}-transactions`), {})

      const disposed = await without(results, () => store.disposeExecution(name))
      assert.ok(disposed.status === 'rejected' && disposed.reason.code === 'OUTCOME_UNKNOWN')
      assert.equal(await patient.isExecutionInProgress(name), false)
      await store.disposeExecution(name)
      assert.deepEqual(await data.keys(), [])
    })
  })

  describe('under a fence', () => {
    it('check the run, and never overwrite a later holder’s step', async () => {
      const runs = new RedisWorkflowStateService(target)
      const id = await runs.createRun('w')
      const step = `workflows:step:${id}:s`
      await runs.setStepScheduled(id, 's', { fence: 4 })
      assert.deepEqual(
        [
          await data.get(`ferroflow:fence:{workflows:run:${id}}`),
          await data.get(`ferroflow:fence:{${step}}`),
        ],
        ['4', '4'],
      )
      await assert.rejects(runs.setStepResult(id, 's', 1, { fence: 3 }), { code: 'STALE_FENCE' })
      // Somebody checked the run before, and writes only now.
      await data.set(`ferroflow:fence:{${step}}`, '9')
      await assert.rejects(
        runs.setStepResult(id, 's', 1, { fence: 5 }),
        like({ type: LockError, code: 'STALE_FENCE', message: /fence 9, this write has 5/, key: step }),
      )
      assert.equal((await runs.getStepState(id, 's')).status, 'scheduled')
      await runs.close()
    })
  })

  describe('of a cache', () => {
    it('read, forget and clear on all nodes, and nothing else', async () => {
      const cache = new RedisExecutionCache(target)
      const ids = Array.from({ length: 3000 }, (_, index) => `e${index}`)
      await Promise.all(ids.map((id) => cache.set({ id })))
      await data.set('other', 'stays')
      const found = await cache.getMany(ids)
      assert.deepEqual(
        ids.map((id) => found.get(id)?.id),
        ids,
      )
      await cache.invalidateMany(ids.slice(0, 100))
      assert.equal((await cache.getMany(ids)).size, 2900)
      await cache.clear()
      assert.deepEqual(await data.keys(), ['other'])
      await cache.close()
    })
  })

  it(`${RUNS} runs lie evenly on the masters`, async () => {
    const runs = new RedisWorkflowStateService({ cluster: cluster.addresses, maxQueuedCommands: RUNS })
    await Promise.all(Array.from({ length: RUNS }, () => runs.createRun('w')))
    const counts = await Promise.all(
      cluster.masters.map(async (master) => {
        using client = await master.client()
        return await client.command<number>('DBSIZE')
      }),
    )
    const share = RUNS / counts.length
    for (const count of counts) assert.ok(count > share * 0.8 && count < share * 1.2, String(counts))
    await runs.close()
  })
})
