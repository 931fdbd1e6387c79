import { Connection, connectStore, nativeOf, type StoreConnection } from '../../connection.js'
import { ArgumentError } from '../../errors.js'
import { type FenceOptions, fenceOf } from '../../fence.js'
import { toJson } from '../../json.js'
import { binding, guarded, settled } from '../../native.js'
import type { Target } from '../../options.js'
import { traced } from '../../tracing.js'
import { checkMillis, checkName, checkObject, kindOf, withDefaults } from '../../validate.js'

/** Options of {@link RedisExecutionCache} (contract of @flowmonkey/redis). */
export interface RedisExecutionCacheOptions {
  /** Put before every execution id. Must not be empty. Default: `fm:exec:`. */
  keyPrefix?: string
  /** Time to live, in milliseconds. Default: 60,000. */
  ttl?: number
}

/**
 * A cache of executions: a string `{keyPrefix}{id}` of JSON (contract of @flowmonkey/redis).
 *
 * An execution never replaces one with a later `updatedAt`, so that a slow reader does not bring back what a writer
 * has changed meanwhile. What is stored and not JSON counts as not cached.
 *
 * @typeParam TExecution - type of the executions
 */
export class RedisExecutionCache<TExecution extends { id: string } = any> {
  readonly #store: StoreConnection
  readonly #cache: binding.NativeCache
  readonly #ttl: number

  /** @throws {@link ConfigError} for a target, {@link ArgumentError} for an option that cannot be used */
  constructor(redis: Target, options?: RedisExecutionCacheOptions) {
    const { keyPrefix, ttl } = withDefaults('The options', { keyPrefix: 'fm:exec:', ttl: 60_000 }, options)
    const prefix = checkName('keyPrefix', keyPrefix)
    this.#ttl = checkMillis('ttl', ttl)
    this.#store = connectStore(redis)
    this.#cache = guarded(() => binding.NativeCache.open(nativeOf(this.#store.connection), prefix))
  }

  /** The cached execution, or `null`. */
  async get(id: string): Promise<TExecution | null> {
    const [json] = await settled(this.#cache.getMany([checkName('the execution id', id)]))
    return parse<TExecution>(json)
  }

  /** The cached ones of several executions, by id, in one round trip. */
  async getMany(ids: readonly string[]): Promise<Map<string, TExecution>> {
    const names = checkIds(ids)
    const executions = new Map<string, TExecution>()
    const documents = names.length === 0 ? [] : await settled(this.#cache.getMany(names))
    for (const [index, json] of documents.entries()) {
      const execution = parse<TExecution>(json)
      if (execution !== null) executions.set(names[index]!, execution)
    }
    return executions
  }

  /**
   * Caches an execution.
   *
   * @param execution - with its `id`
   * @param ttl - milliseconds. Default: the option `ttl`
   * @throws {@link LockError} with the code `STALE_FENCE` if it was cached or forgotten under a higher fence
   */
  async set(execution: TExecution, ttl?: number, options?: FenceOptions): Promise<void> {
    checkObject('the execution', execution)
    const id = checkName('the execution id', execution.id)
    const { updatedAt } = execution as { updatedAt?: unknown }
    const version = typeof updatedAt === 'number' && Number.isFinite(updatedAt) ? updatedAt : undefined
    const json = toJson('The execution', execution)
    const life = checkMillis('ttl', ttl ?? this.#ttl)
    await settled(this.#cache.set(id, json, version, life, fenceOf(options)))
  }

  /**
   * Forgets an execution. Under a fence, earlier holders of the lock cannot cache it again, whether it was cached or not.
   *
   * @throws {@link LockError} with the code `STALE_FENCE` if it was cached or forgotten under a higher fence
   */
  async invalidate(id: string, options?: FenceOptions): Promise<void> {
    await settled(this.#cache.deleteMany([checkName('the execution id', id)], fenceOf(options)))
  }

  /**
   * Forgets several executions, in one round trip. Under a fence, none if that of one of them is higher.
   *
   * @throws {@link LockError} with the code `STALE_FENCE` and the key of that one
   */
  async invalidateMany(ids: readonly string[], options?: FenceOptions): Promise<void> {
    const [names, fence] = [checkIds(ids), fenceOf(options)]
    if (names.length > 0) await settled(this.#cache.deleteMany(names, fence))
  }

  /** Forgets everything under this cache's prefix, and nothing else; so it takes no fence, and leaves those there are. */
  async clear(): Promise<void> {
    await settled(this.#cache.clear())
  }

  /** The connection in use. */
  get connection(): Connection {
    return this.#store.connection
  }

  /** Closes the connection, unless it was given as a {@link Connection}. */
  async close(): Promise<void> {
    if (this.#store.owned) await this.#store.connection.close()
  }
}

traced('RedisExecutionCache', RedisExecutionCache.prototype)

function checkIds(ids: readonly string[]): string[] {
  if (!Array.isArray(ids)) {
    throw new ArgumentError('INVALID_ARGUMENT', `ids must be an array, not ${kindOf(ids)}`)
  }
  return ids.map((id) => checkName('the execution id', id))
}

function parse<TExecution>(json: string | null | undefined): TExecution | null {
  if (json === null || json === undefined) return null
  try {
    const execution: unknown = JSON.parse(json)
    return typeof execution === 'object' ? (execution as TExecution | null) : null
  } catch {
    return null
  }
}
