import { hostname } from 'node:os'

import { addressOf, beforeClose, type Connection, fullPrefix, nativeOf } from '../connection.js'
import {
  ConnectionError,
  fromNative,
  LockError,
  type LockErrorDetails,
  type LockHolder,
  TimeoutError,
} from '../errors.js'
import { binding, guarded, settled } from '../native.js'
import { checkInteger, checkName, checkText } from '../validate.js'
import { enterAgain, type Frame, heldByChain, holding, MAX_TIMER } from './chain.js'
import { HeldLock, type LockContext, LossWatch } from './hold.js'
import {
  type LockInspection,
  type LockPage,
  type NativeHolder,
  toHolder,
  toInspection,
  toPage,
} from './info.js'
import { checkTtl, type Terms } from './options.js'

/** Why an acquisition came to nothing, as the error that says so. */
export type Refusal = LockError

/** The text and code of an error, which documents fix for some callers. */
export interface Refused {
  message: string
  retryable?: boolean
}

/** What the owner of locks wants of them. */
export interface LockOwner {
  /** Whether they are entered in the list of held locks. Default: false. */
  listed?: boolean
  lost?(error: LockError): void
  granted?(): void
}

interface Grant {
  native: binding.NativeHold
  watch: LossWatch | undefined
  token: string
  fence: number
}

/** Locks under one prefix. The TypeScript side of the one lock engine. */
export class Locks {
  readonly #native: binding.NativeLocks
  readonly #acquire: ReturnType<binding.NativeLocks['calls']>[0]
  readonly #release: ReturnType<binding.NativeLocks['calls']>[1]
  readonly #owner: LockOwner
  readonly #fullPrefix: string
  /** Names a lock among all servers, with its key behind it. */
  readonly #identity: string
  readonly #forget: () => void

  constructor(connection: Connection, prefix: string, owner: LockOwner = {}) {
    this.#native = guarded(() =>
      binding.NativeLocks.open(nativeOf(connection), prefix, hostname(), owner.listed ?? false),
    )
    ;[this.#acquire, this.#release] = this.#native.calls()
    this.#owner = owner
    this.#fullPrefix = fullPrefix(connection, prefix)
    this.#identity = `${addressOf(connection)} ${this.#fullPrefix}`
    this.#forget = beforeClose(connection, () => settled(this.#native.close()))
  }

  /**
   * The token of the acquisition, or `null` if somebody else held the lock all the time.
   *
   * @param ttl - milliseconds. Default: that of the terms
   */
  async acquire(key: string, terms: Terms, ttl: number = terms.ttl): Promise<string | null> {
    // What most calls ask for needs no object of its own in the core.
    if (terms.signal === undefined && !terms.fair && terms.replicas === 0 && terms.holder === '') {
      const [name, lasting] = [checkText('the lock key', key), checkTtl('ttl', ttl)]
      let answer: unknown
      try {
        answer = await this.#acquire(name, lasting, terms.waitMs, terms.retryDelay)
      } catch (error) {
        throw fromNative(error)
      }
      if (typeof answer !== 'string') return null
      this.#owner.granted?.()
      return answer
    }
    const grant = await this.#request(key, { ...terms, ttl: checkTtl('ttl', ttl) }, false)
    return grant instanceof LockError ? null : grant.token
  }

  /** The same as an object, which is told when the lock is lost. */
  async acquireLock(key: string, terms: Terms): Promise<HeldLock | null> {
    const grant = await this.#request(key, terms, true)
    return grant instanceof LockError ? null : this.#held(key, grant, terms)
  }

