/** A workstation in memory, of which a test says what it answers and knows what it was asked. */
import type { HealthSource, ServedPage, WorkflowStateSource } from '../../express.js'

export interface FakeState {
  executionId: string
  workflowId: string
  status: string
  progress: number
  currentStep: string
  totalSteps: number
  completedSteps: number
  data: Record<string, unknown>
  startedAt: number
  updatedAt: number
  estimatedCompletion?: number
  error?: string
}

type Watcher = Parameters<WorkflowStateSource['watchProgress']>[0]

export class FakeWorkstation implements WorkflowStateSource, HealthSource {
  readonly states = new Map<string, FakeState>()
  readonly watchers = new Set<Watcher>()
  readonly calls: string[] = []
  degradation = { state: 'up' }
  readonly tickets = new Map<string, string>()
  readonly streamTickets = {
    issue: async (ticket: string, text: string): Promise<void> => void this.tickets.set(ticket, text),
    take: async (ticket: string): Promise<string | null> => {
      const text = this.tickets.get(ticket) ?? null
      this.tickets.delete(ticket)
      return text
    },
  }
  health: Awaited<ReturnType<HealthSource['redisHealthCheck']>> = { status: 'up', latency: 2.4 }
  ready: () => Promise<boolean> = () => Promise.resolve(true)
  /** Thrown by every call while it is set. */
  failure: Error | undefined

  /** A running execution. */
  start(executionId: string, more: Partial<FakeState> = {}): FakeState {
    const state: FakeState = {
      executionId,
      workflowId: 'workflow-456',
      status: 'running',
      progress: 40,
      currentStep: 'Processing data',
      totalSteps: 5,
      completedSteps: 2,
      data: {},
      startedAt: 1_700_000_000_000,
      updatedAt: 1_700_000_030_000,
      estimatedCompletion: 1_700_000_075_000,
      ...more,
    }
    this.states.set(executionId, state)
    return state
  }

  /** Changes an execution, and announces it. */
  change(executionId: string, change: Partial<FakeState>, { announce = true } = {}): FakeState {
    const before = this.states.get(executionId) ?? this.start(executionId)
    const state = { ...before, ...change, updatedAt: before.updatedAt + 1 }
    this.states.set(executionId, state)
    if (announce) for (const watcher of this.watchers) watcher.progress({ executionId, state })
    return state
  }

  clear(executionId: string): void {
    this.states.delete(executionId)
    for (const watcher of this.watchers) watcher.progress({ executionId, state: null })
  }

  async fetchWorkflowState(executionId: string): Promise<FakeState | null> {
    this.#called('fetchWorkflowState')
    return this.states.get(executionId) ?? null
  }

  async listActiveWorkflows(): Promise<string[]> {
    this.#called('listActiveWorkflows')
    return this.#active().map(({ executionId }) => executionId)
  }

  async pageActiveWorkflows({ cursor = '', limit = 1000 }: { cursor?: string; limit?: number }) {
    this.#called('pageActiveWorkflows')
    const all = this.#active()
    const rest = all.filter(({ executionId }) => executionId > cursor)
    const workflows = rest.slice(0, limit)
    const page: ServedPage = {
      workflows,
      corrupt: [],
      total: all.length,
      nextCursor: rest.length > limit ? (workflows.at(-1)?.executionId ?? null) : null,
      degraded: false,
    }
    return page
  }

  async getWorkflowStatistics() {
    this.#called('getWorkflowStatistics')
    const executionsByStatus: Record<string, number> = {
      pending: 0,
      running: 0,
      completed: 0,
      failed: 0,
      cancelled: 0,
    }
    const active = this.#active()
    for (const { status } of active) executionsByStatus[status] = (executionsByStatus[status] ?? 0) + 1
    const sum = active.reduce((total, { progress }) => total + progress, 0)
    return {
      activeExecutions: active.length,
      executionsByStatus,
      averageProgress: active.length === 0 ? 0 : Math.round(sum / active.length),
      corrupt: 0,
    }
  }

  async cleanupStaleWorkflows() {
    this.#called('cleanupStaleWorkflows')
    return { cleaned: 2, errors: 0 }
  }

  async watchProgress(watcher: Watcher): Promise<() => void> {
    this.#called('watchProgress')
    this.watchers.add(watcher)
    return () => this.watchers.delete(watcher)
  }

  async startWorkflowTracking(executionId: string, workflowId: string, totalSteps: number, data = {}) {
    const now = Date.now()
    this.start(executionId, {
      workflowId,
      totalSteps,
      data,
      progress: 0,
      completedSteps: 0,
      currentStep: 'initializing',
      startedAt: now,
      updatedAt: now,
      estimatedCompletion: undefined,
    })
    return true
  }

  async updateWorkflowProgress(executionId: string, completedSteps: number, currentStep: string) {
    const totalSteps = this.states.get(executionId)?.totalSteps ?? 1
    this.change(executionId, {
      completedSteps,
      currentStep,
      progress: Math.round((100 * completedSteps) / totalSteps),
    })
    return true
  }

  async completeWorkflowTracking(executionId: string, status: string, error?: string, data = {}) {
    const progress = status === 'completed' ? { progress: 100 } : {}
    this.change(executionId, { status, data, ...progress, ...(error === undefined ? {} : { error }) })
    return true
  }

  async executeWithLock<T>(_executionId: string, _workerId: string, fn: () => Promise<T>): Promise<T> {
    return fn()
  }

  async redisHealthCheck() {
    this.#called('redisHealthCheck')
    return this.health
  }

  async checkReadiness() {
    this.#called('checkReadiness')
    return { ready: await this.ready(), latency: 1 }
  }

  count(call: string): number {
    return this.calls.filter((name) => name === call).length
  }

  #active(): FakeState[] {
    return [...this.states.values()]
      .filter(({ status }) => status === 'pending' || status === 'running')
      .toSorted((a, b) => (a.executionId < b.executionId ? -1 : 1))
  }

  #called(name: string): void {
    this.calls.push(name)
    if (this.failure !== undefined) throw this.failure
  }
}
