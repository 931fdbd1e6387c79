/** Worker threads come and go, with calls in flight. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'

import { type Connection, connect } from '../../index.js'
import { Child } from '../helpers/child'
import { RedisServer } from '../helpers/redis-server'

const repository = join(__dirname, '../..')

/** Keeps `inFlight` calls going for ever, and says when they have started. */
const BUSY = `
  const { workerData, parentPort } = require('node:worker_threads')
  const { connect, RedisLockManager } = require(workerData.repository)
  const connection = connect(workerData.url)
  const locks = new RedisLockManager(connection, { keyPrefix: 'worker:' })
  const call = async (i) => {
    for (;;) {
      if (i % 4 === 0) await locks.tryAcquire('k' + i, 1000)
      else await connection.command('GET', 'k' + i)
    }
  }
  for (let i = 0; i < workerData.inFlight; i++) call(i)
  connection.command('PING').then(() => parentPort.postMessage('busy'))`

function start(url: string): Worker {
  return new Worker(BUSY, { eval: true, workerData: { repository, url, inFlight: 100 } })
}

describe('a worker', () => {
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

  it('can be terminated with 100 calls in flight, again and again, and leaves no connection behind', async () => {
    await connection.command('SET', 'k1', 'v')
    for (let round = 0; round < 25; round++) {
      // Half of them share the main thread's connection, half have one of their own.
      const worker = start(round % 2 === 0 ? server.url : `${server.url}/1`)
      await once(worker, 'message')
      await worker.terminate()
      assert.equal(await connection.command('GET', 'k1'), 'v')
    }
    const own = await server.client()
    for (;;) {
      const clients = await own.clientList()
      if (clients.every(({ db }) => db === '0')) break
    }
    own.close()
  })

  it('can be terminated while its calls wait for a server', async () => {
    for (let round = 0; round < 10; round++) {
      const worker = new Worker(
        `const { workerData, parentPort } = require('node:worker_threads')
         const connection = require(workerData.repository).connect('redis://127.0.0.1:1')
         for (let i = 0; i < 100; i++) connection.command('GET', 'k').catch(() => {})
         parentPort.postMessage('waiting')`,
        { eval: true, workerData: { repository } },
      )
      await once(worker, 'message')
      await worker.terminate()
    }
    assert.equal(await connection.command('PING'), 'PONG')
  })

  it('that has nothing more to do ends', async () => {
    const worker = new Worker(
      `const { connect } = require(require('node:worker_threads').workerData.repository)
       connect('memory://').command('PING')`,
      { eval: true, workerData: { repository } },
    )
    const [code] = (await once(worker, 'exit')) as [number]
    assert.equal(code, 0)
  })

  it('works beside others at the same time', async () => {
    const workers = Array.from({ length: 8 }, () => start(server.url))
    await Promise.all(workers.map((worker) => once(worker, 'message')))
    assert.equal(await connection.command('PING'), 'PONG')
    await Promise.all(workers.map((worker) => worker.terminate()))
    assert.equal(await connection.command('PING'), 'PONG')
  })

  it('may come and go where nobody else uses ferroflow', async () => {
    const program = Child.start(`
      const { Worker } = require('node:worker_threads')
      const { once } = require('node:events')
      const work = "const { connect } = require('ferroflow'); connect('memory://').command('SET', 'k', 'v')"
      const all = async () => {
        for (let round = 0; round < 6; round += 1) {
          await once(new Worker(work, { eval: true }), 'exit')
          const worker = new Worker(work + ".then(() => { for (;;); })", { eval: true })
          await once(worker, 'online')
          await worker.terminate()
        }
        console.log('all ended')
      }
      all()`)
    const { code, signal, stdout } = await program.ended()
    assert.deepEqual({ code, signal, stdout }, { code: 0, signal: null, stdout: 'all ended\n' })
  })
})
