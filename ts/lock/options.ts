import { ArgumentError } from '../errors.js'
import { checkInteger, checkMillis, checkName, checkObject, kindOf } from '../validate.js'

/** A lock lasts at least 10 milliseconds and at most 24 days. */
const TTL = { min: 10, max: 24 * 24 * 60 * 60 * 1000, unit: 'milliseconds' }

/** How a lock is waited for. */
export interface WaitOptions {
  /** Time to wait in all, in milliseconds; 0 for one attempt. Default: `maxRetries * retryDelay`. */
  waitMs?: number
  /** Longest time between two attempts, in milliseconds. Default: that of the manager, 100. */
  retryDelay?: number
  /** Ends the waiting: the call rejects with `ABORTED`, and nothing of it stays behind. Default: none. */
  signal?: AbortSignal
  /**
   * Whether those who wait with `fair` are served in their order of arrival. One that dies is skipped when its lease
   * of 3 s is over. Those who do not use `fair` do not queue. Default: false.
   */
  fair?: boolean
}

/** How a lock is held. */
export interface HoldOptions {
  /** Time to live if nothing extends the lock, in milliseconds: 10 to 24 days. Default: `defaultTTL`. */
  ttl?: number
  /**
   * Whether the lock is extended at a third of its TTL, as long as it is held and the event loop turns. Default: true
   * where a function runs under the lock, otherwise false.
   */
  renew?: boolean
  /**
   * How long the event loop may be blocked until renewal ends, in milliseconds, at least the TTL: a process that hangs
   * must not keep a lock for ever. Default: 10 times the TTL.
   */
  jsLivenessMs?: number
  /**
   * How long the lock may be held in all, in milliseconds. Then it is released and counts as lost, whether the function
   * has ended or not. Without renewal the TTL is the limit, and this has no use. Default: without limit.
   */
  maxHoldMs?: number
  /**
   * How many replicas must know of the lock before it counts as acquired (`WAIT`). Otherwise it is released again and
   * the call rejects with `LOCK_NOT_REPLICATED`. Default: 0.
   */
  replicas?: number
  /** How long to wait for them, in milliseconds. Default: 1,000. */
  replicaTimeoutMs?: number
  /** What the holder calls itself, for whoever inspects the lock. Default: none. */
  holder?: string
}

/** Options of one acquisition. */
export interface LockOptions extends WaitOptions, HoldOptions {
  /**
   * Whether the same asynchronous chain may enter again while it holds the lock. Siblings, as under `Promise.all`,
   * still take turns. Default: false: such a call rejects with `LOCK_REENTRANT` at once.
   */
  reentrant?: boolean
  /**
   * What becomes of a call whose lock was lost while its function ran: `reject` with `LOCK_LOST` once the function has
   * ended, or `ignore` it. Default: `reject`.
   */
  onLoss?: 'reject' | 'ignore'
}

/** Options with everything decided. */
export interface Terms extends Required<Omit<LockOptions, 'signal' | 'reentrant'>> {
  signal: AbortSignal | undefined
  /** `wait`: the same chain waits like everybody else. */
  reentrant: boolean | 'wait'
}

/** What holds where an option is not given. */
export type Defaults = LockOptions & Pick<Terms, 'ttl' | 'waitMs' | 'retryDelay' | 'renew'>

export function checkTtl(what: string, value: unknown): number {
  return checkInteger(what, value, TTL)
}

export function checkBoolean(what: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value
  throw new ArgumentError('INVALID_ARGUMENT', `${what} must be a boolean, not ${kindOf(value)}`)
}

function checkSignal(value: unknown): AbortSignal {
  const signal = value as AbortSignal | null
  // By shape: a signal may come from another realm or a polyfill.
  if (typeof signal?.aborted === 'boolean' && typeof signal.addEventListener === 'function') return signal
  throw new ArgumentError('INVALID_ARGUMENT', `signal must be an AbortSignal, not ${kindOf(value)}`)
}

function or<V>(value: V | undefined, absent: V): V {
  return value === undefined ? absent : value
}

/** Checks options and fills in what is absent. */
export function toTerms(defaults: Defaults, options: LockOptions | undefined): Terms {
  if (options !== undefined) checkObject('the options', options)
  const pick = <K extends keyof LockOptions>(name: K): LockOptions[K] =>
    options?.[name] === undefined ? defaults[name] : options[name]
  const ttl = checkTtl('ttl', pick('ttl'))
  const [liveness, maxHold, signal] = [pick('jsLivenessMs'), pick('maxHoldMs'), pick('signal')]
  const [holder, onLoss] = [or(pick('holder'), ''), or(pick('onLoss'), 'reject')]
  if (onLoss !== 'reject' && onLoss !== 'ignore') {
    throw new ArgumentError('INVALID_ARGUMENT', 'onLoss must be "reject" or "ignore"')
  }
  return {
    ttl,
    waitMs: checkInteger('waitMs', pick('waitMs'), { unit: 'milliseconds' }),
    retryDelay: checkMillis('retryDelay', pick('retryDelay')),
    signal: signal === undefined ? undefined : checkSignal(signal),
    fair: checkBoolean('fair', or(pick('fair'), false)),
    renew: checkBoolean('renew', pick('renew')),
    jsLivenessMs:
      liveness === undefined
        ? 10 * ttl
        : checkInteger('jsLivenessMs', liveness, { min: ttl, unit: 'milliseconds' }),
    maxHoldMs: maxHold === undefined ? 0 : checkMillis('maxHoldMs', maxHold),
    replicas: checkInteger('replicas', or(pick('replicas'), 0), { max: 1000 }),
    replicaTimeoutMs: checkInteger('replicaTimeoutMs', or(pick('replicaTimeoutMs'), 1000), {
      min: 1,
      max: 60_000,
      unit: 'milliseconds',
    }),
    holder: holder === '' ? '' : checkName('holder', holder),
    reentrant: checkBoolean('reentrant', or(pick('reentrant'), false)),
    onLoss,
  }
}
