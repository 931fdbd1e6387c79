import { randomUUID } from 'node:crypto'

import { type Connection, fullPrefix, nativeOf } from '../connection.js'
import { ArgumentError } from '../errors.js'
import { toJson } from '../json.js'
import type { CorruptRow } from '../journal.js'
import { binding, guarded, settled } from '../native.js'
import { SignalChannel, type SignalSubscription } from '../signal.js'
import { checkInteger, checkName, checkObject, kindOf, withDefaults } from '../validate.js'
import type {
  CleanupResult,
  FetchedWorkflowState,
  FinalStatus,
  PageOptions,
  ProgressOptions,
  ProgressWatcher,
  RejectedWrite,
  WorkflowPage,
  WorkflowState,
  WorkflowStatistics,
} from './api.js'
import { DEFAULT_TTL, KEY_PREFIXES } from './constants.js'
import { Executions } from './executions.js'
import { type Gate, isUnreachable } from './gate.js'
import { hasEnded, isStatus, parseState } from './progress.js'
import { toTtl } from './seconds.js'
import type { JournalBudget } from './write-journal.js'

const PAGE = 1000
const MAX_PAGE = 10_000

/** Tracking of executions, as documented. */
export class Tracking {
  readonly executions: Executions
  readonly #native: binding.NativeTracking
  readonly #gate: () => Gate
  readonly #prefix: string
  readonly #staleMs: number
  readonly #channel: SignalChannel
  readonly #watchers = new Set<ProgressWatcher>()
  readonly #instance = randomUUID()
  #subscription: Promise<SignalSubscription> | undefined

