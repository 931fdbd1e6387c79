import { EventEmitter } from 'node:events'

import type { Connection } from '../connection.js'
import { ConfigError, ConnectionError } from '../errors.js'
import { checkInteger, withDefaults } from '../validate.js'
import type * as api from './api.js'
import { Core, type Settings } from './core.js'
import { targetOfEnvironment } from './environment.js'
import { createRedisService } from './redis-service.js'
import { sealingOf } from './sealing.js'

const IDLE: Omit<api.Degradation, 'journal'> = {
  state: 'up',
  since: Date.now(),
  disabled: false,
  fallbackOps: { cache: 0, session: 0, delete: 0, progress: 0, lock: 0, command: 0 },
}

/**
 * A workstation of one's own. It connects when it is first used.
 *
 * @throws {@link ConfigError} or {@link ArgumentError} for an option that cannot be used
 */
export function createWorkstation(options: api.WorkstationOptions = {}): api.Workstation {
  return new NativeWorkstation(options)
}

class NativeWorkstation extends EventEmitter<api.WorkstationEvents> implements api.Workstation {
  readonly redisService: api.RedisService
  readonly streamTickets: api.StreamTickets
  readonly #options: api.WorkstationOptions
  readonly #settings: Settings
  readonly #log: (line: string) => void
  #core: Core | undefined
  #closed = false

  constructor(options: api.WorkstationOptions) {
    super()
    this.#options = options
    this.#settings = toSettings(options)
    const { log } = options
    this.#log = log === false ? () => {} : (log ?? warn)
    this.streamTickets = {
      issue: async (...args) => this.#open().tickets.issue(...args),
      take: async (ticket) => this.#open().tickets.take(ticket),
    }
    this.redisService = createRedisService({
      open: () => this.#open(),
      present: () => this.#core,
      end: () => this.#end(),
    })
  }

