/**
 * Every mutating operation of every class, and what holds for it whatever fails meanwhile.
 *
 * For all of them: what was acknowledged is there, with the same answer as without a fault; what was refused changed
 * nothing; after OUTCOME_UNKNOWN either is true, and nothing between the two: payload, indexes, times to live and
 * fences are those of before or those of after. A repetition succeeds, or says what it says of something that was done.
 */
import { randomUUID } from 'node:crypto'
import {
  type Connection,
  ConnectionError,
  RedisLockManager,
  RedisSagaStore,
  RedisWakeSignaler,
  createRedisStore,
  createWorkstation,
} from '../../index.js'
import { WRITES, openStores as openFenced } from '../helpers/fenced'
import { createRun, insertStep } from '../helpers/pikku'
import { type Counter, counter, next } from '../helpers/saga-states'

async function open(connection: Connection) {
  return {
    ...(await openFenced(connection)),
    connection,
    locks: new RedisLockManager(connection, { maxRetries: 0, warnings: false }),
    tasks: createRedisStore(connection),
    brief: createRedisStore(connection, { ttl: 600_000 }),
    mortal: new RedisSagaStore<Counter>({ redis: connection, defaultTtlSeconds: 600 }),
    signals: new RedisWakeSignaler(connection),
    workstation: createWorkstation({ redis: connection, log: false }),
  }
}

export type Clients = Awaited<ReturnType<typeof open>>
export const openClients = open

/** Frees what their locks hold, and ends what they do behind their callers' backs. */
export async function closeClients({ locks, workstation }: Clients): Promise<void> {
  await Promise.all([locks.close(), workstation.close()])
}

export interface Operation {
  name: string
  /** Does what must be there before, and returns what makes the call. */
  prepare: (sound: Clients) => Promise<(by: Clients) => Promise<unknown>>
  /** How many calls with a deadline of their own it is made of. Default: 1 */
  calls?: number
  /**
   * A lock: where the caller was not told that it is theirs, it is free again soon, and so it is once the caller has
   * closed its manager.
   */
  lock?: boolean
  /** Takes one entry after the other; each is whole, but there may be fewer than before. */
  piecemeal?: boolean
}

type Call<T> = (by: Clients, prepared: T) => Promise<unknown>

function operation<T>(name: string, prepare: (sound: Clients) => Promise<T>, call: Call<T>): Operation {
  return {
    name,
    prepare: async (sound) => {
      const prepared = await prepare(sound)
      return (by) => call(by, prepared)
    },
  }
}

const TOKEN = 'of-another-process'

/** A lock that this token holds. */
async function held({ connection }: Clients): Promise<string> {
  await connection.command('SET', 'fm:lock:k', TOKEN, 'PX', 600_000)
  return 'k'
}

async function nothing(): Promise<string> {
  return randomUUID()
}

const locks: Operation[] = [
  operation('acquire', nothing, (by, id) => by.locks.acquire(id, 600_000)),
  operation('tryAcquire', nothing, (by, id) => by.locks.tryAcquire(id, 600_000)),
  operation('acquire with renewal', nothing, async (by, id) =>
    Boolean(await by.locks.acquire(id, { ttl: 60_000, renew: true })),
  ),
  operation('acquire in order', nothing, async (by, id) =>
    Boolean(await by.locks.acquire(id, { ttl: 60_000, fair: true })),
  ),
  operation('acquireLock', nothing, async (by, id) => Boolean(await by.locks.acquireLock(id, 60_000))),
  {
    ...operation('acquireLock and release', nothing, async (by, id) => {
      const lock = await by.locks.acquireLock(id, 60_000)
      await lock?.release()
      return lock !== null
    }),
    calls: 2,
  },
  { ...operation('withLock', nothing, (by, id) => by.locks.withLock(id, () => 'done', 60_000)), calls: 2 },
  {
    ...operation('withLock in order', nothing, (by, id) =>
      by.locks.withLock(id, () => 'done', { fair: true }),
    ),
    calls: 2,
  },
  {
    ...operation('withLocks', nothing, (by, id) =>
      by.locks.withLocks([`${id}-a`, `${id}-b`], () => 'done', 60_000),
    ),
    calls: 4,
  },
  { ...operation('withRunLock', nothing, (by, id) => by.runs.withRunLock(id, () => 'done')), calls: 2 },
  {
    ...operation('withRunLock of the service', nothing, (by, id) =>
      by.service.withRunLock(id, async () => 'done'),
    ),
    calls: 2,
  },
  {
    ...operation('withStepLock', nothing, (by, id) => by.service.withStepLock(id, 's', async () => 'done')),
    calls: 2,
  },
].map((each) => ({ ...each, lock: true }))

