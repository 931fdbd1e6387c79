/** What every method costs, counted between the client and a real server: one command, one reply, one round trip. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import {
  type Connection,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  connect,
} from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { RedisServer } from '../helpers/redis-server'
import { type RespClient } from '../helpers/resp-client'
import { type Counter, counter } from '../helpers/saga-states'

interface Stores {
  workflow: RedisWorkflowStateService
  lock: RedisLockManager
  saga: RedisSagaStore<Counter>
}

/** A method to be counted, and what must be there before. */
interface Method {
  /** What the server is sent: this command, or a script. */
  sends: string
  prepare?: (stores: Stores, id: string) => Promise<unknown>
  run: (stores: Stores, id: string, prepared: any) => Promise<unknown>
}

const insert = ({ saga }: Stores, id: string): Promise<void> => saga.insert('S', `c-${id}`, counter(id))
const acquire = ({ lock }: Stores, id: string): Promise<string | null> => lock.acquire(id)
const createRun = ({ workflow }: Stores): Promise<string> => workflow.createRun('w', { a: 1 })

const METHODS: Record<string, Method> = {
  createRun: { sends: 'HSET', run: createRun },
  getRun: { sends: 'HGETALL', prepare: createRun, run: ({ workflow }, _, runId) => workflow.getRun(runId) },
  updateRunStatus: {
    sends: 'script',
    prepare: createRun,
    run: ({ workflow }, _, runId) => workflow.updateRunStatus(runId, 'completed', { total: 1 }),
  },
  getStepState: { sends: 'HGETALL', run: ({ workflow }, id) => workflow.getStepState(id, 's') },
  setStepScheduled: { sends: 'script', run: ({ workflow }, id) => workflow.setStepScheduled(id, 's') },
  setStepResult: { sends: 'script', run: ({ workflow }, id) => workflow.setStepResult(id, 's', { a: 1 }) },
  setStepError: {
    sends: 'script',
    run: ({ workflow }, id) => workflow.setStepError(id, 's', new Error('x')),
  },
  acquire: { sends: 'script', run: acquire },
  tryAcquire: { sends: 'script', run: ({ lock }, id) => lock.tryAcquire(id) },
  release: { sends: 'script', prepare: acquire, run: ({ lock }, id, token) => lock.release(id, token) },
  extend: { sends: 'script', prepare: acquire, run: ({ lock }, id, token) => lock.extend(id, token, 5000) },
  isLocked: { sends: 'EXISTS', run: ({ lock }, id) => lock.isLocked(id) },
  inspect: { sends: 'script', prepare: acquire, run: ({ lock }, id) => lock.inspect(id) },
  forceRelease: { sends: 'script', prepare: acquire, run: ({ lock }, id) => lock.forceRelease(id) },
  insert: { sends: 'script', run: insert },
  update: {
    sends: 'script',
    prepare: insert,
    run: ({ saga }, id) => saga.update('S', counter(id, 1, { version: 1 }), 0),
  },
  'save, new': {
    sends: 'script',
    run: ({ saga }, id) => saga.save('S', { ...counter(id), correlationId: `c-${id}` } as Counter),
  },
  'save, stored': { sends: 'script', prepare: insert, run: ({ saga }, id) => saga.save('S', counter(id)) },
  getByCorrelationId: {
    sends: 'GET',
    prepare: insert,
    run: ({ saga }, id) => saga.getByCorrelationId('S', `c-${id}`),
  },
}

