/** The stable `code` of every error that ferroflow throws. Compare with it, never with the text. */
export type ErrorCode =
  | 'CONFIG'
  | 'INVALID_ARGUMENT'
  | 'NOT_SERIALIZABLE'
  | 'AUTH_FAILED'
  | 'NO_PERMISSION'
  | 'REDIS_UNAVAILABLE'
  | 'QUEUE_FULL'
  | 'CLOSED'
  | 'TIMEOUT'
  | 'OUTCOME_UNKNOWN'
  | 'WRONG_TYPE'
  | 'CORRUPT_ENTRY'
  | 'SERVER_NOT_READY'
  | 'SERVER_ERROR'
  | 'UNSUPPORTED'
  | 'LOCK_TIMEOUT'
  | 'STALE_FENCE'
  | 'RUN_NOT_FOUND'
  | 'INVALID_TRANSITION'
  | 'STEP_NOT_FOUND'
  | 'STEP_EXISTS'
  | 'STEP_MISMATCH'
  | 'VERSION_NOT_FOUND'
  | 'SAGA_NOT_FOUND'
  | 'SAGA_EXISTS'
  | 'CONCURRENCY_CONFLICT'
  | 'INTERNAL_PANIC'

/** What an error carries beside its message. */
export interface ErrorDetails {
  /** Whether the same call may succeed later, unchanged. Default: false. */
  retryable?: boolean
  /** The Redis key that the failed call was about. */
  key?: string
  /** The error behind this one. */
  cause?: unknown
}

interface FenceDetails {
  fence?: number
  currentFence?: number
}

/** Base class of all errors of ferroflow. */
export class FerroflowError extends Error {
  /** Stable, for programs. */
  readonly code: ErrorCode
  /** Whether the same call may succeed later, unchanged. */
  readonly retryable: boolean
  /** The Redis key that the failed call was about, where there is one. */
  declare readonly key?: string

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.retryable = details.retryable ?? false
    if (details.key !== undefined) this.key = details.key
  }

  static {
    this.prototype.name = 'FerroflowError'
  }
}

/** A target or an option cannot be used (`CONFIG`), or the server refuses the credentials (`AUTH_FAILED`). */
export class ConfigError extends FerroflowError {
  static {
    this.prototype.name = 'ConfigError'
  }
}

/** An argument of the call is wrong (`INVALID_ARGUMENT`), or not JSON (`NOT_SERIALIZABLE`). Nothing was sent. */
export class ArgumentError extends FerroflowError {
  static {
    this.prototype.name = 'ArgumentError'
  }
}

/**
 * No connection: none could be made in time and nothing was sent (`REDIS_UNAVAILABLE`), too many calls wait for one
 * (`QUEUE_FULL`), or its owner closed it (`CLOSED`).
 */
export class ConnectionError extends FerroflowError {
  static {
    this.prototype.name = 'ConnectionError'
  }
}

/**
 * A call was sent and not answered: a read (`TIMEOUT`), or a write that may or may not have happened
 * (`OUTCOME_UNKNOWN`).
 */
export class TimeoutError extends FerroflowError {
  static {
    this.prototype.name = 'TimeoutError'
  }
}

/**
 * The server answered with an error: `WRONG_TYPE`, `NO_PERMISSION`, `SERVER_NOT_READY` (loading, read-only, out of
 * memory …; nothing was written), `UNSUPPORTED` (`memory://` has no such command), or any other (`SERVER_ERROR`).
 */
export class ServerError extends FerroflowError {
  static {
    this.prototype.name = 'ServerError'
  }
}

/** What is stored is not what ferroflow or its predecessors write (`CORRUPT_ENTRY`). Nothing is ever repaired. */
export class CorruptEntryError extends FerroflowError {
  static {
    this.prototype.name = 'CorruptEntryError'
  }
}

/**
 * Somebody else held the lock all the time (`LOCK_TIMEOUT`), or a later holder of it has written already, so that
 * nothing was written (`STALE_FENCE`).
 */
export class LockError extends FerroflowError {
  /** Of `STALE_FENCE`: the fence of the write that was refused. */
  declare readonly fence?: number
  /** Of `STALE_FENCE`: the higher fence under which the record was written. */
  declare readonly currentFence?: number