const others: Operation[] = [
  operation('release of a token from elsewhere', held, (by, key) => by.locks.release(key, TOKEN)),
  operation('extend', held, (by, key) => by.locks.extend(key, TOKEN, 900_000)),
  operation('extend to less', held, (by, key) => by.locks.extend(key, TOKEN, 300_000)),
  operation('forceRelease', held, (by, key) => by.locks.forceRelease(key)),
  operation('createRun', nothing, (by) => by.runs.createRun('w', { a: 1 })),
  operation('createRun of the service', nothing, (by) => createRun(by.service)),
  operation('createRun under a fence', nothing, (by) => by.runs.createRun('w', { a: 1 }, { fence: 7 })),
  operation(
    'updateRunStatus to failed',
    ({ runs }) => runs.createRun('w', 1),
    (by, id) => by.runs.updateRunStatus(id, 'failed', undefined, { name: 'E', message: 'no' } as never),
  ),
  operation('insert of a saga with a TTL', nothing, (by, id) =>
    by.mortal.insert('S', `c-${id}`, counter(id)),
  ),
  operation('update of a saga with a TTL', stored, (by, id) => by.mortal.update('S', next(counter(id)), 0)),
  operation('save of a saga with a TTL', stored, async (by, id) => {
    await by.mortal.save('S', counter(id))
  }),
  operation('delete of a saga with a TTL', stored, (by, id) => by.mortal.delete('S', id)),
  ...(['tasks', 'brief'] as const).flatMap((store) => {
    const kind = store === 'brief' ? ' with a TTL' : ''
    const begun = async (clients: Clients): Promise<string> => {
      const id = randomUUID()
      await clients[store].beginExecution(id)
      await clients[store].beginExecutionTask(id, 't')
      return id
    }
    return [
      operation(`beginExecution${kind}`, nothing, (by, id) => by[store].beginExecution(id)),
      operation(`beginExecutionTask${kind}`, begun, (by, id) => by[store].beginExecutionTask(id, 'u')),
      operation(`commitExecutionTaskResult${kind}`, begun, (by, id) =>
        by[store].commitExecutionTaskResult(id, 't', { a: 1 }),
      ),
      operation(`disposeExecution${kind}`, begun, (by, id) => by[store].disposeExecution(id)),
    ]
  }),
  {
    ...operation('clear of the cache', cached, (by) => by.cache.clear()),
    calls: 2,
    piecemeal: true,
  },
  operation('publish', nothing, (by, id) => by.signals.publish(id, { a: 1 })),
  operation('signalMany', nothing, (by, id) => by.signals.signalMany([`${id}-a`, `${id}-b`])),
  operation('upsertWorkflowVersion', nothing, (by) =>
    by.service.upsertWorkflowVersion('w', 'h', { nodes: [] }, 'dsl'),
  ),
  operation(
    'updateWorkflowVersionStatus',
    ({ service }) => service.upsertWorkflowVersion('w', 'h', { nodes: [] }, 'dsl'),
    (by) => by.service.updateWorkflowVersionStatus('w', 'h', 'draft'),
  ),
  operation('deleteRun with steps', running, (by, id) => by.journal.deleteRun(id)),
]

