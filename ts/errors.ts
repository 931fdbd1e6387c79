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
  | 'LOCK_HELD'
  | 'LOCK_TIMEOUT'
  | 'LOCK_LOST'
  | 'LOCK_EXPIRED'
  | 'LOCK_REENTRANT'
  | 'LOCK_NOT_REPLICATED'
  | 'ABORTED'
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

/** Who holds a lock. */
export interface LockHolder {
  /** What it calls itself, otherwise `host:pid`. */
  name: string
  /** Name of its machine. */
  host: string
  /** Id of its process. */
  pid: number
  /** When it acquired the lock, by the clock of the server. */
  acquiredAt: Date
  /** The number of its acquisition. */
  fence: number
  /** Whether it extends the lock as long as it holds it. */
  renewed: boolean
  /** For how many milliseconds it does so while its event loop is blocked. */
  jsLivenessMs?: number
  /** For how many milliseconds it holds the lock at most, if there is a limit. */
  maxHoldMs?: number
}

/** What an error about a lock carries besides. */
export interface LockErrorDetails extends ErrorDetails, FenceDetails {
  holder?: LockHolder | undefined
  attempts?: number
  ttlMs?: number
}

/**
 * Somebody else holds the lock (`LOCK_HELD`), or held it for all the time that was to be waited (`LOCK_TIMEOUT`). The
 * lock was lost while it was needed (`LOCK_LOST`), or had expired before (`LOCK_EXPIRED`). The same asynchronous chain
 * holds it already (`LOCK_REENTRANT`). Too few replicas know of it (`LOCK_NOT_REPLICATED`). The waiting was given up
 * (`ABORTED`; the signal's reason is the `cause`). A later holder of it has written already, so that nothing was
 * written (`STALE_FENCE`).
 */
export class LockError extends FerroflowError {
  /** Who holds the lock, if that is known. */
  declare readonly holder?: LockHolder
  /** How often the lock was tried. */
  declare readonly attempts?: number
  /** The time to live that was asked for, in milliseconds. */
  declare readonly ttlMs?: number
  /** Of `STALE_FENCE`: the fence of the write that was refused. */
  declare readonly fence?: number
  /** Of `STALE_FENCE`: the higher fence under which the record was written. */
  declare readonly currentFence?: number

  constructor(code: ErrorCode, message: string, details: LockErrorDetails = {}) {
    super(code, message, details)
    const { holder, attempts, ttlMs, fence, currentFence } = details
    if (holder !== undefined) this.holder = holder
    if (attempts !== undefined) this.attempts = attempts
    if (ttlMs !== undefined) this.ttlMs = ttlMs
    if (fence !== undefined) this.fence = fence
    if (currentFence !== undefined) this.currentFence = currentFence
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
