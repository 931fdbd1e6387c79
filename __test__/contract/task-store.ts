/** What `createRedisStore` promises on a target, whatever it runs on. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { ArgumentError, CorruptEntryError, ServerError, connect, createRedisStore } from '../../index.js'
import type { Connection, WorkerStore } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'

/** The contract of a store; `client` is anything that `createRedisStore` takes. */
export function workerStore(context: { store: () => WorkerStore; data: () => Data }): void {
  const { store, data } = context

  it('keeps the marks that the original keeps', async () => {
    assert.equal(await store().isExecutionInProgress('x'), false)
    await store().beginExecution('x')
    assert.equal(await store().isExecutionInProgress('x'), true)
    assert.equal(await store().isExecutionTaskInProgress('x', 'f:t'), false)
    await store().beginExecutionTask('x', 'f:t')
    assert.equal(await store().isExecutionTaskInProgress('x', 'f:t'), true)
    assert.deepEqual(await data().snapshot(), { x: 'true', 'x-transactions': { 'f:t': 'true' } })
    await store().commitExecutionTaskResult('x', 'f:t', { a: [1, null] })
    assert.equal(await store().isExecutionTaskInProgress('x', 'f:t'), false)
    assert.deepEqual(await data().snapshot(), { x: 'true', 'x-results': { 'f:t': '{"a":[1,null]}' } })
    await store().disposeExecution('x')
    await store().disposeExecution('x')
    assert.deepEqual(await data().keys(), [])
  })

  it('returns results as they were given', async () => {
    for (const result of [
      { a: 1 },
      [1, 2],
      'text',
      '{"a":1}',
      '',
      0,
      false,
      null,
      '<empty_execution_result>',
    ]) {
      await store().commitExecutionTaskResult('x', 't', result)
      assert.deepEqual(await store().getExecutionTaskResult('x', 't'), result)
      assert.deepEqual((await store().getExecutionTaskResults('x'))['t'], result)
    }
    assert.equal(await store().getExecutionTaskResult('x', 'none'), undefined)
    assert.equal(await store().getExecutionTaskResult('none', 't'), undefined)
  })

  it('keeps a result that is undefined apart from none', async () => {
    await store().beginExecutionTask('x', 't')
    await store().commitExecutionTaskResult('x', 't', undefined)
    assert.equal(await store().getExecutionTaskResult('x', 't'), null)
    assert.equal(await store().isExecutionTaskInProgress('x', 't'), false)
    // As the original stores it.
    await data().setHash('x-results', { void: '' })
    assert.equal(await store().getExecutionTaskResult('x', 'void'), null)
    assert.deepEqual({ ...(await store().getExecutionTaskResults('x')) }, { t: null, void: null })
  })

  it('returns all results in an object without a prototype, which may be changed', async () => {
    for (const task of ['constructor', '__proto__', 'toString']) {
      await store().commitExecutionTaskResult('x', task, task)
    }
    const results = await store().getExecutionTaskResults('x')
    assert.equal(Object.getPrototypeOf(results), null)
    assert.deepEqual(Object.keys(results).toSorted(), ['__proto__', 'constructor', 'toString'])
    results['more'] = 1
    const none = await store().getExecutionTaskResults('none')
    assert.deepEqual(Object.keys(none), [])
    assert.equal(none['constructor'], undefined)
  })

  it("says what is wrong with a corrupt result in the original's words", async () => {
    await data().setHash('x-results', { bad: '{oops' })
    let parserMessage = ''
    try {
      JSON.parse('{oops')
    } catch (error) {
      parserMessage = (error as Error).message
    }
    const expected = like({
      type: CorruptEntryError,
      code: 'CORRUPT_ENTRY',
      message: `Failed to parse JSON for Redis key "x-results" field "bad": ${parserMessage}. Raw value: "{oops"`,
    })
    await assert.rejects(store().getExecutionTaskResult('x', 'bad'), expected)
    await assert.rejects(store().getExecutionTaskResults('x'), expected)
  })

  it('refuses what cannot be an id or JSON', async () => {
    const wrong: (() => Promise<unknown>)[] = [
      () => store().beginExecution(''),
      () => store().isExecutionInProgress(undefined as never),
      () => store().beginExecutionTask('x', ''),
      () => store().beginExecutionTask('x', 'a\u0000b'),
      () => store().commitExecutionTaskResult('x', 't', 1n),
      () => store().getExecutionTaskResult('x', {} as never),
      () => store().disposeExecution('x'.repeat(513)),
    ]
    for (const call of wrong) await assert.rejects(call, ArgumentError)
    assert.deepEqual(await data().keys(), [])
  })
}

