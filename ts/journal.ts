import { type Connection, nativeOf } from './connection.js'
import type { CorruptEntryError } from './errors.js'
import { corrupt, fromJson } from './json.js'
import { binding, guarded } from './native.js'
import { type Fields, type StoredError, type WorkflowStatus, jsonField, timeField } from './workflow.js'

/** The native journal of a connection. */
export function openJournal(connection: Connection, prefix: string): binding.NativeJournal {
  return guarded(() => binding.NativeJournal.open(nativeOf(connection), prefix))
}

/** Status of a step in today's words. */
export type JournalStepStatus = 'pending' | 'scheduled' | 'running' | 'succeeded' | 'failed' | 'suspended'

/** A workflow run of @pikku/core 0.12, as loaded. */
export interface JournalRun {
  id: string
  /** Name of the workflow. */
  workflow: string
  status: WorkflowStatus
  input: any
  output?: any
  error?: StoredError
  inline?: boolean
  graphHash?: string
  deterministic?: boolean
  plannedSteps?: { stepName: string; displayName?: string }[]
  /** How the run was started. */
  wire: {
    type: string
    id?: string
    parentRunId?: string
    parentStepId?: string
    pikkuUserId?: string
  }
  createdAt: Date
  updatedAt: Date
}

/** A step of @pikku/core 0.12, as loaded. */
export interface JournalStep {
  stepId: string
  status: JournalStepStatus
  /** The function that the step was dispatched with; `null` for none. */
  rpcName?: string | null
  result?: any
  error?: StoredError
  /** 1 for the first attempt. */
  attemptCount: number
  retries?: number
  retryDelay?: string
  fromStepName?: string
  createdAt: Date
  updatedAt: Date
}

/** One attempt of a step. */
export interface JournalAttempt extends JournalStep {
  stepName: string
  runningAt?: Date
  scheduledAt?: Date
  succeededAt?: Date
  failedAt?: Date
}

/** A row that a list leaves out. */
export interface CorruptRow {
  /** Id of the run, or name of the step. */
  id: string
  /** The Redis key. */
  key: string
  reason: string
}

/** A list of what can be read; `corrupt` (not enumerable) says what cannot. */
export type JournalList<T> = T[] & { readonly corrupt: readonly CorruptRow[] }

/** Statuses of the documented service in today's words. */
const TODAY = new Map<string | undefined, JournalStepStatus>([
  ['done', 'succeeded'],
  ['error', 'failed'],
])

export function toStatus(status: string | undefined): JournalStepStatus {
  return TODAY.get(status) ?? ((status ?? 'pending') as JournalStepStatus)
}

function dateField(fields: Fields, name: string, key: string): Date {
  return new Date(timeField(fields, name, key))
}

/** The run of stored fields. */
export function toRun(fields: Fields, key: string): JournalRun {
  return {
    id: fields['id'] ?? '',
    workflow: fields['workflow'] ?? '',
    status: fields['status'] as WorkflowStatus,
    input: jsonField(fields, 'input', key),
    output: jsonField(fields, 'output', key),
    error: jsonField(fields, 'error', key) as StoredError | undefined,
    inline: fields['inline'] === 'true' ? true : undefined,
    graphHash: fields['graphHash'] || undefined,
    deterministic: fields['deterministic'] === 'true' ? true : undefined,
    plannedSteps: jsonField(fields, 'plannedSteps', key) as JournalRun['plannedSteps'],
    wire: (jsonField(fields, 'wire', key) as JournalRun['wire'] | undefined) ?? { type: 'unknown' },
    createdAt: dateField(fields, 'createdAt', key),
    updatedAt: dateField(fields, 'updatedAt', key),
  }
}

/**
 * The step of stored fields; `undefined` if they are none. One that the documented service stored has no id and gets
 * one; until it has ended, it counts as none.
 */
