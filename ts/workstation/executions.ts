import { setTimeout as delay } from 'node:timers/promises'

import { ConnectionError } from '../errors.js'
import { binding, settled } from '../native.js'
import type { FetchedWorkflowState, RejectedWrite, Replay, WorkflowState } from './api.js'
import { DEFAULT_TTL } from './constants.js'
import { type Gate, isUnreachable } from './gate.js'
import { LastKnown } from './last-known.js'
import {
  type Change,
  fold,
  hasEnded,
  isOutdated,
  merge,
  parseAnyState,
  parseState,
  replaces,
  stateToJson,
} from './progress.js'
import { type JournalBudget, type Waiting, WriteJournal } from './write-journal.js'

/** Somebody always wins, so many times over is a sign of something else. */
const MAX_ATTEMPTS = 1000
/** Executions that are on their way at once when Redis returns. */
const AT_ONCE = 128

interface Asked {
  change: Change
  resolve(answer: boolean): void
  reject(error: unknown): void
}

interface WaitingChanges extends Waiting {
  changes: readonly Change[]
}

/**
 * States of executions. Changes of one execution that come together are written together; what others wrote meanwhile is
 * noticed by the bytes that were seen, and the changes are made anew.
 */
export class Executions {
  readonly #native: binding.NativeTracking
  readonly #gate: () => Gate
  readonly #journal: WriteJournal<WaitingChanges>
  readonly known = new LastKnown()
  readonly #queues = new Map<string, Asked[]>()
  readonly #keyOf: (executionId: string) => string
  readonly #coalesceMs: number
  readonly #runningTtl: number
  readonly #rejected: (write: RejectedWrite) => void

  constructor(
    native: binding.NativeTracking,
    gate: () => Gate,
    budget: JournalBudget,
    options: {
      keyOf: (executionId: string) => string
      coalesceMs: number
      staleMs: number
      rejected: (write: RejectedWrite) => void
    },
  ) {
    this.#native = native
    this.#gate = gate
    this.#journal = new WriteJournal(budget)
    this.#keyOf = options.keyOf
    this.#coalesceMs = options.coalesceMs
    // A stuck execution must be there to be found.
    this.#runningTtl = Math.max(2 * options.staleMs, DEFAULT_TTL.WORKFLOW_STATE * 1000)
    this.#rejected = options.rejected
  }

  get waiting(): number {
    return this.#journal.size
  }

  get runningTtl(): number {
    return this.#runningTtl
  }

