/** A master that Sentinels watch: found, followed, and never mistaken for another. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis-5'
import {
  ConfigError,
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
import { SentinelTrio } from '../helpers/redis-sentinel'
import { RedisServer, findFreePort, serverVersion } from '../helpers/redis-server'
import { ScriptedServer, list } from '../helpers/scripted-server'
import { timed, until } from '../helpers/wait'

const [major, minor] = serverVersion()
/** Sentinels that have a password ask each other with it since 6.2, and have users since then. */
const isOld = major < 6 || (major === 6 && minor < 2)

describe('a target with sentinels', { skip: isOld && 'before Redis 6.2, Sentinels have no users' }, () => {
  let trio: SentinelTrio
  before(async () => {
    trio = await SentinelTrio.start({
      password: 'data',
      sentinelPassword: SECRET,
      sentinelUsers: [`watcher on >${SECRET} allchannels +@all`],
    })
  })
  after(() => trio.stop())

  const targets: Record<string, () => Target> = {
    'as options': () => ({ ...trio.target, sentinelPassword: SECRET, keyPrefix: 'p:' }),
    'with an ACL user of the Sentinels': () => ({
      ...trio.target,
      sentinelUsername: 'watcher',
      sentinelPassword: SECRET,
      keyPrefix: 'p:',
    }),
    'with one Sentinel that is not there': () => ({
      ...trio.target,
      sentinels: [{ port: 1 }, ...trio.target.sentinels],
      sentinelPassword: SECRET,
      keyPrefix: 'p:',
    }),
    'in RESP2': () => ({ ...trio.target, sentinelPassword: SECRET, keyPrefix: 'p:', protocol: 2 }),
    'in ioredis 6': () =>
      new Redis({ ...trio.target, sentinelPassword: SECRET, keyPrefix: 'p:', lazyConnect: true }),
    'in ioredis 5': () =>
      new Redis5({ ...trio.target, sentinelPassword: SECRET, keyPrefix: 'p:', lazyConnect: true }),
  }
  for (const [what, make] of Object.entries(targets))
    it(`leads to the master: ${what}`, async () => {
      const target = make()
      const workflow = new RedisWorkflowStateService(target)
      const lock = new RedisLockManager(target)
      try {
        const runId = await workflow.createRun('w', 1)
        await workflow.setStepResult(runId, 's', { done: true })
        assert.deepEqual((await workflow.getStepState(runId, 's')).result, { done: true })
        assert.ok(await lock.acquire('job'))
        using direct = await (await trio.master()).client()
        assert.equal(await direct.command('EXISTS', `p:workflows:run:${runId}`, 'p:fm:lock:job'), 2)
        await direct.command('FLUSHALL')
      } finally {
        await Promise.all([workflow.close(), lock.close()])
      }
    })

  it('says what is wrong with the Sentinels, and shows no secret', async () => {
    const refused = connect({ ...trio.target, sentinelPassword: `${SECRET}x` })
    await assert.rejects(
      refused.command('PING'),
      like({
        type: ConfigError,
        code: 'AUTH_FAILED',
        message: /no Sentinel says where the master "mymaster"/,
      }),
    )
    await refused.close()
    const target = { ...trio.target, sentinelPassword: SECRET, name: 'other', commandTimeout: 500 }
    const unknown = connect(target)
    await assert.rejects(
      unknown.command('PING'),
      like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /knows no master "other"/ }),
    )
    await unknown.close()
  })

  it('refuses what it cannot do', () => {
    const sentinels = [{ port: 1 }]
    for (const [target, message] of [
      [{ sentinels }, /name must say which master/],
      [{ sentinels: [], name: 'm' }, /sentinels must be a list/],
      [{ sentinels: [{ port: 'x' }], name: 'm' }, /port must be a whole number/],
      [{ sentinels, name: 'm', role: 'slave' }, /role: 'slave' is not supported/],
      [{ sentinels, name: 'm', tls: {} }, /enableTLSForSentinelMode/],
      [{ sentinels, name: 'm', natMap: 'a:1' }, /natMap must be an object .*, or a function/],
      [{ sentinels, name: 'm', natMap: { 'a:1': 'b:2' } }, /natMap must map/],
    ] as const)
      assert.throws(() => connect(target as Target), like({ type: ConfigError, code: 'CONFIG', message }))
  })
})

