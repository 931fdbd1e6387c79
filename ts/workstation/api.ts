import type { EventEmitter } from 'node:events'

import type { Connection } from '../connection.js'
import type { LockContext } from '../lock/hold.js'
import type { LockInspection } from '../lock/info.js'
import type { Target } from '../options.js'
import type {
  CleanupResult,
  ComputeOptions,
  Degradation,
  ExecuteOptions,
  ExecutionLock,
  ExecutionLockOptions,
  ExecutionLockStatus,
  FetchedWorkflowState,
  FinalStatus,
  PageOptions,
  ProgressOptions,
  ProgressWatcher,
  Readiness,
  RedisHealth,
  SessionData,
  SessionEntry,
  SessionKeyRing,
  SetSessionOptions,
  UnlockOptions,
  WorkflowPage,
  WorkflowState,
  WorkflowStatistics,
  WorkstationEvents,
} from './data.js'

export type * from './data.js'

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

/** Tickets that can be taken once, for streams of `ferroflow/express`. Refused while Redis is out of reach. */
export interface StreamTickets {
  /** @param ttl - how long it can be taken, in seconds */
  issue(ticket: string, text: string, ttl: number): Promise<void>
  /** The text of a ticket, for the first who asks; `null` for everybody else. */
  take(ticket: string): Promise<string | null>
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
  readonly streamTickets: StreamTickets
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
  /**
   * Logs a user out everywhere. A user has one session, which all devices and processes share, so that is the same as
   * {@link Workstation.deleteSession}: whoever still has the version of an earlier one cannot write it back.
   */
  deleteAllSessions(userId: string): Promise<boolean>
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
  /**
   * Hears of every change, all watchers over one subscription. Resolves how to stop.
   *
   * In a cluster, changes of one execution by several processes may come in another order than that of `updatedAt`.
   */
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