  constructor(code: ErrorCode, message: string, details: ErrorDetails & FenceDetails = {}) {
    super(code, message, details)
    if (details.fence !== undefined) this.fence = details.fence
    if (details.currentFence !== undefined) this.currentFence = details.currentFence
  }

  static {
    this.prototype.name = 'LockError'
  }
}

/**
 * There is no such run, step or version (`RUN_NOT_FOUND`, `STEP_NOT_FOUND`, `VERSION_NOT_FOUND`), there is such a step
 * already (`STEP_EXISTS`), it is for another function (`STEP_MISMATCH`), or the run has ended for good
 * (`INVALID_TRANSITION`).
 */
export class WorkflowError extends FerroflowError {
  static {
    this.prototype.name = 'WorkflowError'
  }
}

/** There is no such saga (`SAGA_NOT_FOUND`). */
export class SagaError extends FerroflowError {
  static {
    this.prototype.name = 'SagaError'
  }
}

/**
 * The saga is stored in another version than expected (`CONCURRENCY_CONFLICT`), or exists already (`SAGA_EXISTS`).
 * Load it and decide again. Fields and name are those of @saga-bus/core.
 */
export class ConcurrencyError extends FerroflowError {
  /** Id of the saga. */
  readonly sagaId: string
  /** The version that the caller expected; -1 for none. */
  readonly expectedVersion: number
  /** The version that is stored; -1 if it is not known. */
  readonly actualVersion: number
  /** The same as `expectedVersion`. */
  readonly expected: number
  /** The same as `actualVersion`. */
  readonly actual: number
  /** A good time to wait before loading and trying again, in milliseconds; spread, so that rivals do not meet again. */
  readonly retryAfterMs: number

  constructor(
    sagaId: string,
    expectedVersion: number,
    actualVersion: number,
    message = `Optimistic concurrency conflict: Concurrency conflict for saga ${sagaId}: expected version ${expectedVersion}, got ${actualVersion}`,
    code: 'CONCURRENCY_CONFLICT' | 'SAGA_EXISTS' = 'CONCURRENCY_CONFLICT',
  ) {
    super(code, message)
    this.sagaId = sagaId
    this.expectedVersion = expectedVersion
    this.actualVersion = actualVersion
    this.expected = expectedVersion
    this.actual = actualVersion
    this.retryAfterMs = 5 + Math.floor(20 * Math.random())
  }

  /** Conflicts of @saga-bus/core's own class count too: a store throws those where the core is installed. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (Function.prototype[Symbol.hasInstance].call(this, value)) return true
    if (this !== ConcurrencyError || !(value instanceof Error)) return false
    const { code } = value as { code?: unknown }
    return code === 'CONCURRENCY_CONFLICT' || code === 'SAGA_EXISTS'
  }

  static {
    this.prototype.name = 'ConcurrencyError'
  }
}

type ErrorClass = new (
  code: ErrorCode,
  message: string,
  details?: ErrorDetails & FenceDetails,
) => FerroflowError

/** The class of each code that the native core uses. */
const NATIVE_CLASSES: Partial<Record<ErrorCode, ErrorClass>> = {
  CONFIG: ConfigError,
  AUTH_FAILED: ConfigError,
  INVALID_ARGUMENT: ArgumentError,
  REDIS_UNAVAILABLE: ConnectionError,
  QUEUE_FULL: ConnectionError,
  CLOSED: ConnectionError,
  TIMEOUT: TimeoutError,
  OUTCOME_UNKNOWN: TimeoutError,
  NO_PERMISSION: ServerError,
  WRONG_TYPE: ServerError,
  SERVER_NOT_READY: ServerError,
  SERVER_ERROR: ServerError,
  UNSUPPORTED: ServerError,
  CORRUPT_ENTRY: CorruptEntryError,
  STALE_FENCE: LockError,
}

interface NativeError extends FenceDetails {
  code: ErrorCode
  message: string
  retryable: boolean
  key?: string
}

/**
 * The public error for one of the native core. Called after the `await`, so that its stack shows who called.
 *
 * @internal
 */
export function fromNative(error: unknown): unknown {
  // By shape: in a context of its own (Jest, vm) a program's `Error` is not that of the addon.
  if (typeof error !== 'object' || error === null || !('retryable' in error)) return error
  const { code, message, retryable, key, fence, currentFence } = error as NativeError
  const Class = NATIVE_CLASSES[code] ?? FerroflowError
  return new Class(code, message, { retryable, key, fence, currentFence })
}
