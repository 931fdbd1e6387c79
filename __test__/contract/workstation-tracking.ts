import assert from 'node:assert/strict'
import { it } from 'node:test'
import { ArgumentError, CorruptEntryError, type ProgressEvent, type WorkflowState } from '../../index.js'
import type { Backend } from '../helpers/backends'
import { added } from '../helpers/metrics'
import { until } from '../helpers/wait'
import { placesOf } from '../helpers/workstations'

const HOUR = 3_600_000
const ACTIVE = 'wks:executions:active'

function near(actual: number, expected: number): void {
  assert.ok(actual <= expected && actual > expected - 10_000, `${actual} instead of ${expected}`)
}

export function trackingSuite(backend: Backend): void {
  const place = placesOf(backend)

  it('an execution is stored as documented, from start to end', async () => {
    const { workstation, data } = await place()
    const before = Date.now()
    assert.equal(await workstation.startWorkflowTracking('e', 'wf', 5, { userId: 'u' }), true)
    const started = JSON.parse((await data.get('wks:workflow:e'))!) as WorkflowState
    assert.ok(started.startedAt >= before && started.startedAt <= Date.now())
    assert.deepEqual(started, {
      executionId: 'e',
      workflowId: 'wf',
      status: 'running',
      progress: 0,
      currentStep: 'initializing',
      totalSteps: 5,
      completedSteps: 0,
      data: { userId: 'u' },
      startedAt: started.startedAt,
      updatedAt: started.startedAt,
    })
    assert.deepEqual(await data.command('SMEMBERS', ACTIVE), ['e'])
    assert.equal(await workstation.updateWorkflowProgress('e', 2, 'Processing data', { rows: 100 }), true)
    const running = (await workstation.fetchWorkflowState('e'))!
    assert.equal(running.progress, 40)
    assert.equal(running.currentStep, 'Processing data')
    assert.deepEqual(running.data, { userId: 'u', rows: 100 })
    assert.ok(running.updatedAt > started.updatedAt)
    assert.ok(Number.isInteger(running.estimatedCompletion))
    assert.equal(await workstation.completeWorkflowTracking('e', 'completed', undefined, { sum: 5 }), true)
    const ended = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual(
      [ended.status, ended.progress, ended.data],
      ['completed', 100, { userId: 'u', rows: 100, sum: 5 }],
    )
    assert.ok(!('estimatedCompletion' in ended) && !('error' in ended) && ended.updatedAt > running.updatedAt)
    assert.equal(await data.exists(ACTIVE), false)
    near(await data.pttl('wks:workflow:e'), 2 * HOUR)
  })

  it('a failed execution keeps its progress and says why', async () => {
    const { workstation, data } = await place()
    await workstation.startWorkflowTracking('e', 'wf', 4)
    await workstation.updateWorkflowProgress('e', 1, 'one')
    await workstation.completeWorkflowTracking('e', 'failed', 'no more disk')
    const state = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual([state.status, state.progress, state.error], ['failed', 25, 'no more disk'])
    near(await data.pttl('wks:workflow:e'), HOUR)
  })

  it('progress stays between 0 and 100, and the estimate is absent rather than no number', async () => {
    const { workstation, data } = await place()
    await workstation.startWorkflowTracking('none', 'wf', 0)
    await workstation.updateWorkflowProgress('none', 3, 'x')
    const none = (await workstation.fetchWorkflowState('none'))!
    assert.deepEqual([none.progress, 'estimatedCompletion' in none], [0, false])
    await workstation.completeWorkflowTracking('none', 'completed')
    assert.equal((await workstation.fetchWorkflowState('none'))!.progress, 100)
    await workstation.startWorkflowTracking('over', 'wf', 18)
    await workstation.updateWorkflowProgress('over', 21, 'x')
    const over = (await workstation.fetchWorkflowState('over'))!
    assert.deepEqual([over.progress, 'estimatedCompletion' in over], [100, false])
    assert.ok(!(await data.get('wks:workflow:over'))!.includes('null'))
  })

  it('progress does not go back, and what a late update brings is kept', async () => {
    const { workstation } = await place()
    await workstation.startWorkflowTracking('e', 'wf', 10)
    await workstation.updateWorkflowProgress('e', 6, 'six', { a: 6, b: 6 })
    assert.equal(await workstation.updateWorkflowProgress('e', 4, 'four', { b: 4, c: 4 }), true)
    const state = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual([state.progress, state.currentStep, state.data], [60, 'six', { a: 6, b: 6, c: 4 }])
    await workstation.updateWorkflowProgress('e', 4, 'four', {}, { allowRegress: true })
    assert.equal((await workstation.fetchWorkflowState('e'))!.progress, 40)
  })

  it('a late update reopens nothing', async () => {
    const { workstation, another, data } = await place()
    const other = another()
    await workstation.startWorkflowTracking('e', 'wf', 2)
    await workstation.updateWorkflowProgress('e', 1, 'one')
    await other.completeWorkflowTracking('e', 'cancelled')
    const stored = await data.get('wks:workflow:e')
    // This one remembers a running execution.
    assert.equal(await workstation.updateWorkflowProgress('e', 2, 'two'), false)
    assert.equal(await workstation.completeWorkflowTracking('e', 'completed'), false)
    assert.equal(await workstation.completeWorkflowTracking('e', 'cancelled'), true, 'said twice')
    assert.equal(await data.get('wks:workflow:e'), stored)
    assert.deepEqual(await other.listActiveWorkflows(), [])
    assert.equal(await workstation.startWorkflowTracking('e', 'wf', 2), true, 'a new run of the same id')
    assert.equal((await other.fetchWorkflowState('e'))!.status, 'running')
  })

  it('an unknown execution is nobody’s', async () => {
    const { workstation, data } = await place()
    assert.equal(await workstation.updateWorkflowProgress('e', 1, 'x'), false)
    assert.equal(await workstation.completeWorkflowTracking('e', 'completed'), false)
    assert.equal(await workstation.fetchWorkflowState('e'), null)
    assert.deepEqual(await data.keys(), [])
  })

  it('concurrent updates of several processes all keep their data', async () => {
    const { workstation, another } = await place()
    const processes = [workstation, another(), another(), another()]
    await workstation.startWorkflowTracking('e', 'wf', 400)
    const updates = Array.from({ length: 400 }, (_, index) =>
      processes[index % 4]!.updateWorkflowProgress('e', index + 1, `step ${index + 1}`, {
        [`k${index}`]: index,
      }),
    )
    assert.ok((await Promise.all(updates)).every(Boolean))
    const state = (await workstation.fetchWorkflowState('e'))!
    assert.equal(Object.keys(state.data).length, 400)
    assert.deepEqual([state.progress, state.completedSteps, state.currentStep], [100, 400, 'step 400'])
  })

  it('what is stored is what V8 makes, whatever is in it', async () => {
    const { workstation, data } = await place()
    const odd = { empty: [], none: {}, big: 2 ** 70, lone: '\ud800', deep: { '1': [[]] } }
    await workstation.startWorkflowTracking('e', 'wf', 2, odd)
    await workstation.updateWorkflowProgress('e', 1, 'x', JSON.parse('{"__proto__":{"polluted":1}}'))
    const stored = JSON.parse((await data.get('wks:workflow:e'))!) as WorkflowState
    assert.deepEqual({ ...stored.data, ['__proto__']: undefined }, { ...odd, ['__proto__']: undefined })
    assert.equal(({} as { polluted?: number }).polluted, undefined)
    await assert.rejects(workstation.updateWorkflowProgress('e', 1, 'x', { n: 1n }), /a BigInt at \$\.n/)
  })

  it('ghosts are dropped on sight, and corrupt entries break no list', async () => {
    const { workstation, data } = await place()
    await workstation.startWorkflowTracking('a', 'wf', 2)
    await data.command('SADD', ACTIVE, 'ghost', 'corrupt', 'odd')
    await data.set('wks:workflow:corrupt', '{"status":')
    await data.set('wks:workflow:odd', '{"status":"__proto__"}')
    const page = await workstation.pageActiveWorkflows()
    assert.deepEqual(
      page.workflows.map(({ executionId }) => executionId),
      ['a'],
    )
    assert.deepEqual(
      page.corrupt.map(({ id, key }) => [id, key]),
      [
        ['corrupt', 'wks:workflow:corrupt'],
        ['odd', 'wks:workflow:odd'],
      ],
    )
    assert.equal(page.total, 4)
    await until('the ghost is gone', async () => (await data.command('SISMEMBER', ACTIVE, 'ghost')) === 0)
    assert.deepEqual(await workstation.getWorkflowStatistics(), {
      activeExecutions: 1,
      executionsByStatus: { pending: 0, running: 1, completed: 0, failed: 0, cancelled: 0 },
      averageProgress: 0,
      corrupt: 2,
    })
    assert.equal((await workstation.getActiveWorkflowsStatus()).length, 1)
    await assert.rejects(workstation.fetchWorkflowState('corrupt'), CorruptEntryError)
    assert.deepEqual(await workstation.cleanupStaleWorkflows(), { cleaned: 2, errors: 0 })
    assert.deepEqual(await workstation.listActiveWorkflows(), ['a'])
    assert.equal(await data.get('wks:workflow:corrupt'), '{"status":', 'nothing is deleted')
  })

  it('what is no state at all is dropped as well, and stays where it is', async () => {
    const { workstation, data } = await place()
    await workstation.startWorkflowTracking('a', 'wf', 2)
    await data.command('SADD', ACTIVE, 'listed')
    await data.command('SADD', 'wks:workflow:listed', 'x')
    assert.equal((await workstation.pageActiveWorkflows()).workflows.length, 1)
    await until('it is dropped', async () => (await data.command('SISMEMBER', ACTIVE, 'listed')) === 0)
    await assert.rejects(workstation.fetchWorkflowState('listed'), { code: 'WRONG_TYPE' })
    assert.deepEqual(await workstation.cleanupStaleWorkflows(), { cleaned: 0, errors: 0 })
  })

  it('what comes after the end is counted', async () => {
    const { workstation } = await place()
    await workstation.startWorkflowTracking('e', 'wf', 2)
    await workstation.completeWorkflowTracking('e', 'completed')
    const change = await added(async () => {
      assert.equal(await workstation.updateWorkflowProgress('e', 1, 'late'), false)
      assert.equal(await workstation.completeWorkflowTracking('e', 'failed'), false)
      assert.equal(await workstation.completeWorkflowTracking('e', 'completed'), true, 'said twice')
      assert.equal(await workstation.updateWorkflowProgress('unknown', 1, 'x'), false)
    })
    assert.equal(change['ferroflow_late_updates_total'], 2)
  })

  it('stuck executions are found and ended, others are not', async () => {
    const { workstation, another, data } = await place({ tracking: { staleMs: 60_000 } })
    const now = Date.now()
    for (const [id, updatedAt, status] of [
      ['stuck', now - 61_000],
      ['busy', now - 30_000],
      ['done', now - 61_000, 'completed'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await data.set(`wks:workflow:${id}`, storedState(id, updatedAt, status))
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await data.command('SADD', ACTIVE, id, 'ghost')
    }
    assert.deepEqual(await workstation.cleanupStaleWorkflows(), { cleaned: 3, errors: 0 })
    const stuck = (await workstation.fetchWorkflowState('stuck'))!
    assert.deepEqual([stuck.status, stuck.error], ['failed', 'Workflow timed out or became unresponsive'])
    assert.deepEqual(await another().listActiveWorkflows(), ['busy'])
    assert.deepEqual(await workstation.cleanupStaleWorkflows(), { cleaned: 0, errors: 0 })
  })

  it('a running execution lives longer than it takes to find out that it is stuck', async () => {
    const { workstation, data } = await place()
    await workstation.startWorkflowTracking('e', 'wf', 2)
    assert.ok((await data.pttl('wks:workflow:e')) > 1.5 * HOUR)
  })

  it('pages follow one another to the end', async () => {
    const { workstation } = await place()
    const ids = Array.from({ length: 25 }, (_, index) => `e${String(index).padStart(2, '0')}`)
    await Promise.all(ids.map((id) => workstation.startWorkflowTracking(id, 'wf', 4)))
    await workstation.updateWorkflowProgress('e00', 2, 'half')
    const seen: string[] = []
    let cursor: string | undefined
    do {
      // oxlint-disable-next-line no-await-in-loop -- page by page
      const page = await workstation.pageActiveWorkflows({
        limit: 10,
        ...(cursor !== undefined && { cursor }),
      })
      assert.equal(page.total, 25)
      seen.push(...page.workflows.map(({ executionId }) => executionId))
      cursor = page.nextCursor ?? undefined
    } while (cursor !== undefined)
    assert.deepEqual(seen, ids)
    assert.equal((await workstation.getWorkflowStatistics()).averageProgress, 2)
    await assert.rejects(workstation.pageActiveWorkflows({ limit: 0 }), ArgumentError)
  })

  it('a whole state is stored, but not over the end of an execution', async () => {
    const { workstation, data } = await place()
    const state = {
      executionId: 'e',
      workflowId: 'wf',
      status: 'running',
      progress: 5,
      currentStep: 's',
      totalSteps: 20,
      completedSteps: 1,
      data: {},
      startedAt: 1,
      updatedAt: 1,
    } as WorkflowState
    assert.equal(await workstation.updateWorkflowState(state), true)
    assert.ok(state.updatedAt > 1)
    assert.deepEqual(await workstation.listActiveWorkflows(), ['e'])
    await workstation.completeWorkflowTracking('e', 'completed')
    assert.equal(await workstation.updateWorkflowState(state), false)
    assert.equal(await workstation.updateWorkflowState({ ...state, status: 'failed' }), true)
    assert.equal(await workstation.clearWorkflowState('e'), true)
    assert.deepEqual(await data.keys(), [])
    assert.equal(await workstation.setWorkflowState('any', { status: 'running', x: 1 }, 60), true)
    assert.equal(await data.get('wks:workflow:any'), '{"status":"running","x":1}')
    assert.deepEqual(await workstation.getWorkflowState('any'), { status: 'running', x: 1 })
    await workstation.setWorkflowState('odd', { anything: 1 })
    assert.deepEqual(await workstation.getWorkflowState('odd'), { anything: 1 })
    await assert.rejects(workstation.fetchWorkflowState('odd'), CorruptEntryError)
    assert.equal(await workstation.updateWorkflowState({ ...state, executionId: 'odd' }), true)
    assert.equal((await workstation.fetchWorkflowState('odd'))!.progress, 5)
    await workstation.clearWorkflowState('odd')
    await workstation.addActiveExecution('any')
    assert.deepEqual(await workstation.getActiveExecutions(), ['any'])
    await workstation.removeActiveExecution('any')
    assert.deepEqual(await workstation.getActiveExecutions(), [])
  })

  it('watchers hear every change of any process, and nothing after they stopped', async () => {
    const { workstation, another } = await place()
    const heard: ProgressEvent[] = []
    const stop = await workstation.watchProgress({ progress: ofOne('watched', heard) })
    const stopOther = await workstation.watchProgress({ progress: () => {} })
    const other = another()
    await other.startWorkflowTracking('watched', 'wf', 2)
    await other.updateWorkflowProgress('watched', 1, 'half')
    await other.completeWorkflowTracking('watched', 'completed')
    await other.clearWorkflowState('watched')
    await until('all is heard', () => heard.length === 4)
    assert.deepEqual(
      heard.map(({ executionId, state }) => [executionId, state?.status, state?.progress]),
      [
        ['watched', 'running', 0],
        ['watched', 'running', 50],
        ['watched', 'completed', 100],
        ['watched', undefined, undefined],
      ],
    )
    stop()
    await other.startWorkflowTracking('watched', 'wf', 2)
    stopOther()
    assert.equal(heard.length, 4)
  })

  it('a flood of updates becomes few writes, of which the last is the last', async () => {
    const { workstation, another } = await place({ tracking: { coalesceMs: 100 } })
    const heard: ProgressEvent[] = []
    const stop = await another().watchProgress({ progress: ofOne('flooded', heard) })
    // Ten thousand a second, for four tenths of one.
    const steps = 4000
    await workstation.startWorkflowTracking('flooded', 'wf', steps)
    const begin = performance.now()
    const updates: Promise<boolean>[] = []
    for (let step = 1; step <= steps; step += 1) {
      updates.push(
        workstation.updateWorkflowProgress('flooded', step, `step ${step}`, { [`k${step % 10}`]: step }),
      )
      // oxlint-disable-next-line no-await-in-loop -- over some turns
      if (step % 200 === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    }
    assert.ok((await Promise.all(updates)).every(Boolean))
    const seconds = (performance.now() - begin) / 1000
    await until('the last is heard', () => heard.at(-1)?.state?.completedSteps === steps)
    stop()
    // A write may be announced twice; each has a time of its own.
    const writes = new Set(heard.map(({ state }) => state?.updatedAt)).size
    assert.ok(writes <= 10 * seconds + 3, `${writes} writes in ${seconds} s, heard ${heard.length} times`)
    const { currentStep, data } = (await workstation.fetchWorkflowState('flooded'))!
    assert.deepEqual([currentStep, Object.keys(data).length], [`step ${steps}`, 10])
  })

  it('bad arguments reject and store nothing', async () => {
    const { workstation, data } = await place()
    await assert.rejects(workstation.startWorkflowTracking('a\nb', 'wf', 1), ArgumentError)
    await assert.rejects(workstation.startWorkflowTracking('e', 'wf', Number.NaN), ArgumentError)
    await assert.rejects(workstation.startWorkflowTracking('e', 'wf', -1), ArgumentError)
    await assert.rejects(workstation.updateWorkflowProgress('e', Infinity, 'x'), ArgumentError)
    await assert.rejects(workstation.updateWorkflowProgress('e', 1, 7 as never), ArgumentError)
    await assert.rejects(workstation.completeWorkflowTracking('e', 'running' as never), ArgumentError)
    await assert.rejects(workstation.updateWorkflowState({} as WorkflowState), ArgumentError)
    assert.deepEqual(await data.keys(), [])
  })
}

function storedState(executionId: string, updatedAt: number, status = 'running'): string {
  return JSON.stringify({ executionId, workflowId: 'wf', status, progress: 10, data: {}, updatedAt })
}

/** Collects the changes of one execution. The nodes of a cluster tell late what others have changed before. */
function ofOne(executionId: string, heard: ProgressEvent[]): (event: ProgressEvent) => void {
  return (event) => {
    if (event.executionId === executionId) heard.push(event)
  }
}
