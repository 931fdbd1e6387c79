/** The types of `ferroflow/pikku` beside those of the core. Compiled, not run. */
import { InMemoryWorkflowService } from '@pikku/core/services'
import { PikkuWorkflowService, type StepState, type WorkflowRunService } from '@pikku/core/workflow'
import { Redis } from 'ioredis'
import { RedisWorkflowRunService, RedisWorkflowService, defineRedisWorkflowService } from '../../pikku.mjs'

/** It is what the core asks for, made as the original is. */
export const service: PikkuWorkflowService = new RedisWorkflowService(new Redis(), 'workflows', {
  queueStrategy: 'shared-groups',
})
export const byUrl = new RedisWorkflowService('redis://localhost')
export const runs: WorkflowRunService = new RedisWorkflowRunService('redis://localhost', 'workflows')

/** It can be extended, and asked for what the core does not ask for. */
export class Own extends RedisWorkflowService {
  override async getRun(id: string): ReturnType<RedisWorkflowService['getRun']> {
    return super.getRun(id)
  }
  claim(): Promise<StepState | null> {
    return this.claimStepForExecution('run', 'step', null)
  }
}

export const Mixed = defineRedisWorkflowService(InMemoryWorkflowService)
export const mixed: InMemoryWorkflowService = new Mixed('memory://')

// @ts-expect-error -- no target
void new RedisWorkflowService(42)
// @ts-expect-error -- no such strategy
void new RedisWorkflowService('memory://', 'p', { queueStrategy: 'none' })
