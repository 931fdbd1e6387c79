/** Steps and their history: forwards only, atomic, under any name. */
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { WorkflowError } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { type WorkflowService, createRun, insertStep, openService } from '../helpers/pikku'

const NAMES = [
  'plain',
  'a:b',
  'outer:step:inner',
  ':',
  'x*?[a]\\',
  'step',
  'q","status":"failed',
  '__proto__',
  'ü 猫',
]

const stepNames = (list: { stepName: string }[]): string[] => list.map(({ stepName }) => stepName)

export function steps(backend: Backend): void {
  let service: WorkflowService
  let data: Data
  let run: string

  before(async () => {
    const target = await backend.freshTarget()
    service = await openService(target)
    data = new Data(target)
    run = await createRun(service)
  })
  after(async () => {
    await service.close()
    await data.close()
  })

  async function statusAfter(name: string, ...moves: (keyof typeof MOVES)[]): Promise<string> {
    const id = await insertStep(service, run, name)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    for (const move of moves) await MOVES[move](id)
    return (await service.getStepState(run, name)).status
  }
  const MOVES = {
    scheduled: (id: string) => service.setStepScheduled(id),
    running: (id: string) => service.setStepRunning(id),
    succeeded: (id: string) => service.setStepResult(id, 'first'),
    failed: (id: string) => service.setStepError(id, new Error('no')),
  }

  it('writes the fields and bytes of the original', async () => {
    const options = { retries: 3, retryDelay: '1s' }
    const state = await service.insertStepState(run, 's', 'rpc', { none: [] }, options, 'before')
    const time = state.createdAt.getTime()
    assert.deepEqual(state, {
      stepId: `${run}:s:${time}`,
      status: 'pending',
      rpcName: 'rpc',
      attemptCount: 1,
      retries: 3,
      retryDelay: '1s',
      fromStepName: 'before',
      createdAt: new Date(time),
      updatedAt: new Date(time),
    })
    assert.deepEqual(Object.entries(await data.hash(`workflows:step:${run}:s`)), [
      ['stepId', state.stepId],
      ['data', '{"none":[]}'],
      ['status', 'pending'],
      ['attemptCount', '1'],
      ['createdAt', String(time)],
      ['updatedAt', String(time)],
      ['rpcName', 'rpc'],
      ['retries', '3'],
      ['retryDelay', '1s'],
      ['fromStepName', 'before'],
    ])
    assert.deepEqual(await service.getStepState(run, 's'), { ...state, result: undefined, error: undefined })
  })

  it('a step that is not there is an error in the words of the original', async () => {
    const message = 'Step not found: runId=none, stepName=s. Use insertStepState to create it.'
    await assert.rejects(
      service.getStepState('none', 's'),
      like({ type: WorkflowError, code: 'STEP_NOT_FOUND', message }),
    )
    const unknown = { code: 'STEP_NOT_FOUND', message: 'Step not found: none:s:1' }
    await assert.rejects(service.setStepRunning('none:s:1'), unknown)
    await assert.rejects(service.setStepResult('none:s:1', 1), unknown)
    await assert.rejects(service.setBranchTaken('none:s:1', 'b'), unknown)
    await assert.rejects(service.createRetryAttempt('none:s:1', 'pending'), unknown)
    await assert.rejects(service.setStepRunning('no step id'), { code: 'INVALID_ARGUMENT' })
    assert.equal(await data.exists('workflows:step:none:s'), false)
    // The id of a step that was made anew since.
    const id = await insertStep(service, run, 'anew')
    await assert.rejects(service.setStepRunning(id.replace(/\d+$/, '1')), { code: 'STEP_NOT_FOUND' })
  })

  it('of 50 who insert a step one does, and it keeps what it has become', async () => {
    const insert = (): Promise<unknown> => service.insertStepState(run, 'once', 'rpc', {})
    const results = await Promise.allSettled(Array.from({ length: 50 }, insert))
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
    const { stepId } = await service.getStepState(run, 'once')
    await service.setStepResult(stepId, 1)
    const message = `Step already exists: runId=${run}, stepName=once`
    await assert.rejects(insert(), like({ type: WorkflowError, code: 'STEP_EXISTS', message }))
    assert.equal((await service.getStepState(run, 'once')).status, 'succeeded')
  })

  it('only goes forward', async () => {
    assert.equal(await statusAfter('f1', 'scheduled', 'running'), 'running')
    assert.equal(await statusAfter('f2', 'running', 'scheduled'), 'running')
    assert.equal(await statusAfter('f3', 'failed', 'scheduled'), 'failed')
    assert.equal(await statusAfter('f4', 'failed', 'running'), 'running')
    assert.equal(await statusAfter('f5', 'succeeded', 'scheduled', 'running', 'failed'), 'succeeded')
    assert.equal(await statusAfter('f6', 'failed', 'succeeded'), 'succeeded')
    const state = await service.getStepState(run, 'f5')
    assert.deepEqual([state.result, state.error], ['first', undefined])
    const again = await service.createRetryAttempt(state.stepId, 'pending')
    assert.deepEqual([again.status, again.attemptCount], ['succeeded', 1])
  })

  it('keeps every attempt in the history, each with its own outcome and times', async () => {
    const own = await createRun(service)
    const id = (await service.insertStepState(own, 's', 'rpc', {}, { retries: 2 }, 'before')).stepId
    await service.setStepScheduled(id)
    await service.setStepRunning(id)
    await service.setStepError(id, Object.assign(new Error('no "stock"\n'), { stack: 'at x', code: 'E' }))
    const retry = await service.createRetryAttempt(id, 'running')
    assert.deepEqual([retry.status, retry.attemptCount, retry.stepId], ['running', 2, id])
    assert.deepEqual(retry.error, { message: 'no "stock"\n', stack: 'at x', code: 'E' })
    const result = { text: '\\"', none: [], big: 1e21, half: '\ud800' }
    await service.setStepResult(id, result)
    const history = await service.getRunHistory(own)
    const [first, second] = history
    assert.equal(history.length, 2)
    assert.deepEqual(
      { ...first, createdAt: 0, updatedAt: 0, scheduledAt: 0, runningAt: 0, failedAt: 0 },
      {
        stepId: id,
        stepName: 's',
        fromStepName: 'before',
        status: 'failed',
        result: undefined,
        error: { message: 'no "stock"\n', stack: 'at x', code: 'E' },
        attemptCount: 1,
        retries: 2,
        retryDelay: undefined,
        createdAt: 0,
        updatedAt: 0,
        scheduledAt: 0,
        runningAt: 0,
        failedAt: 0,
        succeededAt: undefined,
      },
    )
    assert.ok(first!.scheduledAt instanceof Date && first!.failedAt instanceof Date)
    assert.deepEqual([second!.status, second!.result, second!.error], ['succeeded', result, undefined])
    assert.ok(second!.runningAt instanceof Date && second!.succeededAt instanceof Date)
    assert.equal(second!.failedAt, undefined)
  })

  it('concurrent changes leave one entry an attempt, and no attempt is lost', async () => {
    const own = await createRun(service)
    const id = await insertStep(service, own, 's')
    const moves = Array.from({ length: 30 }, (_, index) =>
      index % 2 === 0 ? service.setStepRunning(id) : service.setStepError(id, new Error(`e${index}`)),
    )
    await Promise.all(moves)
    assert.equal((await service.getRunHistory(own)).length, 1)
    await Promise.all([1, 2].map(() => service.createRetryAttempt(id, 'pending')))
    await Promise.all(Array.from({ length: 10 }, (_, index) => service.setStepResult(id, index)))
    const history = await service.getRunHistory(own)
    assert.deepEqual(
      history.map(({ attemptCount }) => attemptCount),
      [1, 2, 3],
    )
    const { result, attemptCount } = await service.getStepState(own, 's')
    assert.deepEqual([history[2]!.result, history[2]!.status, attemptCount], [result, 'succeeded', 3])
  })

  it('a result that is undefined stays undefined', async () => {
    const own = await createRun(service)
    const id = await insertStep(service, own, 's')
    await service.setStepError(id, new Error('first'))
    await service.setStepResult(id, undefined)
    const { status, result, error } = await service.getStepState(own, 's')
    assert.deepEqual([status, result, error], ['succeeded', undefined, undefined])
    assert.equal((await service.getRunHistory(own))[0]!.result, undefined)
    assert.deepEqual(await service.getNodeResults(own, ['s', 'none']), {})
  })

  it('a step may have any name', async () => {
    const own = await createRun(service)
    for (const name of NAMES) {
      // oxlint-disable-next-line no-await-in-loop -- in this order
      const id = await insertStep(service, own, name)
      // oxlint-disable-next-line no-await-in-loop -- in this order
      await service.setStepRunning(id)
      // oxlint-disable-next-line no-await-in-loop -- in this order
      await service.setBranchTaken(id, `branch of ${name}`)
      // oxlint-disable-next-line no-await-in-loop -- in this order
      await service.setStepResult(id, { name })
    }
    assert.deepEqual(stepNames(await service.listStepStates(own)), NAMES)
    assert.deepEqual(stepNames(await service.getRunHistory(own)), NAMES)
    assert.deepEqual(stepNames(await service.getStepInstances(own)), NAMES)
    const { completedNodeIds, failedNodeIds, branchKeys } = await service.getCompletedGraphState(own)
    assert.deepEqual([completedNodeIds, failedNodeIds], [NAMES, []])
    assert.deepEqual(
      Object.entries(branchKeys),
      NAMES.map((name) => [name, `branch of ${name}`]),
    )
    const results = Object.entries(await service.getNodeResults(own, NAMES))
    assert.deepEqual(
      results,
      NAMES.map((name) => [name, { name }]),
    )
  })

  it('a node has failed when it has no attempt left', async () => {
    const own = await createRun(service)
    const { stepId } = await service.insertStepState(own, 'n', 'rpc', {}, { retries: 1 })
    await service.setStepError(stepId, new Error('1'))
    assert.deepEqual((await service.getCompletedGraphState(own)).failedNodeIds, [])
    await service.createRetryAttempt(stepId, 'pending')
    await service.setStepError(stepId, new Error('2'))
    assert.deepEqual((await service.getCompletedGraphState(own)).failedNodeIds, ['n'])
    assert.deepEqual(await service.getStepInstances(own), [
      { stepName: 'n', status: 'failed', fromStepName: undefined },
    ])
  })

  it('a run id may have colons and characters of patterns, and finds nothing of other runs', async () => {
    for (const own of ['a:b', 'a:b:c', 'r*', '*', '[ab]']) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const id = await insertStep(service, own, 's:t')
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await service.setStepRunning(id)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const listed = (await service.listStepStates(own)).map(({ stepId, status }) => [stepId, status])
      assert.deepEqual(listed, [[id, 'running']])
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal((await service.getRunHistory(own)).length, 1)
    }
    assert.deepEqual(await service.listStepStates('a'), [])
    assert.deepEqual(await service.getRunHistory('?'), [])
    await assert.rejects(service.getStepState('a', 'b:s:t'), { code: 'STEP_NOT_FOUND' })
  })
}
