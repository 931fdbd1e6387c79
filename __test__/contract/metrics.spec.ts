/** What the core counts, compared with what passed between a client and a real server. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { join } from 'node:path'
import {
  type Connection,
  type ConnectionOptions,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  connect,
} from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { added, scrape } from '../helpers/metrics'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const repository = join(__dirname, '../..')
const SECRET = 'the-s3cret-of-the-server'

/** Of a change, the series of the documented names. */
function documented(change: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(change).filter(([series]) => series.startsWith('redis_')))
}

/** Of a change, the series that begin so, by what follows. */
function below(prefix: string, change: Record<string, number>): Record<string, number> {
  const entries = Object.entries(change).filter(([series]) => series.startsWith(prefix))
  return Object.fromEntries(entries.map(([series, value]) => [series.slice(prefix.length), value]))
}

async function status(): Promise<number | undefined> {
  return (await scrape()).get('redis_connection_status')
}

describe('metrics of a connection', () => {
  let server: RedisServer
  let proxy: CountingProxy
  const open = new Set<Connection>()
  const target = (database = 0): string => `${proxy.url}/${database}`
  const dial = async (options?: ConnectionOptions, database = 0): Promise<Connection> => {
    const connection = connect(target(database), options)
    open.add(connection)
    await connection.command('PING')
    return connection
  }
  /** Closes a connection, so that the next of the same target is a new one. */
  const hangUp = async (connection: Connection): Promise<void> => {
    open.delete(connection)
    await connection.close()
  }
  before(async () => {
    server = await RedisServer.start()
    proxy = await CountingProxy.start({ port: server.port })
  })
  after(async () => {
    await Promise.all([...open].map((connection) => connection.close()))
    await proxy.close()
    await server.stop()
  })

  it('count every command that the server gets, one by one and in pipelines, and every byte', async () => {
    const connection = await dial()
    const saga = new RedisSagaStore({ redis: connection })
    const address = `{address="127.0.0.1:${proxy.port}"}`
    proxy.reset()
    const change = await added(async () => {
      for (let i = 0; i < 10; i++) {
        // oxlint-disable-next-line no-await-in-loop -- one by one
        await connection.command('SET', `k${i}`, 'v')
      }
      await Promise.all(Array.from({ length: 500 }, (_, i) => connection.command('GET', `k${i % 10}`)))
      // The first use of a script sends it in full.
      await saga.insert('S', 'c1', { id: 's1' })
      await saga.getById('S', 's1')
    })
    const { requests, requestBytes, replyBytes } = proxy.traffic
    assert.ok(requests.length >= 512)
    assert.deepEqual(documented(change), { redis_commands_total: requests.length })
    assert.equal(change[`ferroflow_connection_commands_total${address}`], requests.length)
    assert.equal(change[`ferroflow_connection_sent_bytes_total${address}`], requestBytes)
    assert.equal(change[`ferroflow_connection_received_bytes_total${address}`], replyBytes)
    await hangUp(connection)
  })

  it('count what a server refuses, by the code of the error', async () => {
    const connection = await dial()
    await connection.command('HSET', 'hash', 'f', 'v')
    const change = await added(() =>
      Promise.allSettled([
        connection.command('INCR', 'hash'),
        connection.command('INCR', 'hash'),
        connection.command('NO.SUCH'),
        // Refused here: nothing is sent, and nothing has failed on the way.
        connection.command('SUBSCRIBE', 'c'),
      ]),
    )
    assert.deepEqual(documented(change), { redis_commands_total: 3, redis_commands_failed_total: 3 })
    assert.deepEqual(below('ferroflow_commands_failed_total', change), {
      '{code="WRONG_TYPE"}': 2,
      '{code="SERVER_ERROR"}': 1,
    })
    await hangUp(connection)
  })

  it('count a script that the server forgot as sent twice, and as no failure', async () => {
    const connection = await dial()
    const locks = new RedisLockManager(connection, { warnings: false, listed: false })
    await locks.release('a', (await locks.tryAcquire('a'))!)
    await connection.command('SCRIPT', 'FLUSH')
    proxy.reset()
    const change = await added(() => locks.tryAcquire('a'))
    assert.equal(proxy.commands.length, 2)
    assert.deepEqual(documented(change), { redis_commands_total: 2 })
    await hangUp(connection)
  })

  it('count a command again that is sent again, and one of unknown outcome as failed', async () => {
    const connection = await dial()
    proxy.reset()
    const change = await added(async () => {
      const lostRead = proxy.cutOn('after-forward', ({ name }) => name === 'GET')
      await connection.command('GET', 'k')
      await lostRead.ended
      const lostWrite = proxy.cutOn('after-forward', ({ name }) => name === 'INCR')
      await assert.rejects(connection.command('INCR', 'n'), { code: 'OUTCOME_UNKNOWN' })
      await lostWrite.ended
      await connection.command('GET', 'k')
    })
    const sent = proxy.commands.filter((name) => name === 'GET' || name === 'INCR')
    assert.deepEqual(sent, ['GET', 'GET', 'INCR', 'GET'])
    assert.deepEqual(documented(change), { redis_commands_total: 4, redis_commands_failed_total: 1 })
    assert.deepEqual(below('ferroflow_commands_failed_total', change), { '{code="OUTCOME_UNKNOWN"}': 1 })
    assert.equal(change[`ferroflow_connection_reconnects_total{address="127.0.0.1:${proxy.port}"}`], 2)
    await hangUp(connection)
  })

  it('tell what waits, what is missing and what came to nothing while the server is silent and gone', async () => {
    const connection = await dial({ commandTimeout: 300, maxQueuedCommands: 2 }, 3)
    const address = `{address="127.0.0.1:${proxy.port}/3"}`
    const gauge = async (name: string): Promise<number | undefined> => (await scrape()).get(name + address)
    assert.equal(await gauge('ferroflow_connection_status'), 1)
    const change = await added(async () => {
      proxy.blackhole()
      const unanswered = connection.command('GET', 'k')
      await until('it is sent', async () => (await gauge('ferroflow_commands_unanswered')) === 1)
      await assert.rejects(unanswered, { code: 'TIMEOUT' })
      await proxy.refuse()
      proxy.cut('reset')
      await until('it is noticed', async () => (await gauge('ferroflow_connection_status')) === 0)
      assert.equal(await status(), 0)
      const waiting = [connection.command('GET', 'k'), connection.command('GET', 'k')]
      await until('they wait', async () => (await gauge('ferroflow_commands_waiting')) === 2)
      await assert.rejects(connection.command('GET', 'k'), { code: 'QUEUE_FULL' })
      for (const outcome of await Promise.allSettled(waiting)) assert.equal(outcome.status, 'rejected')
    })
    // The two that waited never left.
    assert.equal(change['redis_commands_total'], 1)
    assert.deepEqual(below('ferroflow_commands_failed_total', change), {
      '{code="TIMEOUT"}': 1,
      '{code="QUEUE_FULL"}': 1,
      '{code="REDIS_UNAVAILABLE"}': 2,
    })
    await proxy.resume()
    await until('it is back', async () => (await gauge('ferroflow_connection_status')) === 1)
    const counted = await scrape()
    await hangUp(connection)
    const left = await scrape()
    assert.equal(left.get(`ferroflow_connection_status${address}`), undefined)
    const total = `ferroflow_connection_commands_total${address}`
    assert.equal(left.get(total), counted.get(total), 'a number that was counted stays')
  })

  it('are up only if every connection is', async () => {
    assert.equal(await status(), 0, 'nothing is connected')
    const [one, two] = [await dial({}, 1), await dial({}, 2)]
    assert.equal(await status(), 1)
    const never = connect({ host: '127.0.0.1', port: 1 })
    assert.equal(await status(), 0)
    const statuses = below('ferroflow_connection_status', Object.fromEntries(await scrape()))
    assert.deepEqual(statuses, {
      '{address="127.0.0.1:1"}': 0,
      [`{address="127.0.0.1:${proxy.port}/1"}`]: 1,
      [`{address="127.0.0.1:${proxy.port}/2"}`]: 1,
    })
    await never.close()
    assert.equal(await status(), 1)
    await Promise.all([hangUp(one), hangUp(two)])
  })
})

