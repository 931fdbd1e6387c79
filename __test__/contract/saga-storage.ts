/** What was stored by others, and states that are hard to read. */
import assert from 'node:assert/strict'
import { after, afterEach, before, it } from 'node:test'
import { CorruptEntryError, RedisSagaStore, ServerError } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { EPOCH, indexKey, stateKey } from '../helpers/saga-states'

const TIME = '1970-01-01T00:00:00.000Z'
const KEY = stateKey('S', 'c')

/** A state as the original stores it, with more fields given as JSON. */
function original(fields = '', version = 0): string {
  return `{"n":0,${fields}"metadata":{"sagaId":"i","version":${version},"createdAt":"${TIME}","updatedAt":"${TIME}","isCompleted":false,"archivedAt":null,"timeoutExpiresAt":null}}`
}

export function sagaStorage(backend: Backend): void {
  let store: RedisSagaStore
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    store = new RedisSagaStore({ redis: target })
    data = new Data(target)
  })
  after(async () => {
    await Promise.all([store.close(), data.close()])
  })
  afterEach(() => data.clear())

  async function stored(json: string): Promise<void> {
    await data.set(KEY, json)
    await data.set(indexKey('S', 'i'), 'c')
  }

  async function load(): Promise<Record<string, any>> {
    const state = await store.getById('S', 'i')
    // As text: the comparison of objects does not survive deep nesting.
    assert.equal(JSON.stringify(state), JSON.stringify(await store.getByCorrelationId('S', 'c')))
    assert.ok(state !== null)
    return state
  }

  it("reads the original's bytes, and writes the same again", async () => {
    await stored(original('"text":"ü\\u2028","list":[{}],'))
    const state = await load()
    assert.deepEqual([state['n'], state['text'], state['list']], [0, 'ü\u2028', [{}]])
    assert.deepEqual(state['metadata'], {
      sagaId: 'i',
      version: 0,
      createdAt: EPOCH,
      updatedAt: EPOCH,
      isCompleted: false,
      archivedAt: null,
      timeoutExpiresAt: null,
    })
    await store.update('S', state, 0)
    assert.equal(await data.get(KEY), original('"text":"ü\u2028","list":[{}],'))
  })

  it('falsy optional dates are null, required ones that are absent stay so', async () => {
    await stored('{"metadata":{"sagaId":"i","version":1,"archivedAt":"","createdAt":"2020-01-01"}}')
    const { metadata } = await load()
    assert.equal(metadata.archivedAt, null)
    assert.equal(metadata.timeoutExpiresAt, null)
    assert.deepEqual(metadata.createdAt, new Date('2020-01-01'))
    assert.equal('updatedAt' in metadata, false)
  })

  for (const json of ['{"n":1}', '{"n":1,"metadata":null}', '{"n":1,"metadata":{}}']) {
    it(`takes ${json} for version 0`, async () => {
      await stored(json)
      const state = await load()
      assert.equal(state['n'], 1)
      await assert.rejects(store.update('S', { metadata: { sagaId: 'i', version: 4 } }, 3), {
        code: 'CONCURRENCY_CONFLICT',
        actualVersion: 0,
      })
      await store.update('S', { n: 2, metadata: { sagaId: 'i', version: 1 } }, 0)
      assert.equal((await load())['n'], 2)
      await stored(json)
      const saved = await store.save('S', { ...state, id: 'i' })
      assert.equal(saved['metadata'].version, 1)
    })
  }

  const lists = '['.repeat(2000) + ']'.repeat(2000)
  const objects = '{"a":'.repeat(2000) + '1' + '}'.repeat(2000)
  for (const [what, fields] of [
    ['a lone surrogate', '"text":"\\ud800",'],
    ['a lone low surrogate in a key', '"\\udc00":1,'],
    ['lists nested 2000 deep', `"deep":${lists},`],
    ['objects nested 2000 deep', `"deep":${objects},`],
    ['numbers beyond a double', '"big":1e999,"small":-1e-999,'],
    ['a string of a megabyte', `"long":"${'x'.repeat(2 ** 20)}",`],
    ['escapes and a null character', '"text":"\\u0000\\"\\\\\\/\\b",'],
    ['a member named like its metadata', '"data":{"metadata":{"version":9,"sagaId":"x"}},'],
  ] as const) {
    it(`a state with ${what} is read, updated and guarded`, async () => {
      await stored(original(fields, 3))
      const state = await load()
      const raised = { ...state, n: 1, metadata: { ...state['metadata'], version: 4 } }
      await assert.rejects(store.update('S', raised, 2), {
        code: 'CONCURRENCY_CONFLICT',
        expectedVersion: 2,
        actualVersion: 3,
      })
      await assert.rejects(store.insert('S', 'c', { id: 'x' }), { code: 'SAGA_EXISTS' })
      await assert.rejects(store.update('S', { metadata: { sagaId: 'x' } }, 3), { code: 'SAGA_NOT_FOUND' })
      assert.equal(await data.get(KEY), original(fields, 3))
      const outcomes = await Promise.allSettled([1, 2, 3].map(() => store.update('S', raised, 3)))
      assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected', 'rejected'])
      assert.equal(await data.get(KEY), JSON.stringify(raised))
      const saved = await store.save('S', { ...raised, correlationId: 'c' })
      assert.equal(saved['metadata'].version, 5)
      assert.equal((await load())['metadata'].version, 5)
      await store.delete('S', 'i')
      assert.deepEqual(await data.keys(), [])
    })
  }

  it('__proto__ in stored JSON reaches no prototype, and survives a save', async () => {
    const evil = '"__proto__":{"polluted":1}'
    await stored(`{${evil},"a":{${evil}},"id":"i","metadata":{"sagaId":"i","version":1,${evil}}}`)
    const state = await load()
    const saved = await store.save('S', state)
    for (const value of [state, state['a'], state['metadata'], saved, saved['metadata'], await load()]) {
      assert.equal(Object.getPrototypeOf(value), Object.prototype)
      assert.equal(value.polluted, undefined)
    }
    assert.equal(({} as { polluted?: unknown }).polluted, undefined)
    assert.equal((await data.get(KEY))?.split(evil).length, 4)
  })

  for (const [what, json] of [
    ['no JSON', 'oops'],
    ['cut off', original().slice(0, 40)],
    ['an empty string', ''],
    ['a list', '[]'],
    ['a string', '"text"'],
    ['null', 'null'],
    ['an invalid date', original().replace(TIME, 'yesterday')],
  ] as const) {
    it(`names the key of a state that is ${what}, and changes nothing`, async () => {
      await stored(json)
      const expected = like({
        type: CorruptEntryError,
        code: 'CORRUPT_ENTRY',
        message: /saga-bus:saga:S:c/,
        key: KEY,
      })
      await assert.rejects(store.getByCorrelationId('S', 'c'), expected)
      await assert.rejects(store.getById('S', 'i'), { name: 'CorruptEntryError', code: 'CORRUPT_ENTRY' })
      if (what !== 'an invalid date')
        await assert.rejects(store.update('S', { metadata: { sagaId: 'i' } }, 0), { code: 'CORRUPT_ENTRY' })
      assert.equal(await data.get(KEY), json)
    })
  }

  it('a key of the wrong type is named, and left alone', async () => {
    await data.setHash(KEY, { a: '1' })
    await data.set(indexKey('S', 'i'), 'c')
    const state = { metadata: { sagaId: 'i', version: 1 } }
    const expected = like({ type: ServerError, code: 'WRONG_TYPE', message: /WRONGTYPE/, key: KEY })
    for (const call of [
      () => store.getByCorrelationId('S', 'c'),
      () => store.getById('S', 'i'),
      () => store.insert('S', 'c', state),
      () => store.update('S', state, 0),
      () => store.save('S', { ...state, correlationId: 'c' }),
      () => store.delete('S', 'i'),
      () => store.deleteByCorrelationId('S', 'c'),
    ])
      await assert.rejects(call(), expected)
    assert.deepEqual(await data.hash(KEY), { a: '1' })
  })
}
