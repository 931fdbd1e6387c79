import { createHash } from 'node:crypto'

import { type Connection, nativeOf } from '../connection.js'
import { ArgumentError } from '../errors.js'
import { toJson } from '../json.js'
import { Locks } from '../lock/locks.js'
import { checkTtl, toTerms } from '../lock/options.js'
import { binding, guarded, settled } from '../native.js'
import { checkFunction, checkName, withDefaults } from '../validate.js'
import type { CacheMemoryOptions, ComputeOptions } from './api.js'
import { BoundedMap } from './bounded-map.js'
import { DEFAULT_TTL, KEY_PREFIXES } from './constants.js'
import { type Gate, isUnreachable } from './gate.js'
import { toTtl } from './seconds.js'

/** Where processes agree on who computes. */
const COMPUTING = 'wks:lock:cache:'
const RETRY_DELAY = 100
/** Whoever waits for another process asks again after this long at the latest. */
const WAIT = 24 * 60 * 60 * 1000

/** Answers of an API, kept for a while. */
export class ApiCache {
  readonly #native: binding.NativeCache
  readonly #locks: Locks
  readonly #gate: () => Gate
  readonly #memory: BoundedMap<{ json: string; until: number }> | undefined
  readonly #maxAge: number
  readonly #running = new Map<string, Promise<unknown>>()

  constructor(connection: Connection, gate: () => Gate, memory: CacheMemoryOptions | undefined) {
    this.#native = guarded(() => binding.NativeCache.open(nativeOf(connection), KEY_PREFIXES.API_CACHE))
    this.#locks = new Locks(connection, COMPUTING)
    this.#gate = gate
    const bounds = withDefaults(
      'cache.memory',
      { maxEntries: 10_000, maxBytes: 64 * 1024 * 1024, maxAge: 60_000 },
      memory,
    )
    this.#maxAge = bounds.maxAge
    this.#memory = memory && new BoundedMap(bounds.maxEntries, bounds.maxBytes)
  }

  async set(hash: string, response: unknown, ttl?: number): Promise<boolean> {
    checkName('the cache key', hash)
    const ttlMs = toTtl(ttl, DEFAULT_TTL.API_CACHE)
    const json = toJson('The response', response)
    this.#memory?.set(hash, { json, until: performance.now() + ttlMs }, json.length)
    if (this.#gate().up) {
      try {
        return await this.#gate().run(() => settled(this.#native.set(hash, json, undefined, ttlMs)))
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('cache')
    return false
  }

  async get(hash: string): Promise<unknown> {
    return (await this.#find(hash))?.value ?? null
  }

  async #find(hash: string): Promise<{ value: unknown } | undefined> {
    checkName('the cache key', hash)
    if (this.#gate().up) {
      try {
        const [json] = await this.#gate().run(() => settled(this.#native.getMany([hash])))
        return parsed(json)
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('cache')
    const kept = this.#memory?.get(hash, this.#maxAge)
    return kept !== undefined && kept.until > performance.now() ? parsed(kept.json) : undefined
  }

  async getOrCompute<T>(
    key: string,
    fn: () => T | Promise<T>,
    ttl?: number,
    options?: ComputeOptions,
  ): Promise<T> {
    checkName('the cache key', key)
    checkFunction('fn', fn)
    toTtl(ttl, DEFAULT_TTL.API_CACHE)
    const { leaseMs } = withDefaults('the options', { leaseMs: 30_000 }, options)
    checkTtl('leaseMs', leaseMs)
    for (;;) {
      // Before anything else: what is cached waits for nobody who computes.
      // oxlint-disable-next-line no-await-in-loop -- after another one's failure
      const found = await this.#find(key)
      if (found !== undefined) return found.value as T
      const running = this.#running.get(key)
      if (running === undefined) return this.#lead(key, fn, ttl, leaseMs)
      try {
        // oxlint-disable-next-line no-await-in-loop -- another one's computation
        return (await running) as T
      } catch {
        // That is the other one's failure: the first to wake computes by itself, and the others wait for that.
      }
    }
  }

  async #lead<T>(
    key: string,
    fn: () => T | Promise<T>,
    ttl: number | undefined,
    leaseMs: number,
  ): Promise<T> {
    const computing = this.#compute(key, fn, ttl, leaseMs)
    this.#running.set(key, computing)
    try {
      return await computing
    } finally {
      this.#running.delete(key)
    }
  }

  async #compute<T>(
    key: string,
    fn: () => T | Promise<T>,
    ttl: number | undefined,
    leaseMs: number,
  ): Promise<T> {
    const defaults = { ttl: leaseMs, waitMs: WAIT, retryDelay: RETRY_DELAY, renew: true }
    const lock = this.#gate().up ? await this.#lock(key, toTerms(defaults, undefined)) : null
    try {
      // By another process, or by the one here before.
      const meanwhile = await this.#find(key)
      if (meanwhile !== undefined) return meanwhile.value as T
      const value = await fn()
      await this.set(key, value, ttl)
      return value
    } finally {
      // An answer must not wait for it, nor fail with it: it expires.
      await lock?.release().catch(() => {})
    }
  }

  /** Without Redis, or where it does not answer, everybody computes for themselves. */
  async #lock(key: string, terms: ReturnType<typeof toTerms>): ReturnType<Locks['acquireLock']> {
    try {
      return await this.#locks.acquireLock(key, terms)
    } catch (error) {
      if (isUnreachable(error)) return null
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#locks.close()
  }
}

/** What cannot be read is computed again. */
function parsed(json: string | null | undefined): { value: unknown } | undefined {
  if (json === null || json === undefined) return undefined
  try {
    return { value: JSON.parse(json) as unknown }
  } catch {
    return undefined
  }
}

/** How {@link hashParams} hashes. */
export interface HashOptions {
  /** Default: `sha256`; `md5` is what the documentation of the original uses. */
  algorithm?: 'sha256' | 'md5'
}

/**
 * A hash of request parameters, in hex: the same for the same parameters, in whatever order their names come.
 *
 * @throws {@link ArgumentError} `NOT_SERIALIZABLE` for what JSON cannot hold
 */
export function hashParams(params: unknown, options?: HashOptions): string {
  const { algorithm } = withDefaults('the options', { algorithm: 'sha256' as string }, options)
  if (algorithm !== 'sha256' && algorithm !== 'md5') {
    throw new ArgumentError('INVALID_ARGUMENT', 'algorithm must be "sha256" or "md5"')
  }
  // By way of JSON, so that what is equal there is equal here.
  const plain: unknown = JSON.parse(toJson('The parameters', params))
  return createHash(algorithm).update(canonical(plain)).digest('hex')
}

function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  const fields = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1))
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`).join(',')}}`
}