  constructor(
    connection: Connection,
    gate: () => Gate,
    budget: JournalBudget,
    options: { coalesceMs: number; staleMs: number; rejected: (write: RejectedWrite) => void },
  ) {
    this.#native = guarded(() => binding.NativeTracking.open(nativeOf(connection)))
    this.#gate = gate
    this.#prefix = fullPrefix(connection, KEY_PREFIXES.WORKFLOW_STATE)
    this.#staleMs = options.staleMs
    this.#channel = new SignalChannel(connection, this.#native.channel, { own: true })
    const keyOf = (executionId: string): string => this.#prefix + executionId
    this.executions = new Executions(this.#native, gate, budget, { ...options, keyOf })
  }

  async start(id: string, workflowId: string, totalSteps: number, data: object = {}): Promise<boolean> {
    checkId(id)
    checkName('the workflow id', workflowId)
    const steps = checkSteps('totalSteps', totalSteps)
    return this.executions.change(id, {
      kind: 'start',
      at: Date.now(),
      workflowId,
      totalSteps: steps,
      data: toData(data),
    })
  }

  async progress(
    id: string,
    completedSteps: number,
    currentStep: string,
    data?: object,
    options?: ProgressOptions,
  ): Promise<boolean> {
    checkId(id)
    const { allowRegress } = withDefaults('the options', { allowRegress: false }, options)
    return this.executions.change(id, {
      kind: 'progress',
      at: Date.now(),
      completedSteps: checkSteps('completedSteps', completedSteps),
      currentStep: checkText('currentStep', currentStep),
      data: data === undefined ? undefined : toData(data),
      allowRegress,
    })
  }

  async complete(id: string, status: FinalStatus, error?: string, data?: object): Promise<boolean> {
    checkId(id)
    if (!isStatus(status) || !hasEnded({ status })) {
      throw new ArgumentError('INVALID_ARGUMENT', 'status must be "completed", "failed" or "cancelled"')
    }
    return this.executions.change(id, {
      kind: 'complete',
      at: Date.now(),
      status,
      error: error === undefined ? undefined : checkText('error', error),
      data: data === undefined ? undefined : toData(data),
    })
  }

  async update(state: WorkflowState): Promise<boolean> {
    checkObject('the state', state)
    const id = checkId(state.executionId)
    if (!isStatus(state.status)) throw new ArgumentError('INVALID_ARGUMENT', 'the state has no known status')
    const at = Date.now()
    const json = toJson('The state', { ...state, updatedAt: at })
    const change = { kind: 'update', at, state: json, ended: hasEnded(state) } as const
    const updated = await this.executions.change(id, change)
    // As the original does.
    if (updated) state.updatedAt = at
    return updated
  }

  async clear(id: string): Promise<boolean> {
    return this.executions.change(checkId(id), { kind: 'clear', at: Date.now() })
  }

  async fetch(id: string): Promise<FetchedWorkflowState | null> {
    return this.executions.fetch(checkId(id))
  }

  async fetchAny(id: string): Promise<FetchedWorkflowState | null> {
    return this.executions.fetchAny(checkId(id))
  }

  /** Any object, without a look at what is there. */
  async set(id: string, state: object, ttl?: number): Promise<boolean> {
    checkId(id)
    const json = toJson('The state', checkObject('the state', state))
    const change = { executionId: id, expect: 'any', json, ttl: toTtl(ttl, DEFAULT_TTL.WORKFLOW_STATE) }
    await this.#gate().strictly('progress', () => settled(this.#native.replace(change)))
    this.executions.known.remember(id, json)
    return true
  }

  async setActive(id: string, active: boolean): Promise<boolean> {
    checkId(id)
    await this.#gate().strictly('progress', () => settled(this.#native.setActive(id, active)))
    return true
  }

  async active(): Promise<string[]> {
    return this.#orElse(
      () => settled(this.#native.active()),
      () => this.#lastKnown().map(({ executionId }) => executionId),
    )
  }

  async page(options?: PageOptions): Promise<WorkflowPage> {
    const { cursor, limit } = withDefaults(
      'the options',
      { cursor: undefined as string | undefined, limit: PAGE },
      options,
    )
    checkInteger('limit', limit, { min: 1, max: MAX_PAGE })
    if (cursor !== undefined) checkName('cursor', cursor)
    return this.#orElse(
      () => this.#page(cursor, limit),
      () => {
        const all = this.#lastKnown().filter(
          ({ executionId }) => cursor === undefined || executionId > cursor,
        )
        const workflows = all.slice(0, limit)
        const nextCursor = all.length > limit ? workflows.at(-1)!.executionId : null
        return { workflows, corrupt: [], total: all.length, nextCursor, degraded: true }
      },
    )
  }

  async #page(cursor: string | undefined, limit: number): Promise<WorkflowPage> {
    const began = this.executions.known.moment()
    const [total, more, ...rows] = await settled(this.#native.page(cursor, limit))
    const workflows: WorkflowState[] = []
    const corrupt: CorruptRow[] = []
    const ghosts: string[] = []
    for (const [id, json] of rows) {
      this.executions.known.learn(id, json ?? undefined, began)
      if (json === null) ghosts.push(id)
      else {
        try {
          workflows.push(parseState(json, this.#prefix + id))
        } catch (error) {
          corrupt.push(corruptRow(id, error))
        }
      }
    }
    this.#drop(ghosts)
    return { workflows, corrupt, total, nextCursor: more ? rows.at(-1)![0] : null, degraded: false }
  }

  /** In the background: whoever asked has the answer already. */
  #drop(ghosts: string[]): void {
    if (ghosts.length > 0) this.#native.dropGhosts(ghosts).catch(() => {})
  }

  async statistics(): Promise<WorkflowStatistics> {
    return this.#orElse(
      async () => {
        const [pending, running, completed, failed, cancelled, corrupt, progress, ghosts] = await settled(
          this.#native.statistics(),
        )
        this.#drop(ghosts)
        return toStatistics({ pending, running, completed, failed, cancelled }, progress, corrupt)
      },
      () => {
        const counts = { pending: 0, running: 0, completed: 0, failed: 0, cancelled: 0 }
        let progress = 0
        for (const state of this.#lastKnown()) {
          counts[state.status] += 1
          progress += state.progress
        }
        return toStatistics(counts, progress, 0)
      },
    )
  }

  async cleanup(): Promise<CleanupResult> {
    const result = { cleaned: 0, errors: 0 }
    let cursor: string | undefined
    do {
      const began = this.executions.known.moment()
      // oxlint-disable-next-line no-await-in-loop -- page by page
      const [, more, ...rows] = await this.#gate().strictly('progress', () =>
        settled(this.#native.page(cursor, PAGE)),
      )
      // oxlint-disable-next-line no-await-in-loop -- page by page
      const outcomes = await Promise.allSettled(rows.map(([id, json]) => this.#cleanUp(id, json, began)))
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') result.errors += 1
        else if (outcome.value) result.cleaned += 1
      }
      cursor = more ? rows.at(-1)![0] : undefined
    } while (cursor !== undefined)
    return result
  }

  async #cleanUp(id: string, json: string | null, began: number): Promise<boolean> {
    const expire = { kind: 'expire', at: Date.now(), staleMs: this.#staleMs } as const
    if (json === null) return (await settled(this.#native.dropGhosts([id]))) > 0
    let state: WorkflowState
    try {
      state = parseState(json, this.#prefix + id)
    } catch {
      return this.#retire(id, json)
    }
    if (hasEnded(state)) return this.#retire(id, json)
    this.executions.known.learn(id, json, began)
    return this.executions.change(id, expire)
  }

  /** Takes an execution out of the active ones, unless its state changed, which stays as it is until it expires. */
  async #retire(id: string, json: string): Promise<boolean> {
    const ttl = DEFAULT_TTL.WORKFLOW_STATE * 1000
    const change = { executionId: id, expect: 'bytes', expected: json, json, ttl, active: false }
    return (await settled(this.#native.replace(change))) === true
  }

  /** Keeps the state of an execution that works without a word. */
  async refresh(id: string): Promise<void> {
    await settled(this.#native.refresh(id, this.executions.runningTtl))
  }

  async proveWritable(): Promise<void> {
    await settled(this.#native.proveWritable(this.#instance))
  }

  async watch(watcher: ProgressWatcher): Promise<() => void> {
    checkObject('the watcher', watcher)
    this.#watchers.add(watcher)
    try {
      await (this.#subscription ??= this.#subscribe())
    } catch (error) {
      this.#unwatch(watcher)
      this.#subscription = undefined
      throw error
    }
    return () => this.#unwatch(watcher)
  }

  #subscribe(): Promise<SignalSubscription> {
    return this.#channel.subscribe({
      message: (text) => {
        const split = text.indexOf('\n')
        const json = text.slice(split + 1)
        const executionId = text.slice(0, split)
        const state = json === '' ? null : tolerantly(() => parseState(json, this.#prefix + executionId))
        if (state === undefined) return
        for (const watcher of this.#watchers) watcher.progress({ executionId, state })
      },
      gap: () => this.#gap(),
      end: () => {
        this.#subscription = undefined
        this.#gap()
      },
    })
  }

  #gap(): void {
    for (const watcher of this.#watchers) watcher.gap?.()
  }

  #unwatch(watcher: ProgressWatcher): void {
    this.#watchers.delete(watcher)
    if (this.#watchers.size === 0) this.close()
  }

  close(): void {
    const subscription = this.#subscription
    this.#subscription = undefined
    void subscription?.then((running) => running.stop()).catch(() => {})
  }

  #lastKnown(): FetchedWorkflowState[] {
    const states = [...this.executions.knownIds()].toSorted().flatMap((id) => {
      const state = tolerantly(() => this.executions.lastKnown(id))
      return state === null || state === undefined || hasEnded(state) ? [] : [state]
    })
    return states
  }

  async #orElse<T>(operation: () => Promise<T>, fallback: () => T): Promise<T> {
    if (this.#gate().up) {
      try {
        return await this.#gate().run(operation)
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('progress')
    return fallback()
  }
}

function toStatistics(
  executionsByStatus: WorkflowStatistics['executionsByStatus'],
  progress: number,
  corrupt: number,
): WorkflowStatistics {
  const activeExecutions = Object.values(executionsByStatus).reduce((sum, count) => sum + count, 0)
  const averageProgress = activeExecutions === 0 ? 0 : Math.round(progress / activeExecutions)
  return { activeExecutions, executionsByStatus, averageProgress, corrupt }
}

function corruptRow(id: string, error: unknown): CorruptRow {
  const { key, message } = error as { key?: string; message: string }
  return { id, key: key ?? id, reason: message } as CorruptRow
}

function tolerantly<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function checkId(id: unknown): string {
  return checkName('the execution id', id)
}

function checkSteps(what: string, steps: unknown): number {
  if (typeof steps === 'number' && Number.isFinite(steps) && steps >= 0) return steps
  throw new ArgumentError('INVALID_ARGUMENT', `${what} must be a number of at least 0, not ${kindOf(steps)}`)
}

function checkText(what: string, text: unknown): string {
  if (typeof text === 'string') return text
  throw new ArgumentError('INVALID_ARGUMENT', `${what} must be a string, not ${kindOf(text)}`)
}

function toData(data: unknown): string {
  return toJson('The data', checkObject('data', data))
}
