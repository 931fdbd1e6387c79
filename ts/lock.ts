import { randomUUID } from 'node:crypto'

import { type Connection, nativeOf } from './connection.js'
import type { FerroflowError } from './errors.js'
import { binding, guarded, settled } from './native.js'
import { checkMillis, checkName } from './validate.js'

/** How long to wait for a lock. */
export interface Patience {
  /** In all, in milliseconds; 0 for one attempt. */
  budget: number
  /** The longest time between two attempts, in milliseconds. */
  poll: number
}

/** Locks under one prefix. The TypeScript side of the one lock engine. */
export class Locks {
  readonly #native: binding.NativeLocks

  constructor(connection: Connection, prefix: string) {
    this.#native = guarded(() => binding.NativeLocks.open(nativeOf(connection), prefix))
  }

  /** The token of the acquisition, or `null` if somebody else held the lock all the time. */
  async acquire(key: string, ttl: number, { budget, poll }: Patience): Promise<string | null> {
    const token = randomUUID()
    const granted = await settled(
      this.#native.acquire(checkName('the lock key', key), token, checkMillis('ttl', ttl), budget, poll),
    )
    return granted ? token : null
  }

  async release(key: string, token: string): Promise<boolean> {
    return settled(this.#native.release(checkName('the lock key', key), checkName('the token', token)))
  }

  async extend(key: string, token: string, ttl: number): Promise<boolean> {
    const [name, owner] = [checkName('the lock key', key), checkName('the token', token)]
    return settled(this.#native.extend(name, owner, checkMillis('ttl', ttl)))
  }

  async isLocked(key: string): Promise<boolean> {
    return settled(this.#native.isLocked(checkName('the lock key', key)))
  }

  /**
   * Runs `fn` with the lock held and releases it whatever happens. Nothing about the release replaces the result or
   * the error of `fn`; that the lock was not held to the end is a warning of the process.
   */
  async hold<T>(
    key: string,
    ttl: number,
    patience: Patience,
    fn: () => T | Promise<T>,
    refused: () => FerroflowError,
  ): Promise<T> {
    const token = await this.acquire(key, ttl, patience)
    if (token === null) throw refused()
    try {
      return await fn()
    } finally {
      await this.#releaseQuietly(key, token)
    }
  }

  async #releaseQuietly(key: string, token: string): Promise<void> {
    try {
      if (!(await this.release(key, token))) {
        warn(`The lock ${JSON.stringify(key)} expired before its function ended`)
      }
    } catch (error) {
      warn(
        `The lock ${JSON.stringify(key)} may not be released, and then stays until it expires: ${String(error)}`,
      )
    }
  }
}

function warn(message: string): void {
  process.emitWarning(message, { type: 'FerroflowWarning', code: 'FERROFLOW_LOCK' })
}
