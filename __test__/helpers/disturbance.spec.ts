/** What the proxy can do to a message beyond cutting: the tests that rely on it need it to be true. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { CountingProxy } from './counting-proxy'
import { anyDisturbance } from './fault'
import { random } from './random'
import { RedisServer } from './redis-server'
import { RespClient } from './resp-client'
import { until } from './wait'

const isLate = ({ texts }: { texts: string[] }): boolean => texts[1] === 'late'
const filter = ({ name }: { name: string }): boolean => name === 'INCR'

function draw(): string[] {
  const dice = random(7)
  return Array.from({ length: 200 }, () => JSON.stringify(anyDisturbance(dice, filter)))
}

describe('a disturbance', () => {
  let server: RedisServer
  let direct: RespClient
  let proxy: CountingProxy
  let client: RespClient

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
    proxy = await CountingProxy.start(server)
    client = await RespClient.connect({ port: proxy.port })
  })
  afterEach(async () => {
    client.close()
    await proxy.close()
    assert.deepEqual(proxy.protocolErrors, [])
  })

  it('cuts inside a request, which is not executed', async () => {
    for (const part of [0, 0.001, 0.5, 0.999]) {
      const fault = proxy.disturb({ point: 'request', filter, part, effect: 'reset' })
      await assert.rejects(client.command('INCR', 'n'))
      assert.equal(fault.struck.length, 1)
      client = await RespClient.connect({ port: proxy.port })
    }
    assert.equal(await direct.command('GET', 'n'), null)
  })

  it('cuts inside a reply, whose request was executed', async () => {
    for (const [n, part] of [0, 0.001, 0.5, 0.999].entries()) {
      proxy.disturb({ point: 'reply', filter, part, effect: 'end' })
      await assert.rejects(client.command('INCR', 'n'))
      assert.equal(await direct.command('GET', 'n'), String(n + 1))
      client = await RespClient.connect({ port: proxy.port })
    }
  })

  it('delays a message and what follows it, in order, in either direction', async () => {
    for (const point of ['request', 'reply'] as const) {
      proxy.disturb({ point, filter, part: 1, effect: 'delay', delayMs: 60 })
      const begin = performance.now()
      const order: string[] = []
      const calls = ['GET', 'INCR', 'GET', 'PING'].map((name) =>
        client.command(name, ...(name === 'PING' ? [] : ['n'])).then(() => order.push(name)),
      )
      await calls[0]
      assert.deepEqual(order, ['GET'])
      await Promise.all(calls)
      assert.deepEqual(order, ['GET', 'INCR', 'GET', 'PING'])
      assert.ok(performance.now() - begin >= 55)
    }
    assert.equal(await direct.command('GET', 'n'), '2')
  })

  it('makes one connection a black hole, and no other', async () => {
    const fault = proxy.disturb({ point: 'reply', filter, part: 0, effect: 'black-hole' })
    const lost = assert.rejects(client.command('INCR', 'n'))
    await fault.done
    const behind = assert.rejects(client.command('PING'))
    const other = await RespClient.connect({ port: proxy.port })
    assert.equal(await other.command('INCR', 'n'), 2)
    assert.equal(proxy.openConnections, 2)
    other.close()
    await proxy.resume()
    await Promise.all([lost, behind])
  })

  it('delivers a request after those of the next connection', async () => {
    const fault = proxy.disturb({ point: 'request', filter: isLate, part: 1, effect: 'late' })
    await assert.rejects(client.command('SET', 'k', 'late'))
    client = await RespClient.connect({ port: proxy.port })
    await client.command('SET', 'k', 'soon')
    assert.equal(await direct.command('GET', 'k'), 'soon')
    await proxy.deliverLate(fault)
    assert.equal(await direct.command('GET', 'k'), 'late')
  })

  it('delivers a request twice', async () => {
    const fault = proxy.disturb({ point: 'request', filter, part: 1, effect: 'twice' })
    // The reply may come, or be lost with the connection.
    await Promise.allSettled([client.command('INCR', 'n')])
    await until('it was executed', async () => (await direct.command('GET', 'n')) === '1')
    await proxy.deliverLate(fault)
    assert.equal(await direct.command('GET', 'n'), '2')
    await proxy.deliverLate(fault)
    assert.equal(await direct.command('GET', 'n'), '2')
  })

  it('tells of the very moment', () => {
    const moments: string[] = []
    const onStrike = (): void => void moments.push('struck')
    proxy.disturb({ point: 'reply', filter, part: 1, effect: 'end', onStrike })
    return client.command('INCR', 'n').then(() => assert.deepEqual(moments, ['struck']))
  })

  it('comes again with the same seed, and every kind of it comes', () => {
    assert.deepEqual(draw(), draw())
    const effects = new Set(draw().map((text) => JSON.parse(text).effect))
    assert.deepEqual([...effects].toSorted(), ['black-hole', 'delay', 'end', 'late', 'reset', 'twice'])
  })
})
