import { Connection, connectStore, nativeOf, type StoreConnection } from '../../connection.js'
import { ConcurrencyError, ConnectionError, SagaError, fromNative } from '../../errors.js'
import { type FenceOptions, fenceOf } from '../../fence.js'
import type { binding } from '../../native.js'
import {
  type LooseState,
  checkState,
  completeMetadata,
  openSagas,
  sagaIdOf,
  stateFromJson,
  stateToJson,
} from '../../saga.js'
import { traced } from '../../tracing.js'
import { checkInteger, checkName } from '../../validate.js'
import { asCoreError, asTransient } from './core-errors.js'
import { type RedisSagaStoreOptions, type ResolvedOptions, resolveOptions } from './options.js'

/**
 * Saga states under optimistic concurrency (contract of @saga-bus/store-redis): JSON under
 * `{keyPrefix}saga:{sagaName}:{correlationId}`, and an index `{keyPrefix}saga:{sagaName}:idx:id:{sagaId}`.
 *
 * It has the documented methods (`find…`, `save`) and those of the runtime (`get…`, `insert`, `update`). Every write
 * is one atomic script of one round trip, TTLs included; of concurrent writers of one version exactly one wins.
 *
 * Every write takes the option `fence`, and is refused with a {@link LockError} (`STALE_FENCE`) if the saga was written
 * under a higher one.
 *
 * @typeParam TState - type of the states
 */
export class RedisSagaStore<TState extends object = Record<string, any>> {
  readonly #options: ResolvedOptions
  #open: { store: StoreConnection; sagas: binding.NativeSagas } | undefined

