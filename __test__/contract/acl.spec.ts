/** The rights that docs/operations.md asks for are enough, and a missing one is named. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import {
  type Connection,
  type LockContext,
  RedisExecutionCache,
  RedisLockManager,
  RedisSagaStore,
  RedisWakeSignaler,
  RedisWorkflowStateService,
  type ServerError,
  type Target,
  connect,
  createRedisStore,
  createWorkstation,
} from '../../index.js'
import { type Suite, limitedBackend } from '../helpers/backends'
import { RedisCluster } from '../helpers/redis-cluster'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { DOCUMENTED, IN_CLUSTER } from '../helpers/rights'
import { type Counter, counter } from '../helpers/saga-states'
import { until } from '../helpers/wait'
import { cache } from './cache'
import { fences } from './fence'
import { lock } from './lock'
import { lockForms } from './lock-forms'
import { interop } from './pikku-interop'
import { lists } from './pikku-lists'
import { runs } from './pikku-runs'
import { steps } from './pikku-steps'
import { saga } from './saga'
import { signal } from './signal'
import { taskStore } from './task-store'
import { workflow } from './workflow'
import { apiCacheSuite } from './workstation-cache'
import { executionLockSuite } from './workstation-locks'
import { redisServiceSuite } from './workstation-service'
import { sessionSuite } from './workstation-sessions'
import { trackingSuite } from './workstation-tracking'

const SUITES: Record<string, Suite[]> = {
  workflow: [workflow, runs, steps, interop, lists],
  lock: [lock, lockForms],
  saga: [saga],
  signal: [signal],
  cache: [cache],
  'task-store': [taskStore],
  workstation: [sessionSuite, trackingSuite, executionLockSuite, apiCacheSuite, redisServiceSuite],
}

/** Once is enough for what takes seconds. */
const ALL = Object.values(SUITES)
  .flat()
  .filter((suite) => suite !== sessionSuite)

describe('access rights', () => {
  it('are documented for every class, and hold nothing dangerous', () => {
    assert.deepEqual([...DOCUMENTED.keys()].toSorted(), ['ferroflow', ...Object.keys(SUITES)].toSorted())
    assert.deepEqual([...IN_CLUSTER.keys()], [...DOCUMENTED.keys()])
    for (const rules of [...DOCUMENTED.values(), ...IN_CLUSTER.values()]) {
      assert.ok(rules.includes('-@all'))
      const granted = rules.filter((rule) => rule.startsWith('+'))
      assert.ok(granted.length > 0 && !/@admin|@dangerous|@all|\+keys|info|config/.test(granted.join(' ')))
    }
  })

  for (const [name, suites] of Object.entries({ ferroflow: [...ALL, fences], ...SUITES })) {
    const backend = limitedBackend(name, () => DOCUMENTED.get(name) ?? [])
    describe(`of the user ${name}`, () => {
      before(() => backend.start())
      after(() => backend.stop())
      suites.forEach((suite, index) => describe(`suite ${index + 1}`, () => suite(backend)))
    })
  }

  // Where calls take other steps than on one server.
  for (const [name, suites] of Object.entries(SUITES)) {
    const backend = limitedBackend(name, () => IN_CLUSTER.get(name) ?? [], true)
    describe(`of the user ${name}, in a cluster`, () => {
      before(() => backend.start())
      after(() => backend.stop())
      suites.forEach((suite, index) => describe(`suite ${index + 1}`, () => suite(backend)))
    })
  }
})

