/** What the run service lists and deletes, and what sweepers find and claim. */
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { after, before, it } from 'node:test'
import { RedisWorkflowRunService } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { type WorkflowService, createRun, insertStep, openService } from '../helpers/pikku'

const ids = (list: { id: string }[]): string[] => list.map(({ id }) => id)
const soon = (): Date => new Date(Date.now() + 1000)

export function lists(backend: Backend): void {
  const closing: (() => Promise<void>)[] = []
  let service: WorkflowService
  let runs: RedisWorkflowRunService
  let data: Data

  async function open(): Promise<void> {
    const target = await backend.freshTarget()
    service = await openService(target)
    runs = new RedisWorkflowRunService(target)
    data = new Data(target)
    closing.push(
      () => service.close(),
      () => runs.close(),
      () => data.close(),
    )
  }
  before(open)
  after(() => Promise.all(closing.map((close) => close())))

  it('lists runs newest first, by workflow, by status, page by page', async () => {
    assert.deepEqual(await runs.listRuns(), [])
    assert.deepEqual(await runs.getDistinctWorkflowNames(), [])
    const made: string[] = []
    for (let index = 0; index < 12; index++) {
      // oxlint-disable-next-line no-await-in-loop -- in this order
      made.unshift(await createRun(service, index % 3 === 0 ? 'a:b' : 'a'))
      // oxlint-disable-next-line no-await-in-loop -- a millisecond of its own
      await delay(2)
    }
    const every = (step: number, from = 0): string[] => made.filter((_, index) => index % step === from)
    await Promise.all(every(2).map((id) => service.updateRunStatus(id, 'failed')))
    await Promise.all(every(4).map((id) => service.updateRunStatus(id, 'completed')))
    assert.deepEqual(ids(await runs.listRuns()), made)
    assert.deepEqual(ids(await runs.listRuns({ limit: 5, offset: 3 })), made.slice(3, 8))
    assert.deepEqual(ids(await runs.listRuns({ status: 'completed' })), every(4))
    assert.deepEqual(ids(await runs.listRuns({ status: 'failed' })), every(4, 2))
    assert.deepEqual(ids(await runs.listRuns({ status: 'running', limit: 2 })), every(2, 1).slice(0, 2))
    assert.deepEqual(ids(await runs.listRuns({ workflowName: 'a:b' })), every(3, 2))
    const both = await runs.listRuns({ workflowName: 'a:b', status: 'completed' })
    assert.deepEqual(
      ids(both),
      made.filter((_, index) => index % 3 === 2 && index % 4 === 0),
    )
    assert.deepEqual(await runs.listRuns({ workflowName: 'none' }), [])
    assert.deepEqual(await runs.listRuns({ limit: 0 }), [])
    assert.deepEqual(await runs.getDistinctWorkflowNames(), ['a', 'a:b'])
    assert.deepEqual(await runs.getRun(made[0]!), await service.getRun(made[0]!))
    await assert.rejects(runs.listRuns({ limit: -1 }), { code: 'INVALID_ARGUMENT' })
    await assert.rejects(runs.listRuns({ status: 'done' as never }), { code: 'INVALID_ARGUMENT' })
  })

  it('a corrupt run or step is left out and named, and an entry without its run disappears', async () => {
    await open()
    const good = await createRun(service)
    const [bad, wrong, gone] = [await createRun(service), await createRun(service), await createRun(service)]
    await data.setHash(`workflows:run:${bad}`, { input: '{' })
    await data.command('DEL', `workflows:run:${wrong}`)
    await data.command('DEL', `workflows:run:${gone}`)
    await data.set(`workflows:run:${wrong}`, 'no hash')
    const list = await runs.listRuns()
    assert.deepEqual(ids(list), [good])
    const corrupt = list.corrupt.map(({ id, key }) => [id, key]).toSorted()
    assert.deepEqual(corrupt, [bad, wrong].map((id) => [id, data.full(`workflows:run:${id}`)]).toSorted())
    assert.deepEqual(ids(await runs.listRuns({ limit: 4 })), [good])

    await insertStep(service, good, 'one')
    await insertStep(service, good, 'two')
    await data.setHash(`workflows:step:${good}:one`, { data: '{' })
    const steps = await runs.getRunSteps(good)
    assert.deepEqual(
      [steps.map(({ stepName }) => stepName), steps.corrupt.map(({ id }) => id)],
      [['two'], ['one']],
    )
    await data.setHash(`workflows:step:${good}:one`, { result: '{' })
    await assert.rejects(service.listStepStates(good), { code: 'CORRUPT_ENTRY' })
  })

  it('shows the steps of a run with what they were started with', async () => {
    await open()
    const run = await createRun(service)
    await service.insertStepState(run, 'first', 'rpc', { n: [] }, { retries: 1, retryDelay: 5 })
    await service.insertStepState(run, 'second', null, undefined)
    const [first, second] = await runs.getRunSteps(run)
    const { stepId, createdAt, updatedAt, ...rest } = first!
    assert.equal(stepId, `${run}:first:${createdAt.getTime()}`)
    assert.deepEqual(updatedAt, createdAt)
    assert.deepEqual(rest, {
      stepName: 'first',
      rpcName: 'rpc',
      data: { n: [] },
      status: 'pending',
      result: undefined,
      error: undefined,
      attemptCount: 1,
      retries: 1,
      retryDelay: '5',
    })
    assert.deepEqual([second!.rpcName, second!.data], [undefined, undefined])
    assert.deepEqual(await runs.getRunHistory(run), await service.getRunHistory(run))
  })

  it('deletes everything of a run and nothing else', async () => {
    await open()
    const kept = await createRun(service, 'kept')
    await insertStep(service, kept, 's')
    await service.updateRunState(kept, 'n', 1)
    const untouched = await data.keys()
    const run = await createRun(service, 'deleted')
    const id = await insertStep(service, run, 'a:b*')
    await service.setStepError(id, new Error('no'))
    await service.createRetryAttempt(id, 'running')
    await insertStep(service, run, 'pending')
    await service.updateRunState(run, 'n', 1)
    await data.set(`workflows:lock:${run}`, 'somebody')
    await data.set(`workflows:step-lock:${run}:a:b*`, 'somebody')
    assert.equal(await runs.deleteRun(run), true)
    assert.equal(await runs.deleteRun(run), false)
    assert.deepEqual(await data.keys(), untouched)
    assert.deepEqual(await runs.getDistinctWorkflowNames(), ['kept'])
    assert.deepEqual(ids(await runs.listRuns()), [kept])
    assert.deepEqual(await service.findUndispatchedSteps(soon(), 10), [
      { runId: kept, stepId: (await service.getStepState(kept, 's')).stepId },
    ])
    assert.deepEqual(await service.findStalledRunIds(soon(), 10), [kept])
  })

  it('finds running runs in which nothing happens and nobody is at work', async () => {
    await open()
    const stalled = (): Promise<string[]> => service.findStalledRunIds(soon(), 10)
    const idle = await createRun(service)
    const waiting = await createRun(service)
    const step = await insertStep(service, waiting, 's')
    assert.deepEqual((await stalled()).toSorted(), [idle, waiting].toSorted())
    assert.deepEqual(await service.findStalledRunIds(new Date(Date.now() - 1000), 10), [])
    assert.equal((await service.findStalledRunIds(soon(), 1)).length, 1)
    for (const move of ['setStepScheduled', 'setStepRunning'] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await service[move](step)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.deepEqual(await stalled(), [idle])
    }
    await service.setStepResult(step, 1)
    assert.equal((await stalled()).length, 2)
    await service.updateRunStatus(idle, 'suspended')
    await service.updateRunStatus(waiting, 'completed')
    assert.deepEqual(await stalled(), [])
    await service.updateRunStatus(idle, 'running')
    assert.deepEqual(await stalled(), [idle])
  })

  it('finds steps whose dispatch was lost, while their run is running', async () => {
    await open()
    const run = await createRun(service)
    const stepId = await insertStep(service, run, 'a:b')
    const found = (time = soon()): Promise<unknown> => service.findUndispatchedSteps(time, 10)
    assert.deepEqual(await found(), [{ runId: run, stepId }])
    assert.deepEqual(await found(new Date(0)), [])
    await service.updateRunStatus(run, 'suspended')
    assert.deepEqual(await found(), [])
    await service.updateRunStatus(run, 'running')
    assert.deepEqual(await found(), [{ runId: run, stepId }])
    await service.setStepScheduled(stepId)
    assert.deepEqual(await found(), [])
  })

  it('of 32 sweepers, one gets a step', async () => {
    await open()
    const run = await createRun(service)
    const names = Array.from({ length: 10 }, (_, index) => `s${index}`)
    await Promise.all(names.map((name) => insertStep(service, run, name)))
    const sweepers = await Promise.all(Array.from({ length: 32 }, () => openService(service.connection)))
    const claims = await Promise.all(
      sweepers.flatMap((sweeper) => names.map((name) => sweeper.claimStepForExecution(run, name, 'rpc'))),
    )
    const claimed = claims.flatMap((step) => (step === null ? [] : [step.stepId]))
    assert.equal(claimed.length, 10)
    assert.equal(new Set(claimed).size, 10)
    const states = await service.listStepStates(run)
    assert.ok(states.every(({ status, attemptCount }) => status === 'running' && attemptCount === 1))
  })

  it('a failed step is claimed for its next attempt, one of another function by nobody', async () => {
    await open()
    const run = await createRun(service)
    const id = await insertStep(service, run, 's')
    const claim = (name: string | null): Promise<any> => service.claimStepForExecution(run, 's', name)
    await assert.rejects(claim('other'), {
      name: 'WorkflowStepFunctionMismatchError',
      message: /dispatched with a different function/,
    })
    await assert.rejects(claim(null), /dispatched with a different function/)
    await service.setStepError(id, new Error('no'))
    const { status, attemptCount } = await claim('rpc')
    assert.deepEqual([status, attemptCount], ['running', 2])
    assert.equal(await claim('rpc'), null)
    await service.setStepResult(id, 1)
    assert.equal(await claim('rpc'), null)
    await assert.rejects(service.claimStepForExecution(run, 'none', 'rpc'), { code: 'STEP_NOT_FOUND' })
    await service.insertStepState(run, 'inline', null, {})
    assert.equal((await service.claimStepForExecution(run, 'inline', null))!.status, 'running')
  })
}
