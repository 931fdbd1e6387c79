/** Locks under many failures and many calls at once: the numbers that the engine is built for. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import { FerroflowError, type LockError, RedisLockManager, connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { type Random, random, seedOf } from '../helpers/random'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { until } from '../helpers/wait'

/** What a call about a lock may end with when the connection fails. */
const CODES = new Set([
  'LOCK_TIMEOUT',
  'LOCK_HELD',
  'LOCK_LOST',
  'REDIS_UNAVAILABLE',
  'OUTCOME_UNKNOWN',
  'ABORTED',
])

/** So many cuts in a row do not make the pauses between two attempts to connect long. */
const BURST = 4
/** A connection that lasts longer than this is a success, and pauses are short again. */
const REST_MS = 1050

describe('locks in a storm', () => {
  let server: RedisServer
  let client: RespClient
  const uncaught: unknown[] = []
  const note = (error: unknown): void => void uncaught.push(error)

  before(async () => {
    process.on('unhandledRejection', note)
    server = await RedisServer.start()
    client = await server.client()
  })
  after(async () => {
    process.off('unhandledRejection', note)
    client.close()
    await server.stop()
    assert.deepEqual(uncaught, [])
  })

  async function lockKeys(): Promise<string[]> {
    return (await client.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow:'))
  }

  it('survive 100 cuts of the connection, each outage below half of the TTL', async (t) => {
    await using proxy = await CountingProxy.start(server)
    const connection = connect(proxy.url, { redialDelay: 50 })
    const manager = new RedisLockManager(connection)
    const losses: LockError[] = []
    manager.on('lost', (error) => losses.push(error))
    const ttl = 3000
    let longest = 0
    const result = await manager.withLock(
      'k',
      async (context) => {
        for (let cut = 0; cut < 100; cut += 1) {
          if (cut % BURST === 0) await delay(REST_MS)
          const begin = performance.now()
          if (cut % 3 === 0) proxy.cut(cut % 2 ? 'reset' : 'end')
          else {
            // Its first attempt fails on the way there or back.
            proxy.cutOn(cut % 3 === 1 ? 'after-forward' : 'before-reply', ({ name }) =>
              name.startsWith('EVAL'),
            )
            await context.extend()
          }
          await connection.command('PING')
          longest = Math.max(longest, performance.now() - begin)
          assert.ok(context.held, `lost at cut ${cut}`)
        }
        return 'kept'
      },
      ttl,
    )
    t.diagnostic(`the longest outage took ${Math.round(longest)} ms`)
    assert.equal(result, 'kept')
    assert.deepEqual(losses, [])
    assert.equal(await client.command('EXISTS', 'fm:lock:k'), 0)
    await connection.close()
  })

  it('extend nothing after its release in 100,000 pairs', { timeout: 300_000 }, async (t) => {
    const { below } = random(seedOf(t, 4711))
    const manager = new RedisLockManager(server.url)
    const released = new Set<string>()
    const wrong: string[] = []
    let extensions = 0
    using watcher = await server.client()
    watcher.onPush((value) => {
      if (value.type !== 'simple-string') return
      // Of the lines of MONITOR only those that scripts cause say what was done.
      const [, name = ''] = / lua\] "(del|DEL|pexpire|PEXPIRE)" /.exec(value.text) ?? []
      // Locks of one round are freed together.
      for (const key of name === '' ? [] : (value.text.match(/fm:lock:p[^"]*/g) ?? [])) {
        if (name.toUpperCase() === 'DEL') released.add(key)
        else {
          extensions += 1
          if (released.has(key)) wrong.push(key)
        }
      }
    })
    await watcher.command('MONITOR')
    const pairs = 100_000
    let begun = 0
    let long = 0
    let lost = 0
    const pair = async (): Promise<void> => {
      begun += 1
      // Each has a key of its own, so a DEL is its release.
      const name = `p${begun}`
      if (begun % 20 !== 0) {
        const lock = await manager.acquire(name, { ttl: 300, renew: true })
        return lock?.release()
      }
      long += 1
      // Around the moment of the first renewal.
      await manager
        .withLock(name, () => delay(90 + below(30)), 300)
        .catch((error: LockError) => {
          assert.equal(error.code, 'LOCK_LOST')
          lost += 1
        })
    }
    const workers = 100
    await Promise.all(
      Array.from({ length: workers }, async () => {
        for (let round = 0; round < pairs / workers; round += 1) await pair()
      }),
    )
    await until('all releases are seen', () => released.size >= pairs - lost, 20_000)
    await manager.close()
    assert.deepEqual(wrong, [])
    t.diagnostic(`${extensions} extensions of ${long} that lasted, ${lost} lost`)
    assert.ok(extensions > long / 10, `${extensions} extensions of ${long}`)
    assert.ok(lost < long / 10, `${lost} were lost for want of a processor`)
  })

  it('settle, typed, 10,000 calls that a fault struck', { timeout: 300_000 }, async (t) => {
    const randomness = random(seedOf(t, 42))
    const outcomes = new Map<string, number>()
    const lanes = Array.from({ length: 10 }, () => new Lane(server, outcomes, randomness))
    await Promise.all(lanes.map((lane) => lane.run(1000)))
    t.diagnostic(inspect(outcomes))
    // Of some 15,000 calls; few on a machine that is so busy that most wait in vain.
    assert.ok((outcomes.get('fine') ?? 0) > 100, inspect(outcomes))
    await until('nothing is left', async () => (await lockKeys()).length === 0, 3000)
  })
})

/** One connection whose faults strike those who use it at that moment. */
class Lane {
  #inFlight = 0
  #struck = 0
  #stop = false

  constructor(
    readonly server: RedisServer,
    readonly outcomes: Map<string, number>,
    readonly randomness: Random,
  ) {}

  async run(faults: number): Promise<void> {
    await using proxy = await CountingProxy.start(this.server)
    const connection = connect(proxy.url, { commandTimeout: 3000, connectTimeout: 500, redialDelay: 50 })
    const manager = new RedisLockManager(connection)
    const callers = Promise.all(Array.from({ length: 40 }, () => this.#call(manager)))
    for (let strike = 0; this.#struck < faults; strike += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      if (strike % BURST === 0) await delay(REST_MS)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await this.#strike(proxy)
    }
    this.#stop = true
    await callers
    await manager.close()
    await connection.close()
  }

  async #strike(proxy: CountingProxy): Promise<void> {
    const { below, pick } = this.randomness
    const mode = pick(['end', 'reset'] as const)
    const kind = below(7)
    if (kind === 0) {
      proxy.delayReplies(50 + below(100))
      this.#struck += this.#inFlight
      await delay(200)
      proxy.delayReplies(0)
    } else if (kind === 1) {
      proxy.blackhole()
      this.#struck += this.#inFlight
      await delay(below(400))
      await proxy.resume()
    } else {
      const point = pick(['before-forward', 'after-forward', 'before-reply'] as const)
      const fault =
        kind === 2
          ? proxy.cutAfterReplyBytes(1 + below(500), mode)
          : kind === 3
            ? proxy.cutAfterRequestBytes(1 + below(2000), mode)
            : proxy.cutOn(point, ({ name }) => name.startsWith('EVAL'), { mode })
      await fault.done
      this.#struck += this.#inFlight
    }
  }

  async #call(manager: RedisLockManager): Promise<void> {
    const { below } = this.randomness
    for (let round = 0; !this.#stop; round += 1) {
      const control = new AbortController()
      const abort = below(5) === 0 ? setTimeout(() => control.abort(), below(50)) : undefined
      const options = {
        ttl: 50 + below(500),
        waitMs: below(300),
        fair: below(2) === 0,
        signal: control.signal,
      }
      const begin = performance.now()
      this.#inFlight += 1
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const [outcome] = await Promise.allSettled([
        manager.withLock(
          `k${below(100)}`,
          async (context) => {
            await delay(below(40))
            if (below(3) === 0) await context.extend()
            return round
          },
          options,
        ),
      ])
      this.#inFlight -= 1
      clearTimeout(abort)
      const ms = performance.now() - begin
      // Acquisition, function and release have their own deadlines.
      assert.ok(ms < 12_000, `${ms} ms`)
      let how = 'fine'
      if (outcome.status === 'fulfilled') assert.equal(outcome.value, round)
      else {
        assert.ok(outcome.reason instanceof FerroflowError, inspect(outcome.reason))
        how = outcome.reason.code
        assert.ok(CODES.has(how), inspect(outcome.reason))
      }
      this.outcomes.set(how, (this.outcomes.get(how) ?? 0) + 1)
    }
  }
}