describe('access rights as documented, with the default names', () => {
  let server: RedisServer
  let admin: RespClient
  before(async () => {
    server = await RedisServer.start()
    admin = await server.client()
    await Promise.all([...DOCUMENTED].map(([name, rules]) => admin.setUser(name, ...rules)))
  })
  after(async () => {
    admin.close()
    await server.stop()
  })

  const target = (user: string): string => `redis://${user}:secret@127.0.0.1:${server.port}`

  const uses: Record<string, (target: Target) => Promise<void>> = {
    async workflow(url) {
      const service = new RedisWorkflowStateService(url)
      const runId = await service.createRun('order', { item: 1 })
      await service.withRunLock(runId, () => service.setStepResult(runId, 'charge', 5))
      await service.updateRunStatus(runId, 'completed', { paid: 5 })
      assert.equal((await service.getRun(runId))?.status, 'completed')
      await service.close()
    },
    async lock(url) {
      const locks = new RedisLockManager(url, { retryDelay: 1000 })
      const token = (await locks.acquire('job')) as string
      const waiting = locks.acquire('job')
      await until('it listens', async () => (await admin.command<string[]>('PUBSUB', 'CHANNELS')).length > 0)
      assert.equal(await locks.release('job', token), true)
      assert.ok(await waiting)
      await locks.close()
    },
    async saga(url) {
      const store = new RedisSagaStore<Counter>({ redis: url })
      await store.insert('S', randomUUID(), counter(randomUUID()))
      await store.close()
    },
    async signal(url) {
      const signaler = new RedisWakeSignaler(url)
      const heard: string[] = []
      await signaler.subscribe((id) => void heard.push(id))
      await signaler.signal('x')
      await until('it is heard', () => heard.includes('x'))
      await signaler.disconnect()
    },
    async cache(url) {
      const executions = new RedisExecutionCache(url)
      await executions.set({ id: 'x' } as never)
      assert.deepEqual(await executions.get('x'), { id: 'x' })
      await executions.close()
    },
    async workstation(url) {
      const workstation = createWorkstation({ redis: url, log: false, localLocks: 'unsafe' })
      const heard: string[] = []
      const stop = await workstation.watchProgress({ progress: ({ executionId }) => heard.push(executionId) })
      assert.equal(await workstation.setSession('u', { n: 1 }), true)
      assert.equal((await workstation.getSessionEntry('u'))?.stale, false)
      assert.equal(await workstation.touchSession('u'), true)
      assert.equal(await workstation.deleteAllSessions('u'), true)
      await workstation.startWorkflowTracking('e', 'wf', 2)
      await workstation.executeWithLock('e', 'w', () => workstation.updateWorkflowProgress('e', 1, 'half'))
      assert.deepEqual(await workstation.cleanupStaleWorkflows(), { cleaned: 0, errors: 0 })
      assert.equal((await workstation.getWorkflowStatistics()).averageProgress, 50)
      assert.equal(await workstation.getOrCompute('k', () => 7), 7)
      await workstation.streamTickets.issue('t', 'x', 10)
      assert.equal(await workstation.streamTickets.take('t'), 'x')
      await until('changes are heard', () => heard.length === 2)
      stop()
      assert.equal((await workstation.redisHealthCheck()).status, 'up')
      assert.equal((await workstation.checkReadiness()).ready, true)
      await until(
        'it is known',
        async () => (await admin.command('EXISTS', 'wks:ferroflow:local-locks')) === 1,
      )
      await workstation.clearWorkflowState('e')
      await workstation.close()
    },
    async 'task-store'(url) {
      const store = createRedisStore(url, { ttl: 1000 })
      await store.beginExecution('e')
      await store.commitExecutionTaskResult('e', 't', 1)
      assert.equal(await store.getExecutionTaskResult('e', 't'), 1)
    },
  }

  for (const [name, use] of Object.entries(uses)) {
    it(`${name}, its own user`, () => use(target(name)))
    if (name !== 'task-store') it(`${name}, the user of everything`, () => use(target('ferroflow')))
  }

  it('in a cluster', async () => {
    await using cluster = await RedisCluster.start({
      replicas: 0,
      users: [...IN_CLUSTER].map(([name, rules]) => `${name} ${rules.join(' ')}`),
    })
    for (const name of ['workflow', 'saga', 'signal', 'cache', 'task-store'])
      for (const username of name === 'task-store' ? [name] : [name, 'ferroflow'])
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await uses[name]?.({ cluster: cluster.addresses, username, password: 'secret' })
  })

  /** The rules that a managed service may leave a user with. */
  const MANAGED = 'on >secret ~* &* -@all +@read +@write +@scripting +subscribe -@admin -@dangerous'

  for (const name of ['lock', 'ferroflow', 'managed'])
    it(`${name}: locks that are awaited in order, renewed, listed, inspected and taken away`, async () => {
      if (name === 'managed') await admin.setUser(name, ...MANAGED.split(' '))
      const locks = new RedisLockManager(target(name), { fair: true, retryDelay: 100, defaultTTL: 400 })
      const key = `job of ${name}`
      const order: string[] = []
      const waiters = (number: number) => (): Promise<boolean> =>
        locks.inspect(key).then((found) => found.waiters >= number)
      let held: LockContext | undefined
      let done: (() => void) | undefined
      const first = locks.withLock(key, (context) => {
        held = context
        return new Promise<void>((resolved) => (done = resolved))
      })
      await until('it is held', () => held !== undefined)
      const began = performance.now()
      const second = locks.withLock(key, () => void order.push('second'))
      await until('the second waits', waiters(1))
      const third = locks.withLock(key, () => void order.push('third'))
      await until('the third waits', waiters(2))
      await until('it is listed', async () => (await locks.list()).locks.some((listed) => listed.key === key))
      await until('its first TTL is over', () => performance.now() - began > 600)
      assert.equal(held?.held, true)
      done?.()
      await Promise.all([first, second, third])
      assert.deepEqual(order, ['second', 'third'])
      const token = await locks.acquire(key, 30_000)
      assert.equal(await locks.extend(key, token as string, 20_000), true)
      assert.equal(await locks.isLocked(key), true)
      assert.equal(await locks.forceRelease(key), true)
      assert.equal(await locks.release(key, token as string), false)
      await locks.withLocks([key, `${key} 2`], ({ keys }) => assert.equal(keys.length, 2))
      assert.ok(Array.isArray((await locks.health()).warnings))
      await locks.close()
    })
})

