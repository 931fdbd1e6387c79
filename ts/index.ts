/**
 * Workflow state, sagas and distributed locks in Redis, or embedded without it.
 *
 * @packageDocumentation
 */

export {
  Connection,
  connect,
  type BufferReply,
  type CommandArgument,
  type CommandReply,
  type ConnectionEvents,
  type ConnectionStatus,
} from './connection.js'
export type { Diagnosis, Finding, FindingCode } from './doctor.js'
export type { ConnectionOptions, IoredisClient, NodeRedisClient, Target, TlsOptions } from './options.js'
export {
  ArgumentError,
  ConcurrencyError,
  ConfigError,
  ConnectionError,
  CorruptEntryError,
  FerroflowError,
  LockError,
  SagaError,
  ServerError,
  TimeoutError,
  WorkflowError,
  type ErrorCode,
  type ErrorDetails,
  type LockErrorDetails,
  type LockHolder,
} from './errors.js'
export type { FenceOptions } from './fence.js'
export type { LockContext } from './lock/hold.js'
export type { ListedLock, LockInspection, LockPage } from './lock/info.js'
export type { HoldOptions, LockOptions, WaitOptions } from './lock/options.js'
export type { LocksContext } from './lock/set.js'
export { RedisExecutionCache, type RedisExecutionCacheOptions } from './adapters/flowmonkey/cache.js'
export {
  RedisLockManager,
  type AcquireOptions,
  type Lock,
  type LockHealth,
  type RedisLockManagerEvents,
  type RedisLockManagerOptions,
} from './adapters/flowmonkey/lock.js'
export {
  RedisWakeSignaler,
  type RedisWakeSignalerEvents,
  type RedisWakeSignalerOptions,
  type WakeHandler,
} from './adapters/flowmonkey/signal.js'
export type { RedisImpl } from './adapters/idioteque/delegate.js'
export { createRedisStore, type RedisStoreOptions, type WorkerStore } from './adapters/idioteque/store.js'
export {
  RedisWorkflowRunService,
  type JournalRunStep,
  type ListRunsOptions,
} from './adapters/pikku/run-service.js'
export {
  defineRedisWorkflowStateService,
  type RedisWorkflowStateServiceClass,
  type RedisWorkflowStateServiceMethods,
  type WorkflowStateServiceBase,
} from './adapters/pikku/state-mixin.js'
export {
  RedisWorkflowStateService,
  type StepState,
  type StepStatus,
  type UpdateRunStatusOptions,
  type WorkflowRun,
} from './adapters/pikku/state-service.js'
export {
  defineRedisWorkflowService,
  type RedisWorkflowServiceClass,
  type RedisWorkflowServiceMethods,
  type WorkflowServiceBase,
  type WorkflowServiceErrors,
  type WorkflowServiceOptions,
} from './adapters/pikku/workflow-service.js'
export type { CoreConcurrencyError } from './adapters/saga-bus/core-errors.js'
export type { RedisSagaStoreOptions } from './adapters/saga-bus/options.js'
export { RedisSagaStore } from './adapters/saga-bus/store.js'
export type {
  CorruptRow,
  JournalAttempt,
  JournalList,
  JournalRun,
  JournalStep,
  JournalStepStatus,
} from './journal.js'
export type { SagaMetadata } from './saga.js'
export { tracedOperations, type OperationContext } from './tracing.js'
export type { StoredError, WorkflowStatus } from './workflow.js'
export { hashParams, type HashOptions } from './workstation/api-cache.js'
export type {
  CacheMemoryOptions,
  CleanupResult,
  ComputeOptions,
  Degradation,
  DegradationState,
  ExecuteOptions,
  ExecutionLock,
  ExecutionLockOptions,
  ExecutionLockStatus,
  ExecutionStatus,
  FallbackClass,
  FetchedWorkflowState,
  FinalStatus,
  PageOptions,
  ProgressEvent,
  ProgressOptions,
  ProgressWatcher,
  Readiness,
  RedisHealth,
  RedisHealthStatus,
  RedisService,
  RejectedWrite,
  Replay,
  SessionData,
  SessionEntry,
  SessionKeyRing,
  SetSessionOptions,
  StreamTickets,
  Transition,
  UnlockOptions,
  WorkflowPage,
  WorkflowState,
  WorkflowStatistics,
  Workstation,
  WorkstationEvents,
  WorkstationOptions,
} from './workstation/api.js'
export { DEFAULT_TTL, KEY_PREFIXES } from './workstation/constants.js'
export {
  acquireExecutionLock,
  addActiveExecution,
  cacheAPIResponse,
  checkExecutionLock,
  cleanupStaleWorkflows,
  clearWorkflowState,
  completeWorkflowTracking,
  defaultWorkstation,
  deleteAllSessions,
  deleteSession,
  deleteWorkflowState,
  executeWithLock,
  fetchWorkflowState,
  getActiveExecutions,
  getActiveWorkflowsStatus,
  getCachedAPIResponse,
  getOrCompute,
  getSession,
  getSessionEntry,
  getWorkflowState,
  getWorkflowStatistics,
  isWorkflowLocked,
  listActiveWorkflows,
  lockWorkflowExecution,
  pageActiveWorkflows,
  redisHealthCheck,
  redisService,
  releaseExecutionLock,
  removeActiveExecution,
  setSession,
  setWorkflowState,
  startWorkflowTracking,
  touchSession,
  unlockWorkflowExecution,
  updateWorkflowProgress,
  updateWorkflowState,
  watchProgress,
} from './workstation/default-instance.js'
export { createWorkstation } from './workstation/workstation.js'
