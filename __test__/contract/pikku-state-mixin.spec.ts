/** The documented service as a subclass of an application's own core. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { it } from 'node:test'
import { defineRedisWorkflowService, defineRedisWorkflowStateService } from '../../index.js'

/** As much of a core of that time as there is to see. */
abstract class WorkflowStateService {
  constructor(protected readonly queue?: { add(name: string, data: unknown): Promise<unknown> }) {}

  abstract createRun(workflowName: string, input: unknown): Promise<string>
  abstract withRunLock<T>(id: string, fn: () => Promise<T>): Promise<T>

  async startWorkflow(name: string, input: unknown): Promise<{ runId: string }> {
    const runId = await this.createRun(name, input)
    await this.queue?.add('orchestrator', { runId })
    return { runId }
  }
}

it('brings its store to an engine that brings the rest', async () => {
  const jobs: unknown[] = []
  const queue = { add: async (_: string, data: unknown) => jobs.push(data) }
  const Service = defineRedisWorkflowStateService(WorkflowStateService)
  const service = new Service(`memory://${randomUUID()}`, queue, 'p')
  assert.ok(service instanceof WorkflowStateService)
  await service.init()
  const { runId } = await service.startWorkflow('w', { a: 1 })
  assert.deepEqual(jobs, [{ runId }])
  assert.deepEqual((await service.getRun(runId))!.input, { a: 1 })
  await service.setStepScheduled(runId, 's')
  await service.setStepError(runId, 's', new Error('no'))
  assert.equal((await service.getStepState(runId, 's')).error!.message, 'no')
  await service.setStepResult(runId, 's', 5)
  assert.equal((await service.getStepState(runId, 's')).status, 'done')
  await service.updateRunStatus(runId, 'completed', 'end')
  assert.equal(await service.withRunLock(runId, async () => 'held'), 'held')
  assert.equal(await service.connection.command('EXISTS', `p:run:${runId}`), 1)
  await service.close()
  await assert.rejects(service.getRun(runId), { code: 'CLOSED' })
})

it('gives today’s engine its store, with an error of its own where the core has none', async () => {
  abstract class PikkuWorkflowService {
    readonly options: unknown
    constructor(options: unknown) {
      this.options = options
    }
    abstract createRunImpl(...args: unknown[]): Promise<string>
    async insert(runId: string): Promise<unknown> {
      return (this as any).insertStepStateImpl(runId, 's', 'rpc', {})
    }
  }
  const Service = defineRedisWorkflowService(PikkuWorkflowService)
  const service = new Service(`memory://${randomUUID()}`, 'p', { queueConcurrency: 3 })
  assert.ok(service instanceof PikkuWorkflowService)
  assert.deepEqual(service.options, { queueConcurrency: 3 })
  const run = await (service as any).createRunImpl('w', 1, false, 'h', {})
  await service.insert(run)
  await assert.rejects(service.claimStepForExecution(run, 's', 'other'), { code: 'STEP_MISMATCH' })
  assert.equal((await service.claimStepForExecution(run, 's', 'rpc'))!.status, 'running')
  await service.close()
})