describe('a Sentinel failover', () => {
  for (const [what, end] of [
    ['killed', (server: RedisServer) => server.kill()],
    ['frozen', (server: RedisServer) => Promise.resolve(server.pause())],
  ] as const)
    it(`of a ${what} master under load: writes work within 2 s of a writable master`, async (t) => {
      await using trio = await SentinelTrio.start()
      const [first, second] = trio.data
      const connection = connect({ ...trio.target, commandTimeout: 1500 })
      const listener = new RedisWakeSignaler(trio.target)
      t.after(() => Promise.all([connection.close(), listener.disconnect()]))
      const heard: string[] = []
      let gaps = 0
      listener.on('gap', () => (gaps += 1))
      await listener.subscribe((id) => void heard.push(id))
      await using load = new Load(20, (lane) => connection.command('SET', `k${lane}`, 'v'))
      await load.more(100)
      await end(first)
      await trio.promoted(second)
      const failedOver = performance.now()
      await until('a write succeeds on the new master', () => Math.max(...load.last) > failedOver, 2000)
      await load.stop()
      assert.deepEqual(
        [...load.codes.keys()].filter((code) => !['OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'].includes(code)),
        [],
      )
      await until('the listener was told of the gap', () => gaps === 1)
      using direct = await second.client()
      await direct.command('PUBLISH', 'fm:wake', JSON.stringify({ executionId: 'e', timestamp: 1 }))
      await until('the listener hears the new master', () => heard.length === 1)
    })

  it('that was asked for costs no call that may be repeated', async () => {
    await using trio = await SentinelTrio.start()
    const service = new RedisWorkflowStateService(trio.target)
    await using load = new Load(10, (lane, index) => service.setStepResult('run', `${lane}-${index}`, 1))
    await load.more(100)
    await trio.failover()
    await load.more(100, 2000)
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await service.close()
  })

  it('repeats no fence, though the new master does not know the last', async () => {
    await using trio = await SentinelTrio.start()
    const holder = new RedisLockManager(trio.target)
    const first = await holder.withLock('k', ({ fence }) => fence)
    await trio.failover()
    using direct = await trio.data[1].client()
    assert.equal(await direct.command('DEL', 'fm:lock:ferroflow:fence'), 1)
    // It has seen no fence either.
    const other = new RedisLockManager(trio.target)
    const second = await other.withLock('k', ({ fence }) => fence)
    const last = await holder.withLock('k', ({ fence }) => fence)
    assert.ok(first < second && second < last, `${first}, ${second}, ${last}`)
    await Promise.all([holder.close(), other.close()])
  })
})

/** A Sentinel that names whatever server is the master at the moment. */
function sentinel(master: () => { host: string; port: number }): Promise<ScriptedServer> {
  return ScriptedServer.start(([name, command]) => {
    if (name !== 'SENTINEL') return undefined
    const { host, port } = master()
    return command === 'SENTINELS' ? '*0\r\n' : list(host, String(port))
  })
}

