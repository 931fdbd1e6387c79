import { randomUUID } from 'node:crypto'

import { Connection, connectStore, fullPrefix, type StoreConnection } from '../../connection.js'
import { ConfigError, WorkflowError } from '../../errors.js'
import { type FenceOptions, fenceOf } from '../../fence.js'
import { toJson } from '../../json.js'
import type { LockContext } from '../../lock/hold.js'
import { Locks } from '../../lock/locks.js'
import { type binding, settled } from '../../native.js'
import type { Target } from '../../options.js'
import { traced } from '../../tracing.js'
import { checkFunction, checkName } from '../../validate.js'
import {
  type StoredError,
  type WorkflowStatus,
  checkStatus,
  isError,
  jsonField,
  openWorkflows,
  timeField,
  toFields,
  toStoredError,
} from '../../workflow.js'
import { withRunLock } from './run-lock.js'

/** A workflow run, as loaded. */
export interface WorkflowRun {
  id: string
  /** Name of the workflow. */
  workflow: string
  status: WorkflowStatus
  input: any
  /** Absent until the run completes. */
  output?: any
  /** Absent unless the run failed. */
  error?: StoredError
  /** Milliseconds since 1970. */
  createdAt: number
  /** Milliseconds since 1970. */
  updatedAt: number
}

/** Status of a step. */
export type StepStatus = 'pending' | 'scheduled' | 'done' | 'error'

/** The state of a step, as loaded. */
export interface StepState {
  status: StepStatus
  /** Absent until the step is done. */
  result?: any
  /** Absent unless the step failed. */
  error?: StoredError
  /** Milliseconds since 1970. */
  updatedAt: number
}

/** Options of {@link RedisWorkflowStateService.updateRunStatus}. */
export interface UpdateRunStatusOptions extends FenceOptions {
  /** Let a run leave `completed` or `cancelled`. Default: false. */
  reopen?: boolean
}

const ORCHESTRATOR_QUEUE = 'pikku-workflow-orchestrator'

/** Statuses that later versions of the core write for steps. */
const STEP_STATUSES = new Map<string, StepStatus>([
  ['pending', 'pending'],
  ['scheduled', 'scheduled'],
  ['running', 'scheduled'],
  ['done', 'done'],
  ['succeeded', 'done'],
  ['error', 'error'],
  ['failed', 'error'],
])

/**
 * Workflow runs and steps in Redis (contract of @pikku-workflows/redis).
 *
 * A run is a hash `{keyPrefix}:run:{runId}`, a step a hash `{keyPrefix}:step:{runId}:{stepName}`, a lock a string
 * `{keyPrefix}:lock:{runId}`; their fields are those of the original, so that both may share one Redis. Every method
 * is one atomic step and one round trip.
 *
 * Where the original loses data, this does not: a step that is done stays done, whatever arrives late; a run that
 * was never created is not brought into being by an update.
 *
 * Every write takes the option `fence`, one for a run and its steps, and is refused with a {@link LockError}
 * (`STALE_FENCE`) if the run or any of its steps was written under a higher one.
 */
export class RedisWorkflowStateService {
  /** The queue service for remote workflows, if any. */
  protected readonly queue: any
  readonly #store: StoreConnection
  readonly #workflows: binding.NativeWorkflows
  readonly #locks: Locks
  /** With the connection's own, as keys are on the server. */
  readonly #fullPrefix: string

  /**
   * @param connectionOrConfig - where the runs are. A connection made here is closed by `close()`
   * @param queue - queue service for remote workflows, with `add(queueName, data)`
   * @param keyPrefix - Default: `workflows`. May also be the second argument
   * @throws {@link ConfigError}, {@link ArgumentError}
   */
  constructor(connectionOrConfig: Target, queue?: any, keyPrefix?: string) {
    const isPrefix = typeof queue === 'string'
    this.queue = isPrefix ? undefined : queue
    const prefix = checkName('keyPrefix', (isPrefix ? queue : keyPrefix) ?? 'workflows')
    this.#store = connectStore(connectionOrConfig)
    this.#workflows = openWorkflows(this.#store.connection, prefix)
    this.#locks = new Locks(this.#store.connection, `${prefix}:lock:`)
    this.#fullPrefix = fullPrefix(this.#store.connection, prefix)
  }

