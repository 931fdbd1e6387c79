/** One Redis, two generations: what @pikku/redis 0.12 wrote is read, and what is written is what it writes. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, it } from 'node:test'
import {
  RedisWorkflowRunService,
  RedisWorkflowStateService,
  type RedisWorkflowStateService as State,
} from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { type WorkflowService, createRun, insertStep, openService } from '../helpers/pikku'

const T0 = 1_700_000_000_000

/** The writes of @pikku/redis, byte by byte. */
class Original {
  readonly #data: Data
  readonly id = randomUUID()

  constructor(data: Data) {
    this.#data = data
  }

  async createRun(createdAt: number, workflow = 'old'): Promise<string> {
    await this.#data.setHash(`workflows:run:${this.id}`, {
      id: this.id,
      workflow,
      status: 'running',
      input: '{"order":[]}',
      inline: 'false',
      graphHash: 'h0',
      deterministic: 'false',
      plannedSteps: '',
      wire: '{"type":"http","id":"/orders"}',
      createdAt: String(createdAt),
      updatedAt: String(createdAt),
    })
    return this.id
  }

  /** A step that succeeded in its second attempt. */
  async addStep(stepName: string, createdAt: number): Promise<string> {
    const stepId = `${this.id}:${stepName}:${createdAt}`
    await this.#data.setHash(`workflows:step:${this.id}:${stepName}`, {
      stepId,
      data: '{"n":1}',
      status: 'succeeded',
      attemptCount: '2',
      createdAt: String(createdAt),
      updatedAt: String(createdAt + 9),
      rpcName: 'rpc',
      retries: '2',
      fromStepName: 'start',
      result: '{"ok":[]}',
      branchTaken: 'left',
    })
    const attempt = (attemptCount: number, more: object): string =>
      JSON.stringify({ stepId, stepName, attemptCount, ...more })
    const history = `workflows:step-history:${stepId}`
    const error = JSON.stringify({ message: 'no', stack: 'at x' })
    const [first, second] = [createdAt, createdAt + 5]
    const failed = {
      status: 'failed',
      error,
      retries: 2,
      createdAt: first,
      runningAt: first + 1,
      failedAt: first + 2,
    }
    const result = '{"ok":[]}'
    const done = {
      status: 'succeeded',
      result,
      retries: 2,
      createdAt: second,
      runningAt: second,
      succeededAt: second + 4,
    }
    await this.#data.command('ZADD', history, 1, attempt(1, failed))
    await this.#data.command('ZADD', history, 2, attempt(2, done))
    return stepId
  }
}

