/** A Redis Cluster: every command finds its node, also while slots and masters move. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
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
import { Certificates } from '../helpers/certificates'
import { SECRET, like } from '../helpers/errors'
import { Load } from '../helpers/load'
import { added, scrape } from '../helpers/metrics'
import { RedisCluster } from '../helpers/redis-cluster'
import { RedisServer } from '../helpers/redis-server'
import { ScriptedServer } from '../helpers/scripted-server'
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
    ] as const)
      assert.throws(
        () => connect(target as unknown as Target),
        like({ type: ConfigError, code: 'CONFIG', message }),
      )
  })
})

/** How many GETs each server has run since the last look. */
async function counted(servers: readonly RedisServer[]): Promise<number[]> {
  return Promise.all(
    servers.map(async (server) => {
      using client = await server.client()
      const stats = await client.commandStats()
      await client.resetCommandStats()
      return stats['get']?.calls ?? 0
    }),
  )
}

describe('reads in a cluster', () => {
  let cluster: RedisCluster
  before(async () => {
    cluster = await RedisCluster.start()
  })
  after(() => cluster.stop())

  const keys = Array.from({ length: 60 }, (_, index) => `key:${index}`)
  const targets: Record<string, [target: () => Target, master: boolean, replica: boolean]> = {
    'go to masters by default': [() => ({ cluster: cluster.addresses }), true, false],
    'go to replicas where the option says so': [
      () => ({ cluster: cluster.addresses, scaleReads: 'slave' }),
      false,
      true,
    ],
    'go to replicas where an ioredis Cluster says so': [
      () => new Cluster(cluster.addresses, { scaleReads: 'slave', lazyConnect: true }),
      false,
      true,
    ],
    'go to all': [() => ({ cluster: cluster.addresses, scaleReads: 'all' }), true, true],
  }
  for (const [what, [target, masters, replicas]] of Object.entries(targets))
    it(what, async () => {
      const connection = connect(target())
      const workflow = new RedisWorkflowStateService(target())
      await Promise.all(keys.map((key) => connection.command('SET', key, key)))
      // So that replicas have what is read, and are connected to.
      const read = async (): Promise<boolean> => {
        const values = await Promise.all(keys.map((key) => connection.command('GET', key)))
        return values.every((value, index) => value === keys[index])
      }
      await until('replicas have everything', read)
      // Nodes name a new replica only once it has told them how far it is.
      const areAsked = async (): Promise<boolean> => {
        await counted(cluster.servers)
        assert.ok(await read())
        return (await counted(cluster.replicas)).every((count) => count > 0)
      }
      if (replicas) await until('replicas are asked', areAsked, 10_000)
      else assert.equal(await areAsked(), false)
      await counted(cluster.servers)
      assert.ok(await read())
      const onMasters = (await counted(cluster.masters)).every((count) => count > 0)
      assert.equal(onMasters, masters)
      await workflow.setStepResult('r', 's', 1)
      await until('it can be read', async () => (await workflow.getStepState('r', 's')).result === 1)
      await Promise.all([connection.close(), workflow.close()])
    })

  it('go to the master while there is no replica', async () => {
    const connection = connect({ cluster: cluster.addresses, scaleReads: 'slave' })
    await connection.command('SET', 'key:0', '1')
    const master = await cluster.ownerOf(await cluster.slotOf('key:0'))
    const replica = await cluster.replicaOf(master)
    const load = new Load(10, () => connection.command('GET', 'key:0'))
    await load.more(200)
    await replica.kill()
    await load.more(2000)
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await connection.close()
  })
})

describe('a cluster with TLS and names', () => {
  it('is reached by name on every node, and verified', async () => {
    const certificates = new Certificates()
    const args = ['--cluster-announce-hostname', 'localhost', '--cluster-preferred-endpoint-type', 'hostname']
    await using cluster = await RedisCluster.start({ masters: 3, replicas: 0, certificates, args })
    const port = cluster.tlsPorts[0] as number
    const connection = connect({ cluster: [{ port }], tls: { ca: certificates.ca } })
    const keys = Array.from({ length: 30 }, (_, index) => `key:${index}`)
    await Promise.all(keys.map((key) => connection.command('SET', key, key)))
    assert.deepEqual(await Promise.all(keys.map((key) => connection.command('GET', key))), keys)
    const slots = JSON.stringify(await connection.command('CLUSTER', 'SLOTS'))
    assert.ok(slots.includes('"localhost"'), slots)
    await connection.close()
    const unverified = connect({ cluster: [{ port }], tls: {}, commandTimeout: 500 })
    await assert.rejects(
      unverified.command('GET', 'k'),
      like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /certificate/i }),
    )
    await unverified.close()
    certificates.remove()
  })
})

