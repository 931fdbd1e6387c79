import type { Connection } from '../../connection.js'
import type { FenceOptions } from '../../fence.js'
import type { LockContext } from '../../lock/hold.js'
import type { Target } from '../../options.js'
import {
  RedisWorkflowStateService,
  type StepState,
  type UpdateRunStatusOptions,
  type WorkflowRun,
} from './state-service.js'
import type { WorkflowStatus } from '../../workflow.js'

/** `WorkflowStateService` of a core of the application's own. */
export type WorkflowStateServiceBase = abstract new (queue?: any) => object

/** What the documented service offers, whatever its base. */
export type RedisWorkflowStateServiceMethods = Pick<
  RedisWorkflowStateService,
  | 'init'
  | 'createRun'
  | 'getRun'
  | 'updateRunStatus'
  | 'getStepState'
  | 'setStepScheduled'
  | 'setStepResult'
  | 'setStepError'
  | 'withRunLock'
  | 'connection'
  | 'close'
>

/** The class that {@link defineRedisWorkflowStateService} makes. */
export interface RedisWorkflowStateServiceClass<TBase extends WorkflowStateServiceBase> {
  new (
    connectionOrConfig: Target,
    queue?: any,
    keyPrefix?: string,
  ): InstanceType<TBase> & RedisWorkflowStateServiceMethods
}

/**
 * {@link RedisWorkflowStateService} as a subclass of the application's own `WorkflowStateService`, which brings the
 * engine (`startWorkflow`, `runWorkflowJob`, `addToQueue` …) and gets the queue.
 */
export function defineRedisWorkflowStateService<TBase extends WorkflowStateServiceBase>(
  Base: TBase,
): RedisWorkflowStateServiceClass<TBase> {
  // The engine is the application's, and so are its types; the interface above says what is added.
  const Engine = Base as unknown as new (queue?: unknown) => any

  class Service extends Engine {
    readonly #state: RedisWorkflowStateService

    constructor(connectionOrConfig: Target, queue?: unknown, keyPrefix?: string) {
      super(typeof queue === 'string' ? undefined : queue)
      this.#state = new RedisWorkflowStateService(connectionOrConfig, queue, keyPrefix)
    }

    async init(): Promise<void> {
      return this.#state.init()
    }

    async createRun(workflowName: string, input?: unknown, options?: FenceOptions): Promise<string> {
      return this.#state.createRun(workflowName, input, options)
    }

    async getRun(id: string): Promise<WorkflowRun | null> {
      return this.#state.getRun(id)
    }

    async updateRunStatus(
      id: string,
      status: WorkflowStatus,
      output?: unknown,
      error?: unknown,
      options?: UpdateRunStatusOptions,
    ): Promise<void> {
      return this.#state.updateRunStatus(id, status, output, error, options)
    }

    async getStepState(runId: string, stepName: string): Promise<StepState> {
      return this.#state.getStepState(runId, stepName)
    }

    async setStepScheduled(runId: string, stepName: string, options?: FenceOptions): Promise<void> {
      return this.#state.setStepScheduled(runId, stepName, options)
    }

    async setStepResult(
      runId: string,
      stepName: string,
      result?: unknown,
      options?: FenceOptions,
    ): Promise<void> {
      return this.#state.setStepResult(runId, stepName, result, options)
    }

    async setStepError(runId: string, stepName: string, error: Error, options?: FenceOptions): Promise<void> {
      return this.#state.setStepError(runId, stepName, error, options)
    }

    async withRunLock<T>(id: string, fn: (lock: LockContext) => T | Promise<T>): Promise<T> {
      return this.#state.withRunLock(id, fn)
    }

    get connection(): Connection {
      return this.#state.connection
    }

    async close(): Promise<void> {
      return this.#state.close()
    }
  }

  return Object.defineProperty(Service, 'name', {
    value: 'RedisWorkflowStateService',
  }) as unknown as RedisWorkflowStateServiceClass<TBase>
}
