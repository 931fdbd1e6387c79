/**
 * Workflow services for @pikku/core 0.12, which must be installed beside ferroflow.
 *
 * @packageDocumentation
 */

import * as workflow from '@pikku/core/workflow'
import type {
  StepState,
  StepStatus,
  WorkflowPlannedStep,
  WorkflowQueueOptions,
  WorkflowRun,
  WorkflowRunMirror,
  WorkflowRunWire,
  WorkflowStatus,
  WorkflowStepOptions,
  WorkflowVersionStatus,
} from '@pikku/core/workflow'

import {
  type Connection,
  type FenceOptions,
  type StoredError,
  type Target,
  defineRedisWorkflowService,
} from './index.js'

/**
 * The core's engine with everything that it leaves to a store. What changes a run takes a `fence`, for classes made of
 * this one that hold a lock: it is refused if anything of the run was written under a higher one.
 */
declare class Service extends workflow.PikkuWorkflowService {
  /**
   * @param connectionOrConfig - where the runs are. Default: `127.0.0.1:6379`
   * @param keyPrefix - Default: `workflows`. A queue service in its place, as older versions took one, is ignored: the
   *   core has its own
   */
  constructor(
    connectionOrConfig?: Target,
    keyPrefix?: any,
    options?: (WorkflowQueueOptions & { wireQueues?: boolean; mirror?: WorkflowRunMirror }) | string,
  )
  /** Verifies that Redis answers. */
  init(): Promise<void>
  /** The connection in use. */
  get connection(): Connection
  /** Closes the connection that this service made. One that was given to it stays open. */
  close(): Promise<void>

  getRun(id: string): Promise<WorkflowRun | null>
  getRunHistory(runId: string): Promise<(StepState & { stepName: string })[]>
  getRunState(runId: string): Promise<Record<string, unknown>>
  /** @throws `WorkflowError` with the code `STEP_NOT_FOUND` */
  getStepState(runId: string, stepName: string): Promise<StepState>
  getCompletedGraphState(
    runId: string,
  ): Promise<{ completedNodeIds: string[]; failedNodeIds: string[]; branchKeys: Record<string, string> }>
  getStepInstances(runId: string): Promise<{ stepName: string; status: StepStatus; fromStepName?: string }[]>
  getNodeResults(runId: string, nodeIds: string[]): Promise<Record<string, any>>
  getWorkflowVersion(name: string, graphHash: string): Promise<{ graph: any; source: string } | null>
  /** All steps of a run in the order of their insertion, from one read. */
  listStepStates(runId: string): Promise<(StepState & { stepName: string })[]>
  /** Running runs with no step in flight in which nothing happened since `before`, the longest first. */
  findStalledRunIds(before: Date, limit: number): Promise<string[]>
  /** Steps of running runs that have been pending since `before`, the longest first. */
  findUndispatchedSteps(before: Date, limit: number): Promise<{ runId: string; stepId: string }[]>
  /**
   * Takes a step for execution, atomically: of all who try, one gets it. A failed step begins its next attempt.
   *
   * @returns the step, now `running`, or `null` if it has succeeded or somebody else runs it
   * @throws `WorkflowStepFunctionMismatchError` if the step was dispatched with another function
   */
  claimStepForExecution(
    runId: string,
    stepName: string,
    rpcName: string | null,
    options?: FenceOptions,
  ): Promise<StepState | null>
  /** @throws `LockError` after about a second */
  withRunLock<T>(id: string, fn: () => Promise<T>): Promise<T>
  /** @throws `LockError` after about a second */
  withStepLock<T>(runId: string, stepName: string, fn: () => Promise<T>): Promise<T>

  protected createRunImpl(
    workflowName: string,
    input: any,
    inline: boolean,
    graphHash: string,
    wire: WorkflowRunWire,
    options?: { deterministic?: boolean; plannedSteps?: WorkflowPlannedStep[] } & FenceOptions,
  ): Promise<string>
  protected updateRunStatusImpl(
    id: string,
    status: WorkflowStatus,
    output?: any,
    error?: StoredError,
    options?: FenceOptions,
  ): Promise<void>
  protected insertStepStateImpl(
    runId: string,
    stepName: string,
    rpcName: string | null,
    data: any,
    stepOptions?: WorkflowStepOptions & FenceOptions,
    fromStepName?: string,
  ): Promise<StepState>
  protected setStepRunningImpl(stepId: string, options?: FenceOptions): Promise<void>
  protected setStepScheduledImpl(stepId: string, options?: FenceOptions): Promise<void>
  protected setStepResultImpl(stepId: string, result: any, options?: FenceOptions): Promise<void>
  protected setStepErrorImpl(stepId: string, error: Error, options?: FenceOptions): Promise<void>
  protected setStepChildRunIdImpl(stepId: string, childRunId: string, options?: FenceOptions): Promise<void>
  protected setBranchTakenImpl(stepId: string, branchKey: string, options?: FenceOptions): Promise<void>
  protected createRetryAttemptImpl(
    stepId: string,
    status: 'pending' | 'running',
    options?: FenceOptions,
  ): Promise<StepState>
  protected updateRunStateImpl(
    runId: string,
    name: string,
    value: unknown,
    options?: FenceOptions,
  ): Promise<void>
  protected upsertWorkflowVersionImpl(
    name: string,
    graphHash: string,
    graph: any,
    source: string,
    status?: WorkflowVersionStatus,
  ): Promise<void>
  protected updateWorkflowVersionStatusImpl(
    name: string,
    graphHash: string,
    status: WorkflowVersionStatus,
  ): Promise<void>
}

// The errors through the namespace, as early versions do not export every one.
const Defined = defineRedisWorkflowService(
  workflow.PikkuWorkflowService,
  workflow,
) as unknown as typeof Service

/**
 * Workflow runs in Redis for @pikku/core 0.12 (contract of @pikku/redis), as {@link defineRedisWorkflowService} makes
 * them for the installed core.
 *
 * @example
 * const workflowService = new RedisWorkflowService('redis://localhost:6379')
 * await workflowService.init()
 */
export class RedisWorkflowService extends Defined {}

export {
  RedisWorkflowRunService,
  defineRedisWorkflowService,
  type CorruptRow,
  type JournalAttempt,
  type JournalList,
  type JournalRun,
  type JournalRunStep,
  type JournalStep,
  type JournalStepStatus,
  type ListRunsOptions,
} from './index.js'