describe('resharding under load', () => {
  it('costs no call', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const connection = connect({ cluster: cluster.addresses })
    const service = new RedisWorkflowStateService({ cluster: cluster.addresses })
    const [first, second] = cluster.masters as [RedisServer, RedisServer]
    const slot = await cluster.slotOf('{t}')
    const from = await cluster.ownerOf(slot)
    const to = from === first ? second : first
    const counts = Array.from({ length: 10 }, () => 0)
    await using load = new Load(10, async (lane, index) => {
      // Keys that exist, and keys that are made while the slot is in motion.
      counts[lane]! += 1
      assert.equal(await connection.command('INCR', `{t}${lane}`), counts[lane])
      await connection.command('SET', `{t}${lane}:${index}`, 'x')
      assert.equal(await connection.command('GET', `{t}${lane}:${index}`), 'x')
      await connection.command('DEL', `{t}${lane}:${index}`)
      await service.setStepResult(`{t}${lane}`, `s${index % 5}`, index)
    })
    await load.more(50)
    // Nobody has been told of the last one: it has no slots yet.
    for (const target of [to, from, await cluster.addMaster()]) {
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await cluster.migrateSlot(slot, target, () => load.more(50))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await load.more(50)
    }
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await Promise.all([connection.close(), service.close()])
  })
})

describe('a cluster failover', () => {
  for (const [what, end] of [
    ['killed', (server: RedisServer) => server.kill()],
    ['frozen', (server: RedisServer) => Promise.resolve(server.pause())],
  ] as const)
    it(`of a ${what} master under load: writes work within 2 s of a writable master`, async (t) => {
      await using cluster = await RedisCluster.start()
      const connection = connect({ cluster: cluster.addresses, commandTimeout: 2000 })
      const listeners = Array.from({ length: 4 }, () => new RedisWakeSignaler({ cluster: cluster.addresses }))
      const heard = new Set<number>()
      t.after(() => Promise.all([connection.close(), ...listeners.map((listener) => listener.disconnect())]))
      await Promise.all(listeners.map((listener, index) => listener.subscribe(() => void heard.add(index))))
      const victim = cluster.masters[0] as RedisServer
      const replica = cluster.replicas[0] as RedisServer
      await using load = new Load(20, (lane) => connection.command('SET', `key:${lane}`, 'v'))
      const owners = await Promise.all(
        Array.from({ length: 20 }, async (_, lane) => cluster.ownerOf(await cluster.slotOf(`key:${lane}`))),
      )
      const lanes = [...owners.keys()].filter((lane) => owners[lane] === victim)
      assert.ok(lanes.length > 0)
      await load.more(200)
      await end(victim)
      await until(
        'the replica takes over',
        async () => {
          using client = await replica.client()
          return (await client.info('replication'))['role'] === 'master'
        },
        20_000,
      )
      const failedOver = performance.now()
      await until(
        'a write succeeds on the new master',
        () => lanes.some((lane) => (load.last[lane] ?? 0) > failedOver),
        2000,
      )
      await until('every lane goes on', () => load.last.every((last) => last > failedOver), 4000)
      await load.stop()
      assert.deepEqual(
        [...load.codes.keys()].filter((code) => !['OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'].includes(code)),
        [],
      )
      await until(
        'every listener hears again',
        async () => {
          using client = await replica.client()
          await client.command('PUBLISH', 'fm:wake', JSON.stringify({ executionId: 'e', timestamp: 1 }))
          return heard.size === listeners.length
        },
        8000,
      )
      if (victim.running) victim.resume()
      else await victim.restart()
      await cluster.settled()
      await using again = new Load(20, (lane) => connection.command('SET', `key:${lane}`, 'v'))
      await again.more(200)
      await again.stop()
      assert.deepEqual([...again.codes], [])
      assert.equal(connection.status, 'ready')
    })

  it('that was asked for costs no call that may be repeated', async () => {
    await using cluster = await RedisCluster.start()
    const service = new RedisWorkflowStateService({ cluster: cluster.addresses })
    await using load = new Load(10, (lane, index) => service.setStepResult(`run${lane}`, `s${index % 20}`, 1))
    await load.more(100)
    await cluster.failover(cluster.replicas[0] as RedisServer)
    await cluster.failover(cluster.replicas[1] as RedisServer)
    await load.more(100)
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await service.close()
  })

  it('shows in the status, and a master that comes back is used again', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const connection = connect({ cluster: cluster.addresses, commandTimeout: 10_000 })
    await connection.command('PING')
    await until('it is ready', () => connection.status === 'ready')
    const victim = await cluster.ownerOf(await cluster.slotOf('k'))
    const lost = once(connection, 'status')
    await victim.kill()
    assert.deepEqual(await lost, ['reconnecting', 'a part of the cluster is out of reach'])
    const waiting = connection.command('SET', 'k', 'v')
    const back = once(connection, 'status')
    await victim.restart()
    assert.equal(await waiting, 'OK')
    assert.deepEqual(await back, ['ready', undefined])
    await connection.close()
  })
})

