import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
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

  for (const protocol of [3, 2] as const) {
    it(`listens to all of 1,000 channels again after two cuts, each with one gap (RESP${protocol})`, async () => {
      await using server = await RedisServer.start()
      await using proxy = await CountingProxy.start({ port: server.port })
      const connection = connect(proxy.url, { protocol, redialDelay: 50 })
      const channels = Array.from({ length: 1000 }, (_, n) => `c${n}`)
      const heard = new Map<string, string[]>()
      const gaps = new Map(channels.map((channel) => [channel, 0]))
      await Promise.all(
        channels.map(async (channel) => {
          const signaler = new RedisWakeSignaler(connection, { channel })
          signaler.on('gap', () => gaps.set(channel, (gaps.get(channel) ?? 0) + 1))
          await signaler.subscribe((id) => void heard.set(channel, [...(heard.get(channel) ?? []), id]))
        }),
      )
      const everybodyHad = (count: number): boolean => [...gaps.values()].every((had) => had === count)
      proxy.cut('reset')
      // So far apart that everybody is back, and so close that nothing has come to rest.
      await delay(500)
      await until('everybody was told of the first gap', () => everybodyHad(1))
      proxy.cut('end')
      await until('everybody was told of the second gap', () => everybodyHad(2))
      using direct = await server.client()
      await until('all are listened to', async () =>
        (await direct.command<(string | number)[]>('PUBSUB', 'NUMSUB', ...channels)).every(
          (item, index) => index % 2 === 0 || item === 1,
        ),
      )
      const message = JSON.stringify({ executionId: 'e', timestamp: 1 })
      await Promise.all(channels.map((channel) => direct.command('PUBLISH', channel, message)))
      await until('everybody has heard', () => heard.size === channels.length)
      // A call behind the messages: whatever was to come is here.
      await connection.command('PING')
      assert.deepEqual(
        channels.filter((channel) => heard.get(channel)?.length !== 1 || gaps.get(channel) !== 2),
        [],
      )
      await connection.close()
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