export function taskStore(backend: Backend): void {
  let data: Data
  let connection: Connection
  let store: WorkerStore

  before(async () => {
    const target = await backend.freshTarget()
    data = new Data(target)
    connection = connect(target)
    store = createRedisStore(connection)
  })
  after(async () => {
    await Promise.all([connection.close(), data.close()])
  })
  afterEach(() => data.clear())

  workerStore({ store: () => store, data: () => data })

  it('gives all keys one TTL, refreshed by every write', async () => {
    const brief = createRedisStore(connection, { ttl: 2500, keyPrefix: 'p:' })
    const keys = ['p:x', 'p:x-transactions', 'p:x-results']
    await brief.beginExecution('x')
    await brief.beginExecutionTask('x', 'done')
    await brief.commitExecutionTaskResult('x', 'done', 1)
    await brief.beginExecutionTask('x', 'under way')
    for (const write of [
      () => brief.beginExecution('x'),
      () => brief.beginExecutionTask('x', 't'),
      () => brief.commitExecutionTaskResult('x', 't', 1),
    ]) {
      await Promise.all(keys.map((key) => data.command('PEXPIRE', key, 60_000)))
      await write()
      const left = await Promise.all(keys.map((key) => data.pttl(key)))
      assert.ok(Math.max(...left) <= 2500 && Math.min(...left) > 1500, String(left))
      assert.ok(Math.max(...left) - Math.min(...left) <= 50, String(left))
    }
  })

  it('leaves everything without an end if none was asked for', async () => {
    await store.beginExecution('x')
    await store.commitExecutionTaskResult('x', 't', 1)
    assert.equal(await data.pttl('x'), -1)
    assert.equal(await data.pttl('x-results'), -1)
  })

  it('never lets a task be neither under way nor done', async () => {
    await store.beginExecutionTask('x', 't')
    const commits = Promise.all(
      Array.from({ length: 20 }, () => store.commitExecutionTaskResult('x', 't', 1)),
    )
    const looks = Array.from({ length: 200 }, async () => {
      // In this order, a task that is committed in between is found done.
      const underWay = await store.isExecutionTaskInProgress('x', 't')
      const hasResult = (await store.getExecutionTaskResult('x', 't')) !== undefined
      assert.ok(underWay || hasResult)
    })
    await Promise.all([commits, ...looks])
  })

  it('says so where a foreign key is in the way', async () => {
    await data.set('x-results', 'foreign')
    const expected = like({ type: ServerError, code: 'WRONG_TYPE', message: /WRONGTYPE/ })
    await assert.rejects(store.getExecutionTaskResult('x', 't'), expected)
    await assert.rejects(store.commitExecutionTaskResult('x', 't', 1), expected)
    assert.equal(await data.get('x-results'), 'foreign')
  })

  describe('its options', () => {
    it('are checked', () => {
      for (const options of [{ ttl: -1 }, { ttl: 1.5 }, { ttl: '5' }, { keyPrefix: 7 }]) {
        assert.throws(() => createRedisStore(connection, options as never), ArgumentError)
      }
      createRedisStore(connection, { ttl: undefined, keyPrefix: undefined })
    })
  })
}