describe('metrics of operations', () => {
  it('have one duration a call, and count those that fail', async () => {
    const connection = connect('memory://metrics')
    const change = await added(async () => {
      await connection.command('SET', 'k', 'v')
      await connection.command('GET', 'k')
      await assert.rejects(connection.command('INCR', 'k'))
      const saga = new RedisSagaStore({ redis: connection })
      await saga.insert('S', 'c1', { id: 's1' })
      await saga.findById('S', 's1')
    })
    assert.deepEqual(below('ferroflow_operation_duration_seconds_count', change), {
      '{operation="connection.command"}': 3,
      '{operation="saga.byId"}': 1,
      '{operation="saga.write"}': 1,
    })
    assert.deepEqual(
      below('ferroflow_operation_duration_seconds_bucket', change)['{operation="saga.byId",le="5"}'],
      1,
    )
    assert.deepEqual(below('ferroflow_operations_failed_total', change), {
      '{operation="connection.command"}': 1,
    })
    assert.deepEqual(documented(change), {}, 'the embedded engine is no Redis')
    await connection.close()
  })

  it('are of the whole process: what a worker does counts as well', async () => {
    const change = await added(
      () =>
        new Promise((resolve, reject) => {
          const worker = new Worker(
            `const { connect } = require(require('node:worker_threads').workerData)
             const connection = connect('memory://')
             const calls = Array.from({ length: 7 }, () => connection.command('PING'))
             void Promise.all(calls).then(() => connection.close())`,
            { eval: true, workerData: repository },
          )
          worker.on('error', reject)
          worker.on('exit', resolve)
        }),
    )
    assert.equal(change['ferroflow_operation_duration_seconds_count{operation="connection.command"}'], 7)
  })
})

