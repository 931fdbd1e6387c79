import { AsyncLocalStorage } from 'node:async_hooks'

import type { Connection } from '../../connection.js'
import { LockError, WorkflowError } from '../../errors.js'
import type { FenceOptions } from '../../fence.js'
import type { JournalStep } from '../../journal.js'
import type { LockContext } from '../../lock/hold.js'
import type { Target } from '../../options.js'
import { checkObject } from '../../validate.js'
import { traced } from '../../tracing.js'
import { JournalStore, type RunOptions, type StepOptions } from './store.js'
import { Turns } from './turns.js'

/** `PikkuWorkflowService` of @pikku/core/workflow, whatever its version. */
export type WorkflowServiceBase = abstract new (...args: any[]) => object

/** Options of {@link RedisWorkflowServiceClass}: those of `PikkuWorkflowService`. */
export interface WorkflowServiceOptions {
  queueStrategy?: 'per-workflow' | 'shared-groups'
  /** Default: 20. */
  queueConcurrency?: number
  /** Default: 2. */
  queueGroupConcurrency?: any
  /** Default: true. */
  wireQueues?: boolean
  mirror?: any
}

/** Error classes of the core, for those who catch them by class. */
export interface WorkflowServiceErrors {
  WorkflowStepFunctionMismatchError?: new (runId: string, stepName: string) => Error
}

/** What a workflow service on Redis has beside what `PikkuWorkflowService` asks for. */
export interface RedisWorkflowServiceMethods {
  /** Verifies that Redis answers. */
  init(): Promise<void>
  /**
   * Takes a step for execution, atomically: of all who try, one gets it.
   *
   * @returns the step, now `running` (a failed one in its next attempt), or `null` if it has succeeded or somebody
   *   else runs it
   * @throws an error if the step was dispatched with another function, or does not exist
   */
  claimStepForExecution(
    runId: string,
    stepName: string,
    rpcName: string | null,
    options?: FenceOptions,
  ): Promise<JournalStep | null>
  /** The connection in use. */
  readonly connection: Connection
  /** Closes the connection that this service made. One that was given to it stays open. */
  close(): Promise<void>
}

/** The class that {@link defineRedisWorkflowService} makes. */
export interface RedisWorkflowServiceClass<TBase extends WorkflowServiceBase> {
  /**
   * @param connectionOrConfig - where the runs are. Default: `127.0.0.1:6379`
   * @param keyPrefix - Default: `workflows`. A queue service in its place, as older versions took one, is ignored:
   *   the core has its own
   */
  new (
    connectionOrConfig?: Target,
    keyPrefix?: any,
    options?: WorkflowServiceOptions | string,
  ): InstanceType<TBase> & RedisWorkflowServiceMethods
}

/**
 * Set while the engine works. Its graphs insert steps without asking whether somebody else has done so meanwhile, as
 * a job that is delivered twice does; they must get the step, not an error that fails the run.
 */
const engine = new AsyncLocalStorage<true>()

/**
 * By this name, the engine leaves the run to the next attempt of the job. By any other, it would mark a run as failed
 * that somebody else is just advancing.
 */
function toDispatchFailure(error: LockError): LockError {
  return Object.defineProperty(error, 'name', { value: 'WorkflowDispatchException' })
}

/**
 * Prefix and options, from what the versions of the original take in these places: `(prefix, options)`, or
 * `(queueService, prefix)`.
 */
function readArguments(second: unknown, third: unknown): { prefix: string; options: WorkflowServiceOptions } {
  if (typeof third === 'string') return { prefix: third, options: {} }
  if (typeof second === 'string' || second === undefined || second === null) {
    return { prefix: (second as string) ?? 'workflows', options: checkObject('The options', third ?? {}) }
  }
  const isQueue = typeof (checkObject('keyPrefix', second) as { add?: unknown }).add === 'function'
  return { prefix: 'workflows', options: checkObject('The options', (isQueue ? third : second) ?? {}) }
}

