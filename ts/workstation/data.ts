import type { CorruptRow } from '../journal.js'

/** What a session holds: any object that JSON can hold. */
export type SessionData = Record<string, any>

/** A session with what is known about it. */
export interface SessionEntry {
  session: SessionData
  /** Grows with every write; give it to {@link Workstation.setSession} to write only over this state. */
  version: number
  /** From memory, because Redis is out of reach: somebody else may have changed or deleted it since. */
  stale: boolean
}

/** Options of {@link Workstation.setSession}. */
export interface SetSessionOptions {
  /**
   * Writes only if the session was neither changed nor deleted since it had this version, so that a slow request
   * cannot undo a logout. `0`: only if there is no session. Default: none, writes in any case.
   */
  version?: number
}

/** Keys for sessions at rest (AES-256-GCM). */
export interface SessionKeyRing {
  /** 32 bytes each, by name. All of them can read. */
  keys: Record<string, Uint8Array>
  /** Name of the key that writes. */
  current: string
  /** Whether sessions that were stored in the clear are read. Default: true, so that a store can be converted. */
  allowPlain?: boolean
}

export type ExecutionStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled'

/** How an execution ends. */
export type FinalStatus = 'completed' | 'failed' | 'cancelled'

/** The state of an execution (documented). Times are milliseconds since 1970. */
export interface WorkflowState {
  executionId: string
  workflowId: string
  status: ExecutionStatus
  /** 0 to 100. */
  progress: number
  currentStep: string
  totalSteps: number
  completedSteps: number
  data: Record<string, any>
  startedAt: number
  /** Grows with every change of the state, also where the clock does not. */
  updatedAt: number
  /** Absent unless 0 < progress < 100. */
  estimatedCompletion?: number
  error?: string
}

/** A state as it was fetched. */
export interface FetchedWorkflowState extends WorkflowState {
  /** Only there if it is true: the last known state, because Redis is out of reach. Never stored. */
  degraded?: true
}

/** Options of {@link Workstation.updateWorkflowProgress}. */
export interface ProgressOptions {
  /** Whether fewer completed steps than before are taken over. Default: false, they are ignored. */
  allowRegress?: boolean
}

/** Which active executions. */
export interface PageOptions {
  /** `nextCursor` of the page before. Default: the beginning. */
  cursor?: string
  /** 1 to 10,000. Default: 1,000. */
  limit?: number
}

/** Some of the active executions, in the order of their ids. */
export interface WorkflowPage {
  workflows: FetchedWorkflowState[]
  /** Entries that cannot be read. */
  corrupt: CorruptRow[]
  /** How many are active in all. */
  total: number
  /** `null` if there is no more. */
  nextCursor: string | null
  /** Whether this is the last known state, because Redis is out of reach. */
  degraded: boolean
}

/** Numbers about the active executions (documented; `corrupt` is ours). */
export interface WorkflowStatistics {
  /** Those that can be read. */
  activeExecutions: number
  executionsByStatus: Record<ExecutionStatus, number>
  /** Rounded; 0 if there are none. */
  averageProgress: number
  /** Active executions whose state cannot be read. */
  corrupt: number
}

/** What a clean-up did. */
export interface CleanupResult {
  cleaned: number
  errors: number
}

/** A change of an execution, as heard by {@link Workstation.watchProgress}. */
export interface ProgressEvent {
  executionId: string
  /** `null` if it was cleared. */
  state: WorkflowState | null
}

export interface ProgressWatcher {
  /** Called with every change, by any process. */
  progress(event: ProgressEvent): void
  /** The connection was interrupted: changes may have been missed, so look again. */
  gap?(): void
}

/** Who holds an execution's lock. */
export interface ExecutionLockStatus {
  locked: boolean
  /** The worker's id, of ferroflow's locks and of those that other packages wrote. */
  workerId?: string
}

/** The lock of an execution. Times are milliseconds since 1970. */
export interface ExecutionLock {
  executionId: string
  workerId: string
  /** Absent for locks of other packages, which do not say. */
  acquiredAt?: number
  /** Absent if it never expires. */
  expiresAt?: number
}

/** Options of {@link Workstation.lockWorkflowExecution}. */
export interface ExecutionLockOptions {
  /** Seconds until it expires. Default: 300. */
  ttl?: number
}

/** Options of {@link Workstation.unlockWorkflowExecution}. */
export interface UnlockOptions {
  /** Releases the lock whoever holds it. Default: false. */
  force?: boolean
}

/** Options of {@link Workstation.executeWithLock}. */
export interface ExecuteOptions {
  /** Seconds until the lock expires if nothing renews it. Default: 300. */
  ttl?: number
  /** Time to wait for the lock, in milliseconds. Default: 0. */
  waitMs?: number
  /** Ends the waiting. */
  signal?: AbortSignal
}

/** Options of {@link Workstation.getOrCompute}. */
export interface ComputeOptions {
  /**
   * How long one process may compute before another one starts as well, in milliseconds. It is renewed while the
   * process lives. Default: 30,000.
   */
  leaseMs?: number
}

/** `up`: everything reaches Redis. `degraded`: nothing is tried. `recovering`: what was journaled is written. */
export type DegradationState = 'up' | 'degraded' | 'recovering'

/** What is done differently while Redis is out of reach, by kind of operation. */
export type FallbackClass = 'cache' | 'session' | 'delete' | 'progress' | 'lock' | 'command'

/** Where a workstation stands. */
export interface Degradation {
  state: DegradationState
  /** Milliseconds since 1970. */
  since: number
  /** Why it is not `up`. */
  reason?: string
  /** Whether there is no Redis by choice: everything runs on the embedded engine. */
  disabled: boolean
  /** Writes that wait for Redis. */
  journal: { entries: number; bytes: number; maxBytes: number }
  /** Operations that were answered without Redis, or refused, since the start. */
  fallbackOps: Record<FallbackClass, number>
}

/** A change from one state to the next. */
export interface Transition {
  from: DegradationState
  to: DegradationState
  /** Milliseconds since 1970. */
  at: number
  reason: string
}

/** A journaled write that could not be applied. */
export interface RejectedWrite {
  kind: 'session' | 'delete' | 'progress'
  /** User id or execution id. */
  id: string
  /** `newer`: Redis has something newer. `missing`: the execution is gone. */
  reason: 'newer' | 'missing' | 'error'
  error?: unknown
}

/** What a recovery did. */
export interface Replay {
  applied: number
  rejected: number
}

/** Events of a {@link Workstation}. There is no `error` event. */
export interface WorkstationEvents {
  transition: [transition: Transition]
  /** A journaled write lost against what Redis has. */
  rejected: [write: RejectedWrite]
  /** A recovery has written everything. */
  replayed: [replay: Replay]
}

/** The four documented states. */
export type RedisHealthStatus = 'up' | 'down' | 'disabled' | 'error'

/** Health of Redis: the documented triple, and what it leaves open. */
export interface RedisHealth {
  healthy: boolean
  usingRedis: boolean
  connected: boolean
  status: RedisHealthStatus
  /** Milliseconds of a round trip; absent unless there was one. */
  latency?: number
  /** Why it is not `up`. Without host, key or secret. */
  error?: string
  degradation: Degradation
}

/** Whether the store takes writes and runs scripts. */
export interface Readiness {
  ready: boolean
  /** Milliseconds. */
  latency: number
  /** Why not. Without host, key or secret. */
  error?: string
}