describe('one round trip', () => {
  let server: RedisServer
  let proxy: CountingProxy
  let direct: RespClient
  let connection: Connection
  let stores: Stores

  before(async () => {
    server = await RedisServer.start()
    proxy = await CountingProxy.start(server)
    direct = await server.client()
    ;({ connection, stores } = await open())
  })
  after(async () => {
    await connection.close()
    direct.close()
    await proxy.close()
    await server.stop()
    assert.deepEqual(proxy.protocolErrors, [])
  })
  beforeEach(() => direct.command('FLUSHALL'))

  /** Stores on a connection of their own, which is up. */
  async function open(): Promise<{ connection: Connection; stores: Stores }> {
    const own = connect(proxy.url, { connectionName: `c${randomUUID()}` })
    await own.command('PING')
    return {
      connection: own,
      stores: {
        workflow: new RedisWorkflowStateService(own),
        lock: new RedisLockManager(own, { warnings: false, listed: false }),
        saga: new RedisSagaStore<Counter>({ redis: own }),
      },
    }
  }

  /** Names of the commands; fails unless there was one of each thing. */
  async function countOne(run: () => Promise<unknown>): Promise<string | undefined> {
    const { requests, replies, pushes, roundTrips, connections } = await proxy.count(run)
    const names = requests.map(({ name }) => name)
    assert.deepEqual(
      { names, replies, pushes, roundTrips, connections },
      {
        names: names.slice(0, 1),
        replies: 1,
        pushes: 0,
        roundTrips: 1,
        connections: 0,
      },
    )
    return names[0]
  }

  for (const [name, { sends, prepare, run }] of Object.entries(METHODS)) {
    describe(name, () => {
      it('on a warm connection', async () => {
        await run(stores, 'warm', await prepare?.(stores, 'warm'))
        const prepared = await prepare?.(stores, 'id')
        const sent = await countOne(() => run(stores, 'id', prepared))
        assert.equal(sent, sends === 'script' ? 'EVALSHA' : sends)
      })

      it('on a fresh connection', async () => {
        // Prepared elsewhere, so that this connection has not sent the script; a saga is loaded first, as runtimes do.
        const prepared = await prepare?.(stores, 'id')
        const fresh = await open()
        try {
          if (prepare === insert) await fresh.stores.saga.getByCorrelationId('S', 'c-id')
          const sent = await countOne(() => run(fresh.stores, 'id', prepared))
          assert.equal(sent, sends === 'script' ? 'EVAL' : sends)
          const again = await prepare?.(fresh.stores, 'again')
          const then = await countOne(() => run(fresh.stores, 'again', again))
          assert.equal(then, sends === 'script' ? 'EVALSHA' : sends)
        } finally {
          await fresh.connection.close()
        }
      })

      if (sends === 'script')
        it('after SCRIPT FLUSH with one more, and nobody notices', async () => {
          await run(stores, 'warm', await prepare?.(stores, 'warm'))
          const prepared = await prepare?.(stores, 'id')
          await direct.command('SCRIPT', 'FLUSH')
          const traffic = await proxy.count(() => run(stores, 'id', prepared))
          const names = traffic.requests.map((request) => request.name)
          assert.deepEqual([names, traffic.roundTrips], [['EVALSHA', 'EVAL'], 2])
          const again = await prepare?.(stores, 'again')
          assert.equal(await countOne(() => run(stores, 'again', again)), 'EVALSHA')
        })
    })
  }

  it('is shared by the calls of one tick', async () => {
    await stores.workflow.setStepScheduled('warm', 's')
    const traffic = await proxy.count(() =>
      Promise.all(
        Array.from({ length: 100 }, (_, n) => [
          stores.workflow.getStepState(`r${n}`, 's'),
          stores.workflow.setStepResult(`r${n}`, 's', n),
          stores.lock.isLocked(`k${n}`),
        ]).flat(),
      ),
    )
    assert.deepEqual([traffic.requests.length, traffic.replies, traffic.roundTrips], [300, 300, 1])
  })

  it('two of them are a function under a free lock', async () => {
    await stores.lock.withLock('warm', () => 1)
    await stores.workflow.withRunLock('warm', () => 1)
    for (const run of [
      () => stores.lock.withLock('k', () => 1),
      () => stores.workflow.withRunLock('k', () => 1),
    ]) {
      const traffic = await proxy.count(run)
      assert.deepEqual([traffic.requests.length, traffic.roundTrips], [2, 2])
    }
  })
})
