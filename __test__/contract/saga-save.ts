/** `save`: `metadata.version` is the version that was loaded; whoever is late loses. */
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { ArgumentError, ConcurrencyError, RedisSagaStore } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { indexKey, stateKey } from '../helpers/saga-states'

interface Order {
  id: string
  correlationId?: string
  status: string
  data?: { total: number }
  metadata?: {
    version?: number
    sagaId?: string
    createdAt?: Date | string
    updatedAt?: Date | string
    isCompleted?: boolean
  }
}

function order(n: number | string, change: Partial<Order> = {}): Order {
  return { id: `i${n}`, correlationId: `c${n}`, status: 'new', ...change }
}

export function sagaSave(backend: Backend): void {
  let store: RedisSagaStore<Order>
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    store = new RedisSagaStore<Order>({ redis: target })
    data = new Data(target)
  })
  after(async () => {
    await Promise.all([store.close(), data.close()])
  })

  async function storedVersion(n: number | string): Promise<number> {
    return JSON.parse((await data.get(stateKey('S', `c${n}`))) as string).metadata.version
  }

  it('stores what is new as version 1, and tells the caller', async () => {
    const state = order(1, { data: { total: 5 } })
    const begin = Date.now()
    const saved = await store.save('S', state)
    assert.equal(saved, state)
    assert.deepEqual(await store.findByCorrelationId('S', 'c1'), saved)
    const { createdAt, updatedAt } = state.metadata as { createdAt: Date; updatedAt: Date }
    assert.ok(createdAt.getTime() >= begin && updatedAt.getTime() >= begin)
    assert.deepEqual(state, {
      id: 'i1',
      correlationId: 'c1',
      status: 'new',
      data: { total: 5 },
      metadata: {
        sagaId: 'i1',
        version: 1,
        createdAt,
        updatedAt,
        isCompleted: false,
        archivedAt: null,
        timeoutExpiresAt: null,
      },
    })
    assert.equal(
      await data.get(stateKey('S', 'c1')),
      `{"id":"i1","correlationId":"c1","status":"new","data":{"total":5},"metadata":{"sagaId":"i1","version":1,"createdAt":"${createdAt.toISOString()}","updatedAt":"${updatedAt.toISOString()}","isCompleted":false,"archivedAt":null,"timeoutExpiresAt":null}}`,
    )
    assert.equal(await data.get(indexKey('S', 'i1')), 'c1')
  })

  it('what was never stored becomes version 1 whatever it says', async () => {
    const state = order(2, { metadata: { version: 5 } })
    await store.save('S', state)
    assert.equal(state.metadata?.version, 1)
    assert.equal(await storedVersion(2), 1)
  })

  it('each save is the next version', async () => {
    const state = order(3)
    for (const version of [1, 2, 3]) {
      await store.save('S', state)
      assert.equal(state.metadata?.version, version)
      assert.equal(await storedVersion(3), version)
    }
    const loaded = (await store.findById('S', 'i3')) as Order
    loaded.status = 'paid'
    await store.save('S', loaded)
    assert.equal(loaded.metadata?.version, 4)
    assert.equal((await store.findById('S', 'i3'))?.status, 'paid')
  })

  it('a stale writer loses, and keeps its version', async () => {
    await store.save('S', order(4))
    const [first, second] = [await store.findById('S', 'i4'), await store.findById('S', 'i4')] as [
      Order,
      Order,
    ]
    await store.save('S', { ...first, status: 'first' })
    const earlier = await data.snapshot()
    await assert.rejects(store.save('S', { ...second, status: 'second' }), (error: ConcurrencyError) => {
      like({
        type: ConcurrencyError,
        code: 'CONCURRENCY_CONFLICT',
        message:
          /^Optimistic concurrency conflict: Concurrency conflict for saga i4: expected version 1, got 2\b/,
      })(error)
      assert.deepEqual([error.sagaId, error.expectedVersion, error.actualVersion], ['i4', 1, 2])
      return true
    })
    assert.equal(second.metadata?.version, 1)
    assert.deepEqual(await data.snapshot(), earlier)
  })

  it('a version that was raised beforehand does not let a stale writer win', async () => {
    const state = order(5)
    await store.save('S', state)
    await assert.rejects(store.save('S', { ...state, metadata: { ...state.metadata, version: 2 } }), {
      code: 'CONCURRENCY_CONFLICT',
      expectedVersion: 2,
      actualVersion: 1,
    })
  })

  it('an absent version counts as 0', async () => {
    await store.save('S', order(6))
    await assert.rejects(store.save('S', order(6)), {
      code: 'CONCURRENCY_CONFLICT',
      expectedVersion: 0,
      actualVersion: 1,
    })
    await store.insert('S', 'c7', order(7))
    assert.equal(await storedVersion(7), 0)
    const state = order(7)
    await store.save('S', state)
    assert.equal(state.metadata?.version, 1)
  })

  it('keeps createdAt and renews updatedAt', async () => {
    const old = { version: 1, createdAt: new Date(0), updatedAt: new Date(0) }
    await data.set(stateKey('S', 'c8'), JSON.stringify(order(8, { metadata: { sagaId: 'i8', ...old } })))
    await data.set(indexKey('S', 'i8'), 'c8')
    const loaded = (await store.findById('S', 'i8')) as Order
    const begin = Date.now()
    await store.save('S', loaded)
    const metadata = (await store.findById('S', 'i8'))?.metadata as { createdAt: Date; updatedAt: Date }
    assert.deepEqual(metadata.createdAt, new Date(0))
    assert.ok(metadata.updatedAt.getTime() >= begin)
  })

  it('finds the correlation id of a stored saga by itself', async () => {
    await store.save('S', order(9))
    const loaded = (await store.findById('S', 'i9')) as Order
    delete loaded.correlationId
    await store.save('S', loaded)
    assert.equal(await storedVersion(9), 2)
    const stranger = new RedisSagaStore<Order>({ redis: data.connection })
    await stranger.save('S', loaded)
    assert.equal(await storedVersion(9), 3)
    await stranger.close()
  })

  it('needs a correlation id for what is new', async () => {
    const earlier = await data.snapshot()
    await assert.rejects(
      store.save('S', order(10, { correlationId: undefined })),
      like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /i10.*correlationId/ }),
    )
    assert.deepEqual(await data.snapshot(), earlier)
  })

  it('does not take a correlation id from another saga', async () => {
    await store.save('S', order(11))
    const earlier = await data.snapshot()
    await assert.rejects(store.save('S', order('x', { correlationId: 'c11' })), ConcurrencyError)
    await assert.rejects(store.save('S', order(11, { correlationId: 'c-x' })), ConcurrencyError)
    assert.deepEqual(await data.snapshot(), earlier)
  })

  for (const [how, immutable] of [
    ['frozen', (state: Order) => Object.freeze(state)],
    [
      'deeply frozen',
      (state: Order) => Object.freeze({ ...state, metadata: Object.freeze({ ...state.metadata }) }),
    ],
    ['sealed', (state: Order) => Object.seal(state)],
    ['not extensible', (state: Order) => Object.preventExtensions(state)],
    [
      'with frozen metadata',
      (state: Order) => ({ ...state, metadata: Object.freeze({ version: 0, ...state.metadata }) }),
    ],
    [
      'with sealed metadata',
      (state: Order) => ({ ...state, metadata: Object.seal({ version: 0, ...state.metadata }) }),
    ],
    [
      'with read-only metadata',
      (state: Order) =>
        Object.defineProperty({ ...state }, 'metadata', {
          value: { version: 0, ...state.metadata },
          enumerable: true,
        }),
    ],
  ] as [string, (state: Order) => Order][]) {
    it(`resolves the new version of a state that is ${how}`, async () => {
      const state = immutable(order(`-${how}`))
      const saved = await store.save('S', state)
      assert.equal(saved.metadata?.version, 1)
      assert.deepEqual(await store.findById('S', `i-${how}`), saved)
      const again = await store.save('S', immutable(saved))
      assert.equal(again.metadata?.version, 2)
      assert.equal(await storedVersion(`-${how}`), 2)
    })
  }

  it('leaves the caller’s state alone when it fails', async () => {
    await store.save('S', order(12))
    const state = order(12)
    const copy = structuredClone(state)
    await assert.rejects(store.save('S', state), ConcurrencyError)
    assert.deepEqual(state, copy)
  })
}
