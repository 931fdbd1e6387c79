import { ArgumentError } from '../errors.js'
import { checkName, kindOf } from '../validate.js'
import type { LockContext } from './hold.js'
import type { Locks, Refused } from './locks.js'
import type { Terms } from './options.js'

/** What a function that runs under several locks knows of them. */
export interface LocksContext extends Omit<LockContext, 'key' | 'token' | 'fence'> {
  /** The keys, without prefix, in the order of acquisition. */
  readonly keys: readonly string[]
  /** The number of the acquisition of each key, for what that key protects. */
  readonly fences: Readonly<Record<string, number>>
}

/** Runs `fn` while holding all these locks, acquired in the order of their names. */
export async function holdAll<T>(
  locks: Locks,
  keys: readonly string[],
  terms: Terms,
  fn: (context: LocksContext) => T | Promise<T>,
  refused: (key: string) => Refused,
): Promise<T> {
  if (!Array.isArray(keys) || keys.length === 0) {
    const what = Array.isArray(keys) ? 'an empty one' : kindOf(keys)
    throw new ArgumentError('INVALID_ARGUMENT', `keys must be an array of lock keys, not ${what}`)
  }
  const sorted = [...new Set(keys.map((key) => checkName('the lock key', key)))].toSorted()
  const patienceEnds = performance.now() + terms.waitMs
  const held: LockContext[] = []

  let entered = false
  let refusal: unknown

  const next = async (): Promise<T> => {
    const key = sorted[held.length]
    if (key === undefined) {
      const context = new HeldLocks(held)
      // The first may be lost by the time that the last is granted.
      context.assertHeld()
      entered = true
      return fn(context)
    }
    const waitMs = terms.waitMs === 0 ? 0 : Math.max(1, Math.round(patienceEnds - performance.now()))
    const enter = (lock: LockContext): Promise<T> => {
      held.push(lock)
      return next()
    }
    try {
      return await locks.hold(key, { ...terms, waitMs }, enter, () => refused(key))
    } catch (error) {
      if (entered) throw error
      // Why `fn` did not run, and not what became of the other locks because of that.
      refusal ??= error
      throw refusal
    }
  }
  return next()
}

class HeldLocks implements LocksContext {
  readonly keys: readonly string[]
  readonly fences: Readonly<Record<string, number>>
  readonly signal: AbortSignal
  readonly #locks: readonly LockContext[]

  constructor(locks: readonly LockContext[]) {
    this.#locks = locks
    this.keys = locks.map(({ key }) => key)
    this.fences = Object.assign(
      Object.create(null),
      Object.fromEntries(locks.map(({ key, fence }) => [key, fence])),
    ) as Record<string, number>
    this.signal = AbortSignal.any(locks.map(({ signal }) => signal))
  }

  get held(): boolean {
    return this.#locks.every(({ held }) => held)
  }

  get ttlLeft(): number {
    return Math.min(...this.#locks.map(({ ttlLeft }) => ttlLeft))
  }

  assertHeld(): void {
    for (const lock of this.#locks) lock.assertHeld()
  }

  async extend(ttl?: number): Promise<void> {
    await Promise.all(this.#locks.map((lock) => lock.extend(ttl)))
  }
}