  #open(): Core {
    if (this.#closed) throw new ConnectionError('CLOSED', 'the workstation is closed')
    if (this.#core !== undefined) return this.#core
    const { redis = targetOfEnvironment(process.env) } = this.#options
    this.#core = new Core(redis, this.#settings, {
      transition: (transition) => this.#moved(transition),
      rejected: (write) => this.emit('rejected', write),
      replayed: (replay) => this.emit('replayed', replay),
      warned: (text) => this.#log(text),
    })
    return this.#core
  }

  #moved(transition: api.Transition): void {
    const { from, to, reason } = transition
    this.#log(`The workstation is ${to}, it was ${from}: ${reason}`)
    this.emit('transition', transition)
  }

  async #end(): Promise<void> {
    const core = this.#core
    this.#core = undefined
    await core?.close()
  }

  get connection(): Connection {
    return this.#open().connection
  }

  get degradation(): api.Degradation {
    const maxBytes = this.#settings.journalBytes
    return this.#core?.degradation ?? { ...IDLE, journal: { entries: 0, bytes: 0, maxBytes } }
  }

  async setSession(userId: string, session: object, ttl?: number, options?: api.SetSessionOptions) {
    return this.#open().sessions.set(userId, session, ttl, options)
  }

  async getSession(userId: string) {
    return (await this.#open().sessions.entry(userId))?.session ?? null
  }

  async getSessionEntry(userId: string) {
    return this.#open().sessions.entry(userId)
  }

  async deleteSession(userId: string) {
    return this.#open().sessions.delete(userId)
  }

  async deleteAllSessions(userId: string) {
    return this.#open().sessions.delete(userId)
  }

  async touchSession(userId: string, ttl?: number) {
    return this.#open().sessions.touch(userId, ttl)
  }

  async setWorkflowState(executionId: string, state: object, ttl?: number) {
    return this.#open().tracking.set(executionId, state, ttl)
  }

  async getWorkflowState(executionId: string) {
    return this.#open().tracking.fetchAny(executionId)
  }

  async deleteWorkflowState(executionId: string) {
    return this.#open().tracking.clear(executionId)
  }

  async startWorkflowTracking(executionId: string, workflowId: string, totalSteps: number, data?: object) {
    return this.#open().tracking.start(executionId, workflowId, totalSteps, data)
  }

  async updateWorkflowProgress(
    executionId: string,
    completedSteps: number,
    currentStep: string,
    data?: object,
    options?: api.ProgressOptions,
  ) {
    return this.#open().tracking.progress(executionId, completedSteps, currentStep, data, options)
  }

  async completeWorkflowTracking(
    executionId: string,
    status: api.FinalStatus,
    error?: string,
    data?: object,
  ) {
    return this.#open().tracking.complete(executionId, status, error, data)
  }

  async fetchWorkflowState(executionId: string) {
    return this.#open().tracking.fetch(executionId)
  }

  async updateWorkflowState(state: api.WorkflowState) {
    return this.#open().tracking.update(state)
  }

  async clearWorkflowState(executionId: string) {
    return this.#open().tracking.clear(executionId)
  }

  async addActiveExecution(executionId: string) {
    return this.#open().tracking.setActive(executionId, true)
  }

  async removeActiveExecution(executionId: string) {
    return this.#open().tracking.setActive(executionId, false)
  }

  async getActiveExecutions() {
    return this.#open().tracking.active()
  }

  async listActiveWorkflows() {
    return this.#open().tracking.active()
  }

  async getActiveWorkflowsStatus(options?: api.PageOptions) {
    return (await this.#open().tracking.page(options)).workflows
  }

  async pageActiveWorkflows(options?: api.PageOptions) {
    return this.#open().tracking.page(options)
  }

  async getWorkflowStatistics() {
    return this.#open().tracking.statistics()
  }

  async cleanupStaleWorkflows() {
    return this.#open().tracking.cleanup()
  }

  async watchProgress(watcher: api.ProgressWatcher) {
    return this.#open().tracking.watch(watcher)
  }

  async lockWorkflowExecution(executionId: string, workerId: string, options?: api.ExecutionLockOptions) {
    return this.#open().locks.acquire(executionId, workerId, options)
  }

  async unlockWorkflowExecution(executionId: string, workerId?: string | api.UnlockOptions) {
    return this.#open().locks.release(executionId, workerId)
  }

  async isWorkflowLocked(executionId: string) {
    return this.#open().locks.status(executionId)
  }

  async getExecutionLock(executionId: string) {
    return this.#open().locks.get(executionId)
  }

  async inspectExecutionLock(executionId: string) {
    return this.#open().locks.inspect(executionId)
  }

  async executeWithLock<T>(
    executionId: string,
    workerId: string,
    fn: Parameters<api.Workstation['executeWithLock']>[2],
    options?: api.ExecuteOptions,
  ): Promise<T> {
    return this.#open().locks.execute(executionId, workerId, fn, options) as Promise<T>
  }

  async acquireExecutionLock(executionId: string, workerId: string, ttl?: number) {
    return this.#open().locks.acquire(executionId, workerId, ttl === undefined ? {} : { ttl })
  }

  async releaseExecutionLock(executionId: string, workerId?: string | api.UnlockOptions) {
    return this.#open().locks.release(executionId, workerId)
  }

  async checkExecutionLock(executionId: string) {
    return (await this.#open().locks.get(executionId))?.workerId ?? null
  }

  async cacheAPIResponse(hash: string, response: unknown, ttl?: number) {
    return this.#open().cache.set(hash, response, ttl)
  }

  async getCachedAPIResponse(hash: string) {
    return this.#open().cache.get(hash)
  }

  async getOrCompute<T>(
    key: string,
    fn: () => T | Promise<T>,
    ttl?: number,
    options?: api.ComputeOptions,
  ): Promise<T> {
    return this.#open().cache.getOrCompute(key, fn, ttl, options)
  }

  async redisHealthCheck() {
    return this.#open().health.check()
  }

  async checkReadiness() {
    return this.#open().health.ready()
  }

  async close() {
    this.#closed = true
    await this.#end()
  }
}

function toSettings(options: api.WorkstationOptions): Settings {
  const { sessions, cache, tracking, degraded, localLocks, log } = withDefaults(
    'the options',
    {
      sessions: {} as NonNullable<api.WorkstationOptions['sessions']>,
      cache: {} as NonNullable<api.WorkstationOptions['cache']>,
      tracking: {} as NonNullable<api.WorkstationOptions['tracking']>,
      degraded: {} as NonNullable<api.WorkstationOptions['degraded']>,
      localLocks: undefined as 'unsafe' | undefined,
      log: undefined as api.WorkstationOptions['log'],
    },
    options as object,
  )
  if (localLocks !== undefined && localLocks !== 'unsafe') {
    throw new ConfigError('CONFIG', 'localLocks must be "unsafe", or absent')
  }
  if (log !== undefined && log !== false && typeof log !== 'function') {
    throw new ConfigError('CONFIG', 'log must be a function or false')
  }
  const { staleMs: staleSessionMs } = withDefaults('sessions', { staleMs: 30_000 }, sessions)
  const { staleMs: stuckMs, coalesceMs } = withDefaults(
    'tracking',
    { staleMs: 3_600_000, coalesceMs: 0 },
    tracking,
  )
  const { journalBytes, minOpenMs } = withDefaults(
    'degraded',
    { journalBytes: 64 * 1024 * 1024, minOpenMs: 1000 },
    degraded,
  )
  return {
    sealing: sealingOf(sessions.encryption),
    staleSessionMs: checkInteger('sessions.staleMs', staleSessionMs, { unit: 'milliseconds' }),
    cacheMemory: cache.memory,
    stuckMs: checkInteger('tracking.staleMs', stuckMs, { min: 1, unit: 'milliseconds' }),
    coalesceMs: checkInteger('tracking.coalesceMs', coalesceMs, { max: 60_000, unit: 'milliseconds' }),
    journalBytes: checkInteger('degraded.journalBytes', journalBytes, { unit: 'bytes' }),
    minOpenMs: checkInteger('degraded.minOpenMs', minOpenMs, { max: 60_000, unit: 'milliseconds' }),
    unsafeLocks: localLocks === 'unsafe',
  }
}

function warn(line: string): void {
  process.emitWarning(line, { type: 'FerroflowWarning', code: 'FERROFLOW_WORKSTATION' })
}
