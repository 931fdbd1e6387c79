/** Entries that nobody should have written, on every backend: said to be corrupt, never repaired, never a prototype. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { CorruptEntryError, RedisSagaStore, RedisWorkflowStateService } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'

function corruptEntry(key: string): ReturnType<typeof like> {
  return like({ type: CorruptEntryError, code: 'CORRUPT_ENTRY', message: /./, key })
}

export function corrupt(backend: Backend): void {
  let data: Data
  let sagas: RedisSagaStore
  let runs: RedisWorkflowStateService
  before(async () => {
    const target = await backend.freshTarget()
    data = new Data(target)
    sagas = new RedisSagaStore({ redis: target })
    runs = new RedisWorkflowStateService(target)
  })
  after(async () => {
    await Promise.all([data.close(), sagas.close(), runs.close()])
  })
  afterEach(() => data.clear())

  describe('an index of a saga that holds no correlation id', () => {
    for (const [what, bytes] of [
      ['no UTF-8', Buffer.from([0xff, 0xfe])],
      ['control characters', Buffer.from('a\u0000b')],
      ['nothing', Buffer.alloc(0)],
      ['the name of an index', Buffer.from('idx:id:x')],
    ] as const) {
      it(`but ${what} is told at once`, async () => {
        const index = 'saga-bus:saga:S:idx:id:a'
        await data.command('SET', index, bytes)
        for (const call of [
          () => sagas.insert('S', 'c', { id: 'a' }),
          () => sagas.save('S', { id: 'a', correlationId: 'c' }),
          () => sagas.update('S', { id: 'a' }, 0),
          () => sagas.getById('S', 'a'),
          () => sagas.deleteById('S', 'a'),
        ]) {
          await assert.rejects(call, corruptEntry(index))
        }
        assert.deepEqual(await data.keys(), [index])
      })
    }
  })

  describe('a stored saga', () => {
    for (const json of [
      '[]',
      '7',
      '"text"',
      '{"id":"a","metadata":"x"}',
      '{"id":"a","metadata":[]}',
      '{"id":"a","metadata":{"sagaId":"a","version":"3"}}',
      '{"id":"a","metadata":{"sagaId":7,"version":0}}',
    ]) {
      it(`of ${json} is neither read nor replaced`, async () => {
        const key = 'saga-bus:saga:S:c'
        await data.set(key, json)
        await data.set('saga-bus:saga:S:idx:id:a', 'c')
        for (const call of [
          () => sagas.getByCorrelationId('S', 'c'),
          () => sagas.save('S', { id: 'a', correlationId: 'c' }),
          () => sagas.update('S', { id: 'a' }, 0),
        ]) {
          await assert.rejects(call, corruptEntry(key))
        }
        assert.equal(await data.get(key), json)
      })
    }
  })

  it('a status that names a part of Object.prototype stays a string', async () => {
    for (const status of ['__proto__', 'toString', 'constructor']) {
      await data.setHash('workflows:step:r:s', { status, updatedAt: '1' })
      assert.equal((await runs.getStepState('r', 's')).status, status)
    }
  })

  it('a lone surrogate is no name: two of them would be one key', async () => {
    for (const id of ['\ud800', 'a\udfff']) {
      await assert.rejects(sagas.getById('S', id), { code: 'INVALID_ARGUMENT', message: /well-formed/ })
    }
  })
}
