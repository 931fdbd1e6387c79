/** A reply about a lock is lost: what its caller is told, beside what somebody else did meanwhile, is true. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { RedisLockManager, connect } from '../../index.js'
import { ProxiedStores, isWrite } from '../helpers/proxied-stores'
import { RedisServer } from '../helpers/redis-server'
import { RelayingServer } from '../helpers/relaying-server'
import type { RespClient } from '../helpers/resp-client'
import { until } from '../helpers/wait'

const UNKNOWN = { code: 'OUTCOME_UNKNOWN' }

describe('a release whose reply is lost', () => {
  let server: RedisServer
  let direct: RespClient
  let other: RedisLockManager
  let stores: ProxiedStores
  before(async () => {
    server = await RedisServer.start()
    direct = await server.client()
    other = new RedisLockManager(server.url, { maxRetries: 0 })
  })
  after(async () => {
    direct.close()
    await other.close()
    await server.stop()
  })
  beforeEach(async () => {
    await direct.command('FLUSHALL')
    stores = await (await ProxiedStores.open(server)).warm()
  })
  afterEach(() => stores.close())

  const key = 'fm:lock:k'

  async function acquired(ttl = 60_000): Promise<string> {
    const token = await stores.lock.acquire('k', ttl)
    assert.equal(typeof token, 'string')
    return token as string
  }

  it('is true where it freed the lock, also if another has it by now', async () => {
    const token = await acquired()
    const lost = stores.proxy.disturb({ point: 'reply', filter: isWrite, part: 0, effect: 'black-hole' })
    const release = stores.lock.release('k', token)
    await until('it is free', async () => (await direct.command('EXISTS', key)) === 0)
    assert.equal(typeof (await other.acquire('k')), 'string')
    stores.proxy.cut('reset')
    assert.equal(await release, true)
    assert.equal(lost.struck.length, 1)
    assert.equal(await stores.lock.release('k', token), false)
  })

  for (const taken of [false, true])
    it(`is false where the lock was released by force before, ${taken ? 'and taken' : 'and is free'}`, async () => {
      const token = await acquired()
      assert.equal(await other.forceRelease('k'), true)
      if (taken) assert.equal(typeof (await other.acquire('k')), 'string')
      const lost = stores.proxy.cutOn('before-reply', isWrite)
      assert.equal(await stores.lock.release('k', token), false)
      assert.equal(lost.struck.length, 1)
      assert.equal(await direct.command('EXISTS', key), taken ? 1 : 0)
    })

  it('is false where the time of the lock was over before', async () => {
    const token = await acquired(100)
    await until('it has expired', async () => (await direct.command('EXISTS', key)) === 0)
    const lost = stores.proxy.cutOn('before-reply', isWrite)
    assert.equal(await stores.lock.release('k', token), false)
    assert.equal(lost.struck.length, 1)
  })

  for (const point of ['before-forward', 'before-reply'] as const)
    for (const taken of [false, true])
      it(`${point} is true with a token from elsewhere${taken ? ', also if another has it by now' : ''}`, async () => {
        const token = (await other.acquire('k', 60_000)) as string
        const lost = stores.proxy.cutOn(point, isWrite)
        const release = stores.lock.release('k', token)
        await lost.done
        if (taken && point === 'before-reply') assert.equal(typeof (await other.acquire('k')), 'string')
        assert.equal(await release, true)
        assert.equal(lost.struck.length, 1)
        assert.equal(await stores.lock.release('k', token), false)
      })

  it('is false with a token from elsewhere that was released before', async () => {
    const token = (await other.acquire('k', 60_000)) as string
    const lost = stores.proxy.cutOn('before-forward', isWrite)
    const release = stores.lock.release('k', token)
    await lost.done
    assert.equal(await other.release('k', token), true)
    assert.equal(await release, false)
  })

  it('is unknown where nobody answers in time, and made up for', async () => {
    const { lock, proxy, connection } = await ProxiedStores.open(server, { commandTimeout: 500 })
    for (const together of [false, true]) {
      // oxlint-disable no-await-in-loop -- one after the other
      const keys = together ? ['k', 'l'] : ['k']
      const tokens = await Promise.all(keys.map((name) => lock.acquire(name, 60_000)))
      const lost = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'black-hole' })
      const releases = keys.map((name, n) => lock.release(name, tokens[n] as string))
      await Promise.all(releases.map((release) => assert.rejects(release, UNKNOWN)))
      assert.equal(lost.struck.length, 1)
      assert.equal(await direct.command('EXISTS', key), 1)
      proxy.cut('reset')
      await until('it is free', async () => (await direct.command('EXISTS', key, 'fm:lock:l')) === 0)
      // oxlint-enable no-await-in-loop
    }
    await connection.close()
    await proxy.close()
  })

  it('is false after an extension to less whose time may be over, if the lock is gone', async () => {
    const { lock, proxy, ...hasty } = await (await ProxiedStores.open(server, { commandTimeout: 500 })).warm()
    const token = (await lock.acquire('k', 60_000)) as string
    const lost = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'black-hole' })
    await assert.rejects(lock.extend('k', token, 50), UNKNOWN)
    assert.equal(lost.struck.length, 1)
    proxy.cut('reset')
    await hasty.connection.command('PING')
    await direct.command('DEL', key)
    proxy.cutOn('before-reply', isWrite)
    assert.equal(await lock.release('k', token), false)
    await hasty.connection.close()
    await proxy.close()
  })

  it('is true once, however many release the same token at once', async () => {
    const token = await acquired()
    const lost = stores.proxy.disturb({ point: 'reply', filter: isWrite, part: 0, effect: 'black-hole' })
    const releases = Promise.allSettled([1, 2, 3].map(() => stores.lock.release('k', token)))
    await lost.done
    await until('it is free', async () => (await direct.command('EXISTS', key)) === 0)
    stores.proxy.cut('reset')
    const outcomes = await releases
    const freed = outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value === true)
    assert.equal(freed.length, 1, JSON.stringify(outcomes))
  })

  it('of a lock that is renewed is no matter, as it is withdrawn if need be', async () => {
    let seen = 0
    const lost = stores.proxy.cutOn('before-reply', (request) => isWrite(request) && seen++ === 1)
    assert.equal(await stores.lock.withLock('k', () => 'done'), 'done')
    assert.equal(lost.struck.length, 1)
    assert.equal(await direct.command('EXISTS', key), 0)
  })
})

it('an attempt that was lost and then refused leaves no lock behind', async () => {
  await using real = await RedisServer.start()
  let refuses = false
  let seen = 0
  await using relay = await RelayingServer.start(real, ([name = '']) => {
    if (!refuses || !name.startsWith('EVAL')) return undefined
    seen += 1
    return seen === 1 ? { part: 0 } : '-OOM command not allowed\r\n'
  })
  const connection = connect({ host: relay.host, port: relay.port, redialDelay: 50 })
  const locks = new RedisLockManager(connection, { maxRetries: 0, warnings: false })
  using direct = await real.client()
  for (const acquire of [
    () => locks.acquire('k', 600_000),
    () => locks.acquireLock('k', 600_000),
    // Made at the same time, they leave together.
    () => Promise.all([locks.acquire('k', 600_000), locks.acquire('l', 600_000)]),
  ]) {
    // oxlint-disable no-await-in-loop -- one after the other
    // Attempts that leave together would take nothing while others are known to be given up.
    await direct.command('FLUSHALL')
    await connection.command('PING')
    seen = 0
    refuses = true
    await assert.rejects(acquire(), UNKNOWN)
    assert.notEqual(await direct.command('EXISTS', 'fm:lock:k', 'fm:lock:l'), 0)
    refuses = false
    await until('nobody has it', async () => (await direct.command('EXISTS', 'fm:lock:k', 'fm:lock:l')) === 0)
    // oxlint-enable no-await-in-loop
  }
  await locks.close()
  await connection.close()
})
