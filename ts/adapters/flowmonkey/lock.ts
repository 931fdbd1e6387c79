import { EventEmitter } from 'node:events'

import { Connection, connectStore, type StoreConnection } from '../../connection.js'
import { ArgumentError, LockError, type LockHolder } from '../../errors.js'
import { releaseOnExit } from '../../lock/exit.js'
import type { HeldLock, LockContext } from '../../lock/hold.js'
import type { LockInspection, LockPage } from '../../lock/info.js'
import { Locks } from '../../lock/locks.js'
import {
  checkBoolean,
  checkTtl,
  type Defaults,
  type LockOptions,
  type Terms,
  toTerms,
} from '../../lock/options.js'
import { holdAll, type LocksContext } from '../../lock/set.js'
import { lockWarnings, warnOnce } from '../../lock/warnings.js'
import type { Target } from '../../options.js'
import { isNodeRedis } from '../../target.js'
import { traced } from '../../tracing.js'
import { checkFunction, checkInteger, checkPrefix, withDefaults } from '../../validate.js'

/** Options of {@link RedisLockManager} (contract of @flowmonkey/redis; those without a default there are ours). */
export interface RedisLockManagerOptions extends Pick<
  LockOptions,
  'fair' | 'holder' | 'jsLivenessMs' | 'maxHoldMs' | 'onLoss' | 'reentrant' | 'replicas' | 'replicaTimeoutMs'
> {
  /** Put before every lock key. Default: `fm:lock:`. */
  keyPrefix?: string
  /** Time to live of a lock whose call names none, in milliseconds: 10 to 24 days. Default: 30,000. */
  defaultTTL?: number
  /** Longest time between two attempts, in milliseconds. Default: 100. */
  retryDelay?: number
  /** Attempts after the first; `maxRetries * retryDelay` is the time to wait in all. Default: 50. */
  maxRetries?: number
  /**
   * What `acquire` and `tryAcquire` return: the documented token, or the {@link Lock} object of the original's code.
   * Default: `lock` for a node-redis client, the only one that code accepts, `token` for everything else.
   */
  returns?: 'token' | 'lock'
  /**
   * Whether `release` and `extend` reject where the documented ones resolve `false`: with `LOCK_EXPIRED` if nobody
   * holds the lock, and `LOCK_LOST` if somebody else does. Default: false.
   */
  strict?: boolean
  /**
   * Whether everything held is released when the process gets SIGTERM or SIGINT, or one of these signals, which is then
   * raised again. Default: false.
   */
  releaseOnSignal?: boolean | readonly NodeJS.Signals[]
  /** Whether locks are entered in the list of held ones, see {@link RedisLockManager.list}. Default: true. */
  listed?: boolean
  /** Whether a server that may evict locks is worth a warning of the process, once. Default: true. */
  warnings?: boolean
}

/** One acquisition of a lock (contract of flowmonkey's `StateStore`; what it lacks there is ours). */
export interface Lock extends Omit<LockContext, 'extend'> {
  /** Frees the lock, if it is still held. May be called again. */
  release(): Promise<void>
  /** Sets the milliseconds left. `false` if the lock is not held any more. */
  extend(ttl: number): Promise<boolean>
}

/** Options of one acquisition, in the form that yields a {@link Lock}. */
export interface AcquireOptions extends Omit<LockOptions, 'reentrant' | 'onLoss'> {}

/** Events of a {@link RedisLockManager}. */
export interface RedisLockManagerEvents {
  /** A lock that was held is lost. Whoever holds it is told by its `signal`. */
  lost: [error: LockError]
  /** This manager released a lock by force. */
  forceReleased: [event: { key: string; holder?: LockHolder }]
}

/** What can be said of a lock server beside whether it answers. */
export interface LockHealth {
  /** What may cost locks: a policy of eviction, say. Empty if nothing is known to. */
  warnings: string[]
}

/**
 * Distributed locks: a string `{keyPrefix}{key}` that holds the owner's token (contract of @flowmonkey/redis).
 *
 * Acquire, release and extend are atomic and take one round trip. A waiting `acquire` is woken by the release. A lock
 * that a function runs under is renewed outside of the event loop, and its loss is signalled. Every acquisition has a
 * fence, a number greater than all before.
 */
export class RedisLockManager extends EventEmitter<RedisLockManagerEvents> {
  readonly #store: StoreConnection
  readonly #locks: Locks
  /** For a lock that is handed out: it expires unless that is asked for. */
  readonly #defaults: Defaults
  /** The same for a call that says nothing else, with everything decided, and for one that does not wait. */
  readonly #terms: Terms
  readonly #once: Terms
  readonly #returnsLocks: boolean
  readonly #strict: boolean
  readonly #stopListening: () => void

