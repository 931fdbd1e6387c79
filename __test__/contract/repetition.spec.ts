/**
 * A reply is lost, somebody else changes the record, and only then the client repeats its request: the repetition must
 * neither undo what lies between nor claim what it cannot know.
 */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import {
  type Connection,
  FerroflowError,
  RedisWorkflowRunService,
  type Workstation,
  createRedisStore,
  createWorkstation,
} from '../../index.js'
import { type WorkflowService, insertStep, openService } from '../helpers/pikku'
import { ProxiedStores, isWrite } from '../helpers/proxied-stores'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { counter, indexKey, next, stateKey } from '../helpers/saga-states'
import { until } from '../helpers/wait'

interface Stores {
  connection: Connection
  workflow: ProxiedStores['workflow']
  lock: ProxiedStores['lock']
  saga: ProxiedStores['saga']
  service: WorkflowService
  journal: RedisWorkflowRunService
  workstation: Workstation
  /** The same by another connection. */
  elsewhere: Workstation
  /** Of the sessions. */
  versions: number[]
  /** Under which the locks are held. */
  tokens: string[]
}

interface Repeated {
  prepare: (direct: RespClient, n: number, stores: Stores) => Promise<unknown>
  write: (stores: Stores, n: number) => Promise<unknown>
  /** What somebody else does after it. */
  change: (direct: RespClient, n: number, stores: Stores) => Promise<unknown>
  /** What is there. */
  look: (direct: RespClient, n: number) => Promise<unknown>
  /** What is there after the one write and the one change. */
  left: unknown
  /** Answers that are true if nobody changes anything. */
  answer?: unknown
  /** What became of the first copy is known whatever happened since. */
  certain?: boolean
  /** It reads before it writes, so the lost reply of one would hold up the reading of the next. */
  alone?: boolean
}

const HOUR = 3_600_000
const run = (n: number): string => `workflows:run:r${n}`
const step = (n: number): string => `workflows:step:r${n}:s`
const soon = (): number => Date.now() + 50
const RUN = (n: number): (string | number)[] =>
  Object.entries({ id: `r${n}`, workflow: 'w', status: 'running', createdAt: 1, updatedAt: 1 }).flat()
const STEP = (n: number): (string | number)[] =>
  Object.entries({
    stepId: `r${n}:s:1`,
    status: 'pending',
    attemptCount: 1,
    createdAt: 1,
    updatedAt: 1,
  }).flat()