  /** Makes a change, together with others of the same execution. */
  change(executionId: string, change: Change): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const asked = { change, resolve, reject }
      const queue = this.#queues.get(executionId)
      if (queue !== undefined) return void queue.push(asked)
      this.#queues.set(executionId, [asked])
      void this.#work(executionId)
    })
  }

  async #work(executionId: string): Promise<void> {
    const queue = this.#queues.get(executionId)!
    // What is asked for in the same turn belongs together.
    await Promise.resolve()
    while (queue.length > 0) {
      const batch = queue.splice(0)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await this.#settle(executionId, batch)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      if (this.#coalesceMs > 0) await delay(this.#coalesceMs)
    }
    this.#queues.delete(executionId)
  }

  async #settle(executionId: string, batch: Asked[]): Promise<void> {
    const changes = batch.map(({ change }) => change)
    try {
      const answers = await this.#apply(executionId, changes)
      for (const [index, { resolve }] of batch.entries()) resolve(answers[index]!)
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }

  async #apply(executionId: string, changes: readonly Change[]): Promise<boolean[]> {
    if (this.#gate().ending !== undefined) await this.#gate().ending
    if (this.#gate().up) {
      try {
        return await this.#gate().run(() => this.#commit(executionId, changes))
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    return this.#applyLater(executionId, changes)
  }

  #applyLater(executionId: string, changes: readonly Change[]): boolean[] {
    this.#gate().fallback('progress')
    const before = this.#journal.get(executionId)?.changes ?? []
    const merged: Change[] = [...before]
    const answers: boolean[] = []
    for (const change of changes) {
      const known = this.#local(executionId, merged)
      // Only what is known to have ended refuses: what is not known here may be in Redis.
      const refused = known !== undefined && known !== null && !fold(executionId, known, change).answer
      // It is done when it is done.
      answers.push(!refused && change.kind !== 'clear')
      if (isLate(known, !refused)) countLate(1)
      if (refused) continue
      const last = merged.at(-1)
      const joined = last === undefined ? undefined : merge(last, change)
      if (replaces(change)) merged.splice(0, merged.length, change)
      else if (joined !== undefined) merged[merged.length - 1] = joined
      else merged.push(change)
    }
    if (merged.length > 0) {
      const length = merged.reduce((sum, change) => sum + lengthOf(change), 0)
      this.#journal.put(executionId, { changes: merged, length })
      this.#gate().hold('progress waits to be written')
    }
    return answers
  }

  /** The last known state with these changes; `undefined` if nothing is known. */
  #local(executionId: string, changes: readonly Change[]): WorkflowState | null | undefined {
    const json = this.known.get(executionId)
    let state = json === undefined ? undefined : parseState(json, this.#keyOf(executionId))
    let cleared = false
    for (const change of changes) {
      if (state === undefined && !replaces(change) && change.kind !== 'update') continue
      const { next } = fold(executionId, state ?? null, change)
      if (next === undefined) continue
      cleared = next === null
      state = next ?? undefined
    }
    return cleared ? null : state
  }

  /** Makes changes of what is stored, as one. */
  async #commit(executionId: string, changes: readonly Change[]): Promise<boolean[]> {
    const key = this.#keyOf(executionId)
    const anew = replaces(changes[0]!)
    let seen: string | null | undefined = this.known.get(executionId)
    let guessed = seen !== undefined
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      // oxlint-disable-next-line no-await-in-loop -- the next attempt depends on this one
      if (seen === undefined && !anew) [seen] = await settled(this.#native.load([executionId]))
      let state =
        seen === undefined || seen === null
          ? null
          : readable(seen, key, anew || changes[0]!.kind === 'update')
      let changed = false
      let late = 0
      const answers = changes.map((change) => {
        const { next, answer } = fold(executionId, state, change)
        if (isLate(state, answer)) late += 1
        if (next !== undefined) [state, changed] = [next, true]
        return answer
      })
      if (!changed) {
        if (!guessed) {
          countLate(late)
          return answers
        }
        // Remembered from before: it may be out of date.
        this.known.forget(executionId)
        ;[seen, guessed] = [undefined, false]
        continue
      }
      const json = state === null ? undefined : stateToJson(state)
      // oxlint-disable-next-line no-await-in-loop -- the next attempt depends on this one
      const stored = await settled(
        this.#native.replace(toChange(executionId, state, json, seen, anew, this.#runningTtl)),
      )
      if (stored === true) {
        this.known.remember(executionId, json)
        countLate(late)
        return answers
      }
      this.known.remember(executionId, stored ?? undefined)
      seen = stored
      guessed = false
    }
    throw new ConnectionError('TIMEOUT', `Execution ${executionId} changes all the time`, { retryable: true })
  }

  async fetch(executionId: string, parse = parseState): Promise<FetchedWorkflowState | null> {
    if (this.#gate().up) {
      const began = this.known.moment()
      try {
        const [json] = await this.#gate().run(() => settled(this.#native.load([executionId])))
        this.known.learn(executionId, json ?? undefined, began)
        return json === null || json === undefined ? null : parse(json, this.#keyOf(executionId))
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('progress')
    return this.lastKnown(executionId)
  }

  /** The same for whatever object somebody stored. */
  async fetchAny(executionId: string): Promise<FetchedWorkflowState | null> {
    return this.fetch(executionId, parseAnyState)
  }

  /** The last known state with what waits to be written. */
  lastKnown(executionId: string): FetchedWorkflowState | null {
    const state = this.#local(executionId, this.#journal.get(executionId)?.changes ?? [])
    return state === null || state === undefined ? null : { ...state, degraded: true }
  }

  /** All that anything is known of. */
  knownIds(): Set<string> {
    return new Set([...this.known.ids(), ...this.#journal.names()])
  }

  /** Writes what waits. Fails if Redis is away again; what is left waits on. */
  async drain(): Promise<Replay> {
    const replay = { applied: 0, rejected: 0 }
    await this.#journal.drain(AT_ONCE, async (id, { changes }) => {
      const applied = await this.#replay(id, changes)
      replay[applied ? 'applied' : 'rejected'] += 1
    })
    return replay
  }

  async #replay(id: string, changes: readonly Change[]): Promise<boolean> {
    try {
      const current = await this.#withoutOutdated(id, changes)
      if (current.length === 0) return true
      const answers = await this.#commit(id, current)
      if (answers.at(-1) === true) return true
      this.#rejected({
        kind: 'progress',
        id,
        reason: this.known.get(id) === undefined ? 'missing' : 'newer',
      })
    } catch (error) {
      if (isUnreachable(error)) throw error
      this.#rejected({ kind: 'progress', id, reason: 'error', error })
    }
    return false
  }

  /** A replacement may have happened before its answer was lost, or others may have started anew since. */
  async #withoutOutdated(id: string, changes: readonly Change[]): Promise<readonly Change[]> {
    const first = changes[0]!
    if (!replaces(first) && first.kind !== 'update') return changes
    const [json] = await settled(this.#native.load([id]))
    const stored = json === null || json === undefined ? null : readable(json, this.#keyOf(id), true)
    return stored !== null && isOutdated(first, stored) ? changes.slice(1) : changes
  }
}

/** Whether a change is refused because the execution has ended. */
function isLate(state: WorkflowState | null | undefined, answer: boolean): boolean {
  return !answer && state !== null && state !== undefined && hasEnded(state)
}

function countLate(late: number): void {
  for (let count = 0; count < late; count += 1) binding.countLateUpdate()
}

function toChange(
  executionId: string,
  state: WorkflowState | null,
  json: string | undefined,
  seen: string | null | undefined,
  anew: boolean,
  runningTtl: number,
): binding.StateChange {
  return {
    executionId,
    expect: anew ? 'any' : seen === null ? 'absent' : 'bytes',
    ...(typeof seen === 'string' && { expected: seen }),
    ...(json !== undefined && { json }),
    ttl: state === null ? 1 : ttlOf(state, runningTtl),
    active: state !== null && !hasEnded(state),
  }
}

/** Documented for what has ended. */
function ttlOf(state: WorkflowState, runningTtl: number): number {
  if (!hasEnded(state)) return runningTtl
  return DEFAULT_TTL.WORKFLOW_STATE * 1000 * (state.status === 'completed' ? 2 : 1)
}

/** What is replaced anyhow may be anything. */
function readable(json: string, key: string, replaced: boolean): WorkflowState | null {
  try {
    return parseState(json, key)
  } catch (error) {
    if (replaced) return null
    throw error
  }
}

function lengthOf(change: Change): number {
  const texts =
    change.kind === 'update'
      ? [change.state]
      : 'data' in change
        ? [change.data, 'currentStep' in change ? change.currentStep : '']
        : []
  return texts.reduce((sum, text) => sum + (text?.length ?? 0), 100)
}
