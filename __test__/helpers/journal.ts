/** Runs of @pikku/core where their keys lie in several slots: what writes them, and what must be true of them. */
import assert from 'node:assert/strict'
import { type ConnectionOptions, FerroflowError, RedisWorkflowRunService, type connect } from '../../index.js'
import { type WorkflowService, createRun, insertStep, openService } from './pikku'

export interface Stores {
  service: WorkflowService
  runs: RedisWorkflowRunService
}

export interface Prepared {
  run: string
  /** Id of the pending step `s`. */
  step: string
}

export type Write = (stores: Stores, prepared: Prepared) => Promise<unknown>

/** Each of them may be called again after it broke off. */
export const WRITES: Record<string, Write> = {
  createRun: ({ service }) => createRun(service),
  insertStepState: ({ service }, { run }) =>
    insertStep(service, run, 'new').catch((error: unknown) => {
      // It was stored before the call broke off.
      if (!(error instanceof FerroflowError && error.code === 'STEP_EXISTS')) throw error
    }),
  setStepScheduled: ({ service }, { step }) => service.setStepScheduled(step),
  setStepRunning: ({ service }, { step }) => service.setStepRunning(step),
  setStepResult: ({ service }, { step }) => service.setStepResult(step, { a: 1 }),
  setStepError: ({ service }, { step }) => service.setStepError(step, new Error('no')),
  createRetryAttempt: ({ service }, { step }) => service.createRetryAttempt(step, 'pending'),
  claimStepForExecution: ({ service }, { run }) => service.claimStepForExecution(run, 's', 'rpc'),
  'updateRunStatus to suspended': ({ service }, { run }) => service.updateRunStatus(run, 'suspended'),
  'updateRunStatus to completed': ({ service }, { run }) => service.updateRunStatus(run, 'completed', 1),
  updateRunState: ({ service }, { run }) => service.updateRunState(run, 'name', 1),
  deleteRun: ({ runs }, { run }) => runs.deleteRun(run),
}

export const openStores = async (
  target: ConnectionOptions | ReturnType<typeof connect>,
): Promise<Stores> => ({
  service: await openService(target),
  runs: new RedisWorkflowRunService(target),
})

const soon = (): Date => new Date(Date.now() + 1000)

/** All that is read of a run says the same, and a run that is not there is nowhere. */
export async function assertWhole({ service, runs }: Stores, id: string): Promise<void> {
  const run = await service.getRun(id)
  const [steps, history, pending, stalled, listed] = await Promise.all([
    service.listStepStates(id),
    service.getRunHistory(id),
    service.findUndispatchedSteps(soon(), 10_000),
    service.findStalledRunIds(soon(), 10_000),
    Promise.all(
      (['running', 'suspended', 'completed', 'failed', 'cancelled', undefined] as const).map(
        async (status) => {
          const list = await runs.listRuns({ status, workflowName: 'w', limit: 10_000 })
          return list.some((one) => one.id === id) ? [status] : []
        },
      ),
    ),
  ])
  assert.deepEqual(listed.flat(), run === null ? [] : [run.status, undefined])
  const isRunning = run?.status === 'running'
  const waiting = steps.filter(({ status }) => isRunning && status === 'pending')
  assert.deepEqual(
    pending.filter(({ runId }) => runId === id).map(({ stepId }) => stepId),
    waiting.map(({ stepId }) => stepId),
  )
  const isBusy = steps.some(({ status }) => ['scheduled', 'running'].includes(status))
  assert.equal(stalled.includes(id), isRunning && !isBusy)
  // A deletion that broke off leaves steps of a run that is gone, and the next one takes them away.
  if (run === null) return
  for (const { stepName, status, attemptCount, result, error } of steps) {
    const attempts = history.filter((attempt) => attempt.stepName === stepName)
    const last = attempts.at(-1)
    assert.equal(attempts.length, attemptCount)
    assert.deepEqual([last?.status, last?.result], [status, result])
    if (status === 'failed') assert.deepEqual(last?.error, error)
  }
}
