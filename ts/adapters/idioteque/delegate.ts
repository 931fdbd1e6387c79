import { toJson } from '../../json.js'
import { checkName } from '../../validate.js'
import { parseResult } from './result.js'
import type { WorkerStore } from './store.js'

/** A Redis client as @idioteque/redis describes it: ioredis, Upstash, a mock. */
export interface RedisImpl {
  set(key: string, value: string): Promise<any>
  get(key: string): Promise<unknown | null>
  hset(key: string, kv: { [field: string]: string }): Promise<any>
  hget(key: string, field: string): Promise<unknown | null>
  hdel(key: string, field: string): Promise<any>
  hgetall(key: string): Promise<Record<string, unknown> | string[] | null>
  del(key: string): Promise<any>
  /** `seconds` is a whole number. */
  expire(key: string, seconds: number): Promise<any>
}

type Method = keyof RedisImpl

/** Where node-redis has another name for a method. */
const NODE_REDIS_NAMES: Record<Method, string> = {
  set: 'set',
  get: 'get',
  hset: 'hSet',
  hget: 'hGet',
  hdel: 'hDel',
  hgetall: 'hGetAll',
  del: 'del',
  expire: 'expire',
}

const METHODS = Object.keys(NODE_REDIS_NAMES) as Method[]

function nameOf(client: Record<string, unknown>, method: Method): string | undefined {
  return [method, NODE_REDIS_NAMES[method]].find((name) => typeof client[name] === 'function')
}

/** Whether an object has all the methods, by their own names or by node-redis'. */
export function isRedisImpl(value: unknown): value is RedisImpl {
  if (typeof value !== 'object' || value === null) return false
  return METHODS.every((method) => nameOf(value as Record<string, unknown>, method) !== undefined)
}

/** The client under the documented names, with `this` as it expects. */
function byDocumentedNames(client: RedisImpl): RedisImpl {
  const loose = client as unknown as Record<string, (...args: unknown[]) => unknown>
  const call =
    (method: Method) =>
    async (...args: unknown[]): Promise<unknown> =>
      loose[nameOf(loose, method)!]!(...args)
  return Object.fromEntries(METHODS.map((method) => [method, call(method)])) as unknown as RedisImpl
}

/**
 * A store on a client that has no atomic steps. The order of its calls is such that a reader in between sees a task
 * as under way or done, never as neither.
 */
export function delegatingStore(client: RedisImpl, prefix: string, ttl: number): WorkerStore {
  const redis = byDocumentedNames(client)
  const seconds = Math.ceil(ttl / 1000)
  const marker = (executionId: string): string => prefix + checkName('the execution id', executionId)
  const transactions = (executionId: string): string => `${marker(executionId)}-transactions`
  const results = (executionId: string): string => `${marker(executionId)}-results`

  /** Gives all three keys the same time to live; those that do not exist do not mind. */
  async function refresh(executionId: string): Promise<void> {
    if (seconds === 0) return
    const keys = [marker(executionId), transactions(executionId), results(executionId)]
    await Promise.all(keys.map((key) => redis.expire(key, seconds)))
  }

  return {
    async beginExecution(executionId) {
      await redis.set(marker(executionId), 'true')
      await refresh(executionId)
    },
    async isExecutionInProgress(executionId) {
      return Boolean(await redis.get(marker(executionId)))
    },
    async beginExecutionTask(executionId, taskId) {
      await redis.hset(transactions(executionId), { [task(taskId)]: 'true' })
      await refresh(executionId)
    },
    async isExecutionTaskInProgress(executionId, taskId) {
      return Boolean(await redis.hget(transactions(executionId), task(taskId)))
    },
    async commitExecutionTaskResult(executionId, taskId, result) {
      const json = toJson('The result', result)
      await redis.hset(results(executionId), { [task(taskId)]: json })
      await refresh(executionId)
      await redis.hdel(transactions(executionId), taskId)
    },
    async getExecutionTaskResult(executionId, taskId) {
      const key = results(executionId)
      const value = await redis.hget(key, task(taskId))
      return value === null || value === undefined ? undefined : toResult(key, taskId, value)
    },
    async getExecutionTaskResults(executionId) {
      const key = results(executionId)
      const parsed = Object.create(null) as Record<string, unknown>
      for (const [taskId, value] of pairs(await redis.hgetall(key))) {
        parsed[taskId] = toResult(key, taskId, value)
      }
      return parsed
    },
    async disposeExecution(executionId) {
      await Promise.all(
        [marker(executionId), transactions(executionId), results(executionId)].map((key) => redis.del(key)),
      )
    },
  }
}

function task(taskId: string): string {
  return checkName('the task id', taskId)
}

/** Upstash, unless told otherwise, has parsed a value already. A string may be either. */
function toResult(key: string, taskId: string, value: unknown): unknown {
  return typeof value === 'string' ? parseResult(key, taskId, value) : value
}

function pairs(stored: Record<string, unknown> | unknown[] | null): [string, unknown][] {
  if (stored === null || stored === undefined) return []
  if (!Array.isArray(stored)) return Object.entries(stored)
  const entries: [string, unknown][] = []
  for (let index = 0; index + 1 < stored.length; index += 2) {
    entries.push([String(stored[index]), stored[index + 1]])
  }
  return entries
}
