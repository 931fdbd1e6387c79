/** Deleting by either id, and an index that leads astray. */
import assert from 'node:assert/strict'
import { after, afterEach, before, it } from 'node:test'
import { RedisSagaStore } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { type Counter, counter, indexKey, stateKey } from '../helpers/saga-states'

export function sagaDelete(backend: Backend): void {
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
  afterEach(() => data.clear())

  it('takes the saga id or the correlation id', async () => {
    for (const id of ['i', 'c']) {
      await store.insert('S', 'c', counter('i'))
      assert.equal(await store.delete('S', id), undefined)
      assert.deepEqual(await data.keys(), [])
      assert.equal(await store.getById('S', 'i'), null)
      assert.equal(await store.getByCorrelationId('S', 'c'), null)
    }
  })

  it('of what is not there is no error', async () => {
    assert.equal(await store.delete('S', 'none'), undefined)
    assert.equal(await store.deleteById('S', 'none'), false)
    assert.equal(await store.deleteByCorrelationId('S', 'none'), false)
  })

  it('by one kind of id takes only that kind, and tells', async () => {
    await store.insert('S', 'c', counter('i'))
    assert.equal(await store.deleteById('S', 'c'), false)
    assert.equal(await store.deleteByCorrelationId('S', 'i'), false)
    assert.equal((await data.keys()).length, 2)
    assert.equal(await store.deleteById('S', 'i'), true)
    assert.deepEqual(await data.keys(), [])
    await store.insert('S', 'c', counter('i'))
    assert.equal(await store.deleteByCorrelationId('S', 'c'), true)
    assert.deepEqual(await data.keys(), [])
  })

  it('prefers the saga id where an id is both', async () => {
    await store.insert('S', 'first', counter('both'))
    await store.insert('S', 'both', counter('second'))
    await store.delete('S', 'both')
    assert.equal(await store.getById('S', 'both'), null)
    assert.equal((await store.getByCorrelationId('S', 'both'))?.metadata.sagaId, 'second')
    await store.deleteByCorrelationId('S', 'both')
    assert.deepEqual(await data.keys(), [])
  })

  it('deletes what the original stored without metadata', async () => {
    await data.set(stateKey('S', 'bare'), '{"n":1}')
    await data.set(indexKey('S', 'bare-id'), 'bare')
    assert.equal(await store.deleteById('S', 'bare-id'), true)
    assert.deepEqual(await data.keys(), [])
  })

  it('a deleted saga can be made again, under another id too', async () => {
    await store.insert('S', 'c', counter('i', 1))
    await store.delete('S', 'i')
    await store.insert('S', 'c2', counter('i', 2))
    await store.insert('S', 'c', counter('i2', 3))
    await store.update('S', counter('i', 4, { version: 1 }), 0)
    assert.equal((await store.getByCorrelationId('S', 'c2'))?.n, 4)
    assert.equal((await store.getByCorrelationId('S', 'c'))?.n, 3)
  })

  it('an index that leads to another saga leads nowhere', async () => {
    await store.insert('S', 'c', counter('winner', 1))
    await data.set(indexKey('S', 'orphan'), 'c')
    const earlier = await data.snapshot()
    assert.equal(await store.getById('S', 'orphan'), null)
    assert.equal(await store.findById('S', 'orphan'), null)
    assert.equal(await store.deleteById('S', 'orphan'), false)
    assert.equal(await store.delete('S', 'orphan'), undefined)
    await assert.rejects(store.update('S', counter('orphan', 9, { version: 1 }), 0), {
      code: 'SAGA_NOT_FOUND',
    })
    const { [indexKey('S', 'orphan')]: _, ...winner } = earlier
    const { [indexKey('S', 'orphan')]: __, ...later } = await data.snapshot()
    assert.deepEqual(later, winner)
  })

  it('an index whose state is gone does not stand in the way', async () => {
    await data.set(indexKey('S', 'i'), 'gone')
    assert.equal(await store.getById('S', 'i'), null)
    assert.equal(await store.deleteById('S', 'i'), false)
    await assert.rejects(store.update('S', counter('i', 9, { version: 1 }), 0), { code: 'SAGA_NOT_FOUND' })
    await store.insert('S', 'c', counter('i', 5))
    assert.equal((await store.getById('S', 'i'))?.n, 5)
    assert.equal(await data.get(indexKey('S', 'i')), 'c')
  })

  it('a state whose index is gone is found by its correlation id, and gets it back', async () => {
    await store.insert('S', 'c', counter('i'))
    await data.command('DEL', indexKey('S', 'i'))
    assert.equal((await store.getByCorrelationId('S', 'c'))?.n, 0)
    await store.update('S', counter('i', 1, { version: 1 }), 0)
    assert.equal(await data.get(indexKey('S', 'i')), 'c')
    assert.equal((await store.getById('S', 'i'))?.n, 1)
  })
}
