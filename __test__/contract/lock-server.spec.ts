/** Locks on servers that replicate, evict, or allow little. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { FerroflowError, LockError, RedisLockManager, connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { like, SECRET } from '../helpers/errors'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { timed, until } from '../helpers/wait'

describe('a lock that replicas must know of', () => {
  let master: RedisServer
  let replica: RedisServer
  let client: RespClient
  let manager: RedisLockManager
  /** What a replica confirms takes none of this time, so only what must fail has less. */
  const options = { replicas: 1, replicaTimeoutMs: 10_000, ttl: 60_000 }

  before(async () => {
    master = await RedisServer.start()
    replica = await RedisServer.start({ args: ['--replicaof', master.host, String(master.port)] })
    client = await master.client()
    await connected(1)
    manager = new RedisLockManager(master.url)
  })
  after(async () => {
    await manager.close()
    client.close()
    await Promise.all([master.stop(), replica.stop()])
  })
  afterEach(() => client.command('FLUSHALL'))

  async function connected(count: number): Promise<void> {
    await until(
      `${count} replicas are connected`,
      async () => {
        const info = await client.info('replication')
        return count === 0 ? info['connected_slaves'] === '0' : /online/.test(info[`slave${count - 1}`] ?? '')
      },
      20_000,
    )
  }

  it('is granted when they do', async () => {
    const lock = await manager.acquire('k', options)
    using there = await replica.client()
    assert.equal(await there.command('GET', 'fm:lock:k'), lock?.token)
    assert.equal(await manager.acquire('k', { ...options, waitMs: 0 }), null)
    await lock?.release()
    assert.equal(await manager.withLock('k', () => 'in', options), 'in')
  })

  it('is freed again and refused when they are silent; others need not wait for that', async () => {
    replica.pause()
    try {
      const replicaTimeoutMs = 2000
      const call = timed(() => manager.withLock('k', () => assert.fail(), { ...options, replicaTimeoutMs }))
      await until('it is taken', () => manager.isLocked('k'))
      const others = manager.withLock('other', () => manager.isLocked('k'))
      assert.equal(await Promise.race([others, call.then(() => 'later')]), true)
      const { ms, outcome } = await call
      assert.ok(ms >= replicaTimeoutMs - 10 && ms < replicaTimeoutMs + 5000, `${ms} ms`)
      assert.ok(outcome.status === 'rejected')
      like({ type: LockError, code: 'LOCK_NOT_REPLICATED', message: /0 of 1 replicas/, key: 'fm:lock:k' })(
        outcome.reason,
      )
      assert.equal(outcome.reason.retryable, true)
      await until('it is free', async () => !(await manager.isLocked('k')))
    } finally {
      replica.resume()
    }
  })

  it('is refused when there are too few', async () => {
    await assert.rejects(manager.acquire('k', { ...options, replicas: 2, replicaTimeoutMs: 1000 }), {
      code: 'LOCK_NOT_REPLICATED',
      message: /1 of 2 replicas/,
    })
    await until('it is free', async () => !(await manager.isLocked('k')))
  })

  it('is free again if the user may not ask', async () => {
    await client.setUser('modest', 'on', `>${SECRET}`, '~*', '&*', '+@all', '-wait')
    const modest = new RedisLockManager({ port: master.port, username: 'modest', password: SECRET })
    await assert.rejects(
      modest.acquire('k', options),
      (error: FerroflowError) => error.code === 'NO_PERMISSION',
    )
    await until('it is free', async () => !(await manager.isLocked('k')))
    await modest.close()
  })

  it('is free again if the connection fails meanwhile', async () => {
    await using proxy = await CountingProxy.start(master)
    const cut = new RedisLockManager(proxy.url)
    await cut.acquire('warm', options)
    proxy.cutOn('after-forward', ({ name }) => name === 'WAIT', { times: 1, mode: 'reset' })
    // The replica knows of it, but nobody can say so: WAIT on another connection is about what that one wrote.
    await assert.rejects(cut.acquire('k', options), { code: 'LOCK_NOT_REPLICATED' })
    assert.equal(proxy.commands.filter((name) => name === 'WAIT').length, 2)
    await until('it is free', async () => !(await manager.isLocked('k')))
    await cut.close()
  })
})

