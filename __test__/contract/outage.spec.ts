/** Redis away for longer: every call settles in time, waiting is bounded, and nothing needs to be restarted. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { ConfigError, ConnectionError, FerroflowError, RedisLockManager, connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { SECRET, assertNoSecret, like } from '../helpers/errors'
import { ProxiedStores } from '../helpers/proxied-stores'
import { RedisServer } from '../helpers/redis-server'
import { counter } from '../helpers/saga-states'
import { timed, until } from '../helpers/wait'

const DEADLINE = 400
const MARGIN = 250

/** One call of every kind. */
function callsOf({
  connection,
  workflow,
  lock,
  saga,
}: ProxiedStores): Record<string, () => Promise<unknown>> {
  return {
    'command GET': () => connection.command('GET', 'k'),
    'command SET': () => connection.command('SET', 'k', 'v'),
    init: () => workflow.init(),
    createRun: () => workflow.createRun('w', 1),
    getRun: () => workflow.getRun('r'),
    updateRunStatus: () => workflow.updateRunStatus('r', 'failed'),
    getStepState: () => workflow.getStepState('r', 's'),
    setStepScheduled: () => workflow.setStepScheduled('r', 's'),
    setStepResult: () => workflow.setStepResult('r', 's', 1),
    setStepError: () => workflow.setStepError('r', 's', new Error('x')),
    withRunLock: () => workflow.withRunLock('r', () => 1),
    acquire: () => lock.acquire('k'),
    tryAcquire: () => lock.tryAcquire('k'),
    release: () => lock.release('k', 't'),
    extend: () => lock.extend('k', 't'),
    isLocked: () => lock.isLocked('k'),
    withLock: () => lock.withLock('k', () => 1),
    getById: () => saga.getById('S', 'i'),
    getByCorrelationId: () => saga.getByCorrelationId('S', 'c'),
    insert: () => saga.insert('S', 'c', counter('i')),
    update: () => saga.update('S', counter('i'), 0),
    save: () => saga.save('S', counter('i')),
    delete: () => saga.delete('S', 'i'),
  }
}

const CODES = new Set(['TIMEOUT', 'OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'])

