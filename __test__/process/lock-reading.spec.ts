/** While locks are asked for in masses, the thread that asks reads the replies itself. Nothing else may notice. */
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'

import { type Connection, FerroflowError, type LockContext, RedisLockManager, connect } from '../../index.js'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { block, until } from '../helpers/wait'

const repository = join(__dirname, '../..')
const CALLERS = 64
const TTL = 10_000
/** The driver's handle of a socket, and the one for calls that leave past it. */
const UNREAD = 2
/** The same with the one that a JavaScript thread watches. */
const READ_HERE = 3
const skip = process.platform === 'linux' ? false : 'counts handles in /proc'

/** How many handles this process has of the socket of which it has the most. */
function handles(): number {
  const counts = new Map<string, number>()
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const link = readlinkSync(`/proc/self/fd/${fd}`)
      if (link.startsWith('socket:')) counts.set(link, (counts.get(link) ?? 0) + 1)
    } catch {
      // It was closed meanwhile.
    }
  }
  return Math.max(...counts.values())
}

function isLock(key: string): boolean {
  return key.startsWith('fm:lock:') && !key.includes('ferroflow:')
}

/** What other programs begin with: `masses(goOn)` acquires and releases 64 locks at a time as long as it is told to. */
const MASSES = `
  const { connect, RedisLockManager } = require(${JSON.stringify(repository)})
  const manager = (connection) => new RedisLockManager(connection, { maxRetries: 0, warnings: false, listed: false })
  const masses = (locks, goOn, prefix = '') =>
    Promise.all(Array.from({ length: ${CALLERS} }, async (_, index) => {
      for (let round = 0; goOn(); round += 1) {
        const token = await locks.acquire(prefix + index, ${TTL})
        await locks.release(prefix + index, token)
      }
    }))
  const say = (what) => require('node:fs').writeSync(1, what + '\\n')`

