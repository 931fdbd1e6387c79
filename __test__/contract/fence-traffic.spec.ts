/** What a fence costs between the client and a real server, and what a lost reply means under one. */
/* oxlint-disable no-await-in-loop -- one after the other */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type Connection, TimeoutError, connect } from '../../index.js'
import { Child } from '../helpers/child'
import { CountingProxy, type FaultPoint } from '../helpers/counting-proxy'
import { like } from '../helpers/errors'
import { type Stores, WRITES, fenceKey, openStores } from '../helpers/fenced'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'

/** These look something up first, under a fence or not. */
const LOOK_FIRST = /delete/

const isScript = ({ name }: { name: string }): boolean => name.startsWith('EVAL')

describe('a fence between client and server', () => {
  let server: RedisServer
  let proxy: CountingProxy
  let direct: RespClient
  let connection: Connection
  let stores: Stores

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
  })

  async function open(): Promise<void> {
    proxy = await CountingProxy.start(server)
    connection = connect(proxy.url, { connectionName: randomUUID(), redialDelay: 50 })
    await connection.command('PING')
    stores = await openStores(connection)
  }

  async function close(): Promise<void> {
    await connection.close()
    await proxy.close()
    assert.deepEqual(proxy.protocolErrors, [])
  }

  describe('costs no further command', () => {
    before(open)
    after(close)

    for (const [name, prepare] of Object.entries(WRITES))
      it(name, async () => {
        const warm = [await prepare(stores), await prepare(stores)]
        await warm[0]!.write()
        await warm[1]!.write({ fence: 1 })
        const [plain, fenced] = [await prepare(stores), await prepare(stores)]
        const without = await proxy.count(() => plain.write())
        const under = await proxy.count(() => fenced.write({ fence: 1 }))
        assert.equal(under.requests.length, without.requests.length)
        assert.equal(under.roundTrips, without.roundTrips)
        assert.equal(under.requests.at(-1)?.name, 'EVALSHA')
        if (!LOOK_FIRST.test(name)) assert.deepEqual([under.requests.length, under.roundTrips], [1, 1])
      })

    it('createRun', async () => {
      await stores.runs.createRun('w', 1, { fence: 1 })
      const { requests } = await proxy.count(() => stores.runs.createRun('w', 1, { fence: 1 }))
      assert.deepEqual(
        requests.map(({ name }) => name),
        ['EVALSHA'],
      )
    })

    it('and sends the source once', async () => {
      const fresh = connect(proxy.url, { connectionName: randomUUID(), redialDelay: 50 })
      const others = await openStores(fresh)
      await fresh.command('PING')
      for (const command of ['EVAL', 'EVALSHA']) {
        const { requests } = await proxy.count(() => others.runs.setStepResult('r', 's', 1, { fence: 1 }))
        assert.deepEqual(
          requests.map(({ name }) => name),
          [command],
        )
      }
      await fresh.close()
    })
  })

  const repeated = {
    createRun: () => stores.runs.createRun('w', 1, { fence: 5 }),
    setStepScheduled: () => stores.runs.setStepScheduled('r', 's', { fence: 5 }),
    setStepResult: () => stores.runs.setStepResult('r', 's', 1, { fence: 5 }),
    'set of an execution': () => stores.cache.set({ id: 'e' }, 1000, { fence: 5 }),
    'invalidate of an execution': () => stores.cache.invalidate('e', { fence: 5 }),
    'save of a saga': () => stores.saga.save('S', { id: 'i', correlationId: 'c' } as any, { fence: 5 }),
  }
  const unknown = like({ type: TimeoutError, code: 'OUTCOME_UNKNOWN', message: /may or may not/ })

  for (const [name, write] of Object.entries(repeated))
    describe(`${name} whose reply is lost`, () => {
      it('is repeated as it is without a fence', async () => {
        for (const point of ['before-forward', 'after-forward', 'before-reply'] as FaultPoint[]) {
          await direct.command('FLUSHALL')
          await open()
          const fault = proxy.cutOn(point, isScript)
          await write()
          assert.equal(fault.struck.length, 1)
          await close()
        }
      })

      if (name !== 'createRun')
        it('is unknown where a later holder has written since', async () => {
          const records: Record<string, string> = {
            'save of a saga': 'saga-bus:saga:S:c',
            'set of an execution': 'fm:exec:e',
            'invalidate of an execution': 'fm:exec:e',
          }
          await open()
          const fault = proxy.cutOn('before-reply', isScript)
          await proxy.refuse()
          const written = assert.rejects(write(), unknown)
          await fault.done
          await direct.command('SET', fenceKey(records[name] ?? 'workflows:run:r'), '9')
          await proxy.resume()
          await written
          await close()
        })
    })

  it('holds between processes', async () => {
    await open()
    const script = `
      const { RedisWorkflowStateService } = require('ferroflow')
      const runs = new RedisWorkflowStateService(${JSON.stringify(server.url)})
      runs.setStepResult('r', 's', 1, { fence: 2 })
        .then(() => runs.close(), (error) => console.log(error))`
    const { code, stdout } = await Child.start(script).ended()
    assert.deepEqual([code, stdout], [0, ''])
    const late = stores.runs.setStepError('r', 's', new Error('x'), { fence: 1 })
    await assert.rejects(late, { code: 'STALE_FENCE', fence: 1, currentFence: 2 })
    await close()
  })
})
