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
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  SagaError,
  ServerError,
  TimeoutError,
  WorkflowError,
  connect,
} = ferroflow

export default ferroflow
