/** Many who want the same locks, in several processes: order, exclusion, and what the dead leave behind. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { RedisLockManager } from '../../index.js'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { until } from '../helpers/wait'

const QUEUE = 'fm:lock:ferroflow:queue:k'
/** How long a place in the queue lasts without a sign of life. */
const LEASE_MS = 3000

function program(url: string, body: string): Program {
  return new Program([
    '--eval',
    `
    const { RedisLockManager, connect } = require('ferroflow')
    const say = (what) => require('node:fs').writeSync(1, what + '\\n')
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
    for (const event of ['uncaughtException', 'unhandledRejection'])
      process.on(event, (error) => say(event + ' ' + error))
    const connection = connect(${JSON.stringify(url)})
    const locks = new RedisLockManager(connection)
    ;(async () => { ${body} })().then(() => connection.close())
    `,
  ])
}

describe('a crowd', () => {
  let server: RedisServer
  let client: RespClient
  let locks: RedisLockManager

  before(async () => {
    server = await RedisServer.start()
    client = await server.client()
    locks = new RedisLockManager(server.url)
  })
  after(async () => {
    await locks.close()
    client.close()
    await server.stop()
  })
  afterEach(() => client.command('FLUSHALL'))

  async function queued(count: number): Promise<void> {
    await until(`${count} wait`, async () => (await client.command('ZCARD', QUEUE)) === count, 30_000)
  }

  function waiting(count: number): Program {
    return program(
      server.url,
      `await Promise.all(Array.from({ length: ${count} }, (_, n) =>
          locks.withLock('k', async ({ token }) => {
            await connection.command('RPUSH', 'order', token.split(':')[1])
          }, { fair: true, waitMs: 120_000, ttl: 30_000 })))
`,
    )
  }

  it('of 1,000 fair waiters in three processes is served in the order of the queue', async (t) => {
    const token = await locks.acquire('k', 600_000)
    const processes = [333, 333, 334].map(waiting)
    try {
      await queued(1000)
      const places = await client.command<string[]>('ZRANGE', QUEUE, 0, -1)
      const begin = performance.now()
      await locks.release('k', token as string)
      for (const one of processes)
        // oxlint-disable-next-line no-await-in-loop -- in any order
        assert.deepEqual(await one.ended(90_000), { code: 0, signal: null }, one.output)
      t.diagnostic(`${Math.round(performance.now() - begin)} ms for 1,000`)
      const order = await client.command<string[]>('LRANGE', 'order', 0, -1)
      assert.deepEqual(
        order,
        places.map((claim) => claim.split(':')[1]),
      )
      assert.equal(await client.command('EXISTS', QUEUE, 'fm:lock:k'), 0)
    } finally {
      await Promise.all(processes.map((one) => one[Symbol.asyncDispose]()))
    }
  })

  it('of dead waiters delays the next living one by one lease in all', async (t) => {
    const token = await locks.acquire('k', 600_000)
    await using dead = program(
      server.url,
      `await Promise.all(Array.from({ length: 300 }, () =>
        locks.withLock('k', () => {}, { fair: true, waitMs: 120_000 })))`,
    )
    await queued(300)
    const living = locks.withLock('k', () => performance.now(), { fair: true, waitMs: 60_000 })
    await queued(301)
    dead.kill('SIGKILL')
    await dead.ended()
    const freed = performance.now()
    await locks.release('k', token as string)
    const ms = (await living) - freed
    t.diagnostic(`${Math.round(ms)} ms`)
    assert.ok(ms < LEASE_MS + 500, `${ms} ms`)
  })

  it('of dead waiters that never come to the head costs nothing', async () => {
    const token = await locks.acquire('k', 600_000)
    const first = locks.withLock('k', () => 'first', { fair: true, waitMs: 60_000 })
    await queued(1)
    await using dead = program(
      server.url,
      `await locks.withLock('k', () => {}, { fair: true, waitMs: 120_000 })`,
    )
    await queued(2)
    dead.kill('SIGKILL')
    await dead.ended()
    const begin = performance.now()
    await locks.release('k', token as string)
    assert.equal(await first, 'first')
    assert.ok(performance.now() - begin < 1000)
  })

  it('that wants 1,000 overlapping sets of locks never waits for itself', async (t) => {
    const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    const worker = (seed: number): Program =>
      program(
        server.url,
        `
        let state = ${seed}
        const below = (bound) => (state = (state * 1103515245 + 12345) % 2147483648) % bound
        const keys = ${JSON.stringify(keys)}
        const once = async (n) => {
          const set = keys.filter(() => below(3) === 0)
          if (set.length === 0) set.push('a')
          // As nobody would, in another order each time.
          set.sort(() => below(2) - 0.5)
          await locks.withLocks(set, async ({ fences }) => {
            const name = '${seed}.' + n
            for (const key of set) {
              if (!(await connection.command('SET', 'inside:' + key, name, 'NX'))) say('two in ' + key)
              if (!(fences[key] > 0)) say('no fence of ' + key)
            }
            await sleep(below(3))
            for (const key of set) await connection.command('DEL', 'inside:' + key)
          }, { waitMs: 60_000, ttl: 30_000 })
        }
        let n = 0
        await Promise.all(Array.from({ length: 10 }, async () => { while (n < 250) await once(n++) }))
        say('done')`,
      )
    const processes = [1, 2, 3, 4].map(worker)
    const begin = performance.now()
    try {
      for (const one of processes) {
        // oxlint-disable-next-line no-await-in-loop -- in any order
        assert.deepEqual(await one.ended(90_000), { code: 0, signal: null }, one.output)
        assert.equal(one.output, 'done\n')
      }
      t.diagnostic(`${Math.round(performance.now() - begin)} ms`)
    } finally {
      await Promise.all(processes.map((one) => one[Symbol.asyncDispose]()))
    }
    const left = (await client.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow:'))
    assert.deepEqual(left, [])
  })

  it('hands a lock on in the time that a message takes', async (t) => {
    await using other = program(
      server.url,
      `for (let n = 0; n < 200; n += 1)
        await locks.withLock('k', () => connection.command('RPUSH', 'log', 'other ' + process.hrtime.bigint()), { retryDelay: 5000, waitMs: 60_000 })`,
    )
    const begin = performance.now()
    for (let n = 0; n < 200; n += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await locks.withLock('k', () => delay(1), { retryDelay: 5000, waitMs: 60_000 })
    }
    const end = await other.ended(20_000)
    assert.deepEqual(end, { code: 0, signal: null }, other.output)
    const ms = performance.now() - begin
    t.diagnostic(`${Math.round(ms)} ms for 400`)
    // Whoever misses a release looks again after 5 s.
    assert.ok(ms < 5000, `${ms} ms`)
  })
})
