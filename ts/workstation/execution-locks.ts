import { type Connection, connect, fullPrefix, nativeOf } from '../connection.js'
import { LockError, type LockHolder } from '../errors.js'
import type { LockContext } from '../lock/hold.js'
import type { LockInspection } from '../lock/info.js'
import { Locks } from '../lock/locks.js'
import { type LockOptions, type Terms, toTerms } from '../lock/options.js'
import { binding, guarded, settled } from '../native.js'
import { checkFunction, checkName, withDefaults } from '../validate.js'
import type {
  ExecuteOptions,
  ExecutionLock,
  ExecutionLockOptions,
  ExecutionLockStatus,
  UnlockOptions,
} from './api.js'
import { DEFAULT_TTL, KEY_PREFIXES } from './constants.js'
import { type Gate, isUnreachable } from './gate.js'
import { toTtl } from './seconds.js'

const RETRY_DELAY = 100
/** Of a state whose execution works without a word, in milliseconds. */
const REFRESH_INTERVAL = 20 * 60 * 1000

/** So many are remembered before those are looked for that expired. */
const REMEMBERED = 1000

interface Held {
  token: string
  /** When it expires at the latest, by `performance.now()`. */
  until: number
  workerId: string
  locks: Locks
}

/**
 * Locks of executions. The stored value is a token of the lock engine, whose label is the worker's id; a value that is no
 * such token is the worker's id itself, as other packages write it.
 */
export class ExecutionLocks {
  readonly #connection: Connection
  readonly #locks: Locks
  readonly #values: binding.NativeCache
  readonly #gate: () => Gate
  readonly #held = new Map<string, Held>()
  /** Releases that Redis has not heard of. */
  readonly #unreleased = new Map<string, Held>()
  readonly #refresh: (executionId: string) => Promise<void>
  readonly #unsafe: boolean
  #local: { connection: Connection; locks: Locks } | undefined

  constructor(
    connection: Connection,
    gate: () => Gate,
    options: { unsafe: boolean; refresh: (executionId: string) => Promise<void> },
  ) {
    this.#connection = connection
    this.#locks = new Locks(connection, KEY_PREFIXES.EXECUTION_LOCK)
    this.#values = guarded(() => binding.NativeCache.open(nativeOf(connection), KEY_PREFIXES.EXECUTION_LOCK))
    this.#gate = gate
    this.#unsafe = options.unsafe
    this.#refresh = options.refresh
  }

  get waiting(): number {
    return this.#unreleased.size
  }

  async acquire(id: string, workerId: string, options?: ExecutionLockOptions): Promise<boolean> {
    checkId(id)
    const { ttl } = withDefaults('the options', { ttl: DEFAULT_TTL.EXECUTION_LOCK as number }, options)
    const terms = toTermsOf(workerId, ttl, { renew: false, waitMs: 0 })
    const locks = this.#reachable()
    const token =
      locks === this.#locks
        ? await this.#gate().run(() => locks.acquire(id, terms))
        : await locks.acquire(id, terms)
    if (token === null) return false
    this.#remember(id, { token, workerId, locks, until: performance.now() + terms.ttl })
    return true
  }

