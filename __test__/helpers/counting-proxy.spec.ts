import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { CountingProxy } from './counting-proxy'
import { RedisServer } from './redis-server'
import { RespClient, encodeCommand } from './resp-client'

describe('CountingProxy', () => {
  let server: RedisServer
  let proxy: CountingProxy
  let client: RespClient
  let direct: RespClient

  before(async () => {
    server = await RedisServer.start({ unixSocket: true })
    direct = await server.client()
  })
  after(async () => {
    direct.close()
    await server.stop()
  })
  beforeEach(async () => {
    await direct.command('FLUSHALL')
    proxy = await CountingProxy.start(server)
    client = await RespClient.connect({ port: proxy.port })
  })
  afterEach(async () => {
    client.close()
    await proxy.close()
    assert.deepEqual(proxy.protocolErrors, [])
  })

  async function reconnect(): Promise<RespClient> {
    client.close()
    client = await RespClient.connect({ port: proxy.port })
    return client
  }

  /** How often the server ran a command since its statistics were reset. */
  async function calls(name: string): Promise<number> {
    return (await direct.commandStats())[name]?.calls ?? 0
  }

  describe('counts', () => {
    it('requests, replies and round trips', async () => {
      const one = await proxy.count(() => client.command('SET', 'k', 'v'))
      assert.deepEqual([one.requests.length, one.replies, one.roundTrips, one.pushes], [1, 1, 1, 0])
      assert.deepEqual([one.requests[0]?.name, one.requests[0]?.texts], ['SET', ['k', 'v']])
      assert.deepEqual([one.requestBytes, one.replyBytes], [27, 5])

      const waiting = await proxy.count(async () => {
        await client.command('get', 'k')
        await client.command('GET', 'k')
      })
      assert.equal(waiting.roundTrips, 2)
      assert.deepEqual(proxy.commands, ['SET', 'GET', 'GET'])
    })

    it('a pipeline as one round trip', async () => {
      const traffic = await proxy.count(() =>
        Promise.all(Array.from({ length: 2000 }, (_, i) => client.command('SET', `k${i}`, 'x'.repeat(100)))),
      )
      assert.deepEqual([traffic.requests.length, traffic.replies, traffic.roundTrips], [2000, 2000, 1])
    })

    it('a request sent while others wait as part of their round trip, after a reply as a new one', async () => {
      proxy.delayReplies(200)
      const traffic = await proxy.count(async () => {
        const first = client.command('PING')
        await delay(10)
        const second = client.command('PING')
        await first
        const third = client.command('PING')
        await Promise.all([second, third])
      })
      assert.deepEqual(
        traffic.requests.map(({ roundTrip }) => roundTrip),
        [1, 1, 2],
      )
    })

    it('connections one by one', async () => {
      using other = await RespClient.connect({ port: proxy.port })
      const traffic = await proxy.count(() => Promise.all([client.command('PING'), other.command('PING')]))
      assert.deepEqual(traffic.requests.map(({ connection }) => connection).toSorted(), [1, 2])
      assert.equal(traffic.roundTrips, 2)
    })

    it('big values, byte for byte', async () => {
      const value = Buffer.alloc(8 * 1024 * 1024, Buffer.from('\r\n$3\r\nab\0'))
      await client.command('SET', 'big', value)
      const reply = await client.rawCommand('GET', 'big')
      assert.ok(reply.type === 'bulk-string' && reply.bytes.equals(value))
      assert.equal(proxy.traffic.requests[0]?.bytes, encodeCommand(['SET', 'big', value]).length)
    })

    for (const protocol of [2, 3]) {
      it(`pub/sub in RESP${protocol}`, async () => {
        await client.command('HELLO', protocol)
        proxy.reset()
        const messages: unknown[] = []
        client.onPush((value) => messages.push(value))
        // The own client waits for one reply a command, so the confirmations are awaited at the proxy.
        void client.rawCommand('SUBSCRIBE', 'a', 'b').catch(() => {})
        await until(() => proxy.traffic.replies === 1)
        await direct.command('PUBLISH', 'a', 'x')
        await until(() => proxy.traffic.pushes === 1)
        void client.rawCommand('UNSUBSCRIBE').catch(() => {})
        void client.rawCommand('PING').catch(() => {})
        await until(() => proxy.traffic.replies === 3)
        assert.deepEqual([proxy.traffic.requests.length, proxy.traffic.pushes], [3, 1])
        assert.ok(proxy.traffic.requests.every(({ answered }) => answered))
      })
    }

    it('invalidations as pushes', async () => {
      await client.command('HELLO', 3)
      await client.command('CLIENT', 'TRACKING', 'ON')
      await client.command('GET', 'k')
      await direct.command('SET', 'k', 1)
      await until(() => proxy.traffic.pushes === 1)
      assert.equal(proxy.traffic.replies, 3)
    })

    it('a real client through a Unix socket', async () => {
      await using viaSocket = await CountingProxy.start({ path: server.socketPath as string })
      const redis = new Redis(viaSocket.port, { lazyConnect: true, disableClientInfo: true })
      await redis.connect()
      const traffic = await viaSocket.count(() =>
        redis.multi().set('k', 'v').hset('h', 'f', 1).hgetall('h').exec(),
      )
      assert.deepEqual(
        traffic.requests.map(({ name }) => name),
        ['MULTI', 'SET', 'HSET', 'HGETALL', 'EXEC'],
      )
      redis.disconnect()
    })
  })

  describe('breaks', () => {
    it('all connections', async () => {
      const pending = client.command('BLPOP', 'never', 0)
      await proxy.nextRequest(({ name }) => name === 'BLPOP')
      proxy.cut()
      await assert.rejects(pending, /closed the connection/)
      assert.equal(await (await reconnect()).command('PING'), 'PONG')
    })

    it('with a reset', async () => {
      const pending = client.command('BLPOP', 'never', 0)
      await proxy.nextRequest(({ name }) => name === 'BLPOP')
      proxy.cut('reset')
      await assert.rejects(pending, { code: 'ECONNRESET' })
    })

    it('before the server gets a request', async () => {
      await direct.resetCommandStats()
      const fault = proxy.cutOn('before-forward', ({ name }) => name === 'INCR')
      const results = await Promise.allSettled([client.command('SET', 'a', 1), client.command('INCR', 'n')])
      assert.equal(results[1].status, 'rejected')
      await fault.done
      await delay(20)
      assert.equal(await calls('incr'), 0)
      assert.equal(await calls('set'), 1, 'what came before was forwarded')
      assert.equal(await (await reconnect()).command('INCR', 'n'), 1, 'the fault is used up')
    })

    it('after the server got a request', async () => {
      await direct.resetCommandStats()
      proxy.cutOn('after-forward', ({ name, texts }) => name === 'INCR' && texts[0] === 'n')
      assert.equal(await client.command('INCR', 'm'), 1)
      await assert.rejects(client.command('INCR', 'n'), /closed/)
      await until(async () => (await calls('incr')) === 2)
    })

    it('before the client gets a reply', async () => {
      const fault = proxy.cutOn('before-reply', ({ name }) => name === 'INCR', { times: 2, mode: 'reset' })
      await assert.rejects(client.command('INCR', 'n'), { code: 'ECONNRESET' })
      assert.equal(await direct.command('GET', 'n'), '1', 'it was executed')
      await assert.rejects((await reconnect()).command('INCR', 'n'), { code: 'ECONNRESET' })
      assert.equal(await (await reconnect()).command('INCR', 'n'), 3)
      assert.deepEqual(
        fault.struck.map(({ connection }) => connection),
        [1, 2],
      )
      await fault.ended
    })

    it('not after the fault was cancelled', async () => {
      proxy.cutOn('before-forward', () => true).cancel()
      assert.equal(await client.command('PING'), 'PONG')
    })

    it('after a number of request bytes', async () => {
      await direct.resetCommandStats()
      const ping = '*1\r\n$4\r\nPING\r\n'.length
      const fault = proxy.cutAfterRequestBytes(ping * 2 + 3)
      const results = await Promise.allSettled([1, 2, 3, 4].map(() => client.command('PING')))
      await fault.done
      assert.equal(results[3]?.status, 'rejected')
      await until(async () => (await calls('ping')) === 2)
      assert.equal(proxy.traffic.requestBytes, ping * 2 + 3)
    })

    it('after a number of reply bytes', async () => {
      await client.command('SET', 'k', 'x'.repeat(1000))
      proxy.cutAfterReplyBytes('+PONG\r\n'.length + 100)
      assert.equal(await client.command('PING'), 'PONG')
      await assert.rejects(client.command('GET', 'k'), /closed/)
      assert.equal(proxy.traffic.replyBytes, '+OK\r\n+PONG\r\n'.length + 100)
    })

    it('the time: replies come later and in order', async () => {
      proxy.delayReplies(80)
      const begin = performance.now()
      const order: string[] = []
      const first = client.command('ECHO', 'a').then((text) => order.push(text as string))
      await delay(10)
      proxy.delayReplies(0)
      await Promise.all([first, client.command('ECHO', 'b').then((text) => order.push(text as string))])
      assert.deepEqual(order, ['a', 'b'])
      assert.ok(performance.now() - begin >= 79)
    })

    it('silently: a black hole accepts and never answers', async () => {
      proxy.blackhole()
      const lost = client.command('SET', 'k', 'v')
      const fresh = await RespClient.connect({ port: proxy.port })
      const unanswered = fresh.command('PING')
      const both = Promise.allSettled([lost, unanswered])
      assert.equal(await Promise.race([both, delay(100, 'nothing')]), 'nothing')
      await proxy.resume()
      assert.deepEqual(
        (await both).map(({ status }) => status),
        ['rejected', 'rejected'],
      )
      assert.equal(await direct.command('EXISTS', 'k'), 0)
      assert.equal(await (await reconnect()).command('PING'), 'PONG')
    })

    it('new connections only', async () => {
      await proxy.refuse()
      await assert.rejects(RespClient.connect({ port: proxy.port }), { code: 'ECONNREFUSED' })
      assert.equal(await client.command('PING'), 'PONG')
      await proxy.resume()
      assert.equal(await (await reconnect()).command('PING'), 'PONG')
    })

    it('as the server does', async () => {
      const own = await RedisServer.start()
      await using between = await CountingProxy.start(own)
      using victim = await RespClient.connect({ port: between.port })
      const pending = victim.command('BLPOP', 'never', 0)
      await Promise.all([assert.rejects(pending, /closed|ECONNRESET/), own.kill()])
      using unlucky = await RespClient.connect({ port: between.port })
      await assert.rejects(unlucky.command('PING'), /closed|ECONNRESET|EPIPE/)
      await own.stop()
    })
  })
})

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 5000
  // oxlint-disable-next-line no-await-in-loop -- polling
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, 'did not happen within 5 s')
    // oxlint-disable-next-line no-await-in-loop -- polling
    await delay(2)
  }
}