describe('an outage', () => {
  let server: RedisServer
  let stores: ProxiedStores

  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.stop())
  beforeEach(async () => {
    stores = await (await ProxiedStores.open(server, { commandTimeout: DEADLINE })).warm()
  })
  afterEach(() => stores.close())

  /** Every call fails in time, in a way that its caller can tell. */
  async function assertAllSettle(): Promise<void> {
    const calls = Object.entries(callsOf(stores)).flatMap((entry) => Array.from({ length: 5 }, () => entry))
    await Promise.all(
      calls.map(async ([name, call]) => {
        const { ms, outcome } = await timed(call)
        assert.ok(ms <= DEADLINE + MARGIN, `${name} took ${ms} ms`)
        assert.ok(outcome.status === 'rejected', name)
        assert.ok(outcome.reason instanceof FerroflowError, `${name}: ${inspect(outcome.reason)}`)
        assert.ok(CODES.has(outcome.reason.code), `${name}: ${outcome.reason.code}`)
      }),
    )
  }

  it('in which nothing passes ends every call in time, and passes', async () => {
    stores.proxy.blackhole()
    await assertAllSettle()
    // Once more, now that the connection is known to be dead.
    await assertAllSettle()
    await stores.proxy.resume()
    await until('it is back', () => stores.connection.command('PING').then(Boolean, () => false), 10_000)
    assert.equal(await stores.workflow.getRun('none'), null)
  })

  it('of a server that is frozen ends every call in time', async () => {
    server.pause()
    try {
      await assertAllSettle()
    } finally {
      server.resume()
    }
    await until('it is back', () => stores.connection.command('PING').then(Boolean, () => false), 10_000)
  })

  it('from the very first connection on ends every call in time', async () => {
    await stores.close()
    stores = await ProxiedStores.open(server, { commandTimeout: DEADLINE })
    stores.proxy.blackhole()
    await assertAllSettle()
    await stores.proxy.refuse()
    stores.proxy.cut('reset')
    await assertAllSettle()
  })

  it('says that nothing was sent where nothing was', async () => {
    await stores.proxy.refuse()
    stores.proxy.cut('reset')
    await until('it is lost', () => stores.connection.status === 'reconnecting')
    stores.proxy.reset()
    await assert.rejects(
      stores.workflow.setStepError('r', 's', new Error('x')),
      like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /nothing was sent.*ECONNREFUSED/ }),
    )
    assert.equal(stores.proxy.traffic.requests.length, 0)
  })

  it('lets only so many calls wait; more fail at once', async () => {
    const bounded = connect(stores.proxy.url, { maxQueuedCommands: 5, commandTimeout: 4000 })
    await bounded.command('PING')
    await stores.proxy.refuse()
    stores.proxy.cut('reset')
    await until('it is lost', () => bounded.status === 'reconnecting')
    const waiting = Array.from({ length: 5 }, (_, n) => bounded.command('ECHO', n))
    const { ms, outcome } = await timed(() => bounded.command('PING'))
    assert.ok(ms < 100, `${ms} ms`)
    assert.ok(outcome.status === 'rejected')
    like({ type: ConnectionError, code: 'QUEUE_FULL', message: /^5 commands .* nothing was sent/ })(
      outcome.reason,
    )
    assert.equal(outcome.reason.retryable, true)
    await stores.proxy.resume()
    assert.deepEqual(await Promise.all(waiting), ['0', '1', '2', '3', '4'])
    await bounded.close()
  })

  it('lets only so many bytes wait', async () => {
    await stores.proxy.refuse()
    const bounded = connect(stores.proxy.url, { maxQueuedBytes: 10_000, commandTimeout: 4000 })
    const first = bounded.command('ECHO', 'x'.repeat(9000))
    await assert.rejects(bounded.command('ECHO', 'x'.repeat(2000)), { code: 'QUEUE_FULL' })
    const small = bounded.command('PING')
    await stores.proxy.resume()
    assert.deepEqual(await Promise.all([first, small]), ['x'.repeat(9000), 'PONG'])
    await bounded.close()
  })

  it('lets 10,000 wait by default', async () => {
    await stores.proxy.refuse()
    const bounded = connect(stores.proxy.url, { commandTimeout: 2000 })
    const calls = Array.from({ length: 10_100 }, () => bounded.command('PING'))
    const early = await Promise.race([
      Promise.allSettled(calls.slice(10_000)),
      Promise.all(calls.slice(0, 10_000)),
    ])
    assert.equal(early.length, 100)
    for (const outcome of early as PromiseSettledResult<unknown>[])
      assert.ok(outcome.status === 'rejected' && outcome.reason.code === 'QUEUE_FULL')
    await Promise.all([bounded.close(), Promise.allSettled(calls)])
  })

  it('that ends in time is only a delay, and is told as status', async () => {
    const own = await RedisServer.start()
    const connection = connect(own.url, { commandTimeout: 8000 })
    const manager = new RedisLockManager(connection)
    const seen: [status: string, reason: string | undefined][] = []
    connection.on('status', (...event) => seen.push(event))
    try {
      await connection.command('PING')
      await until('it is ready', () => connection.status === 'ready')
      await own.kill()
      await until('it is lost', () => connection.status === 'reconnecting')
      const waiting = [
        connection.command('SET', 'k', 'v'),
        manager.acquire('job'),
        connection.command('GET', 'k'),
      ]
      await own.restart()
      const [set, token, got] = await Promise.all(waiting)
      assert.deepEqual([set, typeof token, got], ['OK', 'string', 'v'])
      assert.equal(connection.status, 'ready')
    } finally {
      await connection.close()
      await own.stop()
    }
    assert.equal(connection.listenerCount('error'), 0)
    const statuses = seen.map(([status]) => status)
    assert.deepEqual(statuses, ['ready', 'reconnecting', 'ready', 'closed'])
    assert.match(seen.find(([status]) => status === 'reconnecting')?.[1] ?? '', /ECONN/)
  })
})

