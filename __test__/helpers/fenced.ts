/** Every write that takes a fence, in one form: what must be there before, which record it is about, the write. */
import { randomUUID } from 'node:crypto'
import {
  type Connection,
  type FenceOptions,
  RedisExecutionCache,
  RedisSagaStore,
  RedisWorkflowRunService,
  RedisWorkflowStateService,
} from '../../index.js'
import { createRun, insertStep, openService } from './pikku'
import { type Counter, counter, stateKey } from './saga-states'

/** What stands for the stores of @pikku/core, whose methods are for subclasses. */
type Service = any

export interface Stores {
  runs: RedisWorkflowStateService
  saga: RedisSagaStore<Counter>
  cache: RedisExecutionCache
  service: Service
  journal: RedisWorkflowRunService
  /** Of the journal's keys. */
  prefix: string
  /** On the same runs as the journal. */
  journalRuns: RedisWorkflowStateService
}

/** `prefix` is that of the journal. */
export async function openStores(connection: Connection, prefix = 'workflows'): Promise<Stores> {
  return {
    runs: new RedisWorkflowStateService(connection),
    saga: new RedisSagaStore<Counter>({ redis: connection }),
    cache: new RedisExecutionCache(connection),
    service: await openService(connection, prefix),
    journal: new RedisWorkflowRunService(connection, prefix),
    prefix,
    journalRuns: new RedisWorkflowStateService(connection, prefix),
  }
}

/** A write that is ready to happen: by the stores that prepared it, or by others. */
export interface Prepared {
  /** Key of the record that keeps the fence. */
  record: string
  write: (options?: FenceOptions, by?: Stores) => Promise<unknown>
}

export function fenceKey(record: string): string {
  return `ferroflow:fence:${record.includes('}') ? record : `{${record}}`}`
}

const runKey = (id: string): string => `workflows:run:${id}`

type Write<T> = (stores: Stores, prepared: T, options?: FenceOptions) => Promise<unknown>

function ofRun(write: Write<string>): (stores: Stores) => Promise<Prepared> {
  return async (stores) => {
    const id = await stores.runs.createRun('w', 1)
    return { record: runKey(id), write: (options, by = stores) => write(by, id, options) }
  }
}

function ofSaga(write: Write<string>, stored = true): (stores: Stores) => Promise<Prepared> {
  return async (stores) => {
    const id = randomUUID()
    if (stored) await stores.saga.insert('S', `c-${id}`, counter(id))
    return { record: stateKey('S', `c-${id}`), write: (options, by = stores) => write(by, id, options) }
  }
}

function ofExecution(write: Write<string>): (stores: Stores) => Promise<Prepared> {
  return async (stores) => {
    const id = randomUUID()
    await stores.cache.set({ id, status: 'old' })
    return { record: `fm:exec:${id}`, write: (options, by = stores) => write(by, id, options) }
  }
}

function ofJournal(write: Write<{ run: string; step: string }>): (stores: Stores) => Promise<Prepared> {
  return async (stores) => {
    const run = await createRun(stores.service)
    const step = await insertStep(stores.service, run, 's')
    return {
      record: `${stores.prefix}:run:${run}`,
      write: (options, by = stores) => write(by, { run, step }, options),
    }
  }
}

const withCorrelation = (id: string): Counter => ({ ...counter(id), correlationId: `c-${id}` }) as Counter

export const WRITES: Record<string, (stores: Stores) => Promise<Prepared>> = {
  updateRunStatus: ofRun(({ runs }, id, options) =>
    runs.updateRunStatus(id, 'completed', { total: 1 }, undefined, options),
  ),
  setStepScheduled: ofRun(({ runs }, id, options) => runs.setStepScheduled(id, 's', options)),
  setStepResult: ofRun(({ runs }, id, options) => runs.setStepResult(id, 's', { a: 1 }, options)),
  setStepError: ofRun(({ runs }, id, options) => runs.setStepError(id, 's', new Error('x'), options)),
  'insert of a saga': ofSaga(
    ({ saga }, id, options) => saga.insert('S', `c-${id}`, counter(id), options),
    false,
  ),
  'update of a saga': ofSaga(({ saga }, id, options) =>
    saga.update('S', counter(id, 1, { version: 1 }), 0, options),
  ),
  'save of a new saga': ofSaga(
    ({ saga }, id, options) => saga.save('S', withCorrelation(id), options),
    false,
  ),
  'save of a saga': ofSaga(({ saga }, id, options) => saga.save('S', counter(id), options)),
  'delete of a saga': ofSaga(({ saga }, id, options) => saga.delete('S', id, options)),
  'deleteById of a saga': ofSaga(({ saga }, id, options) => saga.deleteById('S', id, options)),
  'deleteByCorrelationId of a saga': ofSaga(({ saga }, id, options) =>
    saga.deleteByCorrelationId('S', `c-${id}`, options),
  ),
  'set of an execution': ofExecution(({ cache }, id, options) =>
    cache.set({ id, status: 'new' }, 1000, options),
  ),
  'invalidate of an execution': ofExecution(({ cache }, id, options) => cache.invalidate(id, options)),
  'invalidateMany of executions': ofExecution(({ cache }, id, options) =>
    cache.invalidateMany([`other-${id}`, id], options),
  ),
  updateRunStatusImpl: ofJournal(({ service }, { run }, options) =>
    service.updateRunStatusImpl(run, 'completed', { total: 1 }, undefined, options),
  ),
  insertStepStateImpl: ofJournal(({ service }, { run }, options) =>
    service.insertStepStateImpl(run, 'new', 'rpc', {}, options),
  ),
  setStepScheduledImpl: ofJournal(({ service }, { step }, options) =>
    service.setStepScheduledImpl(step, options),
  ),
  setStepRunningImpl: ofJournal(({ service }, { step }, options) =>
    service.setStepRunningImpl(step, options),
  ),
  setStepResultImpl: ofJournal(({ service }, { step }, options) =>
    service.setStepResultImpl(step, { a: 1 }, options),
  ),
  setStepErrorImpl: ofJournal(({ service }, { step }, options) =>
    service.setStepErrorImpl(step, new Error('x'), options),
  ),
  setStepChildRunIdImpl: ofJournal(({ service }, { step }, options) =>
    service.setStepChildRunIdImpl(step, 'child', options),
  ),
  setBranchTakenImpl: ofJournal(({ service }, { step }, options) =>
    service.setBranchTakenImpl(step, 'left', options),
  ),
  createRetryAttemptImpl: ofJournal(({ service }, { step }, options) =>
    service.createRetryAttemptImpl(step, 'running', options),
  ),
  claimStepForExecution: ofJournal(({ service }, { run }, options) =>
    service.claimStepForExecution(run, 's', 'rpc', options),
  ),
  updateRunStateImpl: ofJournal(({ service }, { run }, options) =>
    service.updateRunStateImpl(run, 'n', 1, options),
  ),
  deleteRun: ofJournal(({ journal }, { run }, options) => journal.deleteRun(run, options)),
}
