/** Operations as subscribers of their tracing channels see them. */
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import { describe, it } from 'node:test'
import * as ferroflow from '../../index.js'
import { type OperationContext, tracedOperations } from '../../index.js'
import { traced } from '../../ts/tracing.js'

const EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const

/** What an operation told while `run` ran, in order. */
async function heard(
  operation: string,
  run: () => Promise<unknown>,
): Promise<[event: string, context: OperationContext][]> {
  const messages: [string, OperationContext][] = []
  const channel = tracingChannel<OperationContext>(`ferroflow:${operation}`)
  const handlers = Object.fromEntries(
    EVENTS.map((event) => [event, (context: OperationContext) => messages.push([event, { ...context }])]),
  )
  channel.subscribe(handlers as never)
  try {
    await run()
  } finally {
    channel.unsubscribe(handlers as never)
  }
  return messages
}

describe('a traced operation', () => {
  it('tells when it starts and ends, and with what', async () => {
    const sagas = new ferroflow.RedisSagaStore({ redis: 'memory://tracing' })
    await sagas.insert('S', 'c1', { id: 's1' })
    const messages = await heard('RedisSagaStore.getById', () => sagas.getById('S', 's1'))
    assert.deepEqual(
      messages.map(([event]) => event),
      ['start', 'end', 'asyncStart', 'asyncEnd'],
    )
    const [[, start], , , [, end]] = messages as [any, any, any, any]
    assert.deepEqual(start, { operation: 'RedisSagaStore.getById' }, 'nothing of the arguments')
    assert.equal(end.result.id, 's1')
    await sagas.close()
  })

  it('tells its error, which its caller gets as it is', async () => {
    const sagas = new ferroflow.RedisSagaStore({ redis: 'memory://tracing-errors' })
    let caught: unknown
    const messages = await heard('RedisSagaStore.update', async () => {
      await sagas.update('S', { id: 'none' }, 0).catch((error: unknown) => (caught = error))
    })
    assert.deepEqual(
      messages.map(([event]) => event),
      ['start', 'end', 'error', 'asyncStart', 'asyncEnd'],
    )
    assert.ok(caught instanceof ferroflow.SagaError)
    assert.equal(messages[2]?.[1].error, caught)
    // Bad arguments reject, and are errors of the operation as well.
    const bad = await heard('RedisSagaStore.getById', () =>
      assert.rejects(sagas.getById('', ''), { code: 'INVALID_ARGUMENT' }),
    )
    assert.equal(bad[2]?.[0], 'error')
    await sagas.close()
  })

  it('names the command of a connection, if it may be one', async () => {
    const connection = ferroflow.connect('memory://tracing')
    const commandOf = async (name: unknown): Promise<unknown> => {
      const [first] = await heard('Connection.command', () =>
        connection.command(name as string, 'key-x').catch(() => {}),
      )
      return first?.[1]
    }
    assert.deepEqual(await commandOf('get'), { operation: 'Connection.command', command: 'GET' })
    for (const odd of ['GET key-x', '', 7, undefined, 'x'.repeat(21)])
      // oxlint-disable-next-line no-await-in-loop -- one by one
      assert.deepEqual(await commandOf(odd), { operation: 'Connection.command' })
    await connection.close()
  })

  it('runs in the context of its caller', async () => {
    const locks = new ferroflow.RedisLockManager('memory://tracing')
    const storage = new AsyncLocalStorage<string>()
    const messages = await heard('RedisLockManager.withLock', () =>
      storage.run('mine', () =>
        locks.withLock('a', async (lock) => {
          assert.equal(storage.getStore(), 'mine')
          assert.ok(lock.held)
          return storage.getStore()
        }),
      ),
    )
    assert.equal(messages.at(-1)?.[1].result, 'mine')
    await locks.close()
  })

  it('tells nothing to who unsubscribed', async () => {
    const connection = ferroflow.connect('memory://tracing')
    const messages = await heard('Connection.command', () => connection.command('PING'))
    assert.equal(messages.length, 4)
    await connection.command('PING')
    assert.equal(messages.length, 4)
    await connection.close()
  })
})