  #remember(id: string, held: Held): void {
    this.#held.set(id, held)
    if (this.#held.size % REMEMBERED !== 0) return
    const now = performance.now()
    for (const [other, { until }] of this.#held) if (until < now) this.#held.delete(other)
  }

  /** Fails closed, unless it was asked not to. */
  #reachable(): Locks {
    if (this.#gate().up) return this.#locks
    if (!this.#unsafe) return this.#gate().refuse('lock')
    this.#gate().fallback('lock')
    if (this.#local === undefined) {
      const connection = connect(`memory://ferroflow-local-locks-${process.pid}`)
      this.#local = { connection, locks: new Locks(connection, KEY_PREFIXES.EXECUTION_LOCK) }
    }
    return this.#local.locks
  }

  async release(id: string, who?: string | UnlockOptions): Promise<boolean> {
    checkId(id)
    const workerId = typeof who === 'string' ? checkName('the worker id', who) : undefined
    const { force } = withDefaults('the options', { force: false }, typeof who === 'string' ? undefined : who)
    if (force) {
      this.#held.delete(id)
      return this.#gate().strictly('lock', async () => (await this.#locks.forceRelease(id)).released)
    }
    const held = this.#held.get(id)
    if (held !== undefined && (workerId === undefined || workerId === held.workerId)) {
      this.#held.delete(id)
      const released = await this.#releaseOwn(id, held)
      // What this process held has expired: a worker of the same name may have it elsewhere.
      if (released || workerId === undefined) return released
    }
    if (workerId === undefined) return false
    return this.#gate().strictly('lock', () => this.#releaseOf(id, workerId))
  }

  async #releaseOwn(id: string, held: Held): Promise<boolean> {
    if (held.locks !== this.#locks) return (await held.locks.release(id, held.token)) === true
    if (this.#gate().ending !== undefined) await this.#gate().ending
    if (this.#gate().up) {
      try {
        return await this.#gate().run(async () => (await held.locks.release(id, held.token)) === true)
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('delete')
    this.#unreleased.set(id, held)
    this.#gate().hold('a lock waits to be released')
    return false
  }

  /** Releases the lock of a worker that acquired it in another process, or by another package. */
  async #releaseOf(id: string, workerId: string): Promise<boolean> {
    const value = await this.#value(id)
    if (value === null) return false
    const { holder } = await this.#locks.inspect(id)
    const isOurs = holder?.name === workerId && value.endsWith(`:${holder.fence}`)
    if (!isOurs && value !== workerId) return false
    return (await this.#locks.release(id, value)) === true
  }

  async #value(id: string): Promise<string | null> {
    const [value] = await settled(this.#values.getMany([id]))
    return value ?? null
  }

  async status(id: string): Promise<ExecutionLockStatus> {
    const lock = await this.get(id)
    return lock === null ? { locked: false } : { locked: true, workerId: lock.workerId }
  }

  async get(id: string): Promise<ExecutionLock | null> {
    checkId(id)
    const { locked, holder, ttlMs } = await this.inspect(id)
    if (!locked) return null
    const workerId = await this.#workerOf(id, holder)
    return {
      executionId: id,
      workerId,
      ...(holder !== undefined && { acquiredAt: holder.acquiredAt.getTime() }),
      ...(ttlMs !== null && { expiresAt: Date.now() + ttlMs }),
    }
  }

  async inspect(id: string): Promise<LockInspection> {
    checkId(id)
    return this.#gate().strictly('lock', () => this.#locks.inspect(id))
  }

  async #workerOf(id: string, holder: LockHolder | undefined): Promise<string> {
    return holder?.name ?? (await this.#value(id)) ?? 'unknown'
  }

  async execute<T>(
    id: string,
    workerId: string,
    fn: (context: LockContext) => T | Promise<T>,
    options?: ExecuteOptions,
  ): Promise<T> {
    checkId(id)
    checkFunction('fn', fn)
    const { ttl, waitMs, signal } = withDefaults(
      'the options',
      {
        ttl: DEFAULT_TTL.EXECUTION_LOCK as number,
        waitMs: 0,
        signal: undefined as AbortSignal | undefined,
      },
      options,
    )
    const terms = toTermsOf(workerId, ttl, { renew: true, waitMs, ...(signal && { signal }) })
    const locks = this.#reachable()
    let refused: LockError | undefined
    const message = alreadyLocked(id, 'unknown')
    const working = async (context: LockContext): Promise<T> => {
      const refreshing = setInterval(() => void this.#refresh(id).catch(() => {}), REFRESH_INTERVAL)
      refreshing.unref()
      try {
        return await fn(context)
      } finally {
        clearInterval(refreshing)
      }
    }
    try {
      return await locks.hold(id, terms, working, (error) => {
        refused = error
        return { message }
      })
    } catch (error) {
      if (refused === undefined) throw error
      const worker = await this.#workerOf(id, refused.holder).catch(() => 'unknown')
      const { code, holder, attempts } = refused
      throw new LockError(code, alreadyLocked(id, worker), {
        key: fullPrefix(this.#connection, KEY_PREFIXES.EXECUTION_LOCK) + id,
        retryable: true,
        holder,
        ...(attempts !== undefined && { attempts }),
      })
    }
  }

  /** Releases what Redis has not heard of. */
  async drain(): Promise<void> {
    for (const [id, held] of this.#unreleased) {
      // oxlint-disable-next-line no-await-in-loop -- few, and in order
      await held.locks.release(id, held.token)
      this.#unreleased.delete(id)
    }
  }

  async close(): Promise<void> {
    this.#held.clear()
    await this.#locks.close()
    await this.#local?.locks.close()
    await this.#local?.connection.close()
  }
}

function alreadyLocked(id: string, worker: string): string {
  return `Workflow execution ${id} is already locked by worker ${worker}`
}

function toTermsOf(
  workerId: string,
  ttl: number,
  options: LockOptions & { renew: boolean; waitMs: number },
): Terms {
  const ttlMs = toTtl(ttl, DEFAULT_TTL.EXECUTION_LOCK)
  const holder = checkName('the worker id', workerId)
  const terms = toTerms({ ...options, ttl: ttlMs, retryDelay: RETRY_DELAY, holder }, undefined)
  // Whoever does not wait is refused in the documented words, also if it is the one that holds the lock.
  return options.waitMs === 0 ? { ...terms, reentrant: 'wait' } : terms
}

function checkId(id: unknown): string {
  return checkName('the execution id', id)
}
