import { randomUUID } from 'node:crypto'

import { type StoreConnection, connectStore, fullPrefix } from '../../connection.js'
import { ArgumentError, WorkflowError } from '../../errors.js'
import { type FenceOptions, fenceOf } from '../../fence.js'
import {
  type JournalAttempt,
  type JournalList,
  type JournalRun,
  type JournalStep,
  type JournalStepStatus,
  firstAttempt,
  openJournal,
  toRun,
  toStatus,
  toStep,
} from '../../journal.js'
import { fromJson, toJson } from '../../json.js'
import type { LockContext } from '../../lock/hold.js'
import { Locks } from '../../lock/locks.js'
import { type binding, settled } from '../../native.js'
import type { Target } from '../../options.js'
import { checkFunction, checkInteger, checkName, kindOf } from '../../validate.js'
import { checkStatus, isError, jsonField, toFields, toStoredError } from '../../workflow.js'
import { readHistory } from './history.js'
import { withRunLock } from './run-lock.js'

/** What `createRun` may be given. */
export interface RunOptions extends FenceOptions {
  deterministic?: boolean
  plannedSteps?: unknown[]
}

/** What `insertStepState` may be given. */
export interface StepOptions extends FenceOptions {
  retries?: number
  retryDelay?: string | number
}

/** `undefined` as the original stores it: as no text. */
function jsonOrNothing(what: string, value: unknown): string {
  return value === undefined ? '' : toJson(what, value)
}

function checkStep(runId: string, stepName: string): [string, string] {
  return [checkName('the run id', runId), checkName('the step name', stepName)]
}

function checkText(what: string, value: unknown): string {
  if (typeof value === 'string') return value
  throw new ArgumentError('INVALID_ARGUMENT', `${what} must be a string, not ${kindOf(value)}`)
}

function checkDate(what: string, value: unknown): number {
  const time = value instanceof Date ? value.getTime() : Number.NaN
  if (Number.isNaN(time)) throw new ArgumentError('INVALID_ARGUMENT', `${what} must be a valid Date`)
  return Math.max(0, time)
}

/** The journal as @pikku/core 0.12 asks for it: every method is one round trip, unless it says otherwise. */
export class JournalStore {
  /** What the keys start with, as errors name them. */
  readonly prefix: string
  readonly store: StoreConnection
  readonly #journal: binding.NativeJournal
  readonly #runLocks: Locks
  readonly #stepLocks: Locks

  constructor(target: Target, keyPrefix: string) {
    const prefix = checkName('keyPrefix', keyPrefix)
    this.store = connectStore(target)
    const { connection } = this.store
    this.prefix = fullPrefix(connection, prefix)
    this.#journal = openJournal(connection, prefix)
    this.#runLocks = new Locks(connection, `${prefix}:lock:`)
    this.#stepLocks = new Locks(connection, `${prefix}:step-lock:`)
  }