  /** @throws {@link ConfigError} for a target, {@link ArgumentError} for an option that cannot be used */
  constructor(options: RedisSagaStoreOptions) {
    this.#options = resolveOptions(options)
    if (!this.#options.needsInitialize) this.#connect()
  }

  /** Connects, if the store was made with `connection`, and verifies that Redis answers. May be called again. */
  async initialize(): Promise<void> {
    await transient(this.#connect().ping(), () => undefined)
  }

  #connect(): binding.NativeSagas {
    if (this.#open === undefined) {
      const store = connectStore(this.#options.target)
      this.#open = { store, sagas: openSagas(store.connection, this.#options.keyPrefix) }
    }
    return this.#open.sagas
  }

  get #sagas(): binding.NativeSagas {
    if (this.#open === undefined) {
      throw new ConnectionError('CLOSED', 'Store not initialized')
    }
    return this.#open.sagas
  }

  /** The state of a saga id, or `null`. */
  getById(sagaName: string, sagaId: string): Promise<TState | null> {
    const [name, id] = [checkName('the saga name', sagaName), checkName('the saga id', sagaId)]
    return transient(this.#sagas.byId(name, id), (json) =>
      json === null ? null : stateFromJson<TState>(json, this.#key(name, `idx:id:${id}`)),
    )
  }

  /** The state of a correlation id, or `null`. */
  getByCorrelationId(sagaName: string, correlationId: string): Promise<TState | null> {
    const [name, id] = checkCorrelation(sagaName, correlationId)
    return transient(this.#sagas.byCorrelationId(name, id), (json) =>
      json === null ? null : stateFromJson<TState>(json, this.#key(name, id)),
    )
  }

  /** The same as {@link RedisSagaStore.getById}. */
  findById(sagaName: string, sagaId: string): Promise<TState | null> {
    return this.getById(sagaName, sagaId)
  }

  /** The same as {@link RedisSagaStore.getByCorrelationId}. */
  findByCorrelationId(sagaName: string, correlationId: string): Promise<TState | null> {
    return this.getByCorrelationId(sagaName, correlationId)
  }

  /**
   * Stores a new saga, with the version that its metadata has (0 if absent).
   *
   * @throws {@link ConcurrencyError} with the code `SAGA_EXISTS` if there is one already
   */
  insert(sagaName: string, correlationId: string, state: TState, options?: FenceOptions): Promise<void> {
    const [name, id] = checkCorrelation(sagaName, correlationId)
    const loose = checkState(state)
    const sagaId = checkName('the saga id', sagaIdOf(loose))
    const version = checkVersion(loose.metadata?.version ?? 0)
    const metadata = completeMetadata(loose, sagaId, version)
    return transient(
      this.#sagas.write({
        sagaName: name,
        sagaId,
        correlationId: id,
        expect: 'absent',
        version: 0,
        json: stateToJson(loose, metadata),
        ttl: this.#ttl(metadata.isCompleted),
        fence: fenceOf(options),
      }),
      (outcome) => this.#judge(outcome, name, sagaId, id, -1),
    )
  }

  /**
   * Stores a new version of an existing saga, with the version that its metadata has (`expectedVersion + 1` if
   * absent).
   *
   * @param expectedVersion - the version that must be stored
   * @throws {@link ConcurrencyError} if another version is stored
   * @throws {@link SagaError} with the code `SAGA_NOT_FOUND`
   */
  update(sagaName: string, state: TState, expectedVersion: number, options?: FenceOptions): Promise<void> {
    const name = checkName('the saga name', sagaName)
    const loose = checkState(state)
    const sagaId = checkName('the saga id', sagaIdOf(loose))
    const expected = checkVersion(expectedVersion)
    const metadata = completeMetadata(loose, sagaId, checkVersion(loose.metadata?.version ?? expected + 1))
    return transient(
      this.#sagas.write({
        sagaName: name,
        sagaId,
        expect: 'version',
        version: expected,
        json: stateToJson(loose, metadata),
        ttl: this.#ttl(metadata.isCompleted),
        fence: fenceOf(options),
      }),
      (outcome) => this.#judge(outcome, name, sagaId, undefined, expected),
    )
  }

  /**
   * Stores a saga, new or loaded. `metadata.version` is the version that was loaded (absent counts as 0): nothing
   * stored makes it version 1, the same version stored makes it the next, anything else is a conflict.
   *
   * @param state - with `metadata.sagaId` or `id`, and `correlationId` unless the saga is stored already. Its
   * metadata is completed and gets the new version and `updatedAt`
   * @returns the saved state: `state`, or a copy of it if it is frozen
   * @throws {@link ConcurrencyError} if another version is stored
   */
  save(sagaName: string, state: TState, options?: FenceOptions): Promise<TState> {
    const name = checkName('the saga name', sagaName)
    const loose = checkState(state)
    const sagaId = checkName('the saga id', sagaIdOf(loose))
    const correlationId =
      loose.correlationId === undefined ? undefined : checkName('the correlation id', loose.correlationId)
    const expected = checkVersion(loose.metadata?.version ?? 0)
    const metadata = { ...completeMetadata(loose, sagaId, expected + 1), updatedAt: new Date() }
    const first = expected === 0 ? metadata : { ...metadata, version: 1 }
    return transient(
      this.#sagas.write({
        sagaName: name,
        sagaId,
        correlationId,
        expect: 'either',
        version: expected,
        json: stateToJson(loose, metadata),
        jsonIfAbsent: expected === 0 ? undefined : stateToJson(loose, first),
        ttl: this.#ttl(metadata.isCompleted),
        fence: fenceOf(options),
      }),
      (outcome) =>
        this.#judge(outcome, name, sagaId, correlationId, expected) ??
        withMetadata(state, loose, outcome[0] === 'inserted' ? first : metadata),
    )
  }

  /**
   * Deletes a saga, given its id or else its correlation id. No error if there is none. Where an id of one saga may
   * be the correlation id of another, use {@link RedisSagaStore.deleteById} or
   * {@link RedisSagaStore.deleteByCorrelationId}.
   */
  delete(sagaName: string, idOrCorrelationId: string, options?: FenceOptions): Promise<void> {
    const [name, id] = checkCorrelation(sagaName, idOrCorrelationId)
    return transient(this.#sagas.delete(name, id, fenceOf(options)), () => undefined)
  }

  /** Deletes a saga by its id. Resolves whether there was one. */
  deleteById(sagaName: string, sagaId: string, options?: FenceOptions): Promise<boolean> {
    const [name, id] = [checkName('the saga name', sagaName), checkName('the saga id', sagaId)]
    return transient(this.#sagas.deleteById(name, id, fenceOf(options)), Boolean)
  }

  /** Deletes a saga by its correlation id. Resolves whether there was one. */
  deleteByCorrelationId(sagaName: string, correlationId: string, options?: FenceOptions): Promise<boolean> {
    const [name, id] = checkCorrelation(sagaName, correlationId)
    return transient(this.#sagas.deleteByCorrelationId(name, id, fenceOf(options)), Boolean)
  }

  /** The client given as `redis`, or `null`. It is never used: the store has a connection of its own. */
  getRedis(): any {
    const { needsInitialize, target } = this.#options
    return needsInitialize || typeof target === 'string' ? null : target
  }

  /** The connection in use, if there is one. */
  get connection(): Connection | undefined {
    return this.#open?.store.connection
  }

  /** Closes the connection, unless it was given as a {@link Connection}. Idempotent. */
  async close(): Promise<void> {
    const open = this.#open
    this.#open = undefined
    if (open?.store.owned) await open.store.connection.close()
  }

  #key(sagaName: string, id: string): string {
    const prefix = this.#open === undefined ? '' : nativeOf(this.#open.store.connection).keyPrefix
    return `${prefix}${this.#options.keyPrefix}saga:${sagaName}:${id}`
  }

  #ttl(isCompleted: boolean): number {
    const { completedTtl, defaultTtl } = this.#options
    return isCompleted && completedTtl > 0 ? completedTtl : defaultTtl
  }

  /** Throws or rejects unless the write happened. */
  #judge(
    outcome: Awaited<ReturnType<binding.NativeSagas['write']>>,
    sagaName: string,
    sagaId: string,
    correlationId: string | undefined,
    expected: number,
  ): Promise<never> | undefined {
    const [word, actual] = outcome
    if (word === 'missing')
      throw new SagaError('SAGA_NOT_FOUND', `Saga ${sagaId} not found`, {
        key: this.#key(sagaName, `idx:id:${sagaId}`),
      })
    if (word === 'conflict') {
      const conflict = new ConcurrencyError(sagaId, expected, actual ?? -1)
      return this.#conflict(conflict)
    }
    if (word === 'exists') {
      const message = `Saga ${sagaName} with correlation ID ${correlationId ?? sagaId} already exists (Optimistic concurrency conflict)`
      const conflict = new ConcurrencyError(sagaId, expected, -1, message, 'SAGA_EXISTS')
      return this.#conflict(conflict)
    }
    return undefined
  }

  async #conflict(conflict: ConcurrencyError): Promise<never> {
    throw await asCoreError(conflict, this.#options.ConcurrencyError)
  }
}

traced('RedisSagaStore', RedisSagaStore.prototype)

/** Like {@link settled}; transient errors of the core are ones for the runtime too. */
function transient<T, R>(promise: Promise<T>, read: (answer: T) => R): Promise<Awaited<R>> {
  return promise.then(read, rethrow) as Promise<Awaited<R>>
}

function rethrow(error: unknown): never {
  throw asTransient(fromNative(error))
}

function checkCorrelation(sagaName: string, correlationId: string): [string, string] {
  return [checkName('the saga name', sagaName), checkName('the correlation id', correlationId)]
}

function checkVersion(version: unknown): number {
  return checkInteger('the version', version, { max: Number.MAX_SAFE_INTEGER })
}

/**
 * The caller's state with its new metadata; a copy if the state cannot be changed. The state is stored by now, so
 * that nothing here may fail.
 */
function withMetadata<TState extends object>(state: TState, loose: LooseState, metadata: object): TState {
  try {
    loose.metadata = Object.assign(loose.metadata ?? {}, metadata)
    return state
  } catch {
    return { ...state, metadata }
  }
}