const workstations: Operation[] = [
  operation('setSession', nothing, (by, id) => by.workstation.setSession(id, { n: 1 })),
  operation('setSession of a version', loggedIn, (by, { id, version }) =>
    by.workstation.setSession(id, { n: 2 }, 600, { version }),
  ),
  operation('deleteSession', loggedIn, async (by, { id }) => {
    await by.workstation.deleteSession(id)
  }),
  operation('touchSession', loggedIn, (by, { id }) => orUnknown(by.workstation.touchSession(id, 9000))),
  operation('setWorkflowState', nothing, (by, id) => by.workstation.setWorkflowState(id, { status: 'new' })),
  operation('startWorkflowTracking', nothing, (by, id) => by.workstation.startWorkflowTracking(id, 'w', 3)),
  operation('updateWorkflowProgress', tracked, (by, id) =>
    by.workstation.updateWorkflowProgress(id, 1, 'one', { a: 1 }),
  ),
  operation('completeWorkflowTracking', tracked, (by, id) =>
    by.workstation.completeWorkflowTracking(id, 'completed'),
  ),
  operation('clearWorkflowState', tracked, async (by, id) => {
    await by.workstation.clearWorkflowState(id)
  }),
  operation('addActiveExecution', nothing, (by, id) => by.workstation.addActiveExecution(id)),
  operation('removeActiveExecution', tracked, (by, id) => by.workstation.removeActiveExecution(id)),
  {
    ...operation('lockWorkflowExecution', nothing, (by, id) =>
      by.workstation.lockWorkflowExecution(id, 'worker', { ttl: 600 }),
    ),
    lock: true,
  },
  operation(
    'unlockWorkflowExecution',
    async (sound) => {
      const id = await nothing()
      await sound.workstation.lockWorkflowExecution(id, 'worker', { ttl: 600 })
      return id
    },
    (by, id) => by.workstation.unlockWorkflowExecution(id, 'worker'),
  ),
  operation('updateWorkflowState', tracked, async (by, id) => {
    const state = { executionId: id, workflowId: 'w', status: 'running', data: { b: 1 } }
    return by.workstation.updateWorkflowState(state as never)
  }),
  operation('cacheAPIResponse', nothing, (by, id) =>
    orUnknown(by.workstation.cacheAPIResponse(id, { a: 1 })),
  ),
]

/** `false` is also what they say while Redis is out of reach. */
async function orUnknown(answer: Promise<boolean>): Promise<true> {
  if (await answer) return true
  throw new ConnectionError('OUTCOME_UNKNOWN', 'it may be done, or not')
}

async function loggedIn({ workstation }: Clients): Promise<{ id: string; version: number }> {
  const id = randomUUID()
  await workstation.setSession(id, { n: 1 })
  return { id, version: (await workstation.getSessionEntry(id))!.version }
}

async function tracked({ workstation }: Clients): Promise<string> {
  const id = randomUUID()
  await workstation.startWorkflowTracking(id, 'w', 3)
  return id
}

async function stored({ mortal }: Clients): Promise<string> {
  const id = randomUUID()
  await mortal.insert('S', `c-${id}`, counter(id))
  return id
}

async function cached({ cache }: Clients): Promise<void> {
  for (const id of ['a', 'b', 'c'])
    // oxlint-disable-next-line no-await-in-loop -- few
    await cache.set({ id })
}

async function running({ service }: Clients): Promise<string> {
  const run = await createRun(service)
  await service.setStepRunning(await insertStep(service, run, 'a'))
  await insertStep(service, run, 'b')
  await service.updateRunState(run, 'n', 1)
  return run
}

/** The writes that take a fence, without and with one. */
const fenceable = Object.entries(WRITES).flatMap(([name, prepare]) =>
  [undefined, { fence: 7 }].map((options): Operation => {
    return {
      name: options === undefined ? name : `${name} under a fence`,
      prepare: async (sound) => {
        const { write } = await prepare(sound)
        return (by) => write(options, by)
      },
    }
  }),
)

export const OPERATIONS: readonly Operation[] = [...locks, ...others, ...workstations, ...fenceable]
