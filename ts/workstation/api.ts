import type { EventEmitter } from 'node:events'

import type { Connection } from '../connection.js'
import type { LockContext } from '../lock/hold.js'
import type { LockInspection } from '../lock/info.js'
import type { Target } from '../options.js'
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

/** Bounded memory for the API cache while Redis is out of reach. */
export interface CacheMemoryOptions {
  /** Default: 10,000. */
  maxEntries?: number
  /** Default: 64 MiB. */
  maxBytes?: number
  /** How old an answer may be, in milliseconds. Default: 60,000. */
  maxAge?: number
}

/** Options of {@link createWorkstation}. Times are milliseconds. */
export interface WorkstationOptions {
  /** Where the data is. `false`: nowhere but in this process, locks included. Default: from the environment. */
  redis?: Target | false
  sessions?: {
    /** How old a copy may be that is served while Redis is out of reach. Default: 30,000; 0 for none. */
    staleMs?: number
    /** Encrypts sessions at rest. Default: none. */
    encryption?: SessionKeyRing
  }
  cache?: {
    /** Serves answers from memory while Redis is out of reach. Default: none, such reads miss. */
    memory?: CacheMemoryOptions
  }
  tracking?: {
    /** Without a change for so long, a running execution counts as stuck. Default: 3,600,000. */
    staleMs?: number
    /** Least time between two writes of one execution by this process; what comes between is merged. Default: 0. */
    coalesceMs?: number
  }
  degraded?: {
    /** Bytes of writes that may wait for Redis. Beyond, they are refused (`QUEUE_FULL`). Default: 64 MiB. */
    journalBytes?: number
    /** For how long nothing is tried after failures: 70 to 90 % of this, at random. Default: 1,000. */
    minOpenMs?: number
  }
  /**
   * `unsafe`: while Redis is out of reach, locks are granted by this process alone. Others know nothing of them.
   * Default: none, locks are refused.
   */
  localLocks?: 'unsafe'
  /** Gets one line for each change of {@link Degradation.state}. Default: a warning of the process. */
  log?: ((line: string) => void) | false
}

/** The commands of the documented `redisService`. Times are seconds, keys are taken as they are. */
export interface RedisService {
  get(key: string): Promise<string | null>
  /** @param ttl - seconds; absent or 0: for ever */
  set(key: string, value: string, ttl?: number): Promise<boolean>
  /** `true` if it is gone, whether it was there or not. */
  del(key: string): Promise<boolean>
  exists(key: string): Promise<boolean>
  setNX(key: string, value: string, ttl: number): Promise<boolean>
  sadd(key: string, ...members: string[]): Promise<number>
  srem(key: string, ...members: string[]): Promise<number>
  smembers(key: string): Promise<string[]>
  hset(key: string, field: string, value: string): Promise<number>
  hget(key: string, field: string): Promise<string | null>
  hgetall(key: string): Promise<Record<string, string>>
  incr(key: string): Promise<number>
  expire(key: string, seconds: number): Promise<boolean>
  ttl(key: string): Promise<number>
  /** Whether calls reach Redis at the moment. `false` where it is disabled. */
  isAvailable(): boolean
  /** Tries at once what is tried again and again by itself. */
  reconnect(): void
  /** Ends the connection. The next call opens another one. */
  disconnect(): Promise<void>
}

/**
 * Sessions, tracking of executions, execution locks and an API cache, in Redis or in this process.
 *
 * While Redis is out of reach, sessions and progress are journaled in memory and written when it returns; deletions
 * answer `false` until then; caches miss; locks are refused (`REDIS_UNAVAILABLE`).
 */
export interface Workstation extends EventEmitter<WorkstationEvents> {
  /** The connection in use; opened by the first use. */
  readonly connection: Connection
  readonly redisService: RedisService
  readonly degradation: Degradation

  /**
   * @param ttl - seconds; absent or 0: 86,400
   * @returns `false` if the version did not match
   */
  setSession(userId: string, session: object, ttl?: number, options?: SetSessionOptions): Promise<boolean>
  getSession(userId: string): Promise<SessionData | null>
  getSessionEntry(userId: string): Promise<SessionEntry | null>
  /** `true` if it is gone, `false` if that is still to be done because Redis is out of reach. */
  deleteSession(userId: string): Promise<boolean>
  /** Gives a session new time. `false` if there is none; then nothing is created. */
  touchSession(userId: string, ttl?: number): Promise<boolean>

