/** What the table of outages is about: topologies, and the main mutations of every domain. */
import { randomUUID } from 'node:crypto'
import {
  type Connection,
  RedisExecutionCache,
  RedisLockManager,
  RedisSagaStore,
  RedisWakeSignaler,
  RedisWorkflowRunService,
  RedisWorkflowStateService,
  type Target,
  type Workstation,
  createRedisStore,
  createWorkstation,
} from '../../index.js'
import { createRun, insertStep, openService } from '../helpers/pikku'
import { type Counter, counter, next } from '../helpers/saga-states'
import { ScriptedServer, list } from '../helpers/scripted-server'

interface Place {
  host: string
  port: number
}

export interface Topology {
  name: 'one server' | 'Sentinels' | 'a cluster'
  /** How a server at this place is reached, and what has to be stopped afterwards. */
  lead: (place: Place) => Promise<{ target: Record<string, unknown>; stop: () => Promise<void> }>
  /** The server's answer to what only such a server is asked. */
  own: (words: string[], place: Place) => string | undefined
}

export const TOPOLOGIES: Topology[] = [
  {
    name: 'one server',
    lead: async ({ host, port }) => ({ target: { host, port }, stop: async () => {} }),
    own: () => undefined,
  },
  {
    name: 'Sentinels',
    lead: async ({ host, port }) => {
      const sentinel = await ScriptedServer.start(([name, command]) => {
        if (name !== 'SENTINEL') return undefined
        return command === 'SENTINELS' ? '*0\r\n' : list(host, String(port))
      })
      const { host: sentinelHost, port: sentinelPort } = sentinel
      const target = { sentinels: [{ host: sentinelHost, port: sentinelPort }], name: 'm' }
      return { target, stop: () => sentinel.stop() }
    },
    own: () => undefined,
  },
  {
    name: 'a cluster',
    lead: async (place) => ({ target: { cluster: [place] }, stop: async () => {} }),
    own: ([name], { host, port }) =>
      name === 'CLUSTER'
        ? `*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$${host.length}\r\n${host}\r\n:${port}\r\n`
        : undefined,
  },
]

/** What a client says to set itself up, to look around, and to keep the list of locks. */
const ASIDE = new Set(
  'HELLO PING CLIENT ROLE CLUSTER SUBSCRIBE UNSUBSCRIBE INFO SELECT ASKING ZADD ZREMRANGEBYSCORE'.split(' '),
)

/** In a cluster, the indexes over runs are kept in the same words as the list of locks. */
const RUNS = /^workflows:(runs|steps|workflow-names)/

export function isData([name = '', key = '']: string[]): boolean {
  return !ASIDE.has(name) || RUNS.test(key)
}

async function open(connection: Connection, target: Target) {
  return {
    runs: new RedisWorkflowStateService(connection),
    service: await openService(connection),
    journal: new RedisWorkflowRunService(connection),
    saga: new RedisSagaStore<Counter>({ redis: connection }),
    locks: new RedisLockManager(connection, { maxRetries: 0, warnings: false }),
    cache: new RedisExecutionCache(connection),
    tasks: createRedisStore(connection),
    signals: new RedisWakeSignaler(connection),
    workstation: createWorkstation({ redis: target, log: false }) as Workstation,
  }
}

export type Clients = Awaited<ReturnType<typeof open>>
export const openClients = open

const HOUR = 3_600_000

type Prepare<T> = (sound: Clients, id: string) => Promise<T>

interface Prepared {
  name: string
  call: (by: Clients) => Promise<unknown>
}

function mutation<T>(
  name: string,
  prepare: Prepare<T>,
  call: (by: Clients, prepared: T, id: string) => Promise<unknown>,
): (sound: Clients) => Promise<Prepared> {
  return async (sound) => {
    const id = randomUUID()
    const prepared = await prepare(sound, id)
    return { name, call: (by) => call(by, prepared, id) }
  }
}

const none = async (): Promise<void> => {}

async function step({ service }: Clients): Promise<string> {
  return insertStep(service, await createRun(service), 's')
}

const MUTATIONS = [
  mutation('createRun', none, (by) => by.runs.createRun('w', 1)),
  mutation(
    'updateRunStatus',
    ({ runs }) => runs.createRun('w', 1),
    (by, run) => by.runs.updateRunStatus(run, 'completed', 1),
  ),
  mutation('setStepResult', none, (by, _, id) => by.runs.setStepResult(id, 's', 1)),
  mutation('setStepError', none, (by, _, id) => by.runs.setStepError(id, 's', new Error('x'))),
  mutation('createRun of the service', none, (by) => createRun(by.service)),
  mutation('setStepRunning of the service', step, (by, id) => by.service.setStepRunning(id)),
  mutation('setStepResult of the service', step, (by, id) => by.service.setStepResult(id, 1)),
  mutation('createRetryAttempt', step, (by, id) => by.service.createRetryAttempt(id, 'running')),
  mutation(
    'deleteRun',
    ({ service }) => createRun(service),
    (by, id) => by.journal.deleteRun(id),
  ),
  mutation('acquire', none, (by, _, id) => by.locks.acquire(id, HOUR)),
  mutation('acquire and release', none, async (by, _, id) => {
    const token = await by.locks.acquire(id, HOUR)
    if (!(await by.locks.release(id, token as string))) throw new Error('it was held')
  }),
  mutation(
    'extend',
    ({ locks }, id) => locks.acquire(id, HOUR),
    (by, token, id) => by.locks.extend(id, token as string, 2 * HOUR),
  ),
  mutation(
    'forceRelease',
    ({ locks }, id) => locks.acquire(id, HOUR),
    (by, _, id) => by.locks.forceRelease(id),
  ),
  mutation('insert of a saga', none, (by, _, id) => by.saga.insert('S', `c-${id}`, counter(id))),
  mutation(
    'update of a saga',
    ({ saga }, id) => saga.insert('S', `c-${id}`, counter(id)),
    (by, _, id) => by.saga.update('S', next(counter(id)), 0),
  ),
  mutation(
    'delete of a saga',
    ({ saga }, id) => saga.insert('S', `c-${id}`, counter(id)),
    (by, _, id) => by.saga.deleteById('S', id),
  ),
  mutation('set of an execution', none, (by, _, id) => by.cache.set({ id })),
  mutation('beginExecution', none, (by, _, id) => by.tasks.beginExecution(id)),
  mutation(
    'commitExecutionTaskResult',
    ({ tasks }, id) => tasks.beginExecution(id),
    (by, _, id) => by.tasks.commitExecutionTaskResult(id, 't', 1),
  ),
  mutation('publish', none, (by, _, id) => by.signals.publish(id)),
]

/** Every mutation, ready to happen. */
export function prepareAll(sound: Clients): Promise<Prepared[]> {
  return Promise.all(MUTATIONS.map((each) => each(sound)))
}
