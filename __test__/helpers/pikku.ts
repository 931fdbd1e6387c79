/** The service for @pikku/core, which is an ES module, for tests that are none. */
import type * as pikku from '../../pikku.mjs' with { 'resolution-mode': 'import' }

export type WorkflowService = InstanceType<typeof pikku.RedisWorkflowService>
export type RunService = InstanceType<typeof pikku.RedisWorkflowRunService>

/** A service of its own, which wires no queues. */
export async function openService(target: unknown, keyPrefix?: unknown): Promise<WorkflowService> {
  const { RedisWorkflowService } = await import('../../pikku.mjs')
  return new RedisWorkflowService(target as string, keyPrefix, { wireQueues: false })
}

export const WIRE = { type: 'test' }

/** A run of the workflow `w`. */
export function createRun(
  service: WorkflowService,
  workflow = 'w',
  input: unknown = { a: 1 },
): Promise<string> {
  return service.createRun(workflow, input, false, 'h1', WIRE)
}

/** A step of a run; its id. */
export async function insertStep(service: WorkflowService, runId: string, stepName: string): Promise<string> {
  return (await service.insertStepState(runId, stepName, 'rpc', {})).stepId
}
