import { ArgumentError, ConfigError } from '../../errors.js'
import type { ConnectionOptions, Target } from '../../options.js'
import { checkInteger, checkObject, checkPrefix, kindOf, withDefaults } from '../../validate.js'
import type { CoreConcurrencyError } from './core-errors.js'

/**
 * Options of a saga store (contract of @saga-bus/store-redis). The target is `redis` or `connection`, or what the
 * project's site calls `client`, `url`, or `host` and so on.
 */
export interface RedisSagaStoreOptions extends ConnectionOptions {
  /** Where the sagas are. The store can be used at once. */
  redis?: Target
  /** Where the sagas are. The store can be used after `initialize()`. */
  connection?: Target
  /** The same as `redis`. */
  client?: Target
  /** The same as `redis`. */
  url?: string
  /** Put before every key. Default: `saga-bus:`. */
  keyPrefix?: string
  /** Time to live of completed sagas, in seconds. Default: 0, none of its own. */
  completedTtlSeconds?: number
  /** Time to live of all sagas, in seconds. Default: 0, none. */
  defaultTtlSeconds?: number
  /** The same as `completedTtlSeconds`. */
  completedTtl?: number
  /** The same as `defaultTtlSeconds`. */
  ttl?: number
  /** Accepted for compatibility: one atomic script leaves nothing to retry. Default: 3. */
  maxRetries?: number
  /** Accepted for compatibility, as `maxRetries`. Milliseconds. Default: 100. */
  retryDelayMs?: number
  /**
   * The class of conflicts, for a runtime that tests for its own. Default: `ConcurrencyError` of the application's
   * @saga-bus/core if it can be found, otherwise ferroflow's.
   */
  ConcurrencyError?: CoreConcurrencyError
}

/** The options, checked. */
export interface ResolvedOptions {
  target: Target
  /** Whether the store can be used only after `initialize()`. */
  needsInitialize: boolean
  keyPrefix: string
  /** Milliseconds, 0 for none. */
  completedTtl: number
  /** Milliseconds, 0 for none. */
  defaultTtl: number
  ConcurrencyError: CoreConcurrencyError | undefined
}

/** The longest time to live: a hundred years, in seconds. */
const MAX_TTL = 100 * 366 * 24 * 60 * 60

/** Checks the options; those that are `undefined` say nothing. */
export function resolveOptions(options: RedisSagaStoreOptions): ResolvedOptions {
  checkObject('The options', options)
  const { keyPrefix, maxRetries, retryDelayMs } = withDefaults(
    'The options',
    { keyPrefix: 'saga-bus:', maxRetries: 3, retryDelayMs: 100 },
    options,
  )
  checkInteger('maxRetries', maxRetries)
  checkInteger('retryDelayMs', retryDelayMs, { unit: 'milliseconds' })
  const { ConcurrencyError } = options
  if (ConcurrencyError !== undefined && typeof ConcurrencyError !== 'function') {
    throw new ArgumentError(
      'INVALID_ARGUMENT',
      `ConcurrencyError must be a class, not ${kindOf(ConcurrencyError)}`,
    )
  }
  return {
    ...resolveTarget(options),
    keyPrefix: checkPrefix('keyPrefix', keyPrefix),
    completedTtl: seconds('completedTtlSeconds', options.completedTtlSeconds, options.completedTtl),
    defaultTtl: seconds('defaultTtlSeconds', options.defaultTtlSeconds, options.ttl),
    ConcurrencyError,
  }
}

/** Milliseconds of the option, or else of its alias. */
function seconds(name: string, option: unknown, alias: unknown): number {
  const value = option === undefined ? alias : option
  return 1000 * checkInteger(name, value === undefined ? 0 : value, { max: MAX_TTL, unit: 'seconds' })
}

/** Options of the store that are not options of a connection. */
const STORE_OPTIONS = new Set([
  'keyPrefix',
  'completedTtlSeconds',
  'defaultTtlSeconds',
  'completedTtl',
  'ttl',
  'maxRetries',
  'retryDelayMs',
  'ConcurrencyError',
])

function resolveTarget(options: RedisSagaStoreOptions): { target: Target; needsInitialize: boolean } {
  const ready = options.redis ?? options.client ?? options.url
  if (ready !== undefined && ready !== null) return { target: ready, needsInitialize: false }
  if (options.connection !== undefined && options.connection !== null) {
    return { target: options.connection, needsInitialize: true }
  }
  if (options.host !== undefined || options.path !== undefined || options.port !== undefined) {
    const entries = Object.entries(options).filter(([name]) => !STORE_OPTIONS.has(name))
    return { target: Object.fromEntries(entries), needsInitialize: false }
  }
  throw new ConfigError('CONFIG', 'Either redis or connection must be provided')
}
