import { Connection, connectStore, fullPrefix, type StoreConnection } from '../../connection.js'
import { ArgumentError, LockError } from '../../errors.js'
import { Locks, type Patience } from '../../lock.js'
import type { Target } from '../../options.js'
import { isNodeRedis } from '../../target.js'
import {
  checkFunction,
  checkInteger,
  checkMillis,
  checkObject,
  checkPrefix,
  withDefaults,
} from '../../validate.js'

/** Options of {@link RedisLockManager} (contract of @flowmonkey/redis). */
export interface RedisLockManagerOptions {
  /** Put before every lock key. Default: `fm:lock:`. */
  keyPrefix?: string
  /** Time to live of a lock whose call names none, in milliseconds. Default: 30,000. */
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
}

/** One acquisition of a lock (contract of flowmonkey's `StateStore`). */
export interface Lock {
  /** The key, without prefix. */
  readonly key: string
  /** The token of this acquisition. */
  readonly token: string
  /** Frees the lock, if it is still held. May be called again. */
  release(): Promise<void>
  /** Sets the milliseconds left. `false` if the lock is not held any more. */
  extend(ttl: number): Promise<boolean>
}

/** Options of one acquisition, in the form that yields a {@link Lock}. */
export interface AcquireOptions {
  /** Milliseconds until it expires. Default: `defaultTTL`. */
  ttl?: number
}

const AT_ONCE: Patience = { budget: 0, poll: 1 }

/**
 * Distributed locks: a string `{keyPrefix}{key}` that holds the owner's token (contract of @flowmonkey/redis).
 *
 * Acquire, release and extend are atomic and take one round trip. A waiting `acquire` is woken by the release.
 */
export class RedisLockManager {
  readonly #store: StoreConnection
  readonly #locks: Locks
  readonly #defaultTtl: number
  readonly #patience: Patience
  readonly #returnsLocks: boolean
  /** With the connection's own, as keys are on the server. */
  readonly #fullPrefix: string

  /**
   * @param redis - where the locks are
   * @throws {@link ConfigError} for a target, {@link ArgumentError} for an option that cannot be used
   */
  constructor(redis: Target, options?: RedisLockManagerOptions) {
    const { keyPrefix, defaultTTL, retryDelay, maxRetries } = withDefaults(
      'The options',
      { keyPrefix: 'fm:lock:', defaultTTL: 30_000, retryDelay: 100, maxRetries: 50 },
      options,
    )
    checkPrefix('keyPrefix', keyPrefix)
    this.#defaultTtl = checkMillis('defaultTTL', defaultTTL)
    const delay = checkInteger('retryDelay', retryDelay, { unit: 'milliseconds' })
    const budget = delay * checkInteger('maxRetries', maxRetries)
    this.#patience = {
      budget: checkInteger('retryDelay * maxRetries', budget, { unit: 'milliseconds' }),
      poll: Math.max(delay, 1),
    }
    const returns = options?.returns ?? (isNodeRedis(redis) ? 'lock' : 'token')
    if (returns !== 'token' && returns !== 'lock') {
      throw new ArgumentError('INVALID_ARGUMENT', 'returns must be "token" or "lock"')
    }
    this.#returnsLocks = returns === 'lock'
    this.#store = connectStore(redis)
    this.#locks = new Locks(this.#store.connection, keyPrefix)
    this.#fullPrefix = fullPrefix(this.#store.connection, keyPrefix)
  }

  /**
   * Acquires a lock, waiting up to `maxRetries * retryDelay`.
   *
   * @param ttl - milliseconds until it expires. Default: `defaultTTL`
   * @returns the token of this acquisition (or a {@link Lock}, see `returns`), or `null` if somebody else held the
   * lock all the time
   */
  async acquire(key: string, ttl?: number): Promise<string | null>
  /** The same, with a {@link Lock} for a result. */
  async acquire(key: string, options: AcquireOptions): Promise<Lock | null>
  async acquire(key: string, ttl?: number | AcquireOptions): Promise<string | Lock | null> {
    return this.#acquire(key, ttl, this.#patience)
  }

  /** Like {@link RedisLockManager.acquire}, but never waits. */
  async tryAcquire(key: string, ttl?: number): Promise<string | null>
  /** The same, with a {@link Lock} for a result. */
  async tryAcquire(key: string, options: AcquireOptions): Promise<Lock | null>
  async tryAcquire(key: string, ttl?: number | AcquireOptions): Promise<string | Lock | null> {
    return this.#acquire(key, ttl, AT_ONCE)
  }

  /** Acquires a lock without waiting (contract of flowmonkey's `StateStore`). */
  async acquireLock(key: string, ttl: number): Promise<Lock | null> {
    const token = await this.#locks.acquire(key, ttl, AT_ONCE)
    return token === null ? null : this.#lock(key, token)
  }

  async #acquire(
    key: string,
    ttl: number | AcquireOptions | undefined,
    patience: Patience,
  ): Promise<string | Lock | null> {
    const options =
      typeof ttl === 'object' && ttl !== null
        ? (checkObject('the options', ttl) as AcquireOptions)
        : undefined
    const millis = options === undefined ? (ttl as number | undefined) : options.ttl
    const token = await this.#locks.acquire(key, millis ?? this.#defaultTtl, patience)
    return token !== null && (this.#returnsLocks || options !== undefined) ? this.#lock(key, token) : token
  }

  #lock(key: string, token: string): Lock {
    return {
      key,
      token,
      release: async () => void (await this.#locks.release(key, token)),
      extend: (ttl) => this.#locks.extend(key, token, ttl),
    }
  }

  /**
   * Releases a lock.
   *
   * @returns `false` if it is not held under this token (any more); then nothing happened
   */
  async release(key: string, token: string | Lock): Promise<boolean> {
    return this.#locks.release(key, tokenOf(token))
  }

  /**
   * Sets the time that a lock has left.
   *
   * @param ttl - milliseconds from now. Default: `defaultTTL`
   * @returns `false` if it is not held under this token (any more); then nothing happened
   */
  async extend(key: string, token: string | Lock, ttl?: number): Promise<boolean> {
    return this.#locks.extend(key, tokenOf(token), ttl ?? this.#defaultTtl)
  }

  /**
   * Runs `fn` while holding a lock, and releases it afterwards whatever happens.
   *
   * @param ttl - milliseconds. The lock is not renewed: choose more than `fn` takes. Default: `defaultTTL`
   * @returns what `fn` returns
   * @throws {@link LockError} with the code `LOCK_TIMEOUT` if somebody else held the lock all the time; what `fn`
   * throws
   */
  async withLock<T>(key: string, fn: () => T | Promise<T>, ttl?: number): Promise<T> {
    checkFunction('fn', fn)
    const refused = (): LockError =>
      new LockError('LOCK_TIMEOUT', `Failed to acquire lock for ${key}: somebody else holds it`, {
        retryable: true,
        key: this.#fullPrefix + key,
      })
    return this.#locks.hold(key, ttl ?? this.#defaultTtl, this.#patience, fn, refused)
  }

  /** Whether anybody holds the lock. Information, not permission: it may be out of date on arrival. */
  async isLocked(key: string): Promise<boolean> {
    return this.#locks.isLocked(key)
  }

  /** The connection in use. */
  get connection(): Connection {
    return this.#store.connection
  }

  /** Closes the connection, unless it was given as a {@link Connection}. Locks stay until they expire. */
  async close(): Promise<void> {
    if (this.#store.owned) await this.#store.connection.close()
  }
}

function tokenOf(token: string | Lock): string {
  return typeof token === 'object' && typeof token?.token === 'string' ? token.token : (token as string)
}
