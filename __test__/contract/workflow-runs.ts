/** Runs: what is stored, what is loaded, and which status may follow which. */
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { CorruptEntryError, RedisWorkflowStateService, WorkflowError } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'

const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/

const keyOf = (id: string): string => `workflows:run:${id}`

export function runs(backend: Backend): void {
  let service: RedisWorkflowStateService
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    service = new RedisWorkflowStateService(target)
    data = new Data(target)
  })
  after(async () => {
    await service.close()
    await data.close()
  })

  /** A run as the original stores it. */
  async function stored(id: string, fields: Record<string, string> = {}): Promise<string> {
    const base = { id, workflow: 'order', status: 'running', input: '{}', createdAt: '5', updatedAt: '6' }
    await data.setHash(keyOf(id), { ...base, ...fields })
    return id
  }

  it('createRun writes the fields and bytes of the original', async () => {
    const begin = Date.now()
    const id = await service.createRun('order', { item: 'ü "1"', list: [1, null], when: new Date(0) })
    const end = Date.now()
    assert.match(id, UUID)
    const hash = await data.hash(keyOf(id))
    const { createdAt } = hash
    assert.deepEqual(hash, {
      id,
      workflow: 'order',
      status: 'running',
      input: '{"item":"ü \\"1\\"","list":[1,null],"when":"1970-01-01T00:00:00.000Z"}',
      createdAt,
      updatedAt: createdAt,
    })
    assert.match(createdAt as string, /^\d{13}$/)
    assert.ok(Number(createdAt) >= begin && Number(createdAt) <= end)
    assert.equal(await data.pttl(keyOf(id)), -1)
  })

  it('getRun returns every key, numbers for times', async () => {
    const id = await service.createRun('order', { a: 1 })
    const hash = await data.hash(keyOf(id))
    assert.deepEqual(await service.getRun(id), {
      id,
      workflow: 'order',
      status: 'running',
      input: { a: 1 },
      output: undefined,
      error: undefined,
      createdAt: Number(hash['createdAt']),
      updatedAt: Number(hash['updatedAt']),
    })
  })

  it('getRun returns null for a run that there is not', async () => {
    assert.equal(await service.getRun('none'), null)
    await data.setHash(keyOf('ghost'), { status: 'failed', updatedAt: '1' })
    assert.equal(await service.getRun('ghost'), null)
  })

  it('every input that JSON holds comes back', async () => {
    for (const input of [0, '', false, null, [], 'text', { deep: { er: [{}] } }, 1e21]) {
      const run = await service.getRun(await service.createRun('w', input))
      assert.deepEqual(run?.input, input)
    }
  })

  it('a run without input loads', async () => {
    const id = await service.createRun('w')
    const run = await service.getRun(id)
    assert.ok(run?.input === null || run?.input === undefined)
    const bytes = (await data.hash(keyOf(id)))['input']
    assert.doesNotThrow(() => JSON.parse(bytes as string), 'the original could not load it')
  })

  it("loads the original's run without input, which it stored as an empty string", async () => {
    await stored('empty-input', { input: '' })
    const run = await service.getRun('empty-input')
    assert.deepEqual(run, {
      id: 'empty-input',
      workflow: 'order',
      status: 'running',
      input: undefined,
      output: undefined,
      error: undefined,
      createdAt: 5,
      updatedAt: 6,
    })
  })

  it("loads the original's finished runs", async () => {
    await stored('f1', { status: 'completed', output: '{"total":7}' })
    await stored('f2', { status: 'failed', error: '{"message":"no","stack":"at x","code":"E"}', output: '' })
    assert.deepEqual((await service.getRun('f1'))?.output, { total: 7 })
    const failed = await service.getRun('f2')
    assert.deepEqual(failed?.error, { message: 'no', stack: 'at x', code: 'E' })
    assert.equal(failed?.output, undefined)
  })

  it('names the key of a field that is not JSON, and the beginning of it', async () => {
    await stored('bad', { input: `{"a":${'x'.repeat(500)}` })
    await assert.rejects(service.getRun('bad'), (error: Error) => {
      like({
        type: CorruptEntryError,
        code: 'CORRUPT_ENTRY',
        message: /workflows:run:bad.*input/,
        key: 'workflows:run:bad',
      })(error)
      assert.ok(error.message.length < 300, error.message)
      return true
    })
    await stored('bad-time', { createdAt: 'yesterday' })
    await assert.rejects(service.getRun('bad-time'), { code: 'CORRUPT_ENTRY', key: 'workflows:run:bad-time' })
  })

  it('updateRunStatus writes status, time, and what is given', async () => {
    const id = await stored('u1')
    assert.equal(await service.updateRunStatus(id, 'completed', { total: 5 }), undefined)
    const hash = await data.hash(keyOf(id))
    assert.ok(Number(hash['updatedAt']) > 6)
    assert.deepEqual(hash, {
      id,
      workflow: 'order',
      status: 'completed',
      input: '{}',
      output: '{"total":5}',
      createdAt: '5',
      updatedAt: hash['updatedAt'],
    })
    assert.deepEqual((await service.getRun(id))?.output, { total: 5 })
  })

  it('stores falsy outputs, and no output for undefined', async () => {
    for (const [output, bytes] of [
      [0, '0'],
      [false, 'false'],
      ['', '""'],
      [null, 'null'],
      [undefined, undefined],
    ] as const) {
      const id = `out-${bytes}`
      await stored(id)
      await service.updateRunStatus(id, 'completed', output)
      assert.equal((await data.hash(keyOf(id)))['output'], bytes)
      assert.deepEqual((await service.getRun(id))?.output, output)
    }
  })

  it('stores an error as given, and of an Error what matters', async () => {
    await stored('e1')
    await service.updateRunStatus('e1', 'failed', undefined, { message: 'm', stack: 's', code: 'C' })
    assert.equal((await data.hash(keyOf('e1')))['error'], '{"message":"m","stack":"s","code":"C"}')
    await stored('e2')
    const error = Object.assign(new Error('boom'), { stack: 'Error: boom\n    at x', code: 'E_BOOM' })
    await service.updateRunStatus('e2', 'failed', undefined, error)
    const bytes = '{"message":"boom","stack":"Error: boom\\n    at x","code":"E_BOOM"}'
    assert.equal((await data.hash(keyOf('e2')))['error'], bytes)
    const run = await service.getRun('e2')
    assert.deepEqual(run?.error, { message: 'boom', stack: 'Error: boom\n    at x', code: 'E_BOOM' })
  })

  it('does not bring a run into being that was never created', async () => {
    for (const options of [undefined, { reopen: true }]) {
      await assert.rejects(
        service.updateRunStatus('never', 'failed', 1, { message: 'x' }, options),
        like({ type: WorkflowError, code: 'RUN_NOT_FOUND', message: 'Run not found: never' }),
      )
    }
    assert.equal(await data.exists(keyOf('never')), false)
    await data.setHash(keyOf('half'), { status: 'running' })
    await assert.rejects(service.updateRunStatus('half', 'failed'), { code: 'RUN_NOT_FOUND' })
    assert.deepEqual(await data.hash(keyOf('half')), { status: 'running' })
  })

  it('completed and cancelled are final', async () => {
    for (const end of ['completed', 'cancelled'] as const) {
      const id = await stored(`end-${end}`, { status: end, output: '1' })
      const earlier = await data.hash(keyOf(id))
      for (const status of ['running', 'completed', 'failed', 'suspended', 'cancelled'] as const) {
        if (status === end) continue
        await assert.rejects(
          service.updateRunStatus(id, status, 2),
          like({ type: WorkflowError, code: 'INVALID_TRANSITION', message: new RegExp(`${id}.*${status}`) }),
        )
      }
      await assert.rejects(service.updateRunStatus(id, end, 2), { code: 'INVALID_TRANSITION' })
      assert.deepEqual(await data.hash(keyOf(id)), earlier)
    }
  })

  it('the same end twice changes nothing', async () => {
    const id = await stored('twice')
    await service.updateRunStatus(id, 'completed', { a: 1 })
    const earlier = await data.hash(keyOf(id))
    await service.updateRunStatus(id, 'completed', { a: 1 })
    await service.updateRunStatus(id, 'completed')
    assert.deepEqual(await data.hash(keyOf(id)), earlier)
  })

  it('reopens a final run where asked to, and then it may end in another way', async () => {
    const id = await stored('reopened', { status: 'completed', output: '1' })
    await service.updateRunStatus(id, 'running', undefined, undefined, { reopen: true })
    assert.equal((await service.getRun(id))?.status, 'running')
    await service.updateRunStatus(id, 'completed', 2)
    assert.equal((await service.getRun(id))?.output, 2)
  })

  it('failed and suspended runs go on, and keep no error once completed', async () => {
    for (const status of ['failed', 'suspended'] as const) {
      const id = await stored(`on-${status}`, { status, error: '{"message":"old"}' })
      await service.updateRunStatus(id, 'running')
      await service.updateRunStatus(id, 'completed', 1)
      const run = await service.getRun(id)
      assert.deepEqual([run?.status, run?.output, run?.error], ['completed', 1, undefined])
      assert.equal('error' in (await data.hash(keyOf(id))), false)
    }
  })

  it('of 50 concurrent ends exactly one stays', async () => {
    const id = await stored('race')
    const ends = Array.from({ length: 50 }, (_, n) => service.updateRunStatus(id, 'completed', n))
    const outcomes = await Promise.allSettled(ends)
    const winners = outcomes.flatMap(({ status }, n) => (status === 'fulfilled' ? [n] : []))
    assert.equal(winners.length, 1)
    assert.equal((await service.getRun(id))?.output, winners[0])
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'INVALID_TRANSITION')
  })

  it('runs with any characters in their ids do not meet', async () => {
    const ids = ['*', '?', '[a]', 'a:b', 'a', 'ünï', ' ', '__proto__', 'constructor']
    for (const id of ids) await stored(id, { input: JSON.stringify(id) })
    for (const id of ids) assert.equal((await service.getRun(id))?.input, id)
  })

  it('__proto__ in stored JSON, or as a field, reaches no prototype', async () => {
    const json = '{"__proto__":{"polluted":1},"a":{"__proto__":{"polluted":1}}}'
    await stored('proto', { input: json, output: json, error: json })
    await data.command('HSET', keyOf('proto'), '__proto__', '{"polluted":1}')
    const run = await service.getRun('proto')
    assert.equal(({} as { polluted?: unknown }).polluted, undefined)
    for (const value of [run, run?.input, run?.input.a, run?.output, run?.error]) {
      assert.equal(Object.getPrototypeOf(value), Object.prototype)
      assert.equal(value.polluted, undefined)
    }
  })
}