  async ping(): Promise<void> {
    await settled(this.#journal.ping())
  }

  async createRun(
    workflow: string,
    input: unknown,
    inline: boolean,
    graphHash: string,
    wire: unknown,
    options: RunOptions = {},
  ): Promise<string> {
    const id = randomUUID()
    const [now, fence] = [Date.now(), fenceOf(options)]
    // Names, order and values are those of the original.
    const fields = Object.entries({
      id,
      workflow: checkName('the workflow name', workflow),
      status: 'running',
      input: toJson('The input', input),
      inline: inline ? 'true' : 'false',
      graphHash: checkText('the graph hash', graphHash),
      deterministic: options.deterministic ? 'true' : 'false',
      plannedSteps: options.plannedSteps ? toJson('The planned steps', options.plannedSteps) : '',
      wire: toJson('The wire', wire),
      createdAt: String(now),
      updatedAt: String(now),
    }).flat()
    await settled(this.#journal.createRun(id, workflow, fields, now, fence))
    return id
  }

  async run(id: string): Promise<JournalRun | null> {
    const fields = toFields(await settled(this.#journal.run(checkName('the run id', id))))
    return fields['id'] === undefined ? null : toRun(fields, `${this.prefix}:run:${id}`)
  }

  /** A run that has completed or was cancelled keeps its end: engines report it more than once. */
  async updateRunStatus(
    id: string,
    status: string,
    output: unknown,
    error: unknown,
    options?: FenceOptions,
  ): Promise<void> {
    const run = checkName('the run id', id)
    const outputJson = output === undefined ? undefined : toJson('The output', output)
    const stored = isError(error) ? toStoredError(error) : error
    const errorJson = stored === undefined ? undefined : toJson('The error', stored)
    const transition = await settled(
      this.#journal.updateRunStatus(
        run,
        checkStatus(status),
        outputJson,
        errorJson,
        Date.now(),
        fenceOf(options),
      ),
    )
    if (transition === 'missing') throw this.#runNotFound(id)
  }

  /** The new step, or `null` if there is one of this name. */
  async insertStep(
    runId: string,
    stepName: string,
    rpcName: string | null,
    data: unknown,
    options: StepOptions = {},
    fromStepName?: string,
  ): Promise<JournalStep | null> {
    const { retries, retryDelay } = options
    const fence = fenceOf(options)
    const [run, step] = checkStep(runId, stepName)
    const now = Date.now()
    const stepId = `${run}:${step}:${now}`
    const delay = retryDelay === undefined || retryDelay === null ? undefined : String(retryDelay)
    const fields = ['stepId', stepId, 'data', jsonOrNothing('The data', data), 'status', 'pending']
    fields.push('attemptCount', '1', 'createdAt', String(now), 'updatedAt', String(now))
    const more = {
      rpcName: rpcName === null || rpcName === undefined ? undefined : checkText('the function', rpcName),
      retries: retries === undefined ? undefined : String(checkInteger('retries', retries)),
      retryDelay: delay,
      fromStepName,
      // The one field that is not the original's, and only where the original would take the id apart wrongly.
      runId: run.includes(':') ? run : undefined,
    }
    for (const [name, value] of Object.entries(more)) {
      if (value !== undefined) fields.push(name, checkText(name, value))
    }
    const entry = firstAttempt(stepId, step, retries, delay, now)
    if (!(await settled(this.#journal.insertStep(run, step, stepId, fields, entry, now, fence)))) return null
    return {
      stepId,
      status: 'pending',
      rpcName: rpcName ?? null,
      attemptCount: 1,
      retries,
      retryDelay: delay,
      fromStepName,
      createdAt: new Date(now),
      updatedAt: new Date(now),
    }
  }

  async step(runId: string, stepName: string): Promise<JournalStep> {
    const [run, step] = checkStep(runId, stepName)
    const found = this.#toStep(run, step, await settled(this.#journal.step(run, step)))
    if (found === undefined) throw stepNotFound(runId, stepName)
    return found
  }

  /** @param field - `result` or `error`, with `json`, for the statuses that have one */
  async moveStep(
    stepId: string,
    status: JournalStepStatus,
    options?: FenceOptions,
    field?: string,
    json?: string,
  ): Promise<void> {
    const id = checkText('the step id', stepId)
    const moved = await settled(this.#journal.moveStep(id, status, field, json, Date.now(), fenceOf(options)))
    if (moved === 'missing') throw unknownStep(stepId)
  }

  async succeed(stepId: string, result: unknown, options?: FenceOptions): Promise<void> {
    return this.moveStep(stepId, 'succeeded', options, 'result', jsonOrNothing('The result', result))
  }

  async fail(stepId: string, error: unknown, options?: FenceOptions): Promise<void> {
    return this.moveStep(stepId, 'failed', options, 'error', toJson('The error', toStoredError(error)))
  }

  async setStepField(stepId: string, field: string, value: string, options?: FenceOptions): Promise<void> {
    const [id, text] = [checkText('the step id', stepId), checkText(field, value)]
    const found = await settled(this.#journal.setStepField(id, field, text, Date.now(), fenceOf(options)))
    if (!found) throw unknownStep(stepId)
  }

  async retry(stepId: string, status: string, options?: FenceOptions): Promise<JournalStep> {
    if (status !== 'pending' && status !== 'running') {
      throw new ArgumentError('INVALID_ARGUMENT', "the status of an attempt must be 'pending' or 'running'")
    }
    const id = checkText('the step id', stepId)
    const fields = toFields(await settled(this.#journal.retryStep(id, status, Date.now(), fenceOf(options))))
    const step = toStep(fields['runId'] ?? '', '', fields, `${this.prefix}:step of ${stepId}`)
    if (step === undefined) throw unknownStep(stepId)
    return step
  }

  /** The step, now `running`, or `null` if it is somebody else's or has succeeded. */
  async claim(
    runId: string,
    stepName: string,
    rpcName: string | null,
    mismatch: () => Error,
    options?: FenceOptions,
  ): Promise<JournalStep | null> {
    const [run, step] = checkStep(runId, stepName)
    const name = rpcName === null || rpcName === undefined ? undefined : checkText('the function', rpcName)
    const claimed = await settled(this.#journal.claimStep(run, step, name, Date.now(), fenceOf(options)))
    if (claimed === 'taken') return null
    if (claimed === 'mismatch') throw mismatch()
    if (claimed === 'missing') throw stepNotFound(runId, stepName)
    return this.#toStep(run, step, claimed as string[]) ?? null
  }

  async history(runId: string): Promise<JournalList<JournalAttempt>> {
    return readHistory(this.#journal, this.prefix, runId)
  }

  /** All steps of a run, in the order of their insertion. One that is corrupt is an error: it must not run again. */
  async steps(runId: string): Promise<(JournalStep & { stepName: string })[]> {
    const steps = await settled(this.#journal.steps(checkName('the run id', runId), []))
    return steps.flatMap(([stepName, fields]) => {
      const step = this.#toStep(runId, stepName, fields)
      return step === undefined ? [] : [{ ...step, stepName }]
    })
  }

  /** Some fields of all steps of a run, `status` in today's words. */
  async stepFields(
    runId: string,
    fields: string[],
  ): Promise<{ stepName: string; status: JournalStepStatus; field: (name: string) => string | undefined }[]> {
    const steps = await settled(this.#journal.steps(checkName('the run id', runId), ['status', ...fields]))
    return steps.map(([stepName, alternating]) => {
      const stored = toFields(alternating)
      return { stepName, status: toStatus(stored['status']), field: (name) => stored[name] }
    })
  }

  async results(runId: string, stepNames: readonly string[]): Promise<Record<string, any>> {
    if (stepNames.length === 0) return {}
    const run = checkName('the run id', runId)
    const names = stepNames.map((name) => checkName('the step name', name))
    const results = await settled(this.#journal.results(run, names))
    return Object.fromEntries(
      results.flatMap(([status, json], index) => {
        if (status === null || toStatus(status) !== 'succeeded' || !json) return []
        const name = names[index]!
        return [[name, fromJson('its field result', json, `${this.prefix}:step:${run}:${name}`)]]
      }),
    )
  }

  async setRunState(runId: string, name: string, value: unknown, options?: FenceOptions): Promise<void> {
    const [run, field] = [checkName('the run id', runId), checkText('the name', name)]
    const stored = await settled(
      this.#journal.setRunState(run, field, toJson('The value', value), Date.now(), fenceOf(options)),
    )
    if (!stored) throw this.#runNotFound(runId)
  }

  async runState(runId: string): Promise<Record<string, unknown>> {
    const [blob, values] = await settled(this.#journal.runState(checkName('the run id', runId)))
    const key = `${this.prefix}:run-state:${runId}`
    const old = blob ? (fromJson('its field state', blob, `${this.prefix}:run:${runId}`) as object) : {}
    const today = Object.entries(toFields(values)).map(([name, json]) => [
      name,
      fromJson(`its field ${name}`, json!, key),
    ])
    return Object.fromEntries([...Object.entries(old), ...today])
  }

  async addVersion(
    name: string,
    graphHash: string,
    graph: unknown,
    source: string,
    status = 'active',
  ): Promise<void> {
    const [workflow, hash] = [checkName('the workflow name', name), checkName('the graph hash', graphHash)]
    const fields = { workflowName: workflow, graphHash: hash, graph: toJson('The graph', graph) }
    const more = { source: checkText('the source', source), status: checkText('the status', status) }
    const all = Object.entries({ ...fields, ...more, createdAt: String(Date.now()) }).flat()
    await settled(this.#journal.addVersion(workflow, hash, all))
  }

  async setVersionStatus(name: string, graphHash: string, status: string): Promise<void> {
    const [workflow, hash] = [checkName('the workflow name', name), checkName('the graph hash', graphHash)]
    if (!(await settled(this.#journal.setVersionStatus(workflow, hash, checkText('the status', status))))) {
      throw new WorkflowError('VERSION_NOT_FOUND', `Workflow version not found: ${name} ${graphHash}`)
    }
  }

  async version(name: string, graphHash: string): Promise<{ graph: any; source: string } | null> {
    return readVersion(this.#journal, this.prefix, name, graphHash)
  }

  async stalledRuns(before: Date, limit: number): Promise<string[]> {
    return settled(this.#journal.stalledRuns(checkDate('before', before), checkInteger('limit', limit)))
  }

  async undispatchedSteps(before: Date, limit: number): Promise<{ runId: string; stepId: string }[]> {
    const [time, most] = [checkDate('before', before), checkInteger('limit', limit)]
    const steps = await settled(this.#journal.undispatchedSteps(time, most))
    return steps.map(([runId, stepId]) => ({ runId, stepId }))
  }

  async withRunLock<T>(id: string, fn: (lock: LockContext) => T | Promise<T>): Promise<T> {
    checkFunction('fn', fn)
    return withRunLock(this.#runLocks, checkName('the run id', id), `lock for run ${id}`, fn)
  }

  async withStepLock<T>(
    runId: string,
    stepName: string,
    fn: (lock: LockContext) => T | Promise<T>,
  ): Promise<T> {
    checkFunction('fn', fn)
    const key = checkStep(runId, stepName).join(':')
    return withRunLock(this.#stepLocks, key, `step lock for run ${runId}, step ${stepName}`, fn)
  }

  async close(): Promise<void> {
    if (this.store.owned) await this.store.connection.close()
  }

  #runNotFound(id: string): WorkflowError {
    const key = `${this.prefix}:run:${id}`
    return new WorkflowError('RUN_NOT_FOUND', `Workflow run not found: ${id}`, { key })
  }

  #toStep(runId: string, stepName: string, fields: readonly string[]): JournalStep | undefined {
    return toStep(runId, stepName, toFields(fields), `${this.prefix}:step:${runId}:${stepName}`)
  }
}

/** A version of a workflow, or `null` if there is none. */
export async function readVersion(
  journal: binding.NativeJournal,
  prefix: string,
  name: string,
  graphHash: string,
): Promise<{ graph: any; source: string } | null> {
  const [workflow, hash] = [checkName('the workflow name', name), checkName('the graph hash', graphHash)]
  const fields = toFields(await settled(journal.version(workflow, hash)))
  const graph = jsonField(fields, 'graph', `${prefix}:version:${name}:${graphHash}`)
  return graph === undefined ? null : { graph, source: fields['source'] ?? '' }
}

function stepNotFound(runId: string, stepName: string): WorkflowError {
  return new WorkflowError(
    'STEP_NOT_FOUND',
    `Step not found: runId=${runId}, stepName=${stepName}. Use insertStepState to create it.`,
  )
}

function unknownStep(stepId: string): WorkflowError {
  return new WorkflowError('STEP_NOT_FOUND', `Step not found: ${stepId}`)
}