describe('metrics of locks', () => {
  it('tell how acquisitions ended, how long locks were held, and which were lost', async () => {
    const target = 'memory://lock-metrics'
    const locks = new RedisLockManager(target, { defaultTTL: 500 })
    const others = new RedisLockManager(target)
    const change = await added(async () => {
      await locks.withLock('a', async () => {
        assert.equal(await others.tryAcquire('a'), null)
      })
      await locks.release('b', (await locks.acquire('b'))!)
      const aborted = AbortSignal.timeout(20)
      await locks.withLock('c', async () => {
        await assert.rejects(others.acquire('c', { signal: aborted }), { code: 'ABORTED' })
      })
      const lost = locks.withLock('d', async ({ signal }) => {
        await others.forceRelease('d')
        // A lock that is held keeps no process alive.
        const awake = setInterval(() => {}, 1000)
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        clearInterval(awake)
      })
      await assert.rejects(lost, { code: 'LOCK_LOST' })
    })
    assert.deepEqual(below('ferroflow_lock_acquisitions_total', change), {
      '{outcome="granted"}': 4,
      '{outcome="refused"}': 1,
      '{outcome="abandoned"}': 1,
    })
    assert.equal(change['ferroflow_lock_wait_seconds_count'], 4)
    assert.equal(change['ferroflow_lock_hold_seconds_count'], 4)
    assert.equal(change['ferroflow_lock_hold_seconds_bucket{le="+Inf"}'], 4)
    assert.deepEqual(below('ferroflow_lock_lost_total', change), { '{reason="gone"}': 1 })
    await Promise.all([locks.close(), others.close()])
  })
})

describe('the labels of metrics', () => {
  it('hold no id, no key and no secret, and are few', async () => {
    const server = await RedisServer.start({ args: ['--requirepass', SECRET] })
    const connection = connect({
      host: server.host,
      port: server.port,
      password: SECRET,
      keyPrefix: 'prefix-x:',
    })
    const runs = new RedisWorkflowStateService(connection)
    const sagas = new RedisSagaStore({ redis: connection })
    const locks = new RedisLockManager(connection)
    const ids = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const id = await runs.createRun(`workflow-x-${i}`, { secret: 'input-x' })
        await runs.setStepResult(id, `step-x-${i}`, 1)
        await sagas.insert('Saga-x', `correlation-x-${i}`, { id: `saga-x-${i}` })
        await locks.withLock(`lock-x-${i}`, () => connection.command('GET', `key-x-${i}`))
        return id
      }),
    )
    const text = [...(await scrape()).keys()].join('\n')
    assert.ok(text.includes('workflow.createRun'))
    assert.deepEqual(
      [SECRET, '-x', ...ids].filter((secret) => text.includes(secret)),
      [],
    )
    assert.ok(text.split('\n').length <= 200, `${text.split('\n').length} series`)
    await locks.close()
    await connection.close()
    await server.stop()
  })
})
