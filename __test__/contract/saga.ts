/** What `RedisSagaStore` promises, whatever it runs on. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  ConcurrencyError,
  ConfigError,
  ConnectionError,
  RedisSagaStore,
  SagaError,
  connect,
  type Target,
} from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { type Counter, EPOCH, counter, indexKey, next, stateKey } from '../helpers/saga-states'
import { sagaConcurrency } from './saga-concurrency'
import { sagaDelete } from './saga-delete'
import { sagaSave } from './saga-save'
import { sagaStorage } from './saga-storage'

export function saga(backend: Backend): void {
  describe('store', () => construction(backend))
  describe('insert, update and get', () => runtimeForm(backend))
  describe('save', () => sagaSave(backend))
  describe('delete', () => sagaDelete(backend))
  describe('concurrent writers', () => sagaConcurrency(backend))
  describe('stored bytes', () => sagaStorage(backend))
}

function construction(backend: Backend): void {
  let target: Target

  before(async () => {
    target = await backend.freshTarget()
  })

  it('needs a target', () => {
    const expected = like({
      type: ConfigError,
      code: 'CONFIG',
      message: 'Either redis or connection must be provided',
    })
    assert.throws(() => new RedisSagaStore({}), expected)
    assert.throws(() => new RedisSagaStore({ redis: undefined, connection: undefined }), expected)
  })

  it('with `redis` is usable at once', async () => {
    const store = new RedisSagaStore<Counter>({ redis: target })
    assert.equal(await store.getByCorrelationId('S', 'none'), null)
    assert.equal(await store.initialize(), undefined)
    assert.equal(await store.initialize(), undefined)
    await store.close()
  })

  it('with `connection` is usable between initialize and close', async () => {
    const store = new RedisSagaStore<Counter>({ connection: target })
    const calls = (): Promise<unknown>[] => [
      store.getById('S', 'i'),
      store.getByCorrelationId('S', 'c'),
      store.findById('S', 'i'),
      store.findByCorrelationId('S', 'c'),
      store.insert('S', 'c', counter('i')),
      store.update('S', counter('i'), 0),
      store.save('S', { ...counter('i'), correlationId: 'c' } as Counter),
      store.delete('S', 'c'),
      store.deleteById('S', 'i'),
      store.deleteByCorrelationId('S', 'c'),
    ]
    const refused = like({ type: ConnectionError, code: 'CLOSED', message: 'Store not initialized' })
    for (const call of calls()) await assert.rejects(call, refused)
    assert.equal(store.connection, undefined)
    await store.initialize()
    assert.equal(await store.getById('S', 'i'), null)
    await store.close()
    await store.close()
    for (const call of calls()) await assert.rejects(call, refused)
    await store.initialize()
    assert.equal(await store.getById('S', 'i'), null)
    await store.close()
  })

  it('closes a connection of its own, and only that', async () => {
    const shared = connect(target)
    const store = new RedisSagaStore({ redis: shared })
    assert.equal(store.connection, shared)
    assert.equal(store.getRedis(), shared)
    await store.close()
    assert.equal(await shared.command('PING'), 'PONG')
    await shared.close()
  })

  it('getRedis is null where no client was given', async () => {
    const store = new RedisSagaStore({ connection: target })
    assert.equal(store.getRedis(), null)
    await store.initialize()
    assert.equal(store.getRedis(), null)
    await store.close()
  })

  it('puts the prefix before both keys', async () => {
    const data = new Data(target)
    for (const [keyPrefix, expected] of [
      ['mine:', 'mine:'],
      ['', ''],
      [undefined, 'saga-bus:'],
    ] as const) {
      const store = new RedisSagaStore<Counter>({ redis: target, keyPrefix })
      await store.insert('S', 'c', counter('i'))
      assert.deepEqual(await data.keys(), [`${expected}saga:S:c`, `${expected}saga:S:idx:id:i`])
      await store.close()
      await data.clear()
    }
    await data.close()
  })
}

function runtimeForm(backend: Backend): void {
  let store: RedisSagaStore<Counter>
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    store = new RedisSagaStore<Counter>({ redis: target })
    data = new Data(target)
  })
  after(async () => {
    await Promise.all([store.close(), data.close()])
  })

  it('insert stores the bytes of the original, state and index', async () => {
    assert.equal(await store.insert('S', 'c1', counter('i1')), undefined)
    assert.equal(
      await data.get(stateKey('S', 'c1')),
      '{"n":0,"metadata":{"sagaId":"i1","version":0,"createdAt":"1970-01-01T00:00:00.000Z","updatedAt":"1970-01-01T00:00:00.000Z","isCompleted":false,"archivedAt":null,"timeoutExpiresAt":null}}',
    )
    assert.equal(await data.get(indexKey('S', 'i1')), 'c1')
  })

  it('every getter returns the state, with dates', async () => {
    const dates = { archivedAt: new Date(1e12), timeoutExpiresAt: new Date(2e12) }
    const state = counter('i2', 5, { ...dates, updatedAt: new Date(3e12), version: 4 })
    await store.insert('S', 'c2', state)
    for (const loaded of [
      await store.getByCorrelationId('S', 'c2'),
      await store.findByCorrelationId('S', 'c2'),
      await store.getById('S', 'i2'),
      await store.findById('S', 'i2'),
    ]) {
      assert.deepEqual(loaded, state)
      assert.ok(loaded?.metadata.createdAt instanceof Date)
    }
  })

  it('null where there is none, of this name', async () => {
    await store.insert('S', 'c3', counter('i3'))
    for (const loaded of [
      await store.getByCorrelationId('S', 'none'),
      await store.getById('S', 'none'),
      await store.getById('T', 'i3'),
      await store.getByCorrelationId('T', 'c3'),
      await store.getById('S', 'c3'),
      await store.getByCorrelationId('S', 'i3'),
    ])
      assert.equal(loaded, null)
  })

  it('insert refuses a correlation id that is taken, in the words of the original', async () => {
    await store.insert('S', 'c4', counter('i4', 1))
    const earlier = await data.snapshot()
    await assert.rejects(store.insert('S', 'c4', counter('i4', 2)), (error: ConcurrencyError) => {
      like({
        type: ConcurrencyError,
        code: 'SAGA_EXISTS',
        message: /^Saga S with correlation ID c4 already exists/,
      })(error)
      assert.equal(error.sagaId, 'i4')
      return true
    })
    await assert.rejects(store.insert('S', 'c4', counter('another')), { code: 'SAGA_EXISTS' })
    await assert.rejects(store.insert('S', 'c4-b', counter('i4')), { code: 'SAGA_EXISTS' })
    assert.deepEqual(await data.snapshot(), earlier)
  })

  it('update stores the state as given, its version included', async () => {
    await store.insert('S', 'c5', counter('i5'))
    assert.equal(await store.update('S', counter('i5', 1, { version: 1 }), 0), undefined)
    assert.equal((await store.getById('S', 'i5'))?.metadata.version, 1)
    await store.update('S', counter('i5', 2, { version: 7 }), 1)
    const json = JSON.stringify(counter('i5', 2, { version: 7 }))
    assert.equal(await data.get(stateKey('S', 'c5')), json)
    assert.equal(await data.get(indexKey('S', 'i5')), 'c5')
  })

  it('update refuses a version that is not stored; the message suits both worlds', async () => {
    await store.insert('S', 'c6', counter('i6', 0, { version: 3 }))
    const earlier = await data.snapshot()
    await assert.rejects(
      store.update('S', counter('i6', 9, { version: 3 }), 2),
      (error: ConcurrencyError) => {
        like({
          type: ConcurrencyError,
          code: 'CONCURRENCY_CONFLICT',
          message:
            /^Optimistic concurrency conflict: Concurrency conflict for saga i6: expected version 2, got 3\b/,
        })(error)
        assert.deepEqual([error.sagaId, error.expectedVersion, error.actualVersion], ['i6', 2, 3])
        assert.deepEqual([error.expected, error.actual], [2, 3])
        assert.ok(error.retryAfterMs > 0 && error.retryAfterMs < 100)
        assert.ok(error.message.includes('Optimistic concurrency conflict'))
        assert.match(error.message, /Concurrency/)
        return true
      },
    )
    assert.deepEqual(await data.snapshot(), earlier)
  })

  it('update of what is not there says so, in the words of the original, and writes nothing', async () => {
    const earlier = await data.snapshot()
    await assert.rejects(
      store.update('S', counter('nobody', 1, { version: 1 }), 0),
      like({ type: SagaError, code: 'SAGA_NOT_FOUND', message: 'Saga nobody not found' }),
    )
    assert.deepEqual(await data.snapshot(), earlier)
  })

  it('update works for a process that has never seen the saga', async () => {
    await store.insert('S', 'c7', counter('i7'))
    const stranger = new RedisSagaStore<Counter>({ redis: data.connection })
    await stranger.update('S', counter('i7', 1, { version: 1 }), 0)
    assert.equal((await store.getById('S', 'i7'))?.n, 1)
    await stranger.close()
  })

  it('an update after the saga moved to another correlation id finds it', async () => {
    await store.insert('S', 'c8', counter('i8'))
    await data.command('DEL', stateKey('S', 'c8'))
    await data.set(stateKey('S', 'c8-new'), JSON.stringify(counter('i8')))
    await data.set(indexKey('S', 'i8'), 'c8-new')
    await store.update('S', counter('i8', 1, { version: 1 }), 0)
    assert.equal(await data.exists(stateKey('S', 'c8')), false)
    assert.equal((await store.getByCorrelationId('S', 'c8-new'))?.n, 1)
  })

  it('fills in metadata that is absent, and takes dates in any form', async () => {
    const loose = new RedisSagaStore({ redis: data.connection })
    const begin = Date.now()
    await loose.insert('L', 'c1', { id: 'i1', status: 'new' })
    const stored = await loose.getById('L', 'i1')
    assert.ok(stored !== null)
    const { createdAt, updatedAt } = stored['metadata']
    assert.ok(createdAt instanceof Date && createdAt.getTime() >= begin && createdAt.getTime() <= Date.now())
    assert.deepEqual(stored, {
      id: 'i1',
      status: 'new',
      metadata: {
        sagaId: 'i1',
        version: 0,
        createdAt,
        updatedAt,
        isCompleted: false,
        archivedAt: null,
        timeoutExpiresAt: null,
      },
    })
    await loose.insert('L', 'c2', {
      metadata: { sagaId: 'i2', createdAt: 0, updatedAt: '1970-01-01T00:00:00.000Z', archivedAt: 1000 },
    })
    const dated = await loose.getById('L', 'i2')
    assert.deepEqual(dated?.['metadata'].createdAt, EPOCH)
    assert.deepEqual(dated?.['metadata'].updatedAt, EPOCH)
    assert.deepEqual(dated?.['metadata'].archivedAt, new Date(1000))
    await loose.close()
  })

  it('insert and update do not touch the caller’s state', async () => {
    const frozen = Object.freeze({ n: 1, metadata: Object.freeze(counter('i9').metadata) })
    await store.insert('S', 'c9', frozen)
    await store.update('S', Object.freeze(next(frozen)), 0)
    assert.equal((await store.getById('S', 'i9'))?.metadata.version, 1)
  })
}