const WRITES: Record<string, Repeated> = {
  updateRunStatus: {
    prepare: (direct, n) =>
      direct.command('HSET', run(n), 'id', `r${n}`, 'status', 'running', 'createdAt', 1, 'updatedAt', 1),
    write: ({ workflow }, n) => workflow.updateRunStatus(`r${n}`, 'failed', { n }),
    change: (direct, n) => direct.command('HSET', run(n), 'status', 'running', 'updatedAt', soon()),
    look: (direct, n) => direct.command('HMGET', run(n), 'status', 'output').then(String),
    left: (n: number) => `running,{"n":${n}}`,
  },
  setStepError: {
    prepare: (direct, n) => direct.command('HSET', step(n), 'status', 'scheduled', 'updatedAt', 1),
    write: ({ workflow }, n) => workflow.setStepError(`r${n}`, 's', new Error('no')),
    change: (direct, n) => direct.command('HSET', step(n), 'status', 'scheduled', 'updatedAt', soon()),
    look: (direct, n) => direct.command('HGET', step(n), 'status'),
    left: 'scheduled',
  },
  setStepResult: {
    prepare: () => Promise.resolve(),
    write: ({ workflow }, n) => workflow.setStepResult(`r${n}`, 's', 'first'),
    change: (direct, n) => direct.command('HSET', step(n), 'updatedAt', soon()),
    look: (direct, n) => direct.command('HMGET', step(n), 'status', 'result').then(String),
    left: 'done,"first"',
  },
  'update of a saga': {
    prepare: (direct, n) => store(direct, n, 0),
    write: ({ saga }, n) => saga.update('S', next(counter(`i${n}`)), 0),
    change: (direct, n) => store(direct, n, 2),
    look: (direct, n) => direct.command<string>('GET', stateKey('S', `c${n}`)).then(versionOf),
    left: 2,
    alone: true,
  },
  forceRelease: {
    prepare: (direct, n) => direct.command('SET', `fm:lock:k${n}`, 'one', 'PX', HOUR),
    write: ({ lock }, n) => lock.forceRelease(`k${n}`),
    change: (direct, n) => direct.command('SET', `fm:lock:k${n}`, 'other', 'PX', HOUR),
    look: (direct, n) => direct.command('GET', `fm:lock:k${n}`),
    left: 'other',
    answer: true,
    certain: true,
  },
  release: {
    prepare: async (_, n, { lock, tokens }) => {
      tokens[n] = (await lock.acquire(`k${n}`, HOUR)) as string
    },
    write: ({ lock, tokens }, n) => lock.release(`k${n}`, tokens[n] as string),
    change: (direct, n) => direct.command('SET', `fm:lock:k${n}`, 'other', 'PX', HOUR),
    look: (direct, n) => direct.command('GET', `fm:lock:k${n}`),
    left: 'other',
    answer: true,
    certain: true,
  },
  'deleteById of a saga': {
    prepare: (direct, n) => store(direct, n, 0),
    write: ({ saga }, n) => saga.deleteById('S', `i${n}`),
    // The same bytes again: only the request itself tells that these are not meant.
    change: (direct, n) => store(direct, n, 0),
    look: (direct, n) => direct.command('EXISTS', stateKey('S', `c${n}`)),
    left: 1,
    answer: true,
    certain: true,
    alone: true,
  },
  'updateRunStatus of the service': {
    prepare: (direct, n) => direct.command('HSET', run(n), ...RUN(n)),
    write: ({ service }, n) => service.updateRunStatus(`r${n}`, 'suspended'),
    change: (direct, n) => direct.command('HSET', run(n), 'status', 'running', 'updatedAt', soon()),
    look: (direct, n) => direct.command('HGET', run(n), 'status'),
    left: 'running',
  },
  updateRunState: {
    prepare: (direct, n) => direct.command('HSET', run(n), ...RUN(n)),
    write: ({ service }, n) => service.updateRunState(`r${n}`, 'name', n),
    change: async (direct, n) => {
      await direct.command('HSET', `workflows:run-state:r${n}`, 'name', -1)
      await direct.command('HSET', run(n), 'updatedAt', soon())
    },
    look: (direct, n) => direct.command('HGET', `workflows:run-state:r${n}`, 'name'),
    left: '-1',
  },
  insertStepState: {
    prepare: (direct, n) => direct.command('HSET', run(n), ...RUN(n)),
    write: ({ service }, n) => insertStep(service, `r${n}`, 's'),
    change: (direct, n) => direct.command('HSET', step(n), 'status', 'running'),
    look: (direct, n) => direct.command('HGET', step(n), 'status'),
    left: 'running',
  },
  setStepRunning: {
    prepare: (direct, n) => direct.command('HSET', step(n), ...STEP(n)),
    write: ({ service }, n) => service.setStepRunning(`r${n}:s:1`),
    change: (direct, n) => direct.command('HSET', step(n), 'status', 'failed'),
    look: (direct, n) => direct.command('HGET', step(n), 'status'),
    left: 'failed',
    certain: true,
  },
  'setStepError of the service': {
    prepare: (direct, n) => direct.command('HSET', step(n), ...STEP(n)),
    write: ({ service }, n) => service.setStepError(`r${n}:s:1`, new Error('no')),
    change: (direct, n) => direct.command('HSET', step(n), 'status', 'pending', 'attemptCount', 2),
    look: (direct, n) => direct.command('HGET', step(n), 'status'),
    left: 'pending',
    certain: true,
  },
  createRetryAttempt: {
    prepare: (direct, n) => direct.command('HSET', step(n), ...STEP(n)),
    write: ({ service }, n) => service.createRetryAttempt(`r${n}:s:1`, 'running'),
    change: (direct, n) => direct.command('HSET', step(n), 'attemptCount', 3),
    look: (direct, n) => direct.command('HGET', step(n), 'attemptCount'),
    left: '3',
  },
  updateWorkflowVersionStatus: {
    prepare: (direct, n) =>
      direct.command('HSET', `workflows:version:w:h${n}`, 'graph', '{}', 'status', 'old'),
    write: ({ service }, n) => service.updateWorkflowVersionStatus('w', `h${n}`, 'draft'),
    change: (direct, n) => direct.command('HSET', `workflows:version:w:h${n}`, 'status', 'active'),
    look: (direct, n) => direct.command('HGET', `workflows:version:w:h${n}`, 'status'),
    left: 'active',
    certain: true,
  },
  deleteRun: {
    prepare: (direct, n) => direct.command('HSET', run(n), ...RUN(n)),
    write: ({ journal }, n) => journal.deleteRun(`r${n}`),
    change: (direct, n) => direct.command('HSET', run(n), ...RUN(n)),
    look: (direct, n) => direct.command('EXISTS', run(n)),
    left: 1,
    answer: true,
    certain: true,
    alone: true,
  },
  beginExecutionTask: {
    prepare: (direct, n) => direct.command('SET', `e${n}`, 'true'),
    write: ({ connection }, n) => createRedisStore(connection).beginExecutionTask(`e${n}`, 't'),
    change: async (direct, n) => {
      await direct.command('HSET', `e${n}-results`, 't', '1')
      await direct.command('HDEL', `e${n}-transactions`, 't')
    },
    look: (direct, n) => direct.command('EXISTS', `e${n}-transactions`),
    left: 0,
  },
  'setSession, and then a logout': {
    prepare: () => Promise.resolve(),
    write: ({ workstation }, n) => workstation.setSession(`u${n}`, { on: 'phone' }),
    change: (_, n, { elsewhere }) => elsewhere.deleteSession(`u${n}`),
    look: session,
    left: null,
    answer: true,
    certain: true,
  },
  'setSession of a version': {
    prepare: async (_, n, { elsewhere, versions }) => {
      await elsewhere.setSession(`u${n}`, { on: 'phone' })
      versions[n] = (await elsewhere.getSessionEntry(`u${n}`))!.version
    },
    write: ({ workstation, versions }, n) =>
      workstation.setSession(`u${n}`, { on: 'tablet' }, 600, { version: versions[n] as number }),
    change: (_, n, { elsewhere }) => elsewhere.setSession(`u${n}`, { on: 'laptop' }),
    look: session,
    left: '{"on":"laptop"}',
    answer: true,
    certain: true,
  },
  'deleteSession, and then a login': {
    prepare: (_, n, { elsewhere }) => elsewhere.setSession(`u${n}`, { on: 'phone' }),
    write: ({ workstation }, n) => workstation.deleteSession(`u${n}`),
    change: (_, n, { elsewhere }) => elsewhere.setSession(`u${n}`, { on: 'laptop' }),
    look: session,
    left: '{"on":"laptop"}',
    answer: true,
    certain: true,
  },
}

