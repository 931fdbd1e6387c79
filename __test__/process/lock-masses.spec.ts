/** Locks that are acquired and released by many callers, so that most calls answer results which came together. */
import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Connection, FerroflowError, RedisLockManager, connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { whileLate } from '../helpers/lateness'
import { random, seedOf } from '../helpers/random'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { until } from '../helpers/wait'

const CALLERS = 64
const TTL = 2000
const COMMAND_TIMEOUT = 500
/** What a call may take beyond its deadline. */
const GRACE = 250

interface Tally {
  pairs: number
  refused: Map<string, number>
  /** Milliseconds that the slowest call took. */
  slowest: number
  fences: number[]
}

describe('locks in masses', () => {
  let server: RedisServer
  let client: RespClient
  let proxy: CountingProxy
  let connection: Connection
  let manager: RedisLockManager

  before(async () => {
    server = await RedisServer.start()
    client = await server.client()
    proxy = await CountingProxy.start(server)
    connection = connect(proxy.url, { redialDelay: 20, commandTimeout: COMMAND_TIMEOUT })
    manager = new RedisLockManager(connection, { maxRetries: 0, warnings: false, listed: false })
    await connection.command('PING')
  })
  after(async () => {
    await manager.close()
    await connection.close()
    await proxy.close()
    client.close()
    await server.stop()
  })

  /** Callers acquire and release, each a lock of its own, as long as `goOn` says so. */
  async function run(goOn: () => boolean): Promise<Tally> {
    const tally: Tally = { pairs: 0, refused: new Map(), slowest: 0, fences: [] }
    const settle = async <T>(call: Promise<T>): Promise<T | undefined> => {
      const begin = performance.now()
      try {
        return await call
      } catch (error) {
        assert.ok(error instanceof FerroflowError, String(error))
        tally.refused.set(error.code, (tally.refused.get(error.code) ?? 0) + 1)
        return undefined
      } finally {
        tally.slowest = Math.max(tally.slowest, performance.now() - begin)
      }
    }
    const caller = async (_: unknown, index: number): Promise<void> => {
      for (let round = 0; goOn(); round += 1) {
        const key = `${index}:${round}`
        // oxlint-disable-next-line no-await-in-loop -- one lock after the other
        const token = await settle(manager.acquire(key, TTL))
        if (typeof token !== 'string') continue
        tally.fences.push(Number(token.split(':').at(-1)))
        // oxlint-disable-next-line no-await-in-loop
        if ((await settle(manager.release(key, token))) === true) tally.pairs += 1
      }
    }
    await Promise.all(Array.from({ length: CALLERS }, caller))
    return tally
  }

  async function lockKeys(): Promise<string[]> {
    return (await client.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow:'))
  }

  it('are each granted once, with fences of their own', async () => {
    let calls = 0
    const { pairs, refused, fences } = await run(() => (calls += 1) <= 10_000)
    assert.equal(pairs, 10_000)
    assert.equal(refused.size, 0)
    assert.equal(new Set(fences).size, fences.length)
    assert.deepEqual(await lockKeys(), [])
  })

  it('outlive cuts of the connection anywhere, and leave no lock and no socket behind', async (t) => {
    const { below } = random(seedOf(t, 20261130))
    const sockets = openSockets()
    // With each more in a row, the pauses between two attempts to connect become longer.
    const cuts = 30
    let ended = false
    const running = run(() => !ended)
    for (let cut = 0; cut < cuts; cut += 1) {
      const fault =
        below(2) === 0
          ? proxy.cutAfterRequestBytes(1 + below(20_000))
          : proxy.cutAfterReplyBytes(1 + below(500))
      // oxlint-disable-next-line no-await-in-loop -- one cut after the other
      await fault.done
      // oxlint-disable-next-line no-await-in-loop
      await delay(below(30))
    }
    ended = true
    const { pairs, refused, slowest, fences } = await running
    t.diagnostic(`${pairs} pairs, refused ${JSON.stringify([...refused])}, slowest ${Math.round(slowest)} ms`)
    assert.ok(pairs > 0)
    assert.deepEqual(
      [...refused.keys()].filter((code) => !['OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'].includes(code)),
      [],
    )
    assert.equal(new Set(fences).size, fences.length)
    await until('no lock is left', async () => (await lockKeys()).length === 0, 2 * TTL)
    // One more while the replies of the present connection are read here.
    await until('the sockets of lost connections are closed', () => openSockets() <= sockets + 1)
  })

  it('end in time when the server falls silent', async () => {
    const { late, result } = await whileLate(async () => {
      let silent = false
      const running = run(() => !silent)
      await delay(100)
      proxy.silence('replies')
      await delay(COMMAND_TIMEOUT / 2)
      silent = true
      return running
    })
    const { pairs, slowest } = result
    assert.ok(pairs > 0)
    assert.ok(slowest < COMMAND_TIMEOUT + GRACE + late, `${slowest} ms, late ${late} ms`)
    await proxy.resume()
    await until('it goes on', async () => {
      const begin = performance.now()
      const { pairs: again } = await run(() => performance.now() - begin < 50)
      return again > CALLERS
    })
  })
})

/** How many sockets this process has. */
function openSockets(): number {
  if (process.platform !== 'linux') return 0
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return ''
    }
  })
  return links.filter((link) => link.startsWith('socket:')).length
}