describe('replies to masses of locks', { timeout: 240_000 }, () => {
  let server: RedisServer
  let client: RespClient
  let connection: Connection
  let manager: RedisLockManager

  before(async () => {
    server = await RedisServer.start()
    client = await server.client()
  })
  after(async () => {
    client.close()
    await server.stop()
  })
  beforeEach(() => {
    connection = connect(server.url)
    manager = new RedisLockManager(connection, { maxRetries: 0, warnings: false, listed: false })
  })
  afterEach(async () => {
    await manager.close()
    await connection.close()
    // Who ended in the midst has left locks.
    await client.command('FLUSHALL')
  })

  /** Callers acquire and release, each a lock of its own, as long as `goOn` says so. */
  async function masses(goOn: () => boolean, between?: (index: number) => unknown): Promise<void> {
    const caller = async (_: unknown, index: number): Promise<void> => {
      while (goOn()) {
        // oxlint-disable-next-line no-await-in-loop -- one lock after the other
        const token = (await manager.acquire(`${index}`, TTL)) as string
        between?.(index)
        // oxlint-disable-next-line no-await-in-loop
        assert.equal(await manager.release(`${index}`, token), true)
      }
    }
    await Promise.all(Array.from({ length: CALLERS }, caller))
  }

  /** Whether they came to be read here. */
  async function areReadHere(): Promise<boolean> {
    let [calls, seen] = [0, false]
    await masses(() => {
      calls += 1
      if (calls % CALLERS === 0) seen ||= handles() >= READ_HERE
      return !seen && calls < 50_000
    })
    return seen
  }

  it('are read by who asks, as long as they come', { skip }, async () => {
    assert.ok(await areReadHere())
    await connection.command('SET', 'large', 'x'.repeat(100_000))
    await until(
      'nobody watches any more',
      async () => {
        // So much that the thread sees some of it before the driver has read it all.
        await Promise.all(Array.from({ length: 20 }, () => connection.command('GET', 'large')))
        return handles() <= UNREAD
      },
      30_000,
    )
    assert.ok(await areReadHere())
  })

  it('are read by the I/O thread while who asks is busy, so that no lock is lost', { skip }, async () => {
    const [ttl, blocks] = [1000, 2]
    let [calls, blocked] = [0, 0]
    const hold = async (context: LockContext): Promise<void> => {
      const whileReadHere = (index: number): void => {
        if (index > 0 || blocked === blocks || handles() < READ_HERE) return
        blocked += 1
        block(1.5 * ttl)
        context.assertHeld()
      }
      await masses(() => blocked < blocks && (calls += 1) < 50_000, whileReadHere)
    }
    await manager.withLock('renewed', hold, { ttl })
    assert.equal(blocked, blocks)
  })

  it('arrive beside large ones', async () => {
    const large = Array.from({ length: 8 }, (_, index) => `${index}`.repeat(300_000))
    await Promise.all(large.map((value, index) => connection.command('SET', `large:${index}`, value)))
    let rounds = 0
    const running = masses(() => rounds < 20)
    for (; rounds < 20; rounds += 1) {
      // oxlint-disable-next-line no-await-in-loop -- again and again
      const read = await Promise.all(large.map((_, index) => connection.command('GET', `large:${index}`)))
      assert.deepEqual(read, large)
    }
    await running
  })

  it('reach each caller in its own asynchronous context', async () => {
    const storage = new AsyncLocalStorage<number>()
    let calls = 0
    const caller = async (_: unknown, index: number): Promise<void> =>
      storage.run(index, async () => {
        while ((calls += 1) < 20_000) {
          // oxlint-disable-next-line no-await-in-loop -- one lock after the other
          const token = (await manager.acquire(`${index}`, TTL)) as string
          assert.equal(storage.getStore(), index)
          // oxlint-disable-next-line no-await-in-loop
          await manager.release(`${index}`, token)
          assert.equal(storage.getStore(), index)
        }
      })
    await Promise.all(Array.from({ length: CALLERS }, caller))
  })

  it('end with the connection, and no call is left', async () => {
    let [calls, closed] = [0, 0]
    const caller = async (_: unknown, index: number): Promise<void> => {
      try {
        for (;;) {
          calls += 1
          if (calls === 10_000) void connection.close()
          // oxlint-disable-next-line no-await-in-loop -- one lock after the other
          const token = (await manager.acquire(`${index}`, TTL)) as string
          // oxlint-disable-next-line no-await-in-loop
          await manager.release(`${index}`, token)
        }
      } catch (error) {
        // What a slow server has yet to answer is over when its time to close is.
        const codes = ['CLOSED', 'OUTCOME_UNKNOWN']
        assert.ok(error instanceof FerroflowError && codes.includes(error.code), String(error))
        closed += 1
      }
    }
    await Promise.all(Array.from({ length: CALLERS }, caller))
    assert.equal(closed, CALLERS)
  })

  it('are freed when the locks are closed in the midst', async () => {
    for (let round = 0; round < 60; round += 1) {
      const locks = new RedisLockManager(connection, { maxRetries: 0, warnings: false, listed: false })
      const closeAt = 300 + round * 5
      let calls = 0
      let closing: Promise<void> | undefined
      const caller = async (_: unknown, index: number): Promise<void> => {
        try {
          for (;;) {
            calls += 1
            if (calls === closeAt) closing = locks.close()
            // oxlint-disable-next-line no-await-in-loop -- one lock after the other
            const token = (await locks.acquire(`${round}:${index}`, TTL)) as string
            // oxlint-disable-next-line no-await-in-loop
            await locks.release(`${round}:${index}`, token)
          }
        } catch (error) {
          assert.ok(error instanceof FerroflowError && error.code === 'CLOSED', String(error))
        }
      }
      // oxlint-disable-next-line no-await-in-loop -- one manager after the other
      await Promise.all(Array.from({ length: CALLERS }, caller))
      // oxlint-disable-next-line no-await-in-loop
      await closing
      // oxlint-disable-next-line no-await-in-loop
      assert.deepEqual((await client.keys()).filter(isLock), [])
    }
  })

  it('reach two threads that share a connection', async () => {
    const worker = new Worker(
      `${MASSES}
       const locks = manager(connect(${JSON.stringify(server.url)}))
       let calls = 0
       masses(locks, () => (calls += 1) <= 20000, 'worker:')
         .then(() => require('node:worker_threads').parentPort.postMessage(calls))`,
      { eval: true },
    )
    let ended = false
    const end = once(worker, 'message').finally(() => (ended = true))
    const exit = once(worker, 'exit')
    await masses(() => !ended)
    const [calls] = (await end) as [number]
    assert.ok(calls >= 20_000)
    assert.deepEqual(await exit, [0])
  })

  it('may come while their thread is terminated, again and again', async () => {
    for (let round = 0; round < 30; round += 1) {
      // Half of them share the main thread's connection, half have one of their own.
      const url = round % 2 === 0 ? server.url : `${server.url}/1`
      const worker = new Worker(
        `${MASSES}
         let calls = 0
         masses(manager(connect(${JSON.stringify(url)})), () => {
           if ((calls += 1) === 2000) require('node:worker_threads').parentPort.postMessage('busy')
           return true
         }, 'worker:${round}:')`,
        { eval: true },
      )
      // oxlint-disable-next-line no-await-in-loop -- one worker after the other
      await once(worker, 'message')
      // oxlint-disable-next-line no-await-in-loop
      await worker.terminate()
      // oxlint-disable-next-line no-await-in-loop
      assert.equal(await connection.command('PING'), 'PONG')
    }
    let calls = 0
    await masses(() => (calls += 1) < 2000)
    await until('their connections are closed', async () =>
      (await client.clientList()).every(({ db }) => db === '0'),
    )
  })

  /** A program that does something in the midst of masses. */
  function program(inTheMidst: string): Program {
    return new Program([
      '--eval',
      `${MASSES}
       const connection = connect(${JSON.stringify(server.url)}, { connectionName: 'masses' })
       let calls = 0
       masses(manager(connection), () => {
         if ((calls += 1) === 5000) { ${inTheMidst} }
         return calls < 10000
       }, process.pid + ':').then(() => say('done'))`,
    ])
  }

  async function isConnected(): Promise<boolean> {
    return (await client.clientList()).some(({ name }) => name === 'masses')
  }

  it('keep no process alive', async () => {
    await using running = program('')
    assert.deepEqual(await running.ended(60_000), { code: 0, signal: null })
    assert.equal(running.output, 'done\n')
  })

  it('do not keep a process from being ended', async () => {
    await using running = program('process.exit(7)')
    assert.deepEqual(await running.ended(60_000), { code: 7, signal: null })
    assert.equal(running.output, '')
  })

  it('leave what is thrown in the midst to the process', async () => {
    const thrown = "queueMicrotask(() => { throw new Error('of a microtask') })"
    await using fails = program(thrown)
    assert.deepEqual(await fails.ended(60_000), { code: 1, signal: null })
    assert.match(fails.output, /Error: of a microtask/)
    await client.command('FLUSHALL')
    await using goesOn = program(
      `process.on('uncaughtException', (error) => say(error.message))
       process.on('unhandledRejection', (error) => say(error.message))
       ${thrown}
       process.nextTick(() => { throw new Error('of a tick') })
       Promise.reject(new Error('of a promise'))`,
    )
    assert.deepEqual(await goesOn.ended(60_000), { code: 0, signal: null })
    assert.deepEqual(goesOn.output.split('\n').toSorted(), [
      '',
      'done',
      'of a microtask',
      'of a promise',
      'of a tick',
    ])
  })

  const closes = `
    connection.close().catch(() => {})
    say('blocked')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10_000)`
  for (const [when, inTheMidst] of [
    ['', closes],
    [
      ' and was just told so much that it does not read any more',
      `const first = connection.command('GET', 'large')
       for (let more = 0; more < 100; more += 1) connection.command('GET', 'large').catch(() => {})
       first.then(() => { ${closes} })`,
    ],
  ] as const) {
    it(`do not keep a closed connection open, however busy their thread is${when}`, async () => {
      await connection.command('SET', 'large', 'x'.repeat(5000))
      await using running = program(inTheMidst)
      await until('it is connected', isConnected, 30_000)
      await running.printed(/blocked/, 60_000)
      await until('the server sees it closed', async () => !(await isConnected()))
    })
  }

  it('may come while their worker ends itself', async () => {
    for (let round = 0; round < 10; round += 1) {
      const worker = new Worker(
        `${MASSES}
         let calls = 0
         masses(manager(connect(${JSON.stringify(server.url)})), () => {
           if ((calls += 1) === 2000) process.exit(7)
           return true
         }, 'worker:${round}:')`,
        { eval: true },
      )
      // oxlint-disable-next-line no-await-in-loop -- one worker after the other
      assert.deepEqual(await once(worker, 'exit'), [7])
    }
    assert.equal(await connection.command('PING'), 'PONG')
  })
})