describe('a server that may evict locks', () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start({ args: ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'] })
  })
  after(() => server.stop())

  async function warningsOf(options: string): Promise<string[]> {
    await using program = new Program([
      '--eval',
      `
      const { RedisLockManager, connect } = require('ferroflow')
      process.on('warning', (warning) => console.log('warning', warning.code, warning.message))
      const use = async (n) => {
        const locks = new RedisLockManager('${server.url}', ${options})
        await locks.withLock('k' + n, () => {})
        await locks.withLock('k' + n, () => {})
        // Asks what the warning comes from, behind whoever asked before.
        await locks.health()
        await locks.close()
      }
      Promise.all([use(1), use(2)]).then(() => use(3)).then(() => console.log('end'))`,
    ])
    assert.deepEqual(await program.ended(60_000), { code: 0, signal: null }, program.output)
    assert.match(program.output, /^end$/m)
    return program.output.split('\n').filter((line) => line.startsWith('warning'))
  }

  it('is worth a warning, once', async () => {
    const warnings = await warningsOf('{}')
    assert.equal(warnings.length, 1, warnings.join('\n'))
    assert.match(warnings[0] ?? '', /FERROFLOW_EVICTION .*allkeys-lru/)
  })

  it('is worth none if nobody wants to hear it', async () => {
    assert.deepEqual(await warningsOf('{ warnings: false }'), [])
  })

  it('shows in health, and others do not', async () => {
    const risky = new RedisLockManager(server.url, { warnings: false })
    const { warnings } = await risky.health()
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /allkeys-lru.*Use noeviction/)
    await risky.close()
    await using calm = await RedisServer.start()
    const fine = new RedisLockManager(calm.url)
    assert.deepEqual(await fine.health(), { warnings: [] })
    await fine.close()
  })
})

describe('a server without room', () => {
  it('says who holds a lock, also beside attempts that it must refuse, and frees what is held', async () => {
    await using server = await RedisServer.start()
    const client = await server.client()
    const manager = new RedisLockManager(server.url, { warnings: false })
    const names = Array.from({ length: 20 }, (_, index) => `k${index}`)
    const tokens = await Promise.all(names.map((name) => manager.acquire(name)))
    await client.command('CONFIG', 'SET', 'maxmemory', '1')
    const outcomes = await Promise.allSettled(
      names.flatMap((name) => [manager.tryAcquire(name), manager.tryAcquire(`free ${name}`)]),
    )
    for (const [index, outcome] of outcomes.entries()) {
      if (index % 2 === 0) assert.deepEqual(outcome, { status: 'fulfilled', value: null })
      else assert.equal(outcome.status === 'rejected' && outcome.reason.code, 'SERVER_NOT_READY')
    }
    const freed = await Promise.all(
      names.map((name, index) => manager.release(name, tokens[index] as string)),
    )
    assert.ok(freed.every(Boolean))
    await manager.close()
    client.close()
  })
})

