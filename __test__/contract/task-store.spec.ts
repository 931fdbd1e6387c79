import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { type RedisImpl, type WorkerStore, ConfigError, createRedisStore } from '../../index.js'
import { Data, onEveryBackend } from '../helpers/backends'
import { taskStore, workerStore } from './task-store'

onEveryBackend('task store', taskStore)

/** A client of the documented shape on top of the embedded engine, with a record of what was called. */
function client(data: Data, calls: string[], { parses = false } = {}): RedisImpl {
  const send = async (name: string, ...args: string[]): Promise<unknown> => {
    calls.push([name, ...args].join(' '))
    return data.command(name, ...args)
  }
  // As Upstash does: JSON arrives parsed, anything else as it is.
  const received = (value: unknown): unknown => {
    if (!parses || typeof value !== 'string') return value
    try {
      return JSON.parse(value)
    } catch {
      return value
    }
  }
  return {
    set: (key, value) => send('SET', key, value),
    get: async (key) => received(await send('GET', key)),
    hset: (key, kv) => send('HSET', key, ...Object.entries(kv).flat()),
    hget: async (key, field) => received(await send('HGET', key, field)),
    hdel: (key, field) => send('HDEL', key, field),
    hgetall: async (key) => {
      const words = (await send('HGETALL', key)) as string[]
      if (!parses) return words
      if (words.length === 0) return null
      const pairs = words.flatMap((word, index) =>
        index % 2 === 0 ? [[word, received(words[index + 1])] as const] : [],
      )
      return Object.fromEntries(pairs)
    },
    del: (key) => send('DEL', key),
    expire: (key, seconds) => send('EXPIRE', key, String(seconds)),
  }
}

/** The same client by node-redis' names. */
function byNodeRedisNames(documented: RedisImpl): object {
  const { hset, hget, hdel, hgetall, ...same } = documented
  return { ...same, hSet: hset, hGet: hget, hDel: hdel, hGetAll: hgetall }
}

describe('task store on a client of the documented shape', () => {
  let data: Data
  let store: WorkerStore
  const calls: string[] = []
  before(() => {
    data = new Data('memory://task store clients')
    store = createRedisStore(client(data, calls))
  })
  after(() => data.close())
  afterEach(async () => {
    await data.clear()
    calls.length = 0
  })

  workerStore({ store: () => store, data: () => data })

  it('stores a result before the mark is removed, with the TTL in between', async () => {
    const brief = createRedisStore(client(data, calls), { ttl: 1500 })
    await brief.beginExecutionTask('x', 't')
    calls.length = 0
    await brief.commitExecutionTaskResult('x', 't', 1)
    assert.equal(calls[0], 'HSET x-results t 1')
    assert.equal(calls.at(-1), 'HDEL x-transactions t')
    assert.deepEqual(calls.slice(1, -1).toSorted(), [
      'EXPIRE x 2',
      'EXPIRE x-results 2',
      'EXPIRE x-transactions 2',
    ])
  })

  it('calls a client by node-redis names', async () => {
    const other = createRedisStore(byNodeRedisNames(client(data, calls)) as RedisImpl)
    await other.beginExecution('x')
    await other.commitExecutionTaskResult('x', 't', { a: 1 })
    assert.deepEqual(await other.getExecutionTaskResult('x', 't'), { a: 1 })
    assert.deepEqual({ ...(await other.getExecutionTaskResults('x')) }, { t: { a: 1 } })
  })

  it('takes results that the client has parsed already', async () => {
    const parsing = createRedisStore(client(data, calls, { parses: true }))
    await parsing.beginExecution('x')
    assert.equal(await parsing.isExecutionInProgress('x'), true)
    for (const result of [{ a: 1 }, [1], 7, false, null]) {
      await parsing.commitExecutionTaskResult('x', 't', result)
      const expected = result === null ? undefined : result
      // What arrives as null cannot be told from nothing.
      assert.deepEqual(await parsing.getExecutionTaskResult('x', 't'), expected)
      assert.deepEqual((await parsing.getExecutionTaskResults('x'))['t'], result)
    }
    assert.deepEqual({ ...(await parsing.getExecutionTaskResults('none')) }, {})
  })

  it('refuses a client that lacks a method', () => {
    const { expire: _, ...incomplete } = client(data, calls)
    assert.throws(() => createRedisStore(incomplete as never), ConfigError)
  })
})