describe('a master that changes behind its Sentinels', () => {
  let one: RedisServer
  let two: RedisServer
  before(async () => {
    ;[one, two] = await Promise.all([RedisServer.start(), RedisServer.start()])
  })
  after(() => Promise.all([one.stop(), two.stop()]))

  it('READONLY: the write goes to the new master, and its caller never knows', async () => {
    let master = one
    await using watcher = await sentinel(() => master)
    const connection = connect({ sentinels: [watcher], name: 'm' })
    assert.equal(await connection.command('SET', 'k', '1'), 'OK')
    using first = await one.client()
    master = two
    await first.command('REPLICAOF', two.host, two.port)
    const { ms, outcome } = await timed(() =>
      Promise.all(['a', 'b', 'c'].map((key) => connection.command('INCR', key))),
    )
    assert.deepEqual(outcome, { status: 'fulfilled', value: [1, 1, 1] })
    assert.ok(ms < 2000, `${ms} ms`)
    using second = await two.client()
    assert.equal(await second.command('GET', 'a'), '1')
    await connection.close()
    await first.command('REPLICAOF', 'NO', 'ONE')
  })

  it('READONLY without end: the call ends in time, and the server is not stormed', async () => {
    await using replica = await ScriptedServer.start(([name]) => {
      if (name === 'ROLE') return '-NOPERM no\r\n'
      return name === 'SET' ? "-READONLY You can't write against a read only replica.\r\n" : undefined
    })
    await using watcher = await sentinel(() => replica)
    const connection = connect({ sentinels: [watcher], name: 'm', commandTimeout: 1000 })
    const { ms, outcome } = await timed(() => connection.command('SET', 'k', '1'))
    assert.ok(outcome.status === 'rejected' && ms < 1250, `${ms} ms`)
    like({ type: ServerError, code: 'SERVER_NOT_READY', message: /^READONLY/ })(outcome.reason)
    const dials = replica.commands.filter(([name]) => name === 'HELLO').length
    assert.ok(dials > 1 && dials < 40, `${dials} connections`)
    await connection.close()
  })

  it('+switch-master: the connection follows at once, without a call', async () => {
    let master = one
    await using watcher = await sentinel(() => master)
    const connection = connect({ sentinels: [watcher], name: 'm', connectionName: 'follows' })
    await connection.command('PING')
    await until('the Sentinel is listened to', () => watcher.subscribers === 1)
    using second = await two.client()
    const isThere = async (): Promise<boolean> =>
      (await second.clientList()).some(({ name }) => name === 'follows')
    watcher.publish('+switch-master', `other 127.0.0.1 ${one.port} 127.0.0.1 ${two.port}`)
    watcher.publish('+switch-master', 'm 127.0.0.1 1 127.0.0.1')
    watcher.publish('+switch-master', 'm 127.0.0.1 1 127.0.0.1 99999')
    master = two
    assert.equal(await connection.command('PING'), 'PONG')
    assert.equal(await isThere(), false)
    watcher.publish('+switch-master', `m 127.0.0.1 ${one.port} 127.0.0.1 ${two.port}`)
    await until('it is connected to the new master', isThere)
    assert.equal(await connection.command('PING'), 'PONG')
    await connection.close()
  })

  it('+switch-master: an attempt that hangs is given up for the new master', async () => {
    let master = { host: one.host, port: one.port }
    await using silent = await ScriptedServer.start(() => '')
    await using watcher = await sentinel(() => master)
    // Nothing else would end the attempt in time.
    const connection = connect({
      sentinels: [watcher],
      name: 'm',
      connectTimeout: 60_000,
      commandTimeout: 20_000,
      redialDelay: 50,
    })
    await connection.command('PING')
    await until('the Sentinel is listened to', () => watcher.subscribers === 1)
    master = { host: '127.0.0.1', port: silent.port }
    using first = await one.client()
    await first.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await until('the silent one is dialled', () => silent.commands.length > 0)
    const call = connection.command('PING')
    master = { host: two.host, port: two.port }
    watcher.publish('+switch-master', `m 127.0.0.1 ${silent.port} 127.0.0.1 ${two.port}`)
    assert.equal(await call, 'PONG')
    await connection.close()
  })

  it('a Sentinel that names a replica is not believed; another may know better', async () => {
    using first = await one.client()
    await first.command('REPLICAOF', two.host, two.port)
    await using outdated = await sentinel(() => one)
    await using right = await sentinel(() => two)
    const connection = connect({ sentinels: [outdated, right], name: 'm', redialDelay: 50 })
    const { ms, outcome } = await timed(() => connection.command('SET', 'k', '1'))
    assert.ok(outcome.status === 'fulfilled' && ms < 1000, `${ms} ms`)
    await connection.close()
    await first.command('REPLICAOF', 'NO', 'ONE')
  })

  for (const form of ['object', 'function'])
    it(`reaches the master through the NAT map (${form}), and learns of further Sentinels`, async () => {
      await using second = await sentinel(() => ({ host: 'inside', port: 1 }))
      const row = list('ip', 'inside', 'port', '26379', 'flags', 'sentinel')
      await using first = await ScriptedServer.start(([name, command]) => {
        if (name !== 'SENTINEL') return undefined
        return command === 'SENTINELS' ? `*1\r\n${row}` : list('inside', '1')
      })
      const { host, port } = two
      const table: Record<string, { host: string; port: number }> = {
        'inside:1': { host, port },
        'inside:26379': { host, port: second.port },
      }
      const natMap = form === 'object' ? table : (key: string) => table[key]
      const connection = connect({ sentinels: [first], name: 'm', natMap })
      assert.equal(await connection.command('SET', 'nat', '1'), 'OK')
      await until('the first is asked for others', () =>
        first.commands.some(([, command]) => command === 'SENTINELS'),
      )
      await first.stop()
      await until('the second is listened to', () => second.subscribers === 1)
      await connection.close()
    })

  it('speaks TLS with the Sentinels and with the master', async () => {
    const certificates = new Certificates()
    const [masterTls, sentinelTls] = [await findFreePort(), await findFreePort()]
    const master = await RedisServer.start({ args: certificates.serverArguments(masterTls) })
    const watcher = await RedisServer.start({
      sentinel: [`sentinel monitor m ${master.host} ${master.port} 1`],
      args: certificates.serverArguments(sentinelTls),
    })
    const { ca } = certificates
    const connection = connect({
      sentinels: [{ host: 'localhost', port: sentinelTls }],
      name: 'm',
      sentinelTLS: { ca },
      tls: { ca },
      enableTLSForSentinelMode: true,
      natMap: { [`${master.host}:${master.port}`]: { host: 'localhost', port: masterTls } },
    })
    assert.equal(await connection.command('SET', 'k', '1'), 'OK')
    await connection.close()
    await Promise.all([master.stop(), watcher.stop()])
    certificates.remove()
  })

  it('waits as long as nobody answers, and then goes on', async () => {
    const port = await findFreePort()
    const connection = connect({ sentinels: [{ port }], name: 'm', commandTimeout: 20_000 })
    const waiting = connection.command('PING')
    await until('it tries', () => connection.status === 'reconnecting')
    const real = await RedisServer.start({ port, sentinel: [`sentinel monitor m ${two.host} ${two.port} 1`] })
    assert.equal(await waiting, 'PONG')
    await connection.close()
    await real.stop()
  })
})