  /**
   * `true` if it was freed, `false` if nobody holds it, otherwise who does (nothing, if that is not known). May throw
   * what is wrong with the arguments instead of rejecting.
   */
  release(key: string, token: string): Promise<boolean | { holder?: LockHolder }> {
    const [name, owner] = [checkText('the lock key', key), checkText('the token', token)]
    return settled(this.#release(name, owner), toOwnership)
  }

  /** `true` if it was extended, `false` if nobody holds it, otherwise who does (nothing, if that is not known). */
  async extend(key: string, token: string, ttl: number): Promise<boolean | { holder?: LockHolder }> {
    const [name, owner] = [checkName('the lock key', key), checkName('the token', token)]
    return settled(this.#native.extend(name, owner, checkTtl('ttl', ttl)), toOwnership)
  }

  isLocked(key: string): Promise<boolean> {
    return settled(this.#native.isLocked(checkName('the lock key', key)))
  }

  inspect(key: string): Promise<LockInspection> {
    return settled(this.#native.inspect(checkName('the lock key', key)), toInspection)
  }

  async list(cursor: number, limit: number): Promise<LockPage> {
    const after = checkInteger('cursor', cursor, { max: Number.MAX_SAFE_INTEGER })
    return toPage(
      await settled(this.#native.list(after, checkInteger('limit', limit, { min: 1, max: 10_000 }))),
    )
  }

  /** Whether it was held, and by whom. */
  async forceRelease(key: string): Promise<{ released: boolean; holder?: LockHolder }> {
    const answer = await settled(this.#native.forceRelease(checkName('the lock key', key)))
    const [released, native] = answer as [boolean, NativeHolder]
    const holder = toHolder(native)
    return { released, ...(holder && { holder }) }
  }

  /** Frees everything that is held, and ends every wait with `CLOSED`. */
  async close(): Promise<void> {
    this.#forget()
    await settled(this.#native.close())
  }

  /**
   * Runs `fn` with the lock held and releases it whatever happens. Nothing about the release replaces the result or
   * the error of `fn`.
   *
   * @param refused - the text of the error if somebody else holds the lock
   */
  async hold<T>(
    key: string,
    terms: Terms,
    fn: (context: LockContext) => T | Promise<T>,
    refused: (error: LockError) => Refused,
  ): Promise<T> {
    const id = this.#identity + checkName('the lock key', key)
    const outer = heldByChain(id)
    if (outer !== undefined && terms.reentrant !== 'wait') return this.#again(outer, key, terms, fn, refused)
    const grant = await this.#request(key, terms, true)
    if (grant instanceof LockError) throw reworded(grant, refused(grant))
    const lock = this.#held(key, grant, terms)
    const running = holding(id, lock, () => fn(lock))
    let outcome: PromiseSettledResult<T> | undefined
    // This call settles in time whatever the function waits for, so the process must live to see it.
    const limit = Math.min(terms.maxHoldMs, MAX_TIMER)
    const awake = limit > 0 ? setInterval(() => lock.noteTimeOver(), limit) : undefined
    try {
      const ended = settledResult(running)
      outcome = await (terms.maxHoldMs === 0
        ? ended
        : Promise.race([ended, lock.untilOverdue().then(() => undefined)]))
    } finally {
      clearInterval(awake)
      await this.#releaseQuietly(lock)
    }
    if (outcome === undefined || (lock.lost !== undefined && terms.onLoss === 'reject')) {
      throw withCause(lock.lost, outcome)
    }
    if (lock.lost !== undefined) warn(lock.lost.message)
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
  }

  async #again<T>(
    outer: Frame,
    key: string,
    terms: Terms,
    fn: (context: LockContext) => T | Promise<T>,
    refused: (error: LockError) => Refused,
  ): Promise<T> {
    if (!terms.reentrant) {
      throw this.#error('LOCK_REENTRANT', key, 'the caller holds it already, and would wait for itself')
    }
    const { lock } = outer
    const entered = await enterAgain(outer, terms.waitMs, () => fn(lock))
    if (entered === false) {
      const error = this.#error('LOCK_TIMEOUT', key, 'held by the same chain')
      throw reworded(error, refused(error))
    }
    return entered.value
  }

  async #request(key: string, terms: Terms, kept: boolean): Promise<Grant | Refusal> {
    checkName('the lock key', key)
    const { signal } = terms
    if (signal?.aborted === true) throw this.#aborted(key, signal)
    const native = guarded(() => this.#native.request(toRequest(key, terms, kept)))
    const watch = kept ? new LossWatch(native) : undefined
    let granted = false
    const abandon = (): void => native.abandon()
    signal?.addEventListener('abort', abandon, { once: true })
    try {
      const [name, attempts, ...details] = await settled(native.acquire())
      switch (name) {
        case 'granted': {
          this.#owner.granted?.()
          const [token, fence] = details as [string, number]
          granted = true
          return { native, watch, token, fence }
        }
        case 'not-replicated': {
          const message = `${String(details[0])} of ${terms.replicas} replicas knew of it in time`
          throw this.#error('LOCK_NOT_REPLICATED', key, message, {
            retryable: true,
            attempts: attempts as number,
          })
        }
        case 'abandoned':
          throw this.#aborted(key, signal, attempts as number)
        default: {
          const holder = toHolder(details[0] as NativeHolder)
          const code = terms.waitMs === 0 ? 'LOCK_HELD' : 'LOCK_TIMEOUT'
          const more = { retryable: true, attempts: attempts as number, ttlMs: terms.ttl, holder }
          return this.#error(code, key, 'somebody else holds it', more)
        }
      }
    } finally {
      signal?.removeEventListener('abort', abandon)
      if (!granted) watch?.end()
    }
  }

  #held(key: string, { native, watch = new LossWatch(native), token, fence }: Grant, terms: Terms): HeldLock {
    const grant = { key, fullKey: this.#fullPrefix + key, token, fence }
    return new HeldLock(native, watch, grant, terms, (error) => this.#owner.lost?.(error))
  }

  async #releaseQuietly(lock: HeldLock): Promise<void> {
    if (lock.lost !== undefined) return
    try {
      if (!(await lock.release())) lock.noteLoss('it was gone when its function ended')
    } catch (error) {
      // The core goes on trying, as long as the lock would last.
      if (error instanceof ConnectionError || error instanceof TimeoutError) return
      const name = JSON.stringify(lock.key)
      warn(`The lock ${name} is not released, and stays until it expires: ${String(error)}`)
    }
  }

  #aborted(key: string, signal: AbortSignal | undefined, attempts = 0): LockError {
    const details = { cause: signal?.reason as unknown, attempts }
    return this.#error('ABORTED', key, 'the waiting was given up', details)
  }

  #error(code: LockError['code'], key: string, why: string, details?: LockErrorDetails): LockError {
    return this.error(code, key, `Failed to acquire lock for ${key}: ${why}`, details)
  }

  /** An error about one of these locks. */
  error(code: LockError['code'], key: string, message: string, details?: LockErrorDetails): LockError {
    return new LockError(code, message, { key: this.#fullPrefix + key, ...details })
  }
}

function toRequest(key: string, terms: Terms, kept: boolean): binding.LockRequest {
  return {
    key,
    ttl: terms.ttl,
    wait: terms.waitMs,
    poll: terms.retryDelay,
    fair: terms.fair,
    kept,
    liveness: terms.renew && kept ? terms.jsLivenessMs : 0,
    maxHold: kept ? terms.maxHoldMs : 0,
    replicas: terms.replicas,
    replicaTimeout: terms.replicaTimeoutMs,
    label: terms.holder,
  }
}

function toOwnership(answer: unknown): boolean | { holder?: LockHolder } {
  if (typeof answer === 'boolean') return answer
  const holder = toHolder(answer as NativeHolder)
  return { ...(holder && { holder }) }
}

/** The same error in the words of whoever called. */
function reworded(error: LockError, { message, retryable = error.retryable }: Refused): LockError {
  const { code, key, holder, attempts, ttlMs } = error
  return new LockError(code, message, {
    retryable,
    ...(key !== undefined && { key }),
    holder,
    ...(attempts !== undefined && { attempts }),
    ...(ttlMs !== undefined && { ttlMs }),
  })
}

async function settledResult<T>(work: Promise<T>): Promise<PromiseSettledResult<T>> {
  try {
    return { status: 'fulfilled', value: await work }
  } catch (reason) {
    return { status: 'rejected', reason }
  }
}

/** The loss; what the function threw besides is its cause. */
function withCause(
  lost: LockError | undefined,
  outcome: PromiseSettledResult<unknown> | undefined,
): LockError | undefined {
  if (lost === undefined || outcome?.status !== 'rejected' || outcome.reason === lost) return lost
  const { message, key, ttlMs } = lost
  return new LockError('LOCK_LOST', message, {
    ...(key !== undefined && { key }),
    ...(ttlMs !== undefined && { ttlMs }),
    cause: outcome.reason,
  })
}

function warn(message: string): void {
  process.emitWarning(message, { type: 'FerroflowWarning', code: 'FERROFLOW_LOCK' })
}