  /** Stores any state under an execution's key, without a look at what is there. `ttl` in seconds, default 3,600. */
  setWorkflowState(executionId: string, state: object, ttl?: number): Promise<boolean>
  getWorkflowState(executionId: string): Promise<FetchedWorkflowState | null>
  deleteWorkflowState(executionId: string): Promise<boolean>
  startWorkflowTracking(
    executionId: string,
    workflowId: string,
    totalSteps: number,
    data?: Record<string, any>,
  ): Promise<boolean>
  /** `false` if the execution is unknown or has ended; then nothing changes. */
  updateWorkflowProgress(
    executionId: string,
    completedSteps: number,
    currentStep: string,
    data?: Record<string, any>,
    options?: ProgressOptions,
  ): Promise<boolean>
  /** `false` if the execution is unknown or has ended otherwise; then nothing changes. */
  completeWorkflowTracking(
    executionId: string,
    status: FinalStatus,
    error?: string,
    data?: Record<string, any>,
  ): Promise<boolean>
  fetchWorkflowState(executionId: string): Promise<FetchedWorkflowState | null>
  /** Stores a whole state and sets its `updatedAt`. `false` if the stored one has ended and this one has not. */
  updateWorkflowState(state: WorkflowState): Promise<boolean>
  clearWorkflowState(executionId: string): Promise<boolean>

  addActiveExecution(executionId: string): Promise<boolean>
  removeActiveExecution(executionId: string): Promise<boolean>
  getActiveExecutions(): Promise<string[]>
  listActiveWorkflows(): Promise<string[]>
  /** The first 1,000 that can be read; {@link Workstation.pageActiveWorkflows} has them all. */
  getActiveWorkflowsStatus(options?: PageOptions): Promise<FetchedWorkflowState[]>
  pageActiveWorkflows(options?: PageOptions): Promise<WorkflowPage>
  getWorkflowStatistics(): Promise<WorkflowStatistics>
  /** Ends stuck executions as `failed`, and takes those without a readable state out of the active ones. */
  cleanupStaleWorkflows(): Promise<CleanupResult>
  /** Hears of every change, all watchers over one subscription. Resolves how to stop. */
  watchProgress(watcher: ProgressWatcher): Promise<() => void>

  /** `false` if somebody holds it. Not renewed. */
  lockWorkflowExecution(
    executionId: string,
    workerId: string,
    options?: ExecutionLockOptions,
  ): Promise<boolean>
  /** Without `workerId`, releases only what this workstation acquired. `false` if there was nothing to release. */
  unlockWorkflowExecution(executionId: string, workerId?: string | UnlockOptions): Promise<boolean>
  isWorkflowLocked(executionId: string): Promise<ExecutionLockStatus>
  getExecutionLock(executionId: string): Promise<ExecutionLock | null>
  inspectExecutionLock(executionId: string): Promise<LockInspection>
  /**
   * Runs `fn` with the lock held and renewed.
   *
   * @throws {@link LockError} `Workflow execution <id> is already locked by worker <w>`
   */
  executeWithLock<T>(
    executionId: string,
    workerId: string,
    fn: (context: LockContext) => T | Promise<T>,
    options?: ExecuteOptions,
  ): Promise<T>
  acquireExecutionLock(executionId: string, workerId: string, ttl?: number): Promise<boolean>
  releaseExecutionLock(executionId: string, workerId?: string | UnlockOptions): Promise<boolean>
  checkExecutionLock(executionId: string): Promise<string | null>

  /** `false` while Redis is out of reach. `ttl` in seconds, default 3,600. */
  cacheAPIResponse(hash: string, response: unknown, ttl?: number): Promise<boolean>
  /** `null` if it is not cached. */
  getCachedAPIResponse(hash: string): Promise<any>
  /** What is cached, otherwise what `fn` returns: computed once, whoever asks in whatever process. */
  getOrCompute<T>(key: string, fn: () => T | Promise<T>, ttl?: number, options?: ComputeOptions): Promise<T>

  redisHealthCheck(): Promise<RedisHealth>
  /** Writes and reads by script, within one second, at most once a second. */
  checkReadiness(): Promise<Readiness>
  /** Journaled writes get one second to be applied. */
  close(): Promise<void>
}