describe('a missing right', () => {
  let server: RedisServer
  let admin: RespClient
  let user = 0
  before(async () => {
    server = await RedisServer.start()
    admin = await server.client()
  })
  after(async () => {
    admin.close()
    await server.stop()
  })

  /** Runs something as a user of these rights. */
  async function failure(
    rules: string,
    run: (connection: Connection) => Promise<unknown>,
  ): Promise<ServerError> {
    user += 1
    await admin.setUser(`u${user}`, ...`on >pw ~* &* -@all ${rules}`.split(' '))
    const connection = connect(`redis://u${user}:pw@127.0.0.1:${server.port}`)
    try {
      return await run(connection).then(
        () => assert.fail('it was allowed'),
        (error: ServerError) => error,
      )
    } finally {
      await connection.close()
    }
  }

  for (const [what, rules, named, run] of [
    ['of a command', '+ping', /'get'/, (own) => own.command('GET', 'k')],
    ['of a script at all', '+get', /'eval'/, (own) => new RedisLockManager(own).tryAcquire('k')],
    [
      'of a later command of a script',
      '+eval +evalsha +mget +exists',
      /may not run SET as it does/,
      (own) => new RedisLockManager(own).tryAcquire('k'),
    ],
    [
      'of the first command of a script',
      '+eval +evalsha',
      /needs all of GET, .*DEL/,
      (own) => new RedisLockManager(own).release('k', 't'),
    ],
    [
      'to write a run',
      '+eval +evalsha',
      /HSET/i,
      (own) => new RedisWorkflowStateService(own).createRun('w', 1),
    ],
    [
      'to write a saga',
      '+eval +evalsha +get',
      /may not run SET as it does/,
      (own) => new RedisSagaStore<Counter>({ redis: own }).insert('S', 'c', counter('i')),
    ],
    ['to signal', '+subscribe', /'publish'/, (own) => new RedisWakeSignaler(own).signal('x')],
    ['to subscribe', '+publish', /'subscribe'/, (own) => new RedisWakeSignaler(own).subscribe(() => {})],
  ] as [string, string, RegExp, (connection: Connection) => Promise<unknown>][])
    it(`${what} is named`, async () => {
      const error = await failure(rules, run)
      assert.equal(error.code, 'NO_PERMISSION', error.message)
      assert.equal(error.retryable, false)
      assert.match(error.message, named)
    })
})