export function toStep(
  runId: string,
  stepName: string,
  fields: Fields,
  key: string,
): JournalStep | undefined {
  const status = toStatus(fields['status'])
  // With a colon in it, the key may be of another run's step.
  if (fields['runId'] !== undefined && fields['runId'] !== runId) return undefined
  if (fields['stepId'] === undefined && !TODAY.has(fields['status'])) return undefined
  const updatedAt = dateField(fields, 'updatedAt', key)
  return {
    stepId: fields['stepId'] ?? `${runId}:${stepName}:${updatedAt.getTime()}`,
    status,
    rpcName: fields['rpcName'] ?? null,
    result: jsonField(fields, 'result', key),
    error: jsonField(fields, 'error', key) as StoredError | undefined,
    attemptCount: Number(fields['attemptCount'] || 1),
    retries: fields['retries'] ? Number(fields['retries']) : undefined,
    retryDelay: fields['retryDelay'],
    fromStepName: fields['fromStepName'] || undefined,
    createdAt: fields['createdAt'] === undefined ? updatedAt : dateField(fields, 'createdAt', key),
    updatedAt,
  }
}

/** An entry of a step's history: stored as JSON, in the order in which the original writes it. */
interface StoredAttempt {
  stepId: string
  stepName: string
  attemptCount: number
  status: string
  /** JSON */
  result?: string
  /** JSON */
  error?: string
  retries?: number
  retryDelay?: string
  createdAt: number
  runningAt?: number
  scheduledAt?: number
  succeededAt?: number
  failedAt?: number
}

/** The bytes of the first entry of a step's history. */
export function firstAttempt(
  stepId: string,
  stepName: string,
  retries: number | undefined,
  retryDelay: string | undefined,
  createdAt: number,
): string {
  const attempt: StoredAttempt = {
    stepId,
    stepName,
    attemptCount: 1,
    status: 'pending',
    retries,
    retryDelay,
    createdAt,
  }
  return JSON.stringify(attempt)
}

function optionalDate(time: number | undefined): Date | undefined {
  return time ? new Date(time) : undefined
}

/** The attempt of an entry of a step's history. */
export function toAttempt(entry: string, fromStepName: string, key: string): JournalAttempt {
  const stored = fromJson('an entry', entry, key) as StoredAttempt
  if (typeof stored !== 'object' || stored === null || typeof stored.createdAt !== 'number') {
    throw corrupt('an entry is not an attempt', key)
  }
  const json = (name: string, text: string | undefined): unknown =>
    text ? fromJson(name, text, key) : undefined
  return {
    stepId: stored.stepId,
    stepName: stored.stepName,
    fromStepName: fromStepName || undefined,
    status: toStatus(stored.status),
    result: json('a result', stored.result),
    error: json('an error', stored.error) as StoredError | undefined,
    attemptCount: stored.attemptCount,
    retries: stored.retries,
    retryDelay: stored.retryDelay,
    createdAt: new Date(stored.createdAt),
    // As in the original: the history knows when an attempt began, and each of its times by itself.
    updatedAt: new Date(stored.createdAt),
    runningAt: optionalDate(stored.runningAt),
    scheduledAt: optionalDate(stored.scheduledAt),
    succeededAt: optionalDate(stored.succeededAt),
    failedAt: optionalDate(stored.failedAt),
  }
}

/** Collects what can be read, and what cannot. */
export class Rows<T> {
  readonly #rows: T[] = []
  readonly #corrupt: CorruptRow[] = []

  /** Adds what `read` returns, unless it finds the row corrupt. */
  add(id: string, read: () => T | undefined): void {
    try {
      const row = read()
      if (row !== undefined) this.#rows.push(row)
    } catch (error) {
      const { code, key, message } = error as CorruptEntryError
      if (code !== 'CORRUPT_ENTRY') throw error
      this.#corrupt.push({ id, key: key ?? '', reason: message })
    }
  }

  /** All rows, in the order of a number that each has. */
  sorted(order: (row: T) => number): JournalList<T> {
    return this.list(this.#rows.toSorted((left, right) => order(left) - order(right)))
  }

  list(rows: T[] = this.#rows): JournalList<T> {
    // Not enumerable, so that the list still equals and prints as a list of rows.
    return Object.defineProperty(rows, 'corrupt', { value: this.#corrupt }) as JournalList<T>
  }
}