/** Says that one port serves all slots, and answers GET as it is told. */
function node(owner: () => number, get: () => string, host = '127.0.0.1'): Promise<ScriptedServer> {
  return ScriptedServer.start(([name]) => {
    if (name === 'CLUSTER')
      return `*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$${host.length}\r\n${host}\r\n:${owner()}\r\n`
    return name === 'GET' ? `${get()}\r\n` : undefined
  })
}

describe('a node that says strange things', () => {
  it('two nodes that send a call to each other do so only for its time', async () => {
    let [first, second] = [0, 0]
    await using one = await node(
      () => first,
      () => `-MOVED 12539 127.0.0.1:${second}`,
    )
    await using two = await node(
      () => first,
      () => `-MOVED 12539 127.0.0.1:${first}`,
    )
    ;[first, second] = [one.port, two.port]
    const connection = connect({ cluster: [one], commandTimeout: 400 })
    const { ms, outcome } = await timed(() => connection.command('GET', 'k'))
    assert.ok(outcome.status === 'rejected' && ms < 650, `${ms} ms`)
    assert.match(String(outcome.reason), /MOVED/)
    const asked = [one, two].flatMap(({ commands }) => commands).filter(([name]) => name === 'GET').length
    assert.ok(asked > 1 && asked < 300, `${asked} times`)
    await connection.close()
  })

  it('what is no redirection is the outcome', async () => {
    let answer = ''
    let port = 0
    await using server = await node(
      () => port,
      () => answer,
    )
    port = server.port
    const connection = connect({ cluster: [server] })
    for (answer of ['-MOVED', '-MOVED 99999 h:1', '-MOVED 1 ?:1', '-ASK 1 h:x', '-MOVED 1 h:1 __proto__']) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(connection.command('GET', 'k'), { code: 'SERVER_ERROR' })
    }
    await connection.close()
  })

  it('reaches nodes through the NAT map', async () => {
    await using server = await node(
      () => 1,
      () => '$1\r\nx',
      'inside',
    )
    const { host, port } = server
    const connection = connect({ cluster: [server], natMap: { 'inside:1': { host, port } } })
    assert.equal(await connection.command('GET', 'k'), 'x')
    await connection.close()
  })

  it('TRYAGAIN, CLUSTERDOWN and the like are tried again until they are over', async () => {
    const answers = ['-TRYAGAIN x', '-CLUSTERDOWN x', '-LOADING x', '-MASTERDOWN x', '$1\r\nx']
    let port = 0
    await using server = await node(
      () => port,
      () => String(answers.length > 1 ? answers.shift() : answers[0]),
    )
    port = server.port
    const connection = connect({ cluster: [server], commandTimeout: 1000 })
    assert.equal(await connection.command('GET', 'k'), 'x')
    answers[0] = '-CLUSTERDOWN Hash slot not served'
    await assert.rejects(
      connection.command('GET', 'k'),
      like({ type: ServerError, code: 'SERVER_NOT_READY', message: 'CLUSTERDOWN Hash slot not served' }),
    )
    await connection.close()
  })
})
