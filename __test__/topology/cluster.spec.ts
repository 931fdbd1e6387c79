/** A Redis Cluster: every command finds its node. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Cluster } from 'ioredis'
import { Cluster as Cluster5 } from 'ioredis-5'
import {
  ConfigError,
  type Connection,
  ConnectionError,
  RedisLockManager,
  RedisWakeSignaler,
  RedisWorkflowStateService,
  ServerError,
  type Target,
  connect,
} from '../../index.js'
import { SECRET, like } from '../helpers/errors'
import { added, scrape } from '../helpers/metrics'
import { RedisCluster } from '../helpers/redis-cluster'
import { RedisServer } from '../helpers/redis-server'
import { timed, until } from '../helpers/wait'

describe('a cluster target', () => {
  let cluster: RedisCluster
  before(async () => {
    cluster = await RedisCluster.start({
      replicas: 0,
      password: SECRET,
      users: [`worker on >${SECRET} ~* &* +@all -@admin -@dangerous +keys +cluster|slots`],
    })
  })
  after(() => cluster.stop())

  const targets: Record<string, () => Target> = {
    'as options': () => ({ cluster: cluster.addresses, password: SECRET, keyPrefix: 'p:' }),
    'with a user who has no rights to spare': () => ({
      cluster: cluster.addresses,
      username: 'worker',
      password: SECRET,
      keyPrefix: 'p:',
    }),
    'by a port, with one node that is not there': () => ({
      cluster: [1, cluster.masters[1]!.port],
      password: SECRET,
      keyPrefix: 'p:',
    }),
    'by a URL with the password': () => ({ cluster: [cluster.masters[2]!.url], keyPrefix: 'p:' }),
    'in RESP2': () => ({ cluster: cluster.addresses, password: SECRET, keyPrefix: 'p:', protocol: 2 }),
    'in ioredis 6': () =>
      new Cluster(cluster.addresses, {
        redisOptions: { password: SECRET },
        keyPrefix: 'p:',
        lazyConnect: true,
      }),
    'in ioredis 5': () =>
      new Cluster5([cluster.masters[0]!.url], { keyPrefix: 'p:', lazyConnect: true }) as unknown as Target,
  }
  for (const [what, make] of Object.entries(targets))
    it(`reaches every node: ${what}`, async () => {
      const target = make()
      const workflow = new RedisWorkflowStateService(target)
      const lock = new RedisLockManager(target)
      const connection = connect(target)
      try {
        const ids = await Promise.all(
          Array.from({ length: 30 }, (_, index) => workflow.createRun('w', index)),
        )
        await Promise.all(ids.map((id) => workflow.setStepResult(id, 's', id)))
        const results = await Promise.all(ids.map((id) => workflow.getStepState(id, 's')))
        assert.deepEqual(
          results.map(({ result }) => result),
          ids,
        )
        const token = (await lock.acquire('job')) as string
        assert.equal(await lock.release('job', token), true)
        for (const master of cluster.masters) {
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          using direct = await master.client()
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          const keys = await direct.keys('p:workflows:*')
          assert.ok(keys.length > 5, `${keys.length} keys`)
        }
        await until('the status is ready', () => connection.status === 'ready')
      } finally {
        for (const master of cluster.masters) {
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          using direct = await master.client()
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          await direct.command('FLUSHALL')
        }
        await Promise.all([workflow.close(), lock.close(), connection.close()])
      }
    })

  describe('commands', () => {
    let connection: Connection
    before(() => {
      connection = connect({ cluster: cluster.addresses, password: SECRET })
    })
    after(() => connection.close())

    it('that concern every master ask every master', async () => {
      const keys = Array.from({ length: 500 }, (_, index) => `key:${index}`)
      await Promise.all(keys.map((key) => connection.command('SET', key, '1')))
      assert.equal(await connection.command('DBSIZE'), keys.length)
      assert.deepEqual(((await connection.command('KEYS', '*')) as string[]).toSorted(), keys.toSorted())
      const found = new Set<string>()
      let cursor = '0'
      do {
        // oxlint-disable-next-line no-await-in-loop -- a cursor leads to the next
        const [next, some] = (await connection.command('SCAN', cursor, 'COUNT', 20)) as [string, string[]]
        for (const key of some) found.add(key)
        cursor = next
      } while (cursor !== '0')
      assert.equal(found.size, keys.length)
      assert.equal(await connection.command('FLUSHALL'), 'OK')
      assert.equal(await connection.command('DBSIZE'), 0)
    })

    it('without a key are answered by anyone', async () => {
      assert.equal(await connection.command('ECHO', 'x'), 'x')
      assert.equal(await connection.command('EVAL', 'return ARGV[1]', 0, 'y'), 'y')
    })

    it('on several keys work in one slot, and say so elsewhere', async () => {
      await connection.command('MSET', '{t}a', '1', '{t}b', '2')
      assert.deepEqual(await connection.command('MGET', '{t}a', '{t}b'), ['1', '2'])
      const expected = like({ type: ServerError, code: 'UNSUPPORTED', message: /different slots.*hash tag/ })
      await assert.rejects(connection.command('MGET', 'a', 'b'), expected)
      await assert.rejects(connection.command('EVAL', 'return 1', 2, 'a', 'b'), expected)
    })

    it('find the node again after scripts were flushed', async () => {
      const workflow = new RedisWorkflowStateService({ cluster: cluster.addresses, password: SECRET })
      await workflow.setStepResult('r', 's', 1)
      await connection.command('SCRIPT', 'FLUSH')
      await workflow.setStepResult('r', 's', 1)
      await workflow.close()
    })
  })

  it('hears what is published anywhere', async () => {
    const target = { cluster: cluster.addresses, password: SECRET }
    const receiver = new RedisWakeSignaler(target)
    const ids: string[] = []
    await receiver.subscribe((id) => void ids.push(id))
    for (const [index, master] of cluster.masters.entries()) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      using direct = await master.client()
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await direct.command('PUBLISH', 'fm:wake', JSON.stringify({ executionId: String(index), timestamp: 1 }))
    }
    const sender = new RedisWakeSignaler(target)
    await sender.signal('3')
    await until('all are heard', () => ids.length === 4)
    assert.deepEqual(ids.toSorted(), ['0', '1', '2', '3'])
    await Promise.all([sender.disconnect(), receiver.disconnect()])
  })

  it('says what is wrong, and shows no secret', async () => {
    const wrong = connect({ cluster: cluster.addresses, password: `${SECRET}x` })
    await assert.rejects(
      wrong.command('GET', 'k'),
      like({ type: ConfigError, code: 'AUTH_FAILED', message: /check the password/ }),
    )
    await wrong.close()
    const single = await RedisServer.start()
    const noCluster = connect({ cluster: [single] })
    await assert.rejects(
      noCluster.command('GET', 'k'),
      like({ type: ConfigError, code: 'CONFIG', message: /is not a cluster/ }),
    )
    await Promise.all([noCluster.close(), single.stop()])
    const nobody = connect({ cluster: [1], commandTimeout: 300 })
    const { ms, outcome } = await timed(() => nobody.command('GET', 'k'))
    assert.ok(outcome.status === 'rejected' && ms < 550, `${ms} ms`)
    like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /ECONNREFUSED/ })(outcome.reason)
    await nobody.close()
    await assert.rejects(nobody.command('GET', 'k'), { code: 'CLOSED' })
  })

  it('keeps what waits within bounds, and closes at once in any state', async () => {
    const target = { cluster: [1], maxQueuedCommands: 3 }
    const nobody = connect(target)
    const waiting = [1, 2, 3].map(() => nobody.command('GET', 'k'))
    await assert.rejects(
      nobody.command('GET', 'k'),
      like({ type: ConnectionError, code: 'QUEUE_FULL', message: /nothing was sent/ }),
    )
    const closing = timed(() => nobody.close())
    await Promise.all(waiting.map((call) => assert.rejects(call, { code: 'CLOSED' })))
    assert.ok((await closing).ms < 1000)
    const somebody = connect({ cluster: cluster.addresses, password: SECRET })
    const listener = new RedisWakeSignaler({ cluster: cluster.addresses, password: SECRET })
    await listener.subscribe(() => {})
    await somebody.command('PING')
    await until('every node is connected', () => somebody.status === 'ready')
    const calls = ['a', 'b', 'c'].map((key) => somebody.command('SET', key, '1'))
    const { ms } = await timed(() => Promise.all([somebody.close(), listener.disconnect()]))
    assert.ok(ms < 1000, `${ms} ms`)
    assert.deepEqual(await Promise.all(calls), ['OK', 'OK', 'OK'])
    await assert.rejects(somebody.command('GET', 'a'), { code: 'CLOSED' })
  })

  it('a node that is silent holds up no lock of another', async () => {
    const connection = connect({ cluster: cluster.addresses, password: SECRET }, { commandTimeout: 20_000 })
    const locks = new RedisLockManager(connection, { warnings: false })
    const silent = cluster.masters[0]!
    const { slots } = (await cluster.nodes()).find(({ port }) => port === silent.port)!
    const names = Array.from({ length: 30 }, (_, index) => `lock${index}`)
    const isThere = new Map<string, boolean>()
    const note = async (name: string): Promise<void> => {
      const slot = await cluster.slotOf(`fm:lock:${name}`)
      isThere.set(name, !slots.some(([first, last]) => first <= slot && slot <= last))
    }
    await Promise.all(names.flatMap((name) => [note(name), note(`other ${name}`)]))
    assert.equal(new Set(isThere.values()).size, 2)
    const tokens = await Promise.all(names.map((name) => locks.acquire(name)))
    silent.pause()
    let early = 0
    const calls = names.flatMap((name, index) => [
      { name, call: locks.release(name, tokens[index] as string) },
      { name: `other ${name}`, call: locks.acquire(`other ${name}`) },
    ])
    const asked = calls.map(({ name, call }) => ({ there: isThere.get(name) === true, call }))
    const held = asked.filter(({ there }) => !there)
    for (const { call } of held) void call.finally(() => (early += 1)).catch(() => {})
    try {
      const answers = await Promise.all(asked.filter(({ there }) => there).map(({ call }) => call))
      assert.ok(answers.every(Boolean))
      assert.equal(early, 0)
    } finally {
      silent.resume()
    }
    assert.ok((await Promise.all(held.map(({ call }) => call))).every(Boolean))
    await locks.close()
    await connection.close()
  })

  it('counts what each node gets, and what fails there', async () => {
    const connection = connect({ cluster: cluster.addresses, password: SECRET })
    await connection.command('DBSIZE')
    // On a busy machine the table of slots is read more than once in the beginning.
    let total = 0
    await until('nothing is sent any more', async () => {
      const earlier = total
      await delay(300)
      total = (await scrape()).get('redis_commands_total') ?? 0
      return total === earlier
    })
    const change = await added(async () => {
      assert.equal(typeof (await connection.command('DBSIZE')), 'number')
      await assert.rejects(connection.command('SCRIPT', 'NO-SUCH'), { code: 'SERVER_ERROR' })
      await until('all have answered', async () => {
        const unanswered = [...(await scrape())].filter(([name]) =>
          name.startsWith('ferroflow_commands_unanswered'),
        )
        return unanswered.length === 4 && unanswered.every(([, count]) => count === 0)
      })
    })
    const counts = Object.entries(change).filter(([name]) =>
      name.startsWith('ferroflow_connection_commands_total'),
    )
    const expected = cluster.masters.map(({ port }) => [
      `ferroflow_connection_commands_total{address="127.0.0.1:${port}"}`,
      2,
    ])
    assert.deepEqual(counts.toSorted(), expected.toSorted())
    assert.equal(change['redis_commands_total'], 6)
    assert.equal(change['redis_commands_failed_total'], 3)
    const series = await scrape()
    assert.equal(series.get('redis_connection_status'), 1)
    const whole = [...series.keys()].filter((name) =>
      name.startsWith('ferroflow_connection_status{address="the cluster'),
    )
    assert.equal(whole.length, 1)
    await connection.close()
  })

  it('refuses what it cannot do', () => {
    for (const [target, message] of [
      [{ cluster: [] }, /cluster must be a list/],
      [{ cluster: 'h' }, /cluster must be a list/],
      [{ cluster: [{ port: 0 }] }, /port must be a whole number/],
      [{ cluster: [{ path: '/s' }] }, /cluster must be a list/],
      [{ cluster: [7000], db: 1 }, /only database 0/],
      [{ cluster: [7000], scaleReads: () => undefined }, /scaleReads must be/],
      [{ cluster: [7000], natMap: 'a:1' }, /natMap must be an object .*, or a function/],
      [{ cluster: [7000], natMap: [] }, /natMap must be an object .*, or a function/],
      [{ cluster: [7000], natMap: { 'a:1': 'b:2' } }, /natMap must map host:port/],
    ] as const)
      assert.throws(
        () => connect(target as unknown as Target),
        like({ type: ConfigError, code: 'CONFIG', message }),
      )
  })
})
