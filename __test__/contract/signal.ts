/** What `RedisWakeSignaler` promises, whatever it runs on. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { ArgumentError, ConnectionError, RedisWakeSignaler, connect, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { deferred, median, until } from '../helpers/wait'

export function signal(backend: Backend): void {
  let target: Target
  let data: Data
  let sender: RedisWakeSignaler
  let receiver: RedisWakeSignaler

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
  })
  after(() => data.close())
  // Pub/sub knows no databases, so each test has a channel of its own.
  let channel: string
  beforeEach(() => {
    channel = `wake ${randomUUID()}`
    sender = new RedisWakeSignaler(target, { channel })
    receiver = new RedisWakeSignaler(target, { channel })
  })
  afterEach(async () => {
    await Promise.all([sender.disconnect(), receiver.disconnect()])
  })

  /** Ids as a handler of the receiver gets them. */
  async function received(): Promise<string[]> {
    const ids: string[] = []
    await receiver.subscribe((id) => void ids.push(id))
    return ids
  }

  describe('signals', () => {
    it('reach every handler that listens, in order', async () => {
      const [first, second] = [await received(), await received()]
      const sent = Array.from({ length: 50 }, (_, index) => `e${index}`)
      for (const id of sent) await sender.signal(id)
      await until('all signals', () => first.length === 50 && second.length === 50)
      assert.deepEqual(first, sent)
      assert.deepEqual(second, sent)
    })

    it('go out in the original form', async () => {
      const texts: unknown[] = []
      await receiver.subscribe((id, metadata) => void texts.push([id, metadata]))
      await sender.publish('e', { reason: 'resumed' })
      await sender.signal('f')
      await until('both', () => texts.length === 2)
      assert.deepEqual(texts, [
        ['e', { reason: 'resumed' }],
        ['f', undefined],
      ])
    })

    it('come in as JSON or as bare ids', async () => {
      const ids = await received()
      const messages = [
        '{"executionId":"json","timestamp":1}',
        'bare',
        '{"other":1}',
        '7',
        '{',
        'ü'.repeat(9),
      ]
      for (const message of messages) await data.command('PUBLISH', channel, message)
      await until('all', () => ids.length === messages.length)
      assert.deepEqual(ids, ['json', ...messages.slice(1)])
    })

    it('of signalMany arrive all, and of none, none', async () => {
      const ids = await received()
      await sender.signalMany([])
      await sender.signalMany(['a', 'b', 'c'])
      await until('three', () => ids.length === 3)
      assert.deepEqual(ids, ['a', 'b', 'c'])
    })

    it('reach nobody after unsubscribe, and again after subscribe', async () => {
      const earlier = await received()
      await receiver.unsubscribe()
      await sender.signal('missed')
      const again = await received()
      await sender.signal('heard')
      await until('the second', () => again.includes('heard'))
      assert.deepEqual(earlier, [])
      // The nodes of a cluster pass messages on, so an earlier one may still come to who listens by then.
      const late = backend.isCluster ? 'missed' : undefined
      assert.deepEqual(
        again.filter((id) => id !== late),
        ['heard'],
      )
    })

    it('come fast', async () => {
      const heard = new Map<string, () => void>()
      await receiver.subscribe((id) => heard.get(id)?.())
      const times: number[] = []
      for (let index = 0; index < 200; index++) {
        const { promise, resolve } = deferred()
        heard.set(`e${index}`, () => resolve())
        const sent = performance.now()
        await sender.signal(`e${index}`)
        await promise
        times.push(performance.now() - sent)
      }
      // A bound that only a poll or a lost signal would break; figures are for the benchmark.
      assert.ok(median(times) < 50, `${median(times)} ms`)
    })
  })

  describe('a handler that fails', () => {
    it('is reported and disturbs nobody', async () => {
      const failures: unknown[] = []
      receiver.on('handlerError', (error, id) => failures.push([(error as Error).message, id]))
      await receiver.subscribe(() => {
        throw new Error('sync')
      })
      await receiver.subscribe(() => Promise.reject(new Error('async')))
      const ids = await received()
      await sender.signalMany(['a', 'b'])
      await until('all', () => ids.length === 2 && failures.length === 4)
      assert.deepEqual(failures.toSorted(), [
        ['async', 'a'],
        ['async', 'b'],
        ['sync', 'a'],
        ['sync', 'b'],
      ])
    })

    it('is a warning of the process if nobody asked for it', async () => {
      const warned = once(process, 'warning')
      await receiver.subscribe(() => Promise.reject(new Error('nobody knows')))
      await sender.signal('e')
      const [warning] = (await warned) as [Error & { code?: string }]
      assert.match(warning.message, /"e".*nobody knows/)
      assert.equal(warning.code, 'FERROFLOW_HANDLER')
    })
  })

  describe('iteration', () => {
    it('yields ids until unsubscribe', async () => {
      const ids: string[] = []
      const iterator = receiver.subscribe()
      const first = iterator.next()
      // Listening begins with the first `next()`; a handler tells when.
      await receiver.subscribe(() => undefined)
      await sender.signalMany(['a', 'b'])
      ids.push((await first).value as string, (await iterator.next()).value as string)
      const last = iterator.next()
      await receiver.unsubscribe()
      assert.deepEqual(ids, ['a', 'b'])
      assert.deepEqual(await last, { value: undefined, done: true })
    })

    it('ends with the loop, and listens no more', async () => {
      const loop = (async () => {
        for await (const id of receiver.subscribe()) return id
        return undefined
      })()
      // Not by the answer to PUBLISH: a node of a cluster counts only its own.
      const command = ['NUMSUB', channel] as const
      const listeners = async (): Promise<unknown> =>
        ((await data.connection.command('PUBSUB', ...command)) as unknown[])[1]
      if (backend.isServer) {
        await until('somebody listens', async () => (await listeners()) === 1)
        await data.connection.command('PUBLISH', channel, 'found')
      } else {
        await until(
          'somebody listens',
          async () => ((await data.connection.command('PUBLISH', channel, 'found')) as number) > 0,
        )
      }
      assert.equal(await loop, 'found')
      await until('nobody listens', async () =>
        backend.isServer
          ? (await listeners()) === 0
          : (await data.connection.command('PUBLISH', channel, 'x')) === 0,
      )
    })
  })

  it('a subscription ends with its connection', async () => {
    const connection = connect(target)
    const other = new RedisWakeSignaler(connection, { channel })
    const iterator = other.subscribe()
    const first = iterator.next()
    await other.subscribe(() => undefined)
    await sender.signal('heard')
    assert.equal((await first).value, 'heard')
    const last = iterator.next()
    await connection.close()
    assert.deepEqual(await last, { value: undefined, done: true })
  })

  describe('bad input', () => {
    it('is refused', async () => {
      const wrong: [string, () => Promise<unknown>][] = [
        ['an empty id', () => sender.signal('')],
        ['no string', () => sender.signal(undefined as never)],
        ['no array', () => sender.signalMany('abc' as never)],
        ['one bad id among good ones', () => sender.signalMany(['a', ''])],
        ['a handler that is no function', () => receiver.subscribe(7 as never) as Promise<void>],
        ['metadata that is no JSON', () => sender.publish('e', 1n)],
      ]
      for (const [what, call] of wrong) {
        await assert.rejects(async () => call(), ArgumentError, what)
      }
      assert.throws(() => new RedisWakeSignaler(target, { channel: '' }), ArgumentError)
    })

    it('a closed signaler rejects', async () => {
      const closed = new RedisWakeSignaler(target, { channel })
      await closed.disconnect()
      const expected = like({ type: ConnectionError, code: 'CLOSED', message: /closed/ })
      await assert.rejects(closed.signal('e'), expected)
      await assert.rejects(
        closed.subscribe(() => undefined),
        expected,
      )
      await assert.rejects(closed.subscribe().next(), expected)
    })
  })
}