describe('an operation without a subscriber', () => {
  it('is the method itself: the same promise, and nothing is made for nobody', async () => {
    const promise = Promise.resolve()
    let asked = 0
    const method = (): Promise<void> => promise
    const target = traced(
      'RedisWakeSignaler',
      { signal: method, signalMany: method, publish: method },
      () => {
        asked += 1
        return {}
      },
    )
    assert.equal(target.signal(), promise)
    assert.equal(asked, 0)
    const messages = await heard('RedisWakeSignaler.signal', async () => {
      assert.equal(target.publish(), promise, 'of another operation')
      const followed = target.signal()
      assert.notEqual(followed, promise)
      await followed
    })
    assert.equal(asked, 1)
    assert.equal(messages.length, 4)
    assert.equal(target.signal(), promise)
  })
})

describe('an operation that is no async function', () => {
  it('rejects with what it throws, whether somebody listens or not', async () => {
    const wrong = new Error('wrong')
    const method = (): Promise<void> => {
      throw wrong
    }
    const target = traced('RedisWakeSignaler', { signal: method, signalMany: method, publish: method })
    const rejects = (): Promise<void> => assert.rejects(target.signal(), (error) => error === wrong)
    await rejects()
    const messages = await heard('RedisWakeSignaler.signal', rejects)
    assert.deepEqual(
      messages.map(([name]) => name),
      ['start', 'end', 'error', 'asyncStart', 'asyncEnd'],
    )
  })
})

describe('the traced operations', () => {
  it('are named once, and only names of methods that exist', () => {
    assert.equal(new Set(tracedOperations).size, tracedOperations.length)
    assert.ok(Object.isFrozen(tracedOperations))
    for (const operation of tracedOperations) {
      const [owner, name] = operation.split('.') as [keyof typeof ferroflow, string]
      // These are made by a function.
      if (['RedisWorkflowService', 'WorkerStore'].includes(owner)) continue
      const { prototype } = ferroflow[owner] as unknown as { prototype: Record<string, unknown> }
      assert.equal(typeof prototype[name], 'function', operation)
      assert.equal((prototype[name] as { name: string }).name, name)
    }
  })

  it('leave classes as they look', () => {
    const { prototype } = ferroflow.RedisSagaStore
    assert.deepEqual(Object.keys(prototype), [])
    assert.equal(prototype.getById.length, 2)
    assert.equal(ferroflow.Connection.prototype.command.length, 1)
  })

  it('are every documented method that waits for the server', () => {
    const untraced = Object.entries(ferroflow).flatMap(([owner, value]) => {
      if (typeof value !== 'function' || !tracedOperations.some((name) => name.startsWith(`${owner}.`)))
        return []
      const { prototype } = value as { prototype: object }
      return Object.getOwnPropertyNames(prototype)
        .filter((name) => typeof Object.getOwnPropertyDescriptor(prototype, name)?.value === 'function')
        .map((name) => `${owner}.${name}`)
        .filter((name) => !tracedOperations.includes(name) && !name.endsWith('.constructor'))
    })
    assert.deepEqual(untraced.toSorted(), [
      'Connection.close',
      'Connection.doctor',
      // Called by the core.
      'Connection.onNativeEvent',
      'RedisExecutionCache.close',
      'RedisLockManager.close',
      'RedisSagaStore.close',
      // Aliases of methods that are traced.
      'RedisSagaStore.findByCorrelationId',
      'RedisSagaStore.findById',
      'RedisSagaStore.getRedis',
      'RedisWakeSignaler.disconnect',
      // These wait for others, without an end.
      'RedisWakeSignaler.subscribe',
      'RedisWakeSignaler.unsubscribe',
      'RedisWorkflowRunService.close',
      // Goes to the queue of the application.
      'RedisWorkflowStateService.addToQueue',
      'RedisWorkflowStateService.close',
    ])
  })

  it('are those of stores and services that functions make, too', async () => {
    const store = ferroflow.createRedisStore('memory://tracing')
    assert.equal((await heard('WorkerStore.beginExecution', () => store.beginExecution('e1'))).length, 4)
    const { RedisWorkflowService } = await import('../../pikku.mjs')
    const service = new RedisWorkflowService('memory://tracing')
    const create = (): Promise<string> => service.createRun('w', { a: 1 }, false, 'hash', { type: 'unknown' })
    assert.equal((await heard('RedisWorkflowService.createRun', create)).length, 4)
    const made = tracedOperations.filter((name) => name.startsWith('RedisWorkflowService.'))
    assert.ok(made.length > 20)
    await service.close()
  })
})
