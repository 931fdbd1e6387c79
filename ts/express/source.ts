import type { HttpRequest } from './http.js'

/** The state of an execution, as far as the router looks into it. */
export interface ServedState {
  executionId: string
  status: string
  /** Milliseconds since 1970; grows with every change. */
  updatedAt: number
}

/** Some of the active executions. */
export interface ServedPage {
  workflows: readonly ServedState[]
  corrupt: readonly unknown[]
  /** How many are active in all. */
  total: number
  /** `null` if there is no more. */
  nextCursor: string | null
  /** Whether this is the last known state, because Redis is out of reach. */
  degraded?: boolean
}

/** Where tickets for streams are. */
export interface TicketStore {
  /** @param ttl - how long it can be taken, in seconds */
  issue(ticket: string, text: string, ttl: number): Promise<void>
  /** The text of a ticket, for the first who asks; `null` for everybody else. */
  take(ticket: string): Promise<string | null>
}

/** What the router needs of a workstation; `createWorkstation()` makes one. */
export interface WorkflowStateSource {
  fetchWorkflowState(executionId: string): Promise<ServedState | null>
  listActiveWorkflows(): Promise<string[]>
  pageActiveWorkflows(options: { cursor?: string; limit?: number }): Promise<ServedPage>
  getWorkflowStatistics(): Promise<{ activeExecutions: number; corrupt?: number }>
  cleanupStaleWorkflows(): Promise<{ cleaned: number; errors: number }>
  /** Hears of every change, by any process. Resolves how to stop. */
  watchProgress(watcher: {
    progress(event: { executionId: string; state: ServedState | null }): void
    gap?(): void
  }): Promise<() => void>
  readonly degradation?: { readonly state: string }
  /** Without it, there are no tickets for streams. */
  readonly streamTickets?: TicketStore
}

/** What the health routes need of a workstation; `createWorkstation()` makes one. */
export interface HealthSource {
  /** `latency` in milliseconds. */
  redisHealthCheck(): Promise<{ status: 'up' | 'down' | 'disabled' | 'error'; latency?: number }>
  /** Writes and reads by script. */
  checkReadiness(): Promise<{ ready: boolean; latency: number }>
}

/** Told of errors that are not the client's, with their cause, which the answer does not show. */
export type ErrorListener = (error: unknown, request: HttpRequest) => void