function session(direct: RespClient, n: number): Promise<unknown> {
  return direct.command('GET', `wks:session:u${n}`)
}

async function store(direct: RespClient, n: number, version: number): Promise<void> {
  await direct.command('SET', stateKey('S', `c${n}`), JSON.stringify(counter(`i${n}`, version, { version })))
  await direct.command('SET', indexKey('S', `i${n}`), `c${n}`)
}

function versionOf(json: string): number {
  return (JSON.parse(json) as { metadata: { version: number } }).metadata.version
}

/** Calls whose replies are lost together. */
const AT_ONCE = 170
const ROUNDS = 5
const REQUESTS = Object.values(WRITES).reduce((sum, { alone }) => sum + (alone ? 1 : AT_ONCE), 0) * ROUNDS

describe(`of ${REQUESTS} requests whose replies are lost`, () => {
  let server: RedisServer
  let direct: RespClient
  let elsewhere: Workstation
  let proxied: ProxiedStores
  let stores: Stores

  before(async () => {
    server = await RedisServer.start()
    direct = await server.client()
    elsewhere = createWorkstation({ redis: server.url, log: false })
  })
  after(async () => {
    direct.close()
    await elsewhere.close()
    await server.stop()
  })
  async function open(): Promise<void> {
    proxied = await (await ProxiedStores.open(server)).warm()
    const { connection, workflow, lock, saga } = proxied
    const service = await openService(connection)
    const journal = new RedisWorkflowRunService(connection)
    const workstation = createWorkstation({ redis: connection, log: false })
    stores = {
      connection,
      workflow,
      lock,
      saga,
      service,
      journal,
      workstation,
      elsewhere,
      versions: [],
      tokens: [],
    }
  }
  beforeEach(open)
  afterEach(close)

  async function close(): Promise<void> {
    await stores.workstation.close()
    await proxied.close()
  }

  /** All are executed, none is answered, and `between` happens before they are repeated. */
  async function withoutReplies(
    { write, look, alone = false }: Repeated,
    between: (n: number) => Promise<unknown>,
  ): Promise<PromiseSettledResult<unknown>[]> {
    const numbers = [...Array(alone ? 1 : AT_ONCE).keys()]
    const all = (): Promise<unknown[]> => Promise.all(numbers.map((n) => look(direct, n)))
    const { proxy, connection } = proxied
    await connection.command('PING')
    const untouched = await all()
    const { connections } = proxy.traffic
    const lost = proxy.disturb({ point: 'reply', filter: isWrite, part: 1, effect: 'delay', delayMs: 60_000 })
    const calls = Promise.allSettled(numbers.map((n) => write(stores, n)))
    await until('all are executed', async () => (await all()).every((each, n) => each !== untouched[n]))
    await Promise.all(numbers.map(between))
    lost.cancel()
    proxy.cut('reset')
    const outcomes = await calls
    assert.ok(proxy.traffic.connections > connections, 'nothing was repeated')
    return outcomes
  }

  async function prepared({ prepare }: Repeated): Promise<void> {
    await direct.command('FLUSHALL')
    await Promise.all([...Array(AT_ONCE).keys()].map((n) => prepare(direct, n, stores)))
  }

  for (const [name, write] of Object.entries(WRITES)) {
    const { change, look, left, answer } = write
    it(`none of ${name} is repeated over what somebody else did meanwhile`, async (t) => {
      let unknown = 0
      for (let round = 0; round < ROUNDS; round += 1) {
        // oxlint-disable no-await-in-loop -- one round after the other
        await prepared(write)
        const outcomes = await withoutReplies(write, (n) => change(direct, n, stores))
        for (const [n, outcome] of outcomes.entries()) {
          if (outcome.status === 'rejected') {
            assert.ok(outcome.reason instanceof FerroflowError)
            assert.equal(outcome.reason.code, 'OUTCOME_UNKNOWN')
            unknown += 1
          } else if (answer !== undefined) assert.equal(outcome.value, answer)
          const expected = typeof left === 'function' ? (left as (n: number) => unknown)(n) : left
          assert.deepEqual(await look(direct, n), expected, `${name} ${n}`)
        }
        // After each loss in a row, a connection takes longer to come back.
        await close()
        await open()
        // oxlint-enable no-await-in-loop
      }
      t.diagnostic(`${unknown} unknown`)
      if (write.certain) assert.equal(unknown, 0)
    })

    it(`all of ${name} succeed where nobody else did anything`, async () => {
      await prepared(write)
      const outcomes = await withoutReplies(write, () => Promise.resolve())
      for (const outcome of outcomes) {
        assert.equal(outcome.status, 'fulfilled', String((outcome as PromiseRejectedResult).reason))
        if (answer !== undefined) assert.equal((outcome as PromiseFulfilledResult<unknown>).value, answer)
      }
    })
  }

  it('what tells the copies of a request apart is kept for a minute', async () => {
    await direct.command('FLUSHALL')
    await store(direct, 1, 0)
    await direct.command('HSET', run(1), ...RUN(1))
    await direct.command('SET', 'fm:lock:k', 'one')
    assert.equal(await stores.saga.deleteById('S', 'i1'), true)
    assert.equal(await stores.journal.deleteRun('r1'), true)
    assert.equal(await stores.lock.forceRelease('k'), true)
    const marks = await direct.keys('*ferroflow:request:*')
    assert.equal(marks.length, 3)
    for (const mark of marks) {
      // oxlint-disable-next-line no-await-in-loop -- few
      const left = await direct.command<number>('PTTL', mark)
      assert.ok(left > 0 && left <= 60_000, `${mark}: ${left} ms`)
    }
  })
})
