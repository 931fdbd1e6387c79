import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RedisWakeSignaler, connect } from '../../index.js'
import { onEveryBackend } from '../helpers/backends'
import { CountingProxy } from '../helpers/counting-proxy'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'
import { signal } from './signal'

onEveryBackend('wake signaler', signal)

describe('a wake signaler whose connection is cut', () => {
  for (const protocol of [3, 2] as const) {
    it(`listens again by itself, and tells of the gap (RESP${protocol})`, async () => {
      await using server = await RedisServer.start()
      await using proxy = await CountingProxy.start({ port: server.port })
      const receiver = new RedisWakeSignaler({ host: '127.0.0.1', port: proxy.port, protocol })
      const sender = new RedisWakeSignaler(server.url)
      const ids: string[] = []
      let gaps = 0
      receiver.on('gap', () => gaps++)
      await receiver.subscribe((id) => void ids.push(id))
      for (let cut = 1; cut <= 3; cut++) {
        proxy.cut('reset')
        await until('the gap', () => gaps === cut)
        await until('a signal after it', async () => {
          await sender.signal(`after ${cut}`)
          return ids.includes(`after ${cut}`)
        })
      }
      assert.equal(gaps, 3)
      await Promise.all([receiver.disconnect(), sender.disconnect()])
    })
  }

  it('leaves no connection behind when it is closed while it begins to listen (RESP2)', async () => {
    await using server = await RedisServer.start()
    const connection = connect(server.url, { protocol: 2, connectionName: 'brief' })
    await connection.command('PING')
    const signaler = new RedisWakeSignaler(connection)
    // Whether it listened for a moment or not at all, it must be over.
    const listening = signaler.subscribe(() => undefined).catch((error: unknown) => error)
    await connection.close()
    await listening
    using admin = await server.client()
    await until('nobody of that name', async () =>
      (await admin.clientList()).every((row) => row['name'] !== 'brief'),
    )
  })

  it('sends many signals in one round trip', async () => {
    await using server = await RedisServer.start()
    await using proxy = await CountingProxy.start({ port: server.port })
    const sender = new RedisWakeSignaler({ host: '127.0.0.1', port: proxy.port })
    await sender.signal('warm-up')
    const traffic = await proxy.count(() => sender.signalMany(Array.from({ length: 100 }, (_, i) => `e${i}`)))
    assert.equal(traffic.requests.length, 100)
    assert.equal(traffic.roundTrips, 1)
    await sender.disconnect()
  })
})
