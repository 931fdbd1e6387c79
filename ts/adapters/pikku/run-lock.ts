import type { LockContext } from '../../lock/hold.js'
import type { Locks } from '../../lock/locks.js'
import { type Terms, toTerms } from '../../lock/options.js'

const RETRIES = 10
const RETRY_DELAY = 100

/**
 * The lock of a run or a step lasts 30 s and is renewed, and is waited for as long as 10 attempts 100 ms apart would
 * take. A replay that another one has begun without waiting for it is no mistake: it gets its turn. What the function
 * throws steers the engine, so the loss of the lock does not take its place.
 */
const TERMS: Terms = {
  ...toTerms({ ttl: 30_000, waitMs: RETRIES * RETRY_DELAY, retryDelay: RETRY_DELAY, renew: true }, undefined),
  reentrant: 'wait',
  onLoss: 'warn',
}

/** Runs `fn` under the lock of a run or a step, which errors call `what`. */
export async function withRunLock<T>(
  locks: Locks,
  key: string,
  what: string,
  fn: (lock: LockContext) => T | Promise<T>,
): Promise<T> {
  return locks.hold(key, TERMS, fn, () => ({
    message: `Failed to acquire ${what} after ${RETRIES} retries`,
    retryable: true,
  }))
}
