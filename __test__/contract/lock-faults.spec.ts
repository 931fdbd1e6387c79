/** Locks on a connection that fails: what is kept, what is lost, and what never comes back. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import { type Connection, FerroflowError, LockError, RedisLockManager, connect } from '../../index.js'
import { CountingProxy, type Fault, type ProxiedRequest } from '../helpers/counting-proxy'
import { RedisServer } from '../helpers/redis-server'
import { Monitor, type MonitoredCommand, type RespClient } from '../helpers/resp-client'
import { deferred, timed, until } from '../helpers/wait'

const LOST_CALLS = new Set(['ABORTED', 'OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'])

describe('locks on a connection that fails', () => {
  let server: RedisServer
  let client: RespClient
  let proxy: CountingProxy
  let connection: Connection
  let manager: RedisLockManager
  let losses: LockError[]
  let uncaught: unknown[]
  const note = (error: unknown): void => void uncaught.push(error)

  before(async () => {
    server = await RedisServer.start()
    client = await server.client()
  })
  after(async () => {
    client.close()
    await server.stop()
  })
  beforeEach(async () => {
    losses = []
    uncaught = []
    process.on('unhandledRejection', note)
    proxy = await CountingProxy.start(server)
    connection = connect(proxy.url, { commandTimeout: 2000, connectTimeout: 500 })
    manager = new RedisLockManager(connection, { warnings: false })
    manager.on('lost', (error) => losses.push(error))
    // Every script is known, so that what follows is the ordinary case.
    await manager.withLock('warm', (context) => context.extend())
  })
  afterEach(async () => {
    await manager.close()
    await connection.close()
    await proxy.close()
    await client.command('FLUSHALL')
    process.off('unhandledRejection', note)
    assert.deepEqual(uncaught, [])
  })

  async function isBack(): Promise<void> {
    await until('it is back', () => connection.command('PING').then(Boolean, () => false), 10_000)
  }

  async function lockKeys(): Promise<string[]> {
    return (await client.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow:'))
  }

  for (const [what, begin, end] of [
    ['in which nothing passes', () => proxy.blackhole(), () => proxy.resume()],
    [
      'without a connection',
      async () => {
        await proxy.refuse()
        proxy.cut('reset')
      },
      () => proxy.resume(),
    ],
    ['of a server that is frozen', () => server.pause(), () => server.resume()],
  ] as [string, () => void | Promise<void>, () => void | Promise<void>][])
    it(`are lost once in an outage ${what} that is longer than the TTL, and stay so`, async () => {
      const ttl = 400
      const told = deferred<{ ms: number; reason: LockError }>()
      const monitor = await Monitor.start(server.address)
      const holding = manager.withLock(
        'k',
        async ({ signal, ttlLeft, held }) => {
          assert.ok(held && ttlLeft > 0)
          await begin()
          const from = performance.now()
          await until('the signal', () => signal.aborted)
          told.resolve({ ms: performance.now() - from, reason: signal.reason })
          // Longer than the TTL on the server.
          await delay(ttl * 1.5)
          await end()
          await isBack()
          assert.throws(() => signal.throwIfAborted(), { code: 'LOCK_LOST' })
        },
        ttl,
      )
      await assert.rejects(holding, { code: 'LOCK_LOST' })
      const { ms, reason } = await told.promise
      assert.ok(ms <= ttl + 50 + 150, `told after ${ms} ms`)
      assert.equal(reason.code, 'LOCK_LOST')
      assert.equal(losses.length, 1)
      await until('nothing is left', async () => (await lockKeys()).length === 0, 1000)
      await monitor.stop()
      const brought = monitor.commands.filter(({ source, args }) => source === 'lua' && isSet(args))
      assert.deepEqual(
        brought.filter(({ args }) => args[1] === 'fm:lock:k').map(({ args }) => args[0]?.toUpperCase()),
        // The acquisition, and nothing that brings it back.
        ['SET', ...brought.filter(({ args }) => isExtension(args)).map(() => 'PEXPIRE')],
      )
      const extensionsAfterLoss = extensionsAfter(monitor.commands, ttl * 1.2)
      assert.deepEqual(extensionsAfterLoss, [])
    })

  it('are lost with the error of the last extension as the cause', async () => {
    const hasty = connect(proxy.url, { commandTimeout: 100, connectionName: 'hasty' })
    const locks = new RedisLockManager(hasty, { warnings: false })
    const holding = locks.withLock(
      'k',
      async ({ signal }) => {
        await proxy.refuse()
        proxy.cut('reset')
        await until('the signal', () => signal.aborted)
        const { cause } = signal.reason as LockError
        assert.ok(cause instanceof FerroflowError && cause.code === 'REDIS_UNAVAILABLE', inspect(cause))
      },
      600,
    )
    await assert.rejects(holding, { code: 'LOCK_LOST' })
    await proxy.resume()
    await locks.close()
    await hasty.close()
    await isBack()
  })

  it('leave nothing behind of 1,000 acquisitions whose replies are lost', async () => {
    const keys = new Set<string>()
    for (let round = 0; round < 10; round += 1) {
      proxy.cutOn('before-reply', ({ name }) => name.startsWith('EVAL'))
      const calls = Array.from({ length: 100 }, (_, n) => {
        const key = `r${round}n${n}`
        keys.add(key)
        if (n % 3 === 0)
          return manager.acquire(key, 60_000).then((token) => () => manager.release(key, token!))
        const control = new AbortController()
        // A caller that gives up meanwhile wants no lock either.
        if (n % 2) setTimeout(() => control.abort(), (n % 10) * 2)
        return manager.acquire(key, { ttl: 60_000, signal: control.signal }).then((lock) => lock!.release)
      })
      // oxlint-disable-next-line no-await-in-loop -- one cut after the other
      for (const call of await Promise.allSettled(calls)) {
        if (call.status === 'fulfilled') await call.value().catch(assertUnknown)
        else assert.ok(LOST_CALLS.has(call.reason.code), inspect(call.reason))
      }
    }
    assert.equal(keys.size, 1000)
    await isBack()
    await until('nothing is left', async () => (await lockKeys()).length === 0, 1000)
  })

  it('leave nothing behind of an acquisition that was never answered', async () => {
    proxy.cutOn('after-forward', ({ name }) => name.startsWith('EVAL'), { times: 2, mode: 'reset' })
    const lost = proxy.nextRequest(({ name }) => name.startsWith('EVAL'))
    const call = timed(() => manager.acquire('k', 60_000))
    await lost
    await proxy.refuse()
    const { ms, outcome } = await call
    assert.ok(outcome.status === 'rejected' && ms < 2500)
    assert.equal(outcome.reason.code, 'OUTCOME_UNKNOWN')
    // Longer than the withdrawal itself may take.
    await delay(2600)
    await proxy.resume()
    await isBack()
    await until('nothing is left', async () => (await lockKeys()).length === 0, 1500)
  })

  it('leave nothing behind of an acquisition whose withdrawal is not answered', async () => {
    server.pause()
    const call = timed(() => manager.acquire('k', 60_000))
    const { outcome } = await call
    assert.ok(outcome.status === 'rejected' && outcome.reason.code === 'OUTCOME_UNKNOWN')
    // The withdrawal is on its way now, and its answer will not come either.
    await delay(2600)
    server.resume()
    proxy.cut('reset')
    await isBack()
    await until('nothing is left', async () => (await lockKeys()).length === 0, 1500)
  })

  it('have the result of the function, whatever becomes of the release', async () => {
    let fault: Fault | undefined
    for (const [round, point] of (['before-forward', 'after-forward', 'before-reply'] as const).entries()) {
      const result = manager.withLock(`k${round}`, () => {
        fault = proxy.cutOn(point, namesToken, { times: 3, mode: 'reset' })
        return round
      })
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await result, round)
      fault?.cancel()
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await isBack()
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await until('it is free', async () => (await lockKeys()).length === 0, 1000)
    }
    const error = new Error('mine')
    const failing = manager.withLock('k', () => {
      fault = proxy.cutOn('after-forward', ({ name }) => name.startsWith('EVAL'), { times: 3 })
      throw error
    })
    await assert.rejects(failing, (thrown) => thrown === error)
    fault?.cancel()
    await isBack()
    await until('it is free', async () => (await lockKeys()).length === 0, 1000)
  })

  it('do not mind SCRIPT FLUSH at any time', async () => {
    const stop = performance.now() + 1500
    let flushes = 0
    const flushing = (async () => {
      while (performance.now() < stop) {
        await client.command('SCRIPT', 'FLUSH')
        flushes += 1
        await delay(2)
      }
    })()
    const work = Array.from({ length: 10 }, async (_, n) => {
      while (performance.now() < stop) await manager.withLock(`k${n % 5}`, (context) => context.extend())
    })
    await Promise.all([flushing, ...work])
    assert.ok(flushes > 50, `${flushes} flushes`)
    assert.deepEqual(losses, [])
  })
})

function namesToken({ texts }: ProxiedRequest): boolean {
  return texts.some((text) => text.startsWith('ff1:'))
}

function assertUnknown(error: unknown): void {
  assert.equal((error as LockError).code, 'OUTCOME_UNKNOWN')
}

function isSet([name]: string[]): boolean {
  return /^(set|pexpire)$/i.test(name ?? '')
}

function isExtension([name, key]: string[]): boolean {
  return /^pexpire$/i.test(name ?? '') && key === 'fm:lock:k'
}

/** Extensions of `k` that reached the server so many milliseconds after its last ordinary one. */
function extensionsAfter(commands: MonitoredCommand[], millis: number): string[][] {
  const times = commands.filter(({ args }) => isExtension(args) || (isSet(args) && args[1] === 'fm:lock:k'))
  const gaps = times.filter(({ time }, n) => n > 0 && time - (times[n - 1]?.time ?? 0) > millis / 1000)
  return gaps.map(({ args }) => args)
}