  /** Verifies that Redis answers. */
  async init(): Promise<void> {
    await settled(this.#workflows.ping())
  }

  /**
   * Creates a run with the status `running`.
   *
   * @param input - anything that JSON holds
   * @returns the id of the run, a UUID
   */
  createRun(workflowName: string, input?: any, options?: FenceOptions): Promise<string> {
    const runId = randomUUID()
    const name = checkName('the workflow name', workflowName)
    const [json, fence] = [toJson('The input', input), fenceOf(options)]
    return settled(this.#workflows.createRun(runId, name, json, Date.now(), fence), () => runId)
  }

  /**
   * The run, or `null` if there is none.
   *
   * @throws {@link CorruptEntryError}
   */
  getRun(id: string): Promise<WorkflowRun | null> {
    return settled(this.#workflows.run(checkName('the run id', id)), (stored) => this.#toRun(id, stored))
  }

  #toRun(id: string, stored: string[]): WorkflowRun | null {
    const fields = toFields(stored)
    // As in the original: a hash without an id is no run.
    if (fields['id'] === undefined) return null
    const key = `${this.#fullPrefix}:run:${id}`
    return {
      id: fields['id'],
      workflow: fields['workflow'] ?? '',
      status: fields['status'] as WorkflowStatus,
      input: jsonField(fields, 'input', key),
      output: jsonField(fields, 'output', key),
      error: jsonField(fields, 'error', key) as StoredError | undefined,
      createdAt: timeField(fields, 'createdAt', key),
      updatedAt: timeField(fields, 'updatedAt', key),
    }
  }

  /**
   * Changes the status of a run. `completed` and `cancelled` are final: storing the same end again changes nothing,
   * another one is refused. A failed run may go on, as it does when its queue tries again.
   *
   * @param output - stored if given
   * @param error - stored if given; of an `Error`, message, stack and code
   * @throws {@link WorkflowError} with the code `RUN_NOT_FOUND` or `INVALID_TRANSITION`
   */
  updateRunStatus(
    id: string,
    status: WorkflowStatus,
    output?: any,
    error?: any,
    options: UpdateRunStatusOptions = {},
  ): Promise<void> {
    checkName('the run id', id)
    checkStatus(status)
    const fence = fenceOf(options)
    const outputJson = output === undefined ? undefined : toJson('The output', output)
    const stored = isError(error) ? toStoredError(error) : error
    const errorJson = stored === undefined ? undefined : toJson('The error', stored)
    const reopen = options.reopen === true
    return settled(
      this.#workflows.updateRunStatus(id, status, outputJson, errorJson, reopen, Date.now(), fence),
      (transition) => this.#judge(transition, id, status),
    )
  }

  /** Throws unless the change happened. */
  #judge(transition: 'applied' | 'missing' | 'final', id: string, status: WorkflowStatus): void {
    if (transition === 'missing')
      throw new WorkflowError('RUN_NOT_FOUND', `Run not found: ${id}`, {
        key: `${this.#fullPrefix}:run:${id}`,
      })
    if (transition === 'final') {
      throw new WorkflowError(
        'INVALID_TRANSITION',
        `Run ${id} has ended and keeps its outcome, so it does not become ${status} (pass { reopen: true } to insist)`,
        { key: `${this.#fullPrefix}:run:${id}` },
      )
    }
  }

  /**
   * The state of a step. A step of which nothing is stored is `pending`.
   *
   * @throws {@link CorruptEntryError}
   */
  getStepState(runId: string, stepName: string): Promise<StepState> {
    const [run, step] = checkStep(runId, stepName)
    return settled(this.#workflows.step(run, step), (stored) => this.#toStep(runId, stepName, stored))
  }

  #toStep(runId: string, stepName: string, stored: string[]): StepState {
    const fields = toFields(stored)
    const status = fields['status']
    if (status === undefined) return { status: 'pending', updatedAt: Date.now() }
    const key = `${this.#fullPrefix}:step:${runId}:${stepName}`
    return {
      status: STEP_STATUSES.get(status) ?? (status as StepStatus),
      result: jsonField(fields, 'result', key),
      error: jsonField(fields, 'error', key) as StoredError | undefined,
      updatedAt: timeField(fields, 'updatedAt', key),
    }
  }

  /** Marks a step as scheduled, unless it is already further: its worker may have been faster than the mark. */
  setStepScheduled(runId: string, stepName: string, options?: FenceOptions): Promise<void> {
    const [run, step] = checkStep(runId, stepName)
    return settled(this.#workflows.scheduleStep(run, step, Date.now(), fenceOf(options)))
  }

  /**
   * Stores the result of a step and marks it as done. The first result stays.
   *
   * @param result - anything that JSON holds; `undefined` is stored as `null`
   */
  setStepResult(runId: string, stepName: string, result?: any, options?: FenceOptions): Promise<void> {
    const [run, step] = checkStep(runId, stepName)
    const [json, fence] = [toJson('The result', result), fenceOf(options)]
    return settled(this.#workflows.completeStep(run, step, json, Date.now(), fence))
  }

  /** Stores the error of a step (message, stack and code), unless the step is done. */
  setStepError(runId: string, stepName: string, error: Error, options?: FenceOptions): Promise<void> {
    const [run, step] = checkStep(runId, stepName)
    const [json, fence] = [toJson('The error', toStoredError(error)), fenceOf(options)]
    return settled(this.#workflows.failStep(run, step, json, Date.now(), fence))
  }

  /**
   * Runs `fn` while holding the lock of a run, and releases it afterwards whatever happens. The lock lasts 30 s and is
   * renewed; `fn` is told by its argument's `signal` if it is lost nevertheless,
   * and a warning of the process tells when `fn` has ended. It is waited for as long as 10 attempts
   * 100 ms apart would take, and taken as soon as it is released.
   *
   * @returns what `fn` returns
   * @throws {@link LockError} with the code `LOCK_TIMEOUT`; what `fn` throws
   */
  async withRunLock<T>(id: string, fn: (lock: LockContext) => T | Promise<T>): Promise<T> {
    checkFunction('fn', fn)
    return withRunLock(this.#locks, checkName('the run id', id), `lock for run ${id}`, fn)
  }

  /**
   * Queues a run for the orchestrator.
   *
   * @throws {@link ConfigError} without a queue service
   */
  async addToQueue(_workflowName: string, runId: string): Promise<void> {
    checkName('the run id', runId)
    if (typeof this.queue?.add !== 'function') {
      throw new ConfigError(
        'CONFIG',
        'QueueService not configured. Remote workflows require a queue service.',
      )
    }
    await this.queue.add(ORCHESTRATOR_QUEUE, { runId })
  }

  /** The connection in use. */
  get connection(): Connection {
    return this.#store.connection
  }

  /**
   * Closes the connection that this service made. One that was given to it stays open: a {@link Connection} as it
   * is, and an ioredis or node-redis client was never used.
   */
  async close(): Promise<void> {
    if (this.#store.owned) await this.#store.connection.close()
  }
}

traced('RedisWorkflowStateService', RedisWorkflowStateService.prototype)

function checkStep(runId: string, stepName: string): [string, string] {
  return [checkName('the run id', runId), checkName('the step name', stepName)]
}