  /**
   * @param redis - where the locks are
   * @throws {@link ConfigError} for a target, {@link ArgumentError} for an option that cannot be used
   */
  constructor(redis: Target, options?: RedisLockManagerOptions) {
    super()
    const { keyPrefix, defaultTTL, retryDelay, maxRetries, strict, listed, warnings } = withDefaults(
      'The options',
      {
        keyPrefix: 'fm:lock:',
        defaultTTL: 30_000,
        retryDelay: 100,
        maxRetries: 50,
        strict: false,
        listed: true,
        warnings: true,
      },
      options,
    )
    checkPrefix('keyPrefix', keyPrefix)
    const delay = checkInteger('retryDelay', retryDelay, { unit: 'milliseconds' })
    const budget = delay * checkInteger('maxRetries', maxRetries)
    const { fair, holder, jsLivenessMs, maxHoldMs, onLoss, reentrant, replicas, replicaTimeoutMs } =
      options ?? {}
    this.#defaults = toDefaults({
      ttl: checkTtl('defaultTTL', defaultTTL),
      waitMs: checkInteger('retryDelay * maxRetries', budget, { unit: 'milliseconds' }),
      retryDelay: Math.max(delay, 1),
      renew: false,
      fair,
      holder,
      jsLivenessMs,
      maxHoldMs,
      onLoss,
      reentrant,
      replicas,
      replicaTimeoutMs,
    })
    this.#terms = toTerms(this.#defaults, undefined)
    this.#once = { ...this.#terms, waitMs: 0 }
    const returns = options?.returns ?? (isNodeRedis(redis) ? 'lock' : 'token')
    if (returns !== 'token' && returns !== 'lock') {
      throw new ArgumentError('INVALID_ARGUMENT', 'returns must be "token" or "lock"')
    }
    this.#returnsLocks = returns === 'lock'
    this.#strict = checkBoolean('strict', strict)
    const warns = checkBoolean('warnings', warnings)
    this.#store = connectStore(redis)
    const { connection } = this.#store
    this.#locks = new Locks(connection, keyPrefix, {
      listed,
      lost: (error) => this.emit('lost', error),
      granted: () => warns && warnOnce(connection),
    })
    this.#stopListening = releaseOnExit(options?.releaseOnSignal ?? false, () => this.close())
  }

  /**
   * Acquires a lock, waiting up to `maxRetries * retryDelay`. It is not renewed: it expires.
   *
   * @param ttl - milliseconds until it expires, 10 to 24 days. Default: `defaultTTL`
   * @returns the token of this acquisition (or a {@link Lock}, see `returns`), or `null` if somebody else held the
   * lock all the time
   * @throws {@link LockError} with the code `ABORTED` or `LOCK_NOT_REPLICATED`
   */
  acquire(key: string, ttl?: number): Promise<string | null>
  /** The same, with a {@link Lock} for a result. */
  acquire(key: string, options: AcquireOptions): Promise<Lock | null>
  acquire(key: string, ttl?: number | AcquireOptions): Promise<string | Lock | null> {
    return this.#acquire(key, ttl, this.#terms)
  }

  /** Like {@link RedisLockManager.acquire}, but never waits. */
  tryAcquire(key: string, ttl?: number): Promise<string | null>
  /** The same, with a {@link Lock} for a result. */
  tryAcquire(key: string, options: AcquireOptions): Promise<Lock | null>
  tryAcquire(key: string, ttl?: number | AcquireOptions): Promise<string | Lock | null> {
    const once = typeof ttl === 'object' && ttl !== null ? { ...ttl, waitMs: 0 } : ttl
    return this.#acquire(key, once, this.#once)
  }

  /** Acquires a lock without waiting (contract of flowmonkey's `StateStore`). */
  async acquireLock(key: string, ttl: number): Promise<Lock | null> {
    return this.#acquireLock(key, { ttl: checkTtl('ttl', ttl) }, this.#once)
  }

  #acquire(
    key: string,
    ttl: number | AcquireOptions | undefined,
    terms: Terms,
  ): Promise<string | Lock | null> {
    if (typeof ttl === 'object' && ttl !== null) return this.#acquireLock(key, ttl, terms)
    if (this.#returnsLocks) return this.#acquireLock(key, ttl === undefined ? {} : { ttl }, terms)
    return this.#locks.acquire(key, terms, ttl)
  }

  async #acquireLock(key: string, options: LockOptions, { waitMs }: Terms): Promise<Lock | null> {
    const lock = await this.#locks.acquireLock(key, toTerms({ ...this.#defaults, waitMs }, options))
    return lock === null ? null : toLock(lock)
  }

  /**
   * Releases a lock.
   *
   * @returns `false` if it is not held under this token (any more); then nothing happened
   * @throws {@link LockError} in that case, with the option `strict`
   */
  async release(key: string, token: string | Lock): Promise<boolean> {
    return this.#owned(key, await this.#locks.release(key, tokenOf(token)))
  }

  /**
   * Sets the time that a lock has left.
   *
   * @param ttl - milliseconds from now, 10 to 24 days. Default: `defaultTTL`
   * @returns `false` if it is not held under this token (any more); then nothing happened
   * @throws {@link LockError} in that case, with the option `strict`
   */
  async extend(key: string, token: string | Lock, ttl?: number): Promise<boolean> {
    return this.#owned(key, await this.#locks.extend(key, tokenOf(token), ttl ?? this.#defaults.ttl))
  }

  #owned(key: string, answer: boolean | { holder?: LockHolder }): boolean {
    if (answer === true || !this.#strict) return answer === true
    if (answer === false) {
      throw this.#locks.error('LOCK_EXPIRED', key, `The lock ${JSON.stringify(key)} is not held any more`)
    }
    const message = `The lock ${JSON.stringify(key)} is held by somebody else`
    throw this.#locks.error('LOCK_LOST', key, message, answer)
  }

  /**
   * Runs `fn` while holding a lock, and releases it afterwards whatever happens. The lock is renewed as long as `fn`
   * runs, also while the event loop is blocked; `fn` is told by its context's `signal` if it is lost nevertheless.
   *
   * @param ttl - milliseconds, 10 to 24 days, or options. Default: `defaultTTL`
   * @returns what `fn` returns
   * @throws {@link LockError} with the code `LOCK_TIMEOUT` or `LOCK_HELD` if somebody else held the lock, `LOCK_LOST`
   * if it was lost while `fn` ran, `LOCK_REENTRANT`, `LOCK_NOT_REPLICATED` or `ABORTED`; what `fn` throws
   */
  async withLock<T>(
    key: string,
    fn: (context: LockContext) => T | Promise<T>,
    ttl?: number | LockOptions,
  ): Promise<T> {
    checkFunction('fn', fn)
    return this.#locks.hold(key, this.#termsOfHold(ttl), fn, () => refusal(key))
  }

  /**
   * Runs `fn` while holding several locks: all of them or none. They are acquired in the order of their names, so that
   * calls whose sets overlap cannot wait for each other, and each for as long as `waitMs` allows in all.
   *
   * @param keys - at least one; one that comes twice counts once
   * @throws as {@link RedisLockManager.withLock} does
   */
  async withLocks<T>(
    keys: readonly string[],
    fn: (context: LocksContext) => T | Promise<T>,
    ttl?: number | LockOptions,
  ): Promise<T> {
    checkFunction('fn', fn)
    return holdAll(this.#locks, keys, this.#termsOfHold(ttl), fn, refusal)
  }

  #termsOfHold(ttl: number | LockOptions | undefined): Terms {
    const options =
      typeof ttl === 'object' ? ttl : ttl === undefined ? undefined : { ttl: checkTtl('ttl', ttl) }
    return toTerms({ ...this.#defaults, renew: true }, options)
  }

  /** Whether anybody holds the lock. Information, not permission: it may be out of date on arrival. */
  isLocked(key: string): Promise<boolean> {
    return this.#locks.isLocked(key)
  }

  /** Who holds a lock, for how long, and how many wait. Information, not permission. One round trip, in a cluster two. */
  inspect(key: string): Promise<LockInspection> {
    return this.#locks.inspect(key)
  }

  /**
   * The locks that are held, in the order of their acquisition. From an index, in two round trips: locks that were held
   * for less than 100 ms are not in it, nor are those of other packages.
   */
  async list(options: { cursor?: number; limit?: number } = {}): Promise<LockPage> {
    const { cursor, limit } = withDefaults('The options', { cursor: 0, limit: 100 }, options)
    return this.#locks.list(cursor, limit)
  }

  /**
   * Releases a lock, whoever holds it: its holder loses it, and learns so when it next extends it. Emits
   * `forceReleased`.
   *
   * @returns whether it was held
   */
  async forceRelease(key: string): Promise<boolean> {
    const { released, ...who } = await this.#locks.forceRelease(key)
    if (released) this.emit('forceReleased', { key, ...who })
    return released
  }

  /** What may cost locks on this server, as far as the user is allowed to see it. */
  async health(): Promise<LockHealth> {
    return { warnings: await lockWarnings(this.connection) }
  }

  /** The connection in use. */
  get connection(): Connection {
    return this.#store.connection
  }

  /**
   * Frees every lock that this manager holds, ends every wait with `CLOSED`, and closes the connection, unless it was
   * given as a {@link Connection}.
   */
  async close(): Promise<void> {
    this.#stopListening()
    await this.#locks.close()
    if (this.#store.owned) await this.#store.connection.close()
  }
}

traced('RedisLockManager', RedisLockManager.prototype)

/** Leaves out what is `undefined`. */
function toDefaults(defaults: { [K in keyof Defaults]: Defaults[K] | undefined }): Defaults {
  return Object.fromEntries(
    Object.entries(defaults).filter(([, value]) => value !== undefined),
  ) as unknown as Defaults
}

function refusal(key: string): { message: string } {
  return { message: `Failed to acquire lock for ${key}: somebody else holds it` }
}

function toLock(lock: HeldLock): Lock {
  return {
    key: lock.key,
    token: lock.token,
    fence: lock.fence,
    get signal() {
      return lock.signal
    },
    get held() {
      return lock.held
    },
    get ttlLeft() {
      return lock.ttlLeft
    },
    assertHeld: () => lock.assertHeld(),
    release: async () => void (await lock.release()),
    extend: async (ttl) => lock.tryExtend(checkTtl('ttl', ttl)),
  }
}

function tokenOf(token: string | Lock): string {
  return typeof token === 'object' && typeof token?.token === 'string' ? token.token : (token as string)
}
