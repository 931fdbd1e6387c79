/** Attempts and releases that are made at the same time, and so leave in one script. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { type Connection, RedisLockManager, connect } from '../../index.js'
import { RedisServer } from '../helpers/redis-server'
import { RelayingServer } from '../helpers/relaying-server'
import type { RespClient } from '../helpers/resp-client'
import { until } from '../helpers/wait'

const KEYS = ['a', 'b', 'c']
const COUNTER = 'fm:lock:ferroflow:fence'

const locksIn = (words: string[]): number => KEYS.filter((key) => words.includes(`fm:lock:${key}`)).length
const hasTombstones = (words: string[]): boolean => words.some((word) => word.includes(':withdrawn:ff1'))
const fenceOf = (token: string): number => Number(token.split(':').at(-1))

describe('attempts that are made at the same time', () => {
  let real: RedisServer
  let relay: RelayingServer
  let direct: RespClient
  let connection: Connection
  let manager: RedisLockManager
  /** The scripts that were sent. */
  let scripts: string[][]

  before(async () => {
    real = await RedisServer.start()
    relay = await RelayingServer.start(real, () => undefined)
    direct = await real.client()
  })
  beforeEach(async () => {
    scripts = []
    pass()
    const { host, port } = relay
    connection = connect({ host, port, redialDelay: 20, commandTimeout: 1000 })
    manager = new RedisLockManager(connection, { maxRetries: 0, warnings: false, listed: false })
    await connection.command('PING')
  })
  afterEach(async () => {
    await manager.close()
    await connection.close()
    await direct.command('FLUSHALL')
  })
  after(async () => {
    direct.close()
    await relay.stop()
    await real.stop()
  })

  function pass(): void {
    relay.rule = (words) => {
      if (words[0]?.startsWith('EVAL')) scripts.push(words)
      return undefined
    }
  }

  const acquireAll = (ttl = 60_000): Promise<(string | null)[]> =>
    Promise.all(KEYS.map((key) => manager.acquire(key, ttl)))
  const stored = async (): Promise<unknown> => direct.command('MGET', ...KEYS.map((key) => `fm:lock:${key}`))

  it('leave in one script, and so do their releases', async () => {
    // How many find a place in the same round is a matter of luck.
    for (let together = 0; together < 2; together = scripts.filter((words) => locksIn(words) > 1).length) {
      // oxlint-disable no-await-in-loop -- one after the other
      const tokens = await acquireAll()
      assert.deepEqual(await stored(), tokens)
      const released = KEYS.map((key, n) => manager.release(key, tokens[n] as string))
      assert.deepEqual(await Promise.all(released), [true, true, true])
      assert.deepEqual(await stored(), [null, null, null])
      // oxlint-enable no-await-in-loop
    }
  })

  for (const last of [
    '8999999999999999',
    '9000000999999994',
    '9000000999999995',
    '9000000999999998',
    '9000000999999999',
    '9000001000000000',
  ]) {
    it(`have growing fences above ${last}, the same as are stored`, async () => {
      for (let together = false; !together; together = scripts.some((words) => locksIn(words) > 1)) {
        // oxlint-disable no-await-in-loop -- until some leave together
        await direct.command('FLUSHALL')
        await direct.command('SET', COUNTER, last)
        // Who has seen higher fences would ask for more.
        const locks = new RedisLockManager(connection, { maxRetries: 0, warnings: false, listed: false })
        const tokens = await Promise.all(KEYS.map((key) => locks.acquire(key, 60_000)))
        assert.deepEqual(await stored(), tokens)
        let highest = Number(last)
        for (const fence of tokens.map((token) => fenceOf(token as string)).toSorted((x, y) => x - y)) {
          assert.ok(fence > highest, `${fence} after ${highest}`)
          highest = fence
        }
        assert.equal(Number(await direct.command('GET', COUNTER)), highest)
        assert.ok(fenceOf((await locks.acquire('d')) as string) > highest)
        await locks.close()
        // oxlint-enable no-await-in-loop
      }
    })
  }

  it('have each its own TTL, label and limits', async () => {
    const [short, long, other] = await Promise.all([
      manager.acquire('a', 20_000),
      manager.acquire('b', 50_000),
      manager.acquire('c', { ttl: 50_000, holder: 'other' }),
    ])
    assert.deepEqual(await stored(), [short, long, other?.token])
    for (const [key, ttl] of [
      ['a', 20_000],
      ['b', 50_000],
      ['c', 50_000],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const left = Number(await direct.command('PTTL', `fm:lock:${key}`))
      assert.ok(left <= ttl && left > ttl - 10_000, `${key}: ${left}`)
    }
    assert.equal((await manager.inspect('c')).holder?.name, 'other')
  })

  it('are refused each for itself, and by each other', async () => {
    await direct.command('SET', 'fm:lock:b', 'somebody')
    await direct.command('LPUSH', 'fm:lock:c', 'a list')
    const answers = await Promise.allSettled(['a', 'b', 'c', 'a'].map((key) => manager.acquire(key, 60_000)))
    const [first, taken, list, again] = answers
    assert.equal(first?.status === 'fulfilled' && first.value, await direct.command('GET', 'fm:lock:a'))
    assert.deepEqual(taken, { status: 'fulfilled', value: null })
    assert.equal(list?.status === 'rejected' && list.reason.code, 'WRONG_TYPE')
    assert.deepEqual(again, { status: 'fulfilled', value: null })
  })

  const both = async (): Promise<[string, string]> => {
    const tokens = await Promise.all(['a', 'b'].map((key) => manager.acquire(key, 60_000)))
    return tokens as [string, string]
  }

  it('are freed each for itself: what is not held, or released twice, is told so', async () => {
    for (let together = false; !together; together = scripts.some(([, , count]) => Number(count) > 1)) {
      // oxlint-disable no-await-in-loop -- until they leave together
      const [a, b] = await both()
      await direct.command('SET', 'fm:lock:c', 'somebody')
      scripts = []
      const releases = [
        ['a', a],
        ['c', a],
        ['d', a],
        ['b', b],
      ] as const
      const answers = await Promise.all(releases.map(([key, token]) => manager.release(key, token)))
      assert.deepEqual(answers, [true, false, false, true])
      assert.deepEqual(await stored(), [null, null, 'somebody'])
      await direct.command('DEL', 'fm:lock:c')
      // oxlint-enable no-await-in-loop
    }
    for (let round = 0; round < 20; round += 1) {
      // oxlint-disable no-await-in-loop -- one after the other
      const [a, b] = await both()
      const releases = [
        ['a', a],
        ['b', b],
        ['a', a],
        ['b', a],
      ] as const
      const answers = await Promise.all(releases.map(([key, token]) => manager.release(key, token)))
      assert.deepEqual(answers, [true, true, false, false])
      // oxlint-enable no-await-in-loop
    }
  })

  for (const expected of [false, true]) {
    const how = expected ? 'where that is expected' : 'where nobody expects it'
    it(`take nothing if they arrive after they were given up, ${how}`, async () => {
      if (expected) await direct.command('SET', 'fm:lock:ferroflow:withdrawn:any', '', 'PX', '60000')
      let late: string[] | undefined
      relay.rule = (words) => {
        // The first time, and once it is known what to expect, other words are sent.
        if (late !== undefined || words[0] !== 'EVALSHA' || locksIn(words) < 2) return undefined
        if (expected && !hasTombstones(words)) return undefined
        late = words
        return 'never'
      }
      const attempt = async (): Promise<string[] | undefined> => {
        const answers = await Promise.allSettled(KEYS.map((key) => manager.acquire(key)))
        for (const answer of answers) {
          if (answer.status === 'rejected') assert.equal(answer.reason.code, 'OUTCOME_UNKNOWN')
        }
        await direct.command('DEL', ...KEYS.map((key) => `fm:lock:${key}`))
        return late
      }
      await until('some leave together', async () => (await attempt()) !== undefined)
      const tombstones = 'fm:lock:ferroflow:withdrawn:ff1:*'
      const withdrawn = async (): Promise<number> => ((await direct.command('KEYS', tombstones)) as []).length
      await until('they are withdrawn', async () => (await withdrawn()) >= locksIn(late as string[]))
      await direct.command(...(late as [string, ...string[]]))
      assert.deepEqual(await stored(), [null, null, null])
    })
  }

  it('are granted after some were given up', async () => {
    await direct.command('SET', 'fm:lock:ferroflow:withdrawn:any', '', 'PX', '60000')
    while (!scripts.some((words) => locksIn(words) > 1 && hasTombstones(words))) {
      // oxlint-disable no-await-in-loop -- until some leave together
      const tokens = await acquireAll()
      assert.deepEqual(await stored(), tokens)
      await Promise.all(KEYS.map((key, n) => manager.release(key, tokens[n] as string)))
      // oxlint-enable no-await-in-loop
    }
  })
})
