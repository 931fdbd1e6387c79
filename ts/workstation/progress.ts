import { corrupt, fromJson, toJson } from '../json.js'
import type { ExecutionStatus, FinalStatus, WorkflowState } from './api.js'

/** What {@link fold} takes: a change of one execution, asked for at a moment (milliseconds since 1970). */
export type Change =
  | { kind: 'start'; at: number; workflowId: string; totalSteps: number; data: string }
  | {
      kind: 'progress'
      at: number
      completedSteps: number
      currentStep: string
      data: string | undefined
      allowRegress: boolean
    }
  | {
      kind: 'complete'
      at: number
      status: FinalStatus
      error: string | undefined
      data: string | undefined
    }
  | { kind: 'expire'; at: number; staleMs: number }
  | { kind: 'update'; at: number; state: string; ended: boolean }
  | { kind: 'clear'; at: number }

/** The documented text. */
const TIMED_OUT = 'Workflow timed out or became unresponsive'

const ENDED: ReadonlySet<unknown> = new Set<ExecutionStatus>(['completed', 'failed', 'cancelled'])
const STATUSES: ReadonlySet<unknown> = new Set<ExecutionStatus>([
  'pending',
  'running',
  ...(ENDED as Set<ExecutionStatus>),
])

export function hasEnded(state: { status: unknown }): boolean {
  return ENDED.has(state.status)
}

export function isStatus(status: unknown): status is ExecutionStatus {
  return STATUSES.has(status)
}

/** Whether a change needs no look at what is stored. */
export function replaces(change: Change): boolean {
  return change.kind === 'start' || change.kind === 'clear'
}

/** A state as it is stored. */
export function parseState(json: string, key: string): WorkflowState {
  const state = parseAnyState(json, key)
  if (!isStatus(state.status)) throw corrupt('the state has no status', key)
  return state
}

/** Whatever object somebody stored for a state. */
export function parseAnyState(json: string, key: string): WorkflowState {
  const state = fromJson('the state', json, key) as WorkflowState | null
  if (typeof state === 'object' && state !== null && !Array.isArray(state)) return state
  throw corrupt('the state is not an object', key)
}

/** Whether a change that replaces what is stored was asked for before that was. */
export function isOutdated(change: Change, stored: WorkflowState): boolean {
  if (change.kind === 'update') return numberOr(stored.updatedAt, 0) > change.at
  return replaces(change) && numberOr(stored.startedAt, 0) >= change.at
}

export function stateToJson(state: object): string {
  return toJson('The state', state)
}

/**
 * A change of a state: the new state (`null`: none), or `undefined` if it changes nothing; and what the caller hears.
 */
export function fold(
  executionId: string,
  state: WorkflowState | null,
  change: Change,
): { next: WorkflowState | null | undefined; answer: boolean } {
  if (change.kind === 'start') return { next: start(executionId, state, change), answer: true }
  if (change.kind === 'clear') return { next: null, answer: true }
  if (change.kind === 'update') {
    if (state !== null && hasEnded(state) && !change.ended) return { next: undefined, answer: false }
    const next = JSON.parse(change.state) as WorkflowState
    return { next: { ...next, updatedAt: later(state, change.at) }, answer: true }
  }
  if (state === null) return { next: undefined, answer: false }
  if (hasEnded(state)) {
    // The same end twice is no contradiction: the first answer may have been lost.
    const same = change.kind === 'complete' && change.status === state.status
    return { next: undefined, answer: same }
  }
  if (change.kind === 'progress') return { next: advance(state, change), answer: true }
  if (change.kind === 'complete') return { next: end(state, change.at, change), answer: true }
  const stuck = change.at - numberOr(state.updatedAt, 0) > change.staleMs
  if (!stuck) return { next: undefined, answer: false }
  return {
    next: end(state, change.at, { status: 'failed', error: TIMED_OUT, data: undefined }),
    answer: true,
  }
}

function start(
  executionId: string,
  before: WorkflowState | null,
  { workflowId, totalSteps, data, at }: Change & { kind: 'start' },
): WorkflowState {
  return {
    executionId,
    workflowId,
    status: 'running',
    progress: 0,
    currentStep: 'initializing',
    totalSteps,
    completedSteps: 0,
    data: JSON.parse(data) as WorkflowState['data'],
    startedAt: at,
    updatedAt: later(before, at),
  }
}

function advance(state: WorkflowState, change: Change & { kind: 'progress' }): WorkflowState {
  const { estimatedCompletion: _, ...rest } = state
  const added = change.data === undefined ? {} : (JSON.parse(change.data) as object)
  const updatedAt = later(state, change.at)
  const before = numberOr(state.completedSteps, 0)
  if (change.completedSteps < before && !change.allowRegress) {
    // It is late: what it brings is kept where nobody said anything later.
    return { ...state, data: { ...added, ...state.data }, updatedAt }
  }
  const progress = percent(change.completedSteps, numberOr(state.totalSteps, 0))
  const startedAt = numberOr(state.startedAt, updatedAt)
  const next: WorkflowState = {
    ...rest,
    progress,
    currentStep: change.currentStep,
    completedSteps: change.completedSteps,
    data: { ...state.data, ...added },
    updatedAt,
  }
  if (progress > 0 && progress < 100) {
    const elapsed = Math.max(updatedAt - startedAt, 0)
    next.estimatedCompletion = Math.round(startedAt + (elapsed / progress) * 100)
  }
  return next
}

function end(
  state: WorkflowState,
  at: number,
  { status, error, data }: { status: FinalStatus; error: string | undefined; data: string | undefined },
): WorkflowState {
  const { estimatedCompletion: _, error: __, ...rest } = state
  return {
    ...rest,
    status,
    progress: status === 'completed' ? 100 : clamp(numberOr(state.progress, 0)),
    data: data === undefined ? state.data : { ...state.data, ...(JSON.parse(data) as object) },
    updatedAt: later(state, at),
    ...(error !== undefined && { error }),
  }
}

function percent(completed: number, total: number): number {
  return total > 0 ? clamp(Math.round((completed / total) * 100)) : 0
}

function clamp(percentage: number): number {
  return Math.min(Math.max(percentage, 0), 100)
}

/** A number of a state that somebody else may have written: NaN was stored as null. */
function numberOr(value: unknown, fallback: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : fallback
}

/** After what is there, so that it tells one state from the next. */
function later(state: WorkflowState | null, at: number): number {
  return Math.max(at, numberOr(state?.updatedAt, 0) + 1)
}

/** Two changes of which one follows the other, as one; `undefined` if they must stay two. */
export function merge(first: Change, second: Change): Change | undefined {
  if (replaces(second)) return second
  if (first.kind !== 'progress' || second.kind !== 'progress') return undefined
  if (first.allowRegress || second.allowRegress || second.completedSteps < first.completedSteps)
    return undefined
  if (first.data === undefined || second.data === undefined) {
    return { ...second, data: second.data ?? first.data }
  }
  const data = toJson('The data', {
    ...(JSON.parse(first.data) as object),
    ...(JSON.parse(second.data) as object),
  })
  return { ...second, data }
}