describe('credentials that are refused', () => {
  let server: RedisServer

  before(async () => {
    server = await RedisServer.start({ password: 'right', users: [`alice on >${SECRET} ~app:* +@all`] })
  })
  after(() => server.stop())

  for (const [what, options, advice] of [
    ['a wrong password', { password: SECRET }, /check the password/],
    ['no password', {}, /requires a password/],
    ['a wrong user', { username: 'bob', password: SECRET }, /check the password of the user "bob"/],
    ['a wrong password in RESP2', { password: SECRET, protocol: 2 }, /check the password/],
    ['no password in RESP2', { protocol: 2 }, /requires a password/],
  ] as const)
    it(`${what}: every call fails at once, and shows no secret`, async () => {
      const connection = connect({ host: server.host, port: server.port, ...options })
      const reasons: unknown[] = []
      connection.on('status', (_, reason) => reasons.push(reason))
      for (let round = 0; round < 3; round += 1) {
        const { ms, outcome } = await timed(() => connection.command('GET', 'k'))
        assert.ok(ms < 1000, `${ms} ms`)
        assert.ok(outcome.status === 'rejected')
        like({ type: ConfigError, code: 'AUTH_FAILED', message: advice })(outcome.reason)
      }
      assertNoSecret(connection)
      assertNoSecret(reasons)
      await connection.close()
    })

  it('works as soon as the cause is mended', async () => {
    const connection = connect({ port: server.port, password: 'later' })
    await assert.rejects(connection.command('PING'), { code: 'AUTH_FAILED' })
    using admin = await server.client()
    await admin.command('ACL', 'SETUSER', 'default', '>later')
    await until('it is let in', () => connection.command('PING').then(Boolean, () => false), 10_000)
    await connection.close()
  })

  it('a user without the right gets NO_PERMISSION, and only for that', async () => {
    const connection = connect({ port: server.port, username: 'alice', password: SECRET })
    await assert.rejects(connection.command('GET', 'other'), (error) => {
      assertNoSecret(error)
      return (error as FerroflowError).code === 'NO_PERMISSION'
    })
    assert.equal(await connection.command('GET', 'app:k'), null)
    await connection.close()
  })
})

describe('close', () => {
  let server: RedisServer
  let proxy: CountingProxy

  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.stop())
  beforeEach(async () => {
    proxy = await CountingProxy.start(server)
  })
  afterEach(() => proxy.close())

  for (const [state, reach] of Object.entries<(connection: ReturnType<typeof connect>) => Promise<unknown>>({
    connecting: async () => {},
    ready: (connection) => connection.command('PING'),
    'ready, nothing passes any more': async (connection) => {
      await connection.command('PING')
      proxy.blackhole()
    },
    reconnecting: async (connection) => {
      await connection.command('PING')
      await proxy.refuse()
      proxy.cut('reset')
      await until('it is lost', () => connection.status === 'reconnecting')
    },
  }))
    it(`ends in time while ${state}, settles what waits, and refuses what comes`, async () => {
      if (state === 'connecting') proxy.blackhole()
      const connection = connect(proxy.url)
      await reach(connection)
      const pending = [connection.command('GET', 'k'), connection.command('INCR', 'n')]
      const settled = Promise.allSettled(pending)
      const { ms, outcome } = await timed(() => Promise.all([connection.close(), connection.close()]))
      assert.equal(outcome.status, 'fulfilled')
      assert.ok(ms <= 1250, `${ms} ms`)
      assert.equal(connection.status, 'closed')
      const late = await timed(() => settled)
      assert.ok(late.ms < 250, `${late.ms} ms later`)
      for (const one of await settled) {
        // What becomes of the calls of the last moment is the next test's business.
        if (state !== 'ready')
          assert.ok(one.status === 'rejected' && /CLOSED|OUTCOME_UNKNOWN/.test(one.reason.code), inspect(one))
      }
      const again = await timed(() => connection.close())
      assert.ok(again.ms < 100)
      await assert.rejects(connection.command('PING'), { name: 'ConnectionError', code: 'CLOSED' })
      await until('the socket is closed', () => proxy.openConnections === 0)
    })

  it('lets calls that were made before it finish', async () => {
    for (let round = 0; round < 50; round += 1) {
      const connection = connect(proxy.url, { connectionName: `close-${round}` })
      await connection.command('PING')
      const calls = Promise.allSettled([connection.command('ECHO', 'a'), connection.command('ECHO', 'b')])
      await connection.close()
      const values = (await calls).map((call) =>
        call.status === 'fulfilled' ? call.value : call.reason.code,
      )
      assert.deepEqual(values, ['a', 'b'], `round ${round}`)
    }
  })
})
