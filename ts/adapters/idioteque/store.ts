import { connectStore } from '../../connection.js'
import type { Target } from '../../options.js'
import { isDerivable } from '../../target.js'
import { traced } from '../../tracing.js'
import { checkInteger, checkPrefix, withDefaults } from '../../validate.js'
import { type RedisImpl, delegatingStore, isRedisImpl } from './delegate.js'
import { nativeStore } from './native.js'

/** Options of {@link createRedisStore} (contract of @idioteque/redis). */
export interface RedisStoreOptions {
  /** Time to live of everything about an execution, in milliseconds; every write refreshes it. Default: none. */
  ttl?: number
  /** Put before every execution id. Default: none, as in the original. */
  keyPrefix?: string
}

/**
 * State of task executions (contract of @idioteque/redis). Results are anything that JSON holds; `undefined` is
 * stored as `null`, so that a task without a result is still done.
 */
export interface WorkerStore {
  /** Marks an execution as under way. */
  beginExecution(executionId: string): Promise<void>
  isExecutionInProgress(executionId: string): Promise<boolean>
  /** Marks a task as under way. */
  beginExecutionTask(executionId: string, taskId: string): Promise<void>
  isExecutionTaskInProgress(executionId: string, taskId: string): Promise<boolean>
  /** Stores the result of a task, which is under way no more. */
  commitExecutionTaskResult(executionId: string, taskId: string, result: any): Promise<void>
  /** The result of a task; `undefined` if there is none. */
  getExecutionTaskResult(executionId: string, taskId: string): Promise<any>
  /** All results by task, in an object without a prototype that the caller may change. */
  getExecutionTaskResults(executionId: string): Promise<Record<string, any>>
  /** Deletes everything about an execution. */
  disposeExecution(executionId: string): Promise<void>
}

/**
 * A store for idioteque workers.
 *
 * @param redis - a {@link Target}: every write is then one atomic step. Or any other object with the methods of
 * {@link RedisImpl} (Upstash, a mock): its methods are called, in an order in which no task is lost or run twice
 * @throws {@link ConfigError}, {@link ArgumentError}
 */
export function createRedisStore(redis: Target | RedisImpl, options?: RedisStoreOptions): WorkerStore {
  const { ttl, keyPrefix } = withDefaults('The options', { ttl: 0, keyPrefix: '' }, options)
  const millis = checkInteger('ttl', ttl, { unit: 'milliseconds' })
  const prefix = checkPrefix('keyPrefix', keyPrefix)
  const isForeign = isRedisImpl(redis) && !isDerivable(redis)
  const store = isForeign
    ? delegatingStore(redis, prefix, millis)
    : nativeStore(connectStore(redis as Target).connection, prefix, millis)
  return traced('WorkerStore', store)
}
