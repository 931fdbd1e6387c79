import type { RedisService, Workstation } from './api.js'
import { createWorkstation } from './workstation.js'

let instance: Workstation | undefined

/**
 * The workstation behind the functions of this module, configured by `REDIS_ENABLED`, `REDIS_HOST`, `REDIS_PORT`,
 * `REDIS_PASSWORD` and `REDIS_DB` as they are when it is first used.
 */
export function defaultWorkstation(): Workstation {
  return (instance ??= createWorkstation())
}

type Method<Name extends keyof Workstation> = Workstation[Name]

/** A method of the default workstation as a function. What fails rejects, also the first look at the environment. */
function bound<Name extends keyof Workstation>(name: Name): Method<Name> {
  const call = async (...args: unknown[]): Promise<unknown> =>
    (defaultWorkstation()[name] as (...all: unknown[]) => unknown)(...args)
  return call as unknown as Method<Name>
}

/** The documented commands on the connection of the default workstation. */
export const redisService: RedisService = {
  get: async (key) => defaultWorkstation().redisService.get(key),
  set: async (key, value, ttl) => defaultWorkstation().redisService.set(key, value, ttl),
  del: async (key) => defaultWorkstation().redisService.del(key),
  exists: async (key) => defaultWorkstation().redisService.exists(key),
  setNX: async (key, value, ttl) => defaultWorkstation().redisService.setNX(key, value, ttl),
  sadd: async (key, ...members) => defaultWorkstation().redisService.sadd(key, ...members),
  srem: async (key, ...members) => defaultWorkstation().redisService.srem(key, ...members),
  smembers: async (key) => defaultWorkstation().redisService.smembers(key),
  hset: async (key, field, value) => defaultWorkstation().redisService.hset(key, field, value),
  hget: async (key, field) => defaultWorkstation().redisService.hget(key, field),
  hgetall: async (key) => defaultWorkstation().redisService.hgetall(key),
  incr: async (key) => defaultWorkstation().redisService.incr(key),
  expire: async (key, seconds) => defaultWorkstation().redisService.expire(key, seconds),
  ttl: async (key) => defaultWorkstation().redisService.ttl(key),
  isAvailable: () => defaultWorkstation().redisService.isAvailable(),
  reconnect: () => defaultWorkstation().redisService.reconnect(),
  disconnect: async () => defaultWorkstation().redisService.disconnect(),
}

/** {@link Workstation.setSession} of the default workstation. */
export const setSession = bound('setSession')
/** {@link Workstation.getSession} of the default workstation. */
export const getSession = bound('getSession')
/** {@link Workstation.getSessionEntry} of the default workstation. */
export const getSessionEntry = bound('getSessionEntry')
/** {@link Workstation.deleteSession} of the default workstation. */
export const deleteSession = bound('deleteSession')
/** {@link Workstation.deleteAllSessions} of the default workstation. */
export const deleteAllSessions = bound('deleteAllSessions')
/** {@link Workstation.touchSession} of the default workstation. */
export const touchSession = bound('touchSession')
/** {@link Workstation.setWorkflowState} of the default workstation. */
export const setWorkflowState = bound('setWorkflowState')
/** {@link Workstation.getWorkflowState} of the default workstation. */
export const getWorkflowState = bound('getWorkflowState')
/** {@link Workstation.deleteWorkflowState} of the default workstation. */
export const deleteWorkflowState = bound('deleteWorkflowState')
/** {@link Workstation.startWorkflowTracking} of the default workstation. */
export const startWorkflowTracking = bound('startWorkflowTracking')
/** {@link Workstation.updateWorkflowProgress} of the default workstation. */
export const updateWorkflowProgress = bound('updateWorkflowProgress')
/** {@link Workstation.completeWorkflowTracking} of the default workstation. */
export const completeWorkflowTracking = bound('completeWorkflowTracking')
/** {@link Workstation.fetchWorkflowState} of the default workstation. */
export const fetchWorkflowState = bound('fetchWorkflowState')
/** {@link Workstation.updateWorkflowState} of the default workstation. */
export const updateWorkflowState = bound('updateWorkflowState')
/** {@link Workstation.clearWorkflowState} of the default workstation. */
export const clearWorkflowState = bound('clearWorkflowState')
/** {@link Workstation.addActiveExecution} of the default workstation. */
export const addActiveExecution = bound('addActiveExecution')
/** {@link Workstation.removeActiveExecution} of the default workstation. */
export const removeActiveExecution = bound('removeActiveExecution')
/** {@link Workstation.getActiveExecutions} of the default workstation. */
export const getActiveExecutions = bound('getActiveExecutions')
/** {@link Workstation.listActiveWorkflows} of the default workstation. */
export const listActiveWorkflows = bound('listActiveWorkflows')
/** {@link Workstation.getActiveWorkflowsStatus} of the default workstation. */
export const getActiveWorkflowsStatus = bound('getActiveWorkflowsStatus')
/** {@link Workstation.pageActiveWorkflows} of the default workstation. */
export const pageActiveWorkflows = bound('pageActiveWorkflows')
/** {@link Workstation.getWorkflowStatistics} of the default workstation. */
export const getWorkflowStatistics = bound('getWorkflowStatistics')
/** {@link Workstation.cleanupStaleWorkflows} of the default workstation. */
export const cleanupStaleWorkflows = bound('cleanupStaleWorkflows')
/** {@link Workstation.watchProgress} of the default workstation. */
export const watchProgress = bound('watchProgress')
/** {@link Workstation.lockWorkflowExecution} of the default workstation. */
export const lockWorkflowExecution = bound('lockWorkflowExecution')
/** {@link Workstation.unlockWorkflowExecution} of the default workstation. */
export const unlockWorkflowExecution = bound('unlockWorkflowExecution')
/** {@link Workstation.isWorkflowLocked} of the default workstation. */
export const isWorkflowLocked = bound('isWorkflowLocked')
/** {@link Workstation.executeWithLock} of the default workstation. */
export const executeWithLock = bound('executeWithLock')
/** {@link Workstation.acquireExecutionLock} of the default workstation. */
export const acquireExecutionLock = bound('acquireExecutionLock')
/** {@link Workstation.releaseExecutionLock} of the default workstation. */
export const releaseExecutionLock = bound('releaseExecutionLock')
/** {@link Workstation.checkExecutionLock} of the default workstation. */
export const checkExecutionLock = bound('checkExecutionLock')
/** {@link Workstation.cacheAPIResponse} of the default workstation. */
export const cacheAPIResponse = bound('cacheAPIResponse')
/** {@link Workstation.getCachedAPIResponse} of the default workstation. */
export const getCachedAPIResponse = bound('getCachedAPIResponse')
/** {@link Workstation.getOrCompute} of the default workstation. */
export const getOrCompute = bound('getOrCompute')
/** {@link Workstation.redisHealthCheck} of the default workstation. */
export const redisHealthCheck = bound('redisHealthCheck')
