/** A connection that ends in the middle of a call: what the caller is told, and what is stored afterwards. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { RedisLockManager, TimeoutError } from '../../index.js'
import type { CutMode, FaultPoint } from '../helpers/counting-proxy'
import { like } from '../helpers/errors'
import { ProxiedStores, isWrite } from '../helpers/proxied-stores'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { type Counter, counter, indexKey, next, stateKey } from '../helpers/saga-states'
import { until } from '../helpers/wait'

const POINTS: FaultPoint[] = ['before-forward', 'after-forward', 'before-reply']
const MODES: CutMode[] = ['end', 'reset']

const unknown = like({
  type: TimeoutError,
  code: 'OUTCOME_UNKNOWN',
  message: /may or may not have happened/,
})

describe('a connection that is cut', () => {
  let server: RedisServer
  let direct: RespClient
  let stores: ProxiedStores

  before(async () => {
    server = await RedisServer.start()
    direct = await server.client()
  })
  after(async () => {
    direct.close()
    await server.stop()
  })
  beforeEach(async () => {
    await direct.command('FLUSHALL')
    stores = await (await ProxiedStores.open(server)).warm()
  })
  afterEach(() => stores.close())

  /** A new connection: the more often one is lost in a row, the longer it waits before it is redialled. */
  async function renew(): Promise<void> {
    await stores.close()
    stores = await (await ProxiedStores.open(server)).warm()
  }

  /** Cuts the connection at every point of the next write, one after the other. */
  async function atEveryPoint(run: (point: FaultPoint, n: number) => Promise<void>): Promise<void> {
    let n = 0
    for (const mode of MODES)
      for (const point of POINTS) {
        const fault = stores.proxy.cutOn(point, isWrite, { mode })
        await run(point, n)
        assert.equal(fault.struck.length, 1, `${point}, ${mode}`)
        n += 1
        await renew()
      }
  }

  describe('repeats reads', () => {
    const reads: Record<
      string,
      [name: string, read: (stores: ProxiedStores, id: string) => Promise<unknown>]
    > = {
      getRun: ['HGETALL', ({ workflow }, id) => workflow.getRun(id)],
      getStepState: ['HGETALL', ({ workflow }, id) => workflow.getStepState(id, 's')],
      isLocked: ['EXISTS', ({ lock }, id) => lock.isLocked(id)],
      getByCorrelationId: ['GET', ({ saga }) => saga.getByCorrelationId('S', 'c')],
      getById: ['GET', ({ saga }) => saga.getById('S', 'i')],
      init: ['PING', ({ workflow }) => workflow.init()],
      'command GET': ['GET', ({ connection }) => connection.command('GET', indexKey('S', 'i'))],
    }
    for (const [what, [name, read]] of Object.entries(reads))
      it(what, async () => {
        const id = await stores.workflow.createRun('w', 1)
        await stores.workflow.setStepResult(id, 's', 5)
        // Not by these stores: they free what they hold when they are renewed.
        await direct.command('SET', `fm:lock:${id}`, 'another', 'PX', '60000')
        await stores.saga.insert('S', 'c', counter('i'))
        const expected = await read(stores, id)
        for (const mode of MODES)
          for (const point of POINTS) {
            const fault = stores.proxy.cutOn(point, (request) => request.name === name, { mode })
            assert.deepEqual(await read(stores, id), expected)
            assert.equal(fault.struck.length, 1)
            await renew()
          }
      })
  })

  describe('repeats writes that may happen twice', () => {
    it('createRun', () =>
      atEveryPoint(async () => {
        const id = await stores.workflow.createRun('w', { a: 1 })
        assert.deepEqual((await stores.workflow.getRun(id))?.input, { a: 1 })
        assert.deepEqual(await direct.keys('workflows:run:*'), [`workflows:run:${id}`])
        await direct.command('DEL', `workflows:run:${id}`)
      }))

    it('setStepScheduled and setStepResult', async () => {
      await atEveryPoint(async (_, n) => {
        await stores.workflow.setStepScheduled('r', `s${n}`)
        assert.equal((await stores.workflow.getStepState('r', `s${n}`)).status, 'scheduled')
      })
      await atEveryPoint(async (_, n) => {
        await stores.workflow.setStepResult('r', `s${n}`, n)
        const { status, result } = await stores.workflow.getStepState('r', `s${n}`)
        assert.deepEqual([status, result], ['done', n])
      })
    })

    it('extend', async () => {
      const token = 'of-another-process'
      await direct.command('SET', 'fm:lock:k', token, 'PX', '60000')
      await atEveryPoint(async (_, n) => {
        assert.equal(await stores.lock.extend('k', token, 60_000 + n), true)
        assert.ok((await direct.command<number>('PTTL', 'fm:lock:k')) > 50_000)
      })
    })
  })

  describe('recognises its own lost write', () => {
    it('acquire', () =>
      atEveryPoint(async (_, n) => {
        const token = await stores.lock.acquire(`k${n}`)
        assert.equal(typeof token, 'string')
        assert.equal(await direct.command('GET', `fm:lock:k${n}`), token)
        assert.equal(await stores.lock.release(`k${n}`, token as string), true)
      }))

    it('acquire of a lock that another holds', async () => {
      await direct.command('SET', 'fm:lock:k', 'another')
      await atEveryPoint(async () => {
        assert.equal(await stores.lock.acquire('k'), null)
        assert.equal(await direct.command('GET', 'fm:lock:k'), 'another')
      })
    })

    it('insert', () =>
      atEveryPoint(async (_, n) => {
        assert.equal(await stores.saga.insert('S', `c${n}`, counter(`i${n}`, n)), undefined)
        assert.equal(await direct.command('GET', stateKey('S', `c${n}`)), JSON.stringify(counter(`i${n}`, n)))
        assert.equal(await direct.command('GET', indexKey('S', `i${n}`)), `c${n}`)
      }))

    it('insert of a saga that another stored', async () => {
      await direct.command('SET', stateKey('S', 'c'), JSON.stringify(counter('i', 7)))
      await direct.command('SET', indexKey('S', 'i'), 'c')
      await atEveryPoint(async () => {
        await assert.rejects(stores.saga.insert('S', 'c', counter('i', 8)), { code: 'SAGA_EXISTS' })
        assert.equal((await stores.saga.getById('S', 'i'))?.n, 7)
      })
    })

    it('update', async () => {
      let state = counter('i')
      await stores.saga.insert('S', 'c', state)
      await atEveryPoint(async () => {
        const raised = next(state, { n: state.n + 1 })
        assert.equal(await stores.saga.update('S', raised, state.metadata.version), undefined)
        assert.equal(await direct.command('GET', stateKey('S', 'c')), JSON.stringify(raised))
        state = raised
      })
    })

    it('update of a stale version', async () => {
      await stores.saga.insert('S', 'c', counter('i', 7, { version: 5 }))
      await atEveryPoint(() =>
        assert.rejects(stores.saga.update('S', counter('i', 8, { version: 5 }), 4), {
          code: 'CONCURRENCY_CONFLICT',
          actualVersion: 5,
        }),
      )
      assert.equal((await stores.saga.getById('S', 'i'))?.n, 7)
    })

    it('save, new and stored', async () => {
      const state = { ...counter('i'), correlationId: 'c' } as Counter
      await atEveryPoint(async (_, n) => {
        assert.equal((await stores.saga.save('S', state)).metadata.version, n + 1)
        assert.equal((await stores.saga.getById('S', 'i'))?.metadata.version, n + 1)
      })
    })

    it('updateRunStatus', () =>
      atEveryPoint(async (_, n) => {
        const id = `run${n}`
        const fields = ['id', id, 'status', 'running', 'createdAt', 1, 'updatedAt', 1]
        await direct.command('HSET', `workflows:run:${id}`, ...fields)
        await stores.workflow.updateRunStatus(id, 'completed', { a: 1 })
        const run = await stores.workflow.getRun(id)
        assert.deepEqual([run?.status, run?.output], ['completed', { a: 1 }])
      }))

    it('setStepError', () =>
      atEveryPoint(async (_, n) => {
        await stores.workflow.setStepError('r', `s${n}`, new Error('x'))
        const { status, error } = await stores.workflow.getStepState('r', `s${n}`)
        assert.deepEqual([status, (error as { message?: string })?.message], ['error', 'x'])
      }))

    it('release of a lock that was acquired here', () =>
      atEveryPoint(async (_, n) => {
        const token = await stores.lock.acquire(`k${n}`)
        const fault = stores.proxy.cutOn('before-reply', isWrite)
        assert.equal(await stores.lock.release(`k${n}`, token as string), true)
        assert.equal(fault.struck.length, 1)
        assert.equal(await direct.command('EXISTS', `fm:lock:k${n}`), 0)
        assert.equal(await stores.lock.release(`k${n}`, token as string), false)
      }))

    it('delete', () =>
      atEveryPoint(async (_, n) => {
        await direct.command('SET', stateKey('S', `c${n}`), JSON.stringify(counter(`i${n}`)))
        await direct.command('SET', indexKey('S', `i${n}`), `c${n}`)
        assert.equal(await stores.saga.deleteById('S', `i${n}`), true)
        assert.equal(await direct.command('EXISTS', stateKey('S', `c${n}`), indexKey('S', `i${n}`)), 0)
        assert.equal(await stores.saga.deleteById('S', `i${n}`), false)
      }))

    it('even if it is lost again and again', async () => {
      for (const point of POINTS) {
        const fault = stores.proxy.cutOn(point, isWrite, { times: 3 })
        await stores.saga.insert('S', point, counter(point))
        assert.equal(fault.struck.length, 3)
        await renew()
        const again = stores.proxy.cutOn(point, isWrite, { times: 3 })
        await stores.saga.update('S', counter(point, 1, { version: 1 }), 0)
        assert.equal(again.struck.length, 3)
        await renew()
        assert.equal((await stores.saga.getById('S', point))?.metadata.version, 1)
        const last = stores.proxy.cutOn(point, isWrite, { times: 3 })
        assert.equal(await direct.command('GET', `fm:lock:${point}`), null)
        assert.equal(await stores.lock.acquire(point), await direct.command('GET', `fm:lock:${point}`))
        assert.equal(last.struck.length, 3)
        await renew()
      }
    })
  })

  describe('says that the outcome of other writes is unknown, and what is stored is whole', () => {
    it('command INCR, which happens once or not at all', () =>
      atEveryPoint(async (point, n) => {
        await assert.rejects(stores.connection.command('INCR', `n${n}`), unknown)
        const count = await direct.command('GET', `n${n}`)
        assert.ok(point === 'after-forward' || count === (point === 'before-reply' ? '1' : null), `${count}`)
      }))

    it('release of a token from elsewhere, which frees the lock all the same', () =>
      atEveryPoint(async (point, n) => {
        const token = 'mine'
        await direct.command('SET', `fm:lock:k${n}`, token)
        const [outcome] = await Promise.allSettled([stores.lock.release(`k${n}`, token)])
        if (outcome.status === 'fulfilled') assert.equal(outcome.value, true)
        else unknown(outcome.reason)
        if (point === 'before-forward') assert.equal(outcome.status, 'fulfilled')
        assert.equal(await direct.command('EXISTS', `fm:lock:k${n}`), 0)
      }))
  })

  it('after any byte of a write leaves it whole, and done once', async () => {
    let state = counter('i')
    await stores.saga.insert('S', 'c', state)
    const bytes = [1, 2, 7, 20, 60, 100, 150, 200, 300, 400]
    for (const cut of [
      (count: number) => stores.proxy.cutAfterRequestBytes(count),
      (count: number) => stores.proxy.cutAfterReplyBytes(Math.min(count, 7)),
    ])
      for (const count of bytes) {
        const fault = cut(count)
        const raised = next(state, { n: state.n + 1 })
        await stores.saga.update('S', raised, state.metadata.version)
        fault.cancel()
        assert.equal(await direct.command('GET', stateKey('S', 'c')), JSON.stringify(raised))
        state = raised
        await renew()
        await stores.saga.getByCorrelationId('S', 'c')
      }
  })

  it('under many calls settles each of them, and every counter tells the truth', async () => {
    const calls = Array.from({ length: 200 }, (_, n) => stores.connection.command('INCR', `many${n}`))
    stores.proxy.cutOn('before-reply', ({ texts }) => texts[0] === 'many100', { mode: 'reset' })
    const outcomes = await Promise.allSettled(calls)
    const counts = await direct.command<(string | null)[]>('MGET', ...outcomes.map((_, n) => `many${n}`))
    for (const [n, outcome] of outcomes.entries()) {
      if (outcome.status === 'fulfilled') assert.deepEqual([outcome.value, counts[n]], [1, '1'])
      else unknown(outcome.reason)
      assert.ok(counts[n] === '1' || (counts[n] === null && outcome.status === 'rejected'))
    }
  })

  describe('and does not come back in time', () => {
    let hasty: ProxiedStores
    let sent: Promise<unknown>

    beforeEach(async () => {
      hasty = await (await ProxiedStores.open(server, { commandTimeout: 500 })).warm()
      // The server does it, the reply is lost, and then there is nobody to ask.
      hasty.proxy.cutOn('before-reply', isWrite)
      sent = hasty.proxy.nextRequest(isWrite).then(() => hasty.proxy.refuse())
    })
    afterEach(() => hasty.close())

    for (const [what, call] of Object.entries<(hasty: ProxiedStores) => Promise<unknown>>({
      createRun: ({ workflow }) => workflow.createRun('w', 1),
      setStepScheduled: ({ workflow }) => workflow.setStepScheduled('r', 's'),
      setStepResult: ({ workflow }) => workflow.setStepResult('r', 's', 1),
      insert: ({ saga }) => saga.insert('S', 'c', counter('i')),
      'command SET': ({ connection }) => connection.command('SET', 'k', 'v'),
    }))
      it(`does not claim that ${what} did not happen`, async () => {
        await Promise.all([assert.rejects(call(hasty), unknown), sent])
        assert.notDeepEqual(await direct.keys(), [])
      })

    it('does not leave a lock behind that nobody knows of', async () => {
      const [outcome] = await Promise.allSettled([hasty.lock.acquire('k'), sent])
      assert.equal(outcome.status, 'rejected')
      assert.equal(await direct.command('EXISTS', 'fm:lock:k'), 1)
      await hasty.proxy.resume()
      await until('the lock is free', async () => (await direct.command('EXISTS', 'fm:lock:k')) === 0, 3000)
    })
  })

  it('keeps those who wait for a lock waiting, and they get it', async () => {
    const { connection, proxy } = stores
    const manager = new RedisLockManager(connection, { retryDelay: 1000, maxRetries: 4 })
    await direct.command('SET', 'fm:lock:w', 'another')
    const subscribed = proxy.nextRequest(({ name }) => name === 'SUBSCRIBE')
    const waiting = manager.acquire('w')
    await subscribed
    proxy.cut('reset')
    await until('it is back', () => connection.status === 'ready' && proxy.openConnections > 0)
    await direct.command('DEL', 'fm:lock:w')
    assert.equal(await waiting, await direct.command('GET', 'fm:lock:w'))
  })
})
