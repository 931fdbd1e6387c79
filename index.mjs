// The door for ES modules: the same objects as the CommonJS door's.
import ferroflow from './index.js'

export const {
  ArgumentError,
  ConcurrencyError,
  ConfigError,
  Connection,
  ConnectionError,
  CorruptEntryError,
  FerroflowError,
  LockError,
  RedisExecutionCache,
  RedisLockManager,
  RedisSagaStore,
  RedisWakeSignaler,
  RedisWorkflowRunService,
  RedisWorkflowStateService,
  SagaError,
  ServerError,
  TimeoutError,
  WorkflowError,
  connect,
  createRedisStore,
  defineRedisWorkflowService,
  defineRedisWorkflowStateService,
  tracedOperations,
} = ferroflow

export default ferroflow