/**
 * A workflow service on Redis for a `PikkuWorkflowService` of the application's own, of @pikku/core 0.12.
 * `ferroflow/pikku` has it ready made.
 *
 * Keys and fields are those of @pikku/redis, so that both may share one Redis. Every method is one atomic step and one
 * round trip. Where the original loses data, this does not: a step that has succeeded stays so, a step is inserted
 * once, the history is part of each change, and nothing is ever looked for in all keys of the database, except the
 * steps of runs that the original made.
 */
export function defineRedisWorkflowService<TBase extends WorkflowServiceBase>(
  Base: TBase,
  errors: WorkflowServiceErrors = {},
): RedisWorkflowServiceClass<TBase> {
  // The engine is the application's, and so are its types; the interface above says what is added.
  const Engine = Base as unknown as new (options: WorkflowServiceOptions) => any

  class RedisWorkflowService extends Engine {
    readonly #store: JournalStore
    readonly #turns = new Turns()

    constructor(connectionOrConfig?: Target, keyPrefix?: unknown, options?: unknown) {
      const { prefix, options: engineOptions } = readArguments(keyPrefix, options)
      super(engineOptions)
      this.#store = new JournalStore(connectionOrConfig ?? {}, prefix)
    }

    get connection(): Connection {
      return this.#store.store.connection
    }

    async init(): Promise<void> {
      await this.#store.ping()
    }

    async close(): Promise<void> {
      await this.#store.close()
    }

    async startWorkflow(...args: unknown[]): Promise<unknown> {
      return engine.run(true, () => super.startWorkflow(...args))
    }

    async runWorkflowJob(runId: string, ...args: unknown[]): Promise<unknown> {
      const replay = (): Promise<unknown> => super.runWorkflowJob(runId, ...args)
      try {
        return await this.#turns.take(runId, () => engine.run(true, replay))
      } catch (error) {
        throw error instanceof LockError ? toDispatchFailure(error) : error
      }
    }

    async executeWorkflowStep(...args: unknown[]): Promise<unknown> {
      return engine.run(true, () => super.executeWorkflowStep(...args))
    }

    async createRunImpl(
      workflow: string,
      input: unknown,
      inline: boolean,
      graphHash: string,
      wire: unknown,
      options?: RunOptions,
    ): Promise<string> {
      return this.#store.createRun(workflow, input, inline, graphHash, wire, options)
    }

    async getRun(id: string): Promise<unknown> {
      return this.#store.run(id)
    }

    async updateRunStatusImpl(
      id: string,
      status: string,
      output?: unknown,
      error?: unknown,
      options?: FenceOptions,
    ): Promise<void> {
      return this.#store.updateRunStatus(id, status, output, error, options)
    }

    async insertStepStateImpl(
      runId: string,
      stepName: string,
      rpcName: string | null,
      data: unknown,
      options?: StepOptions,
      fromStepName?: string,
    ): Promise<JournalStep> {
      const step = await this.#store.insertStep(runId, stepName, rpcName, data, options, fromStepName)
      if (step !== null) return step
      if (engine.getStore()) return this.#store.step(runId, stepName)
      throw new WorkflowError('STEP_EXISTS', `Step already exists: runId=${runId}, stepName=${stepName}`)
    }

    async getStepState(runId: string, stepName: string): Promise<JournalStep> {
      return this.#store.step(runId, stepName)
    }

    async setStepScheduledImpl(stepId: string, options?: FenceOptions): Promise<void> {
      return this.#store.moveStep(stepId, 'scheduled', options)
    }

    async setStepRunningImpl(stepId: string, options?: FenceOptions): Promise<void> {
      return this.#store.moveStep(stepId, 'running', options)
    }

    async setStepResultImpl(stepId: string, result: unknown, options?: FenceOptions): Promise<void> {
      return this.#store.succeed(stepId, result, options)
    }

    async setStepErrorImpl(stepId: string, error: unknown, options?: FenceOptions): Promise<void> {
      return this.#store.fail(stepId, error, options)
    }

    async setStepChildRunIdImpl(stepId: string, childRunId: string, options?: FenceOptions): Promise<void> {
      return this.#store.setStepField(stepId, 'childRunId', childRunId, options)
    }

    async setBranchTakenImpl(stepId: string, branchKey: string, options?: FenceOptions): Promise<void> {
      return this.#store.setStepField(stepId, 'branchTaken', branchKey, options)
    }

    async createRetryAttemptImpl(
      stepId: string,
      status: string,
      options?: FenceOptions,
    ): Promise<JournalStep> {
      return this.#store.retry(stepId, status, options)
    }

    async claimStepForExecution(
      runId: string,
      stepName: string,
      rpcName: string | null,
      options?: FenceOptions,
    ): Promise<JournalStep | null> {
      const mismatch = (): Error => {
        const Mismatch = errors.WorkflowStepFunctionMismatchError
        if (Mismatch !== undefined) return new Mismatch(runId, stepName)
        const text = `Workflow step '${stepName}' (run ${runId}) was dispatched with a different function`
        return new WorkflowError('STEP_MISMATCH', text)
      }
      return this.#store.claim(runId, stepName, rpcName, mismatch, options)
    }

    async withRunLock<T>(id: string, fn: (lock: LockContext) => Promise<T>): Promise<T> {
      return this.#store.withRunLock(id, fn)
    }

    async withStepLock<T>(
      runId: string,
      stepName: string,
      fn: (lock: LockContext) => Promise<T>,
    ): Promise<T> {
      return this.#store.withStepLock(runId, stepName, fn)
    }

    async getRunHistory(runId: string): Promise<unknown[]> {
      return this.#store.history(runId)
    }

    async listStepStates(runId: string): Promise<unknown[]> {
      return this.#store.steps(runId)
    }

    async getCompletedGraphState(runId: string): Promise<unknown> {
      const completedNodeIds: string[] = []
      const failedNodeIds: string[] = []
      const branches: [string, string][] = []
      const steps = await this.#store.stepFields(runId, ['branchTaken', 'attemptCount', 'retries'])
      for (const { stepName, status, field } of steps) {
        const branch = field('branchTaken')
        if (status === 'succeeded') completedNodeIds.push(stepName)
        if (status === 'succeeded' && branch) branches.push([stepName, branch])
        const attempts = Number(field('attemptCount') ?? 0)
        if (status === 'failed' && attempts >= Number(field('retries') ?? 0) + 1) failedNodeIds.push(stepName)
      }
      return { completedNodeIds, failedNodeIds, branchKeys: Object.fromEntries(branches) }
    }

    async getStepInstances(runId: string): Promise<unknown[]> {
      const steps = await this.#store.stepFields(runId, ['fromStepName'])
      return steps.map(({ stepName, status, field }) => ({
        stepName,
        status,
        fromStepName: field('fromStepName') || undefined,
      }))
    }

    async getNodeResults(runId: string, nodeIds: string[]): Promise<Record<string, unknown>> {
      return this.#store.results(runId, nodeIds)
    }

    async updateRunStateImpl(
      runId: string,
      name: string,
      value: unknown,
      options?: FenceOptions,
    ): Promise<void> {
      return this.#store.setRunState(runId, name, value, options)
    }

    async getRunState(runId: string): Promise<Record<string, unknown>> {
      return this.#store.runState(runId)
    }

    async upsertWorkflowVersionImpl(
      name: string,
      graphHash: string,
      graph: unknown,
      source: string,
      status?: string,
    ): Promise<void> {
      return this.#store.addVersion(name, graphHash, graph, source, status)
    }

    async updateWorkflowVersionStatusImpl(name: string, graphHash: string, status: string): Promise<void> {
      return this.#store.setVersionStatus(name, graphHash, status)
    }

    async getWorkflowVersion(name: string, graphHash: string): Promise<unknown> {
      return this.#store.version(name, graphHash)
    }

    async findStalledRunIds(before: Date, limit: number): Promise<string[]> {
      return this.#store.stalledRuns(before, limit)
    }

    async findUndispatchedSteps(before: Date, limit: number): Promise<{ runId: string; stepId: string }[]> {
      return this.#store.undispatchedSteps(before, limit)
    }
  }

  traced('RedisWorkflowService', RedisWorkflowService.prototype)
  return RedisWorkflowService as unknown as RedisWorkflowServiceClass<TBase>
}
