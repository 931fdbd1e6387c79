/** What a caller keeps across a call: its AsyncLocalStorage, its stack, its event loop. */
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { basename } from 'node:path'
import { after, before, describe, it } from 'node:test'

import {
  type Connection,
  FerroflowError,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  connect,
} from '../../index.js'
import { RedisServer } from '../helpers/redis-server'

let server: RedisServer
let connection: Connection
before(async () => {
  server = await RedisServer.start()
  connection = connect(server.url)
})
after(async () => {
  await connection.close()
  await server.stop()
})

const storage = new AsyncLocalStorage<number>()

async function interleaved(call: (context: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: 1000 }, (_, context) => storage.run(context, () => call(context))))
}

describe('AsyncLocalStorage', () => {
  it('is kept by results and errors', async () => {
    await interleaved(async (context) => {
      await connection.command('PING')
      assert.equal(storage.getStore(), context)
      await connection.command('NO-SUCH-COMMAND').catch(() => assert.equal(storage.getStore(), context))
      assert.equal(storage.getStore(), context)
    })
  })

  it('is kept in withLock and withRunLock, also by those that wait', async () => {
    const locks = new RedisLockManager(connection, { maxRetries: 600 })
    const runs = new RedisWorkflowStateService(connection)
    await interleaved(async (context) => {
      const check = async (): Promise<void> => {
        assert.equal(storage.getStore(), context)
        await connection.command('PING')
        assert.equal(storage.getStore(), context)
      }
      await locks.withLock(`lock ${context % 100}`, check)
      await runs.withRunLock(`run ${context}`, check)
    })
  })
})

describe('an error', () => {
  const here = basename(__filename)

  it('shows who called', async () => {
    const locks = new RedisLockManager(connection)
    const runs = new RedisWorkflowStateService(connection)
    const sagas = new RedisSagaStore({ redis: connection })
    await connection.command('HSET', 'fm:lock:wrong', 'f', 'v')
    await connection.command('SET', 'workflows:run:wrong', 'v')
    await connection.command('SET', 'saga-bus:saga:S:corrupt', 'no json')
    const failing: [string, () => Promise<unknown>][] = [
      ['SERVER_ERROR', () => connection.command('NO-SUCH-COMMAND')],
      ['INVALID_ARGUMENT', () => connection.command('GET', Number.NaN)],
      ['UNSUPPORTED', () => connection.command('BLPOP', 'k', 0)],
      ['INVALID_ARGUMENT', () => locks.acquire('')],
      ['WRONG_TYPE', () => locks.acquire('wrong')],
      ['WRONG_TYPE', () => runs.getRun('wrong')],
      ['RUN_NOT_FOUND', () => runs.updateRunStatus('none', 'failed')],
      ['CORRUPT_ENTRY', () => sagas.getByCorrelationId('S', 'corrupt')],
      ['SAGA_NOT_FOUND', () => sagas.update('S', { id: 'none' }, 0)],
    ]
    for (const [code, call] of failing) {
      const error: unknown = await call().then(
        () => assert.fail(`${code} expected`),
        (thrown: unknown) => thrown,
      )
      assert.ok(error instanceof FerroflowError, String(error))
      assert.equal(error.code, code)
      assert.match(error.stack!, new RegExp(here), code)
    }
  })
})

describe('the event loop', () => {
  it('gets its turn at least every 256 results', async () => {
    let results = 0
    let most = 0
    let done = false
    const turn = (): void => {
      most = Math.max(most, results)
      results = 0
      if (!done) setImmediate(turn)
    }
    setImmediate(turn)
    const caller = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) {
        await connection.command('PING')
        results++
      }
    }
    await Promise.all(Array.from({ length: 5000 }, caller))
    done = true
    turn()
    // Between two looks lie the end of one turn and the beginning of the next, in either order: two slices at most.
    // Unbounded, it would be thousands.
    assert.ok(most > 1 && most <= 2 * 256, `${most} results between two looks`)
  })
})