export function interop(backend: Backend): void {
  const closing: (() => Promise<void>)[] = []
  let service: WorkflowService
  let runs: RedisWorkflowRunService
  let state: State
  let data: Data

  async function open(): Promise<void> {
    const target = await backend.freshTarget()
    service = await openService(target)
    runs = new RedisWorkflowRunService(target)
    state = new RedisWorkflowStateService(target)
    data = new Data(target)
    for (const store of [service, runs, state, data]) closing.push(() => store.close())
  }
  before(open)
  after(() => Promise.all(closing.map((close) => close())))

  it('reads the runs, steps and history of the original', async () => {
    const original = new Original(data)
    const run = await original.createRun(T0)
    const later = await original.addStep('b:step:*', T0 + 100)
    const first = await original.addStep('a', T0)
    assert.deepEqual(await service.getRun(run), {
      id: run,
      workflow: 'old',
      status: 'running',
      input: { order: [] },
      output: undefined,
      error: undefined,
      inline: undefined,
      graphHash: 'h0',
      deterministic: undefined,
      plannedSteps: undefined,
      wire: { type: 'http', id: '/orders' },
      createdAt: new Date(T0),
      updatedAt: new Date(T0),
    })
    assert.deepEqual(await service.getStepState(run, 'a'), {
      stepId: first,
      status: 'succeeded',
      rpcName: 'rpc',
      result: { ok: [] },
      error: undefined,
      attemptCount: 2,
      retries: 2,
      retryDelay: undefined,
      fromStepName: 'start',
      createdAt: new Date(T0),
      updatedAt: new Date(T0 + 9),
    })
    const history = await service.getRunHistory(run)
    assert.deepEqual(
      history.map(({ stepId, attemptCount, status, error, result }) => [
        stepId,
        attemptCount,
        status,
        error,
        result,
      ]),
      [
        [first, 1, 'failed', { message: 'no', stack: 'at x' }, undefined],
        [first, 2, 'succeeded', undefined, { ok: [] }],
        [later, 1, 'failed', { message: 'no', stack: 'at x' }, undefined],
        [later, 2, 'succeeded', undefined, { ok: [] }],
      ],
    )
    assert.deepEqual(history[1]!.succeededAt, new Date(T0 + 9))
    assert.deepEqual(await service.getCompletedGraphState(run), {
      completedNodeIds: ['a', 'b:step:*'],
      failedNodeIds: [],
      branchKeys: { a: 'left', 'b:step:*': 'left' },
    })
    assert.equal((await runs.getRunSteps(run)).length, 2)
    assert.equal((await service.listStepStates(run)).length, 2)
    assert.deepEqual(await service.getRunHistory('*'), [])
  })

  it('goes on with a run of the original, and still sees the steps that the original adds', async () => {
    await open()
    const original = new Original(data)
    const run = await original.createRun(T0)
    await original.addStep('theirs', T0)
    const ours = await insertStep(service, run, 'ours')
    await service.setStepRunning(ours)
    await original.addStep('theirs too', T0 + 1)
    const names = async (): Promise<string[]> =>
      (await service.getStepInstances(run)).map(({ stepName }) => stepName).toSorted()
    assert.deepEqual(await names(), ['ours', 'theirs', 'theirs too'])
    await assert.rejects(insertStep(service, run, 'theirs'), { code: 'STEP_EXISTS' })
    await service.updateRunStatus(run, 'completed')
    assert.equal(await runs.deleteRun(run), true)
    assert.deepEqual(await data.keys(), [])
  })

  it('a step that the original adds to a run of ours is found once it is touched', async () => {
    await open()
    const run = await createRun(service)
    const original = new Original(data)
    Object.assign(original, { id: run })
    await original.addStep('theirs', T0)
    assert.equal((await service.getStepState(run, 'theirs')).status, 'succeeded')
    await assert.rejects(insertStep(service, run, 'theirs'), { code: 'STEP_EXISTS' })
    assert.deepEqual((await service.getCompletedGraphState(run)).completedNodeIds, ['theirs'])
  })

  it('lists the runs of the original, once they are indexed', async () => {
    await open()
    const made = [new Original(data), new Original(data), new Original(data)]
    const ids: string[] = []
    // oxlint-disable-next-line no-await-in-loop -- in this order
    for (const [index, original] of made.slice(0, 2).entries())
      ids.unshift(await original.createRun(T0 + index))
    await data.set('workflows:run:no hash', 'x')
    const listed = async (): Promise<string[]> => (await runs.listRuns()).map(({ id }) => id)
    assert.deepEqual(await listed(), ids)
    assert.deepEqual(await runs.getDistinctWorkflowNames(), ['old'])
    ids.unshift(await made[2]!.createRun(T0 + 9, 'new'))
    assert.equal((await listed()).length, 2)
    assert.equal(await runs.indexRuns(), 1)
    assert.equal(await runs.indexRuns(), 0)
    assert.deepEqual(await listed(), ids)
    assert.deepEqual(await runs.getDistinctWorkflowNames(), ['new', 'old'])
    // The original changes a status without the index.
    await data.setHash(`workflows:run:${ids[0]}`, { status: 'completed' })
    assert.equal((await runs.listRuns({ status: 'running' })).length, 2)
    assert.deepEqual(
      (await runs.listRuns({ status: 'completed' })).map(({ id }) => id),
      ids.slice(0, 1),
    )
  })

  it('writes the history as the original does', async () => {
    await open()
    const run = await createRun(service)
    const { stepId } = await service.insertStepState(run, 'a"b', 'rpc', {}, { retries: 2, retryDelay: 500 })
    const entries = async (): Promise<string[]> =>
      (await data.command('ZRANGE', `workflows:step-history:${stepId}`, 0, -1)) as string[]
    const head = `{"stepId":${JSON.stringify(stepId)},"stepName":"a\\"b","attemptCount":`
    const times = (texts: string[]): string[] =>
      texts.map((text) => text.replaceAll(/(At":)\d{13}/g, '$1T').replace(head, ''))
    assert.deepEqual(times(await entries()), [
      '1,"status":"pending","retries":2,"retryDelay":"500","createdAt":T}',
    ])
    await service.setStepScheduled(stepId)
    await service.setStepRunning(stepId)
    await service.setStepError(stepId, Object.assign(new Error('"no"'), { stack: 's' }))
    await service.createRetryAttempt(stepId, 'pending')
    await service.setStepRunning(stepId)
    await service.setStepResult(stepId, { text: 'a\\"b\n', none: [] })
    const common = '"retries":2,"retryDelay":"500","createdAt":T'
    const error = JSON.stringify('{"message":"\\"no\\"","stack":"s"}')
    const result = JSON.stringify(JSON.stringify({ text: 'a\\"b\n', none: [] }))
    assert.deepEqual(times(await entries()), [
      `1,"status":"failed",${common},"scheduledAt":T,"runningAt":T,"error":${error},"failedAt":T}`,
      `2,"status":"succeeded",${common},"runningAt":T,"result":${result},"succeededAt":T}`,
    ])
    assert.ok(
      (await entries()).every((entry) => entry.startsWith(head) && JSON.parse(entry).stepId === stepId),
    )
  })

  it('reads what the documented service stored, and the other way round', async () => {
    await open()
    const run = await state.createRun('seed', { a: 1 })
    assert.deepEqual((await service.getRun(run))!.wire, { type: 'unknown' })
    await state.setStepResult(run, 'done', { total: 1 })
    await state.setStepError(run, 'failed', new Error('no'))
    await state.setStepScheduled(run, 'waiting')
    const done = await service.getStepState(run, 'done')
    assert.deepEqual([done.status, done.result, done.attemptCount], ['succeeded', { total: 1 }, 1])
    await assert.rejects(insertStep(service, run, 'done'), { code: 'STEP_EXISTS' })
    const failed = await service.getStepState(run, 'failed')
    assert.deepEqual([failed.status, failed.error!.message], ['failed', 'no'])
    await service.setStepRunning(failed.stepId)
    await service.setStepResult(failed.stepId, 2)
    assert.deepEqual((await state.getStepState(run, 'failed')).result, 2)
    await insertStep(service, run, 'waiting')
    assert.equal((await state.getStepState(run, 'waiting')).status, 'pending')
    await service.updateRunStatus(run, 'completed', 'end')
    assert.deepEqual(
      [(await state.getRun(run))!.status, (await state.getRun(run))!.output],
      ['completed', 'end'],
    )
  })

  it('an entry of the history that is no JSON is named, and stays', async () => {
    await open()
    const run = await createRun(service)
    const id = await insertStep(service, run, 's')
    await data.command('DEL', `workflows:step-history:${id}`)
    await data.command('ZADD', `workflows:step-history:${id}`, 1, 'no JSON')
    await service.setStepRunning(id)
    const history = await runs.getRunHistory(run)
    assert.deepEqual(
      history.map(({ status, runningAt }) => [status, runningAt instanceof Date]),
      [['running', true]],
    )
    assert.equal(history.corrupt.length, 1)
    assert.match(history.corrupt[0]!.reason, /no JSON/)
  })
}
