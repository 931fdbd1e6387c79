import type { LockHolder } from '../errors.js'

/** What is known of a lock. Information, not permission: it may be out of date on arrival. */
export interface LockInspection {
  /** Whether anybody holds it. */
  locked: boolean
  /** Who, if ferroflow knows: a lock of one of the packages that it replaces does not say. */
  holder?: LockHolder
  /** Milliseconds until it expires, unless it is extended; `null` if it never does, or nobody holds it. */
  ttlMs: number | null
  /** How many wait: everyone in the fair queue, and one for each process that waits without a queue. */
  waiters: number
}

/** A lock in the list of those that are held. */
export interface ListedLock {
  /** The key, without prefix. */
  key: string
  /** Who holds it, if ferroflow knows. */
  holder?: LockHolder
  /** Milliseconds until it expires, unless it is extended; `null` if it never does. */
  ttlMs: number | null
}

/** Some of the held locks, in the order of their acquisition. */
export interface LockPage {
  locks: ListedLock[]
  /** Give it to the next call; `null` if there is no more. */
  cursor: number | null
}

/** As the core answers: host, pid, label, milliseconds since 1970, fence, for how many milliseconds it is
 * renewed without a sign of life, for how many it is held at most. */
export type NativeHolder =
  | [
      host: string,
      pid: number,
      label: string,
      acquiredAt: number,
      fence: number,
      liveness: number | null,
      max: number | null,
    ]
  | []
  | null

/** The holder of a lock, if the core knows. */
export function toHolder(holder: NativeHolder): LockHolder | undefined {
  if (holder === null || holder.length === 0) return undefined
  const [host, pid, label, acquiredAt, fence, liveness, max] = holder
  return {
    name: label === '' ? `${host}:${pid}` : label,
    host,
    pid,
    acquiredAt: new Date(acquiredAt),
    fence,
    renewed: liveness !== null,
    ...(liveness === null ? {} : { jsLivenessMs: liveness }),
    ...(max === null ? {} : { maxHoldMs: max }),
  }
}

export function toInspection(answer: unknown[]): LockInspection {
  const [locked, native, ttlMs, queued, listening] = answer as [
    boolean,
    NativeHolder,
    number | null,
    number,
    number,
  ]
  const holder = toHolder(native)
  return { locked, ...(holder && { holder }), ttlMs, waiters: queued + (queued > 0 ? 0 : listening) }
}

export function toPage([cursor, ...rows]: unknown[]): LockPage {
  const locks = (rows as [string, NativeHolder, number | null][]).map(([key, native, ttlMs]) => {
    const holder = toHolder(native)
    return { key, ...(holder && { holder }), ttlMs }
  })
  return { locks, cursor: cursor as number | null }
}
