/** Runs, their state, versions and locks, as @pikku/core 0.12 asks for them. */
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { after, before, it } from 'node:test'
import { ArgumentError, CorruptEntryError, LockError, WorkflowError } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { WIRE, type WorkflowService, createRun, openService } from '../helpers/pikku'

const refused = (message: string): ((error: unknown) => true) =>
  like({ type: LockError, code: 'LOCK_TIMEOUT', message })

export function runs(backend: Backend): void {
  let service: WorkflowService
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    service = await openService(target)
    data = new Data(target)
    await service.init()
  })
  after(async () => {
    await service.close()
    await data.close()
  })

  it('writes the fields and bytes of the original', async () => {
    const options = { deterministic: true, plannedSteps: [{ stepName: 's' }] }
    const id = await service.createRun('order', { none: [], big: 1e21 }, true, 'hash', WIRE, options)
    assert.match(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    const stored = await data.hash(`workflows:run:${id}`)
    const time = stored['createdAt']!
    assert.match(time, /^\d{13}$/)
    assert.deepEqual(Object.entries(stored), [
      ['id', id],
      ['workflow', 'order'],
      ['status', 'running'],
      ['input', '{"none":[],"big":1e+21}'],
      ['inline', 'true'],
      ['graphHash', 'hash'],
      ['deterministic', 'true'],
      ['plannedSteps', '[{"stepName":"s"}]'],
      ['wire', '{"type":"test"}'],
      ['createdAt', time],
      ['updatedAt', time],
    ])
    const date = new Date(Number(time))
    assert.deepEqual(await service.getRun(id), {
      id,
      workflow: 'order',
      status: 'running',
      input: { none: [], big: 1e21 },
      output: undefined,
      error: undefined,
      inline: true,
      graphHash: 'hash',
      deterministic: true,
      plannedSteps: [{ stepName: 's' }],
      wire: WIRE,
      createdAt: date,
      updatedAt: date,
    })
  })

  it('what is not there is null, and is not brought into being', async () => {
    assert.equal(await service.getRun('none'), null)
    const missing = {
      type: WorkflowError,
      code: 'RUN_NOT_FOUND',
      message: 'Workflow run not found: none',
    } as const
    await assert.rejects(service.updateRunStatus('none', 'failed'), like(missing))
    await assert.rejects(service.updateRunState('none', 'a', 1), like(missing))
    assert.equal(await data.exists('workflows:run:none'), false)
    assert.equal(await data.exists('workflows:run-state:none'), false)
  })

  it('a run without input can be read', async () => {
    const id = await service.createRun('w', undefined, false, '', WIRE)
    const { input, inline, graphHash, deterministic, plannedSteps } = (await service.getRun(id))!
    assert.deepEqual(
      [input, inline, graphHash, deterministic, plannedSteps],
      [null, ...Array(4).fill(undefined)],
    )
  })

  it('a run that has completed or was cancelled keeps its end', async () => {
    for (const end of ['completed', 'cancelled'] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const id = await createRun(service)
      const update = service.updateRunStatus.bind(service, id)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await update(end, { first: true })
      for (const late of ['running', 'failed', 'suspended', 'completed'] as const) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await update(late, { late }, { message: 'late' })
      }
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const run = (await service.getRun(id))!
      assert.deepEqual([run.status, run.output, run.error], [end, { first: true }, undefined])
    }
  })

  it('a run that was suspended or failed may go on, and leaves its error behind', async () => {
    const id = await createRun(service)
    await service.updateRunStatus(id, 'suspended', undefined, { message: 'wait', code: 'X' })
    assert.deepEqual((await service.getRun(id))!.error, { message: 'wait', code: 'X' })
    await service.updateRunStatus(id, 'failed', undefined, { message: 'no' })
    await service.updateRunStatus(id, 'completed', 0)
    const run = (await service.getRun(id))!
    assert.deepEqual([run.status, run.output, run.error], ['completed', 0, undefined])
  })

  it('the state of a run is a set of named values', async () => {
    const id = await createRun(service)
    assert.deepEqual(await service.getRunState(id), {})
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => service.updateRunState(id, `n${index}`, index)),
    )
    await service.updateRunState(id, '__proto__', { none: [] })
    await service.updateRunState(id, 'void', undefined)
    await data.setHash(`workflows:run:${id}`, { state: '{"old":1,"n0":"old"}' })
    const state = await service.getRunState(id)
    assert.equal(Object.keys(state).length, 23)
    assert.deepEqual([state['old'], state['n0'], state['n19'], state['void']], [1, 0, 19, null])
    assert.deepEqual(Object.getOwnPropertyDescriptor(state, '__proto__')?.value, { none: [] })
  })

  it('a version is stored once, and changes only its status', async () => {
    await service.upsertWorkflowVersion('w', 'v1', { nodes: [] }, 'graph')
    await service.upsertWorkflowVersion('w', 'v1', { nodes: [1] }, 'dsl', 'draft')
    assert.deepEqual(await service.getWorkflowVersion('w', 'v1'), { graph: { nodes: [] }, source: 'graph' })
    await service.updateWorkflowVersionStatus('w', 'v1', 'declined')
    const { createdAt, ...stored } = await data.hash('workflows:version:w:v1')
    assert.match(createdAt!, /^\d{13}$/)
    assert.deepEqual(stored, {
      workflowName: 'w',
      graphHash: 'v1',
      graph: '{"nodes":[]}',
      source: 'graph',
      status: 'declined',
    })
    assert.equal(await service.getWorkflowVersion('w', 'v2'), null)
    await assert.rejects(service.updateWorkflowVersionStatus('w', 'v2', 'draft'), {
      code: 'VERSION_NOT_FOUND',
    })
    assert.equal(await data.exists('workflows:version:w:v2'), false)
  })

  it('locks exclude each other by run and by step, and say whom they waited for', async () => {
    const order: string[] = []
    const work = async (name: string): Promise<string> => {
      order.push(`${name} begins`)
      await delay(20)
      order.push(`${name} ends`)
      return name
    }
    const both = [1, 2].map((n) => service.withRunLock('r', () => work(`run ${n}`)))
    assert.deepEqual(await Promise.all(both), ['run 1', 'run 2'])
    assert.deepEqual(order, ['run 1 begins', 'run 1 ends', 'run 2 begins', 'run 2 ends'])
    assert.equal(
      await service.withRunLock('r', () => service.withStepLock('r', 's', () => work('step'))),
      'step',
    )
    await assert.rejects(
      service.withStepLock('r', 's', () => Promise.reject(new Error('mine'))),
      { message: 'mine' },
    )
    assert.equal(await data.exists('workflows:step-lock:r:s'), false)

    await data.set('workflows:lock:held', 'other')
    await data.set('workflows:step-lock:held:s', 'other')
    await Promise.all([
      assert.rejects(
        service.withRunLock('held', () => work('never')),
        refused('Failed to acquire lock for run held after 10 retries'),
      ),
      assert.rejects(
        service.withStepLock('held', 's', () => work('never')),
        refused('Failed to acquire step lock for run held, step s after 10 retries'),
      ),
    ])
  })

  it('what is stored and no JSON is an error that names the key', async () => {
    const id = await createRun(service)
    await data.setHash(`workflows:run:${id}`, { input: '{"a":' })
    await assert.rejects(
      service.getRun(id),
      like({
        type: CorruptEntryError,
        code: 'CORRUPT_ENTRY',
        message: /input/,
        key: data.full(`workflows:run:${id}`),
      }),
    )
  })

  it('takes prefix and options in the places of every version of the original', async () => {
    const { RedisWorkflowService } = await import('../../pikku.mjs')
    const queue = { add: () => 'job' }
    const forms: unknown[][] = [['p'], [undefined, {}], [queue, 'p'], [{}], [queue]]
    for (const [index, [second, third]] of forms.entries()) {
      const own = new RedisWorkflowService(service.connection, second, third as string)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const id = await createRun(own)
      const prefix = index === 0 || index === 2 ? 'p' : 'workflows'
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await data.exists(`${prefix}:run:${id}`), true, `form ${index}`)
    }
    assert.throws(() => new RedisWorkflowService(service.connection, 5), ArgumentError)
    assert.throws(() => new RedisWorkflowService(service.connection, ''), ArgumentError)
    assert.throws(() => new RedisWorkflowService('.workflows'), { code: 'CONFIG' })
  })
}