describe('a user who may do little', () => {
  let server: RedisServer
  let client: RespClient
  before(async () => {
    server = await RedisServer.start()
    client = await server.client()
  })
  after(async () => {
    client.close()
    await server.stop()
  })
  afterEach(() => client.command('FLUSHALL'))

  async function managerOf(...rights: string[]): Promise<RedisLockManager> {
    await client.setUser('modest', 'reset', 'on', `>${SECRET}`, '~*', '&*', '+@all', ...rights)
    return new RedisLockManager({ port: server.port, username: 'modest', password: SECRET })
  }

  /** How often scripts ran. */
  async function looks(): Promise<number> {
    const { eval: whole, evalsha } = await client.commandStats()
    return (whole?.calls ?? 0) + (evalsha?.calls ?? 0)
  }

  it('needs no INFO', async () => {
    const manager = await managerOf('-info')
    const warnings: Error[] = []
    const listen = (warning: Error): void => void warnings.push(warning)
    process.on('warning', listen)
    assert.equal(await manager.withLock('k', () => 5), 5)
    assert.deepEqual(await manager.health(), { warnings: [] })
    process.off('warning', listen)
    assert.deepEqual(warnings, [])
    await manager.close()
  })

  it('needs no channels: those who wait look from time to time', async () => {
    const manager = await managerOf('resetchannels')
    const token = await manager.acquire('k', 60_000)
    const waiting = manager.acquire('k', { ttl: 60_000, waitMs: 30_000 })
    const earlier = await looks()
    await until('it looks again', async () => (await looks()) > earlier + 2)
    const freed = timed(() => waiting)
    assert.equal(await manager.release('k', token as string), true)
    const { ms, outcome } = await freed
    assert.ok(outcome.status === 'fulfilled' && outcome.value !== null && ms < 5000, `${ms} ms`)
    assert.equal((await manager.inspect('k')).locked, true)
    assert.equal(await manager.forceRelease('k'), true)
    await manager.close()
  })

  it('is refused the keys of others, and only those, also of many asked for at once', async () => {
    const manager = await managerOf('resetkeys', '~fm:lock:ours*', '~fm:lock:ferroflow:*')
    const keys = Array.from({ length: 40 }, (_, index) =>
      index % 8 === 5 ? `theirs${index}` : `ours${index}`,
    )
    const codes = async (ask: (key: string, index: number) => Promise<unknown>): Promise<unknown[]> => {
      const outcomes = await Promise.allSettled(keys.map(ask))
      return outcomes.map((outcome) => (outcome.status === 'fulfilled' ? true : outcome.reason.code))
    }
    const expected = keys.map((key) => key.startsWith('ours') || 'NO_PERMISSION')
    // Scripts are sent in full once, and that alone.
    await manager.release('ours', (await manager.acquire('ours')) as string)
    const tokens: string[] = []
    const acquired = await codes(async (key, index) => {
      tokens[index] = (await manager.acquire(key)) as string
    })
    assert.deepEqual(acquired, expected)
    const released = await codes(async (key, index) =>
      assert.equal(await manager.release(key, tokens[index] ?? 'none'), true),
    )
    assert.deepEqual(released, expected)
    await manager.close()
  })

  it('who may not release keeps the result, and a warning says so', async () => {
    const manager = await managerOf('-del')
    const warnings: (Error & { code?: string })[] = []
    const listen = (warning: Error): void => void warnings.push(warning)
    process.on('warning', listen)
    assert.equal(await manager.withLock('k', () => 'kept', 1000), 'kept')
    const error = new Error('mine')
    await assert.rejects(
      manager.withLock(
        'l',
        () => {
          throw error
        },
        60_000,
      ),
      (thrown) => thrown === error,
    )
    await until('both warnings', () => warnings.length === 2)
    process.off('warning', listen)
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ['FERROFLOW_LOCK', 'FERROFLOW_LOCK'],
    )
    assert.ok(warnings.every(({ message }) => !message.includes(SECRET)))
    await until('it expires', async () => !(await manager.isLocked('k')))
    await manager.close()
  })
})

describe('closing a manager', () => {
  it('frees 500 locks in one round trip', async () => {
    await using server = await RedisServer.start()
    await using proxy = await CountingProxy.start(server)
    const connection = connect(proxy.url)
    const manager = new RedisLockManager(connection, { warnings: false })
    const token = await manager.acquire('warm')
    await manager.release('warm', token as string)
    // None of them is due to be renewed while this runs.
    const ttl = 3_600_000
    for (let n = 0; n < 500; n += 1)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await (n % 2 ? manager.acquire(`k${n}`, ttl) : manager.acquire(`k${n}`, { ttl, renew: true }))
    using client = await server.client()
    await until(
      'they are listed',
      async () => (await client.command('ZCARD', 'fm:lock:ferroflow:held')) === 500,
    )
    // On a busy machine, some time may pass between two parts of what is written at once.
    const { requests } = await proxy.count(() => manager.close(), { quietMs: 200 })
    const releases = requests.filter(({ name }) => name.startsWith('EVAL'))
    // A script holds up everybody else, so it frees 64 at most.
    assert.equal(releases.length, Math.ceil(500 / 64))
    assert.equal(new Set(releases.map(({ roundTrip }) => roundTrip)).size, 1)
    // What it does not get an answer to within a second, it does not wait for.
    await until('nothing is left', async () => {
      const left = await client.keys('fm:lock:*')
      return left.every((key) => key.endsWith('ferroflow:fence'))
    })
    await connection.close()
  })
})
