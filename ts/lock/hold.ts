import { LockError, fromNative } from '../errors.js'
import { type binding, settled, watchEvents } from '../native.js'
import { checkTtl, type Terms } from './options.js'

/** What a function that runs under a lock knows of it. */
export interface LockContext {
  /** The key, without prefix. */
  readonly key: string
  /** The token of this acquisition. */
  readonly token: string
  /**
   * Greater than that of every earlier acquisition of this lock. Give it to whatever the lock protects: what refuses an
   * older number is safe even from a holder that was paused for longer than its lock lasted.
   */
  readonly fence: number
  /** Aborted when the lock is lost; its reason is a {@link LockError} with the code `LOCK_LOST`. */
  readonly signal: AbortSignal
  /** Whether the lock is held for certain, by this process's own clock. No I/O. */
  readonly held: boolean
  /** For how many milliseconds it is held for certain if nothing extends it; 0 if it is lost. No I/O. */
  readonly ttlLeft: number
  /** Throws a {@link LockError} with the code `LOCK_LOST` unless the lock is held for certain. No I/O. */
  assertHeld(): void
  /**
   * Has the lock last this long from now on, in milliseconds; renewal goes on with this TTL. Default: the TTL of the
   * acquisition.
   *
   * @throws {@link LockError} with the code `LOCK_LOST`
   */
  extend(ttl?: number): Promise<void>
}

/** How the holder of a lock is told that it lost it. */
type LossDetail = [
  why: string,
  cause: [code: string, message: string, retryable: boolean] | null,
  overdue: boolean,
]

/** Hears of the loss of one acquisition, also of one that comes before JavaScript hears of the grant. */
export class LossWatch {
  /** Ends the watch. */
  readonly end: () => void
  #loss: LossDetail | undefined
  #listener: ((loss: LossDetail) => void) | undefined

  constructor(native: binding.NativeHold) {
    this.end = watchEvents(native.id, (name, detail) => {
      // Whatever it is, it is the last that is heard of this acquisition.
      this.end()
      if (name !== 'lost') return
      this.#loss = detail as LossDetail
      this.#listener?.(this.#loss)
    })
  }

  /** Calls `listener` at the loss, or now if it has come already. */
  hear(listener: (loss: LossDetail) => void): void {
    this.#listener = listener
    if (this.#loss !== undefined) listener(this.#loss)
  }
}

/** A lock that is held, and watched by the core. */
export class HeldLock implements LockContext {
  readonly key: string
  readonly token: string
  readonly fence: number
  readonly fullKey: string
  readonly #native: binding.NativeHold
  readonly #ttl: number
  readonly #onLost: (error: LockError) => void
  readonly #watch: LossWatch
  /** Made when somebody wants its signal: most locks are released before. */
  #controller: AbortController | undefined
  #overdue: (() => void) | undefined
  #isOverdue = false
  #isTimeOver = false
  #lost: LockError | undefined
  #released = false

  constructor(
    native: binding.NativeHold,
    watch: LossWatch,
    grant: { key: string; fullKey: string; token: string; fence: number },
    { ttl }: Terms,
    onLost: (error: LockError) => void,
  ) {
    this.key = grant.key
    this.fullKey = grant.fullKey
    this.token = grant.token
    this.fence = grant.fence
    this.#native = native
    this.#ttl = ttl
    this.#onLost = onLost
    this.#watch = watch
    watch.hear(([why, cause, isOverdue]) => {
      if (this.#released || this.#lost !== undefined) return
      this.noteLoss(why, cause === null ? undefined : fromNative(toNative(cause)))
      this.#isOverdue = isOverdue
      if (isOverdue || this.#isTimeOver) this.#overdue?.()
    })
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#lost !== undefined) this.#controller.abort(this.#lost)
    return this.#controller.signal
  }

  get held(): boolean {
    return this.ttlLeft > 0
  }

  get ttlLeft(): number {
    return this.#native.left()
  }

  /** Resolves when the lock was held for as long as was allowed, or would have been, had it not been lost before. */
  untilOverdue(): Promise<void> {
    return new Promise((resolve) => {
      this.#overdue = resolve
      if (this.#isOverdue) resolve()
    })
  }

  /** No function under the lock is waited for any longer. The core says so too, but not of a lock that is lost. */
  noteTimeOver(): void {
    this.#isTimeOver = true
    if (this.#lost !== undefined) this.#overdue?.()
  }

  /** The error of a lock that is lost. */
  get lost(): LockError | undefined {
    return this.#lost
  }

  assertHeld(): void {
    if (!this.held) throw this.#lost ?? this.lossError('its time was over, or it is released')
  }

  async extend(ttl?: number): Promise<void> {
    if (!(await this.tryExtend(ttl))) throw this.#lost ?? this.lossError('it is not held any more')
  }

  /** `false` if the lock is not held any more. */
  async tryExtend(ttl: number = this.#ttl): Promise<boolean> {
    return settled(this.#native.extend(checkTtl('ttl', ttl)))
  }

  /** Whether it was still held. From now on it is not, and nobody is told. */
  async release(): Promise<boolean> {
    this.#released = true
    this.#watch.end()
    return (await settled(this.#native.release())) === true
  }

  lossError(why: string, cause?: unknown): LockError {
    return new LockError('LOCK_LOST', `Lost the lock ${JSON.stringify(this.key)}: ${why}`, {
      key: this.fullKey,
      ttlMs: this.#ttl,
      cause,
    })
  }

  /** The lock is lost: everyone is told. */
  noteLoss(why: string, cause?: unknown): void {
    this.#watch.end()
    this.#lost = this.lossError(why, cause)
    this.#controller?.abort(this.#lost)
    this.#onLost(this.#lost)
  }
}

function toNative([code, message, retryable]: [string, string, boolean]): unknown {
  return { code, message, retryable }
}
