/** Every name under which `RedisSagaStore` takes an option, and stores that share one connection. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Redis } from 'ioredis'
import { ConcurrencyError, ConfigError, RedisSagaStore, connect } from '../../index.js'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { type Counter, counter, indexKey, stateKey } from '../helpers/saga-states'

type Options = ConstructorParameters<typeof RedisSagaStore>[0]

describe('saga options', () => {
  let server: RedisServer
  let direct: RespClient

  before(async () => {
    server = await RedisServer.start({ unixSocket: true })
    direct = await server.client()
  })
  after(async () => {
    direct.close()
    await server.stop()
  })

  const { host, port } = { host: () => server.host, port: () => server.port }

  /** What names the server. Those with `connection` need `initialize`. */
  const targets: Record<string, () => Options> = {
    'redis: a URL': () => ({ redis: server.url }),
    'redis: options': () => ({ redis: { host: host(), port: port() } }),
    'connection: a URL': () => ({ connection: server.url }),
    'connection: options': () => ({ connection: { host: host(), port: port() } }),
    url: () => ({ url: server.url }),
    'client: options': () => ({ client: { host: host(), port: port() } }),
    'host and port': () => ({ host: host(), port: port() }),
    'port alone': () => ({ port: port() }),
    path: () => ({ path: server.socketPath as string }),
    'url, over connection': () => ({ url: server.url, connection: 'redis://127.0.0.1:1' }),
  }

  for (const [title, options] of Object.entries(targets))
    it(`are found by ${title}`, async () => {
      await direct.command('FLUSHALL')
      const store = new RedisSagaStore<Counter>(options())
      if (title.startsWith('connection')) {
        await assert.rejects(store.getById('S', 'i'), { code: 'CLOSED', message: 'Store not initialized' })
        await store.initialize()
      }
      await store.insert('S', 'c', counter('i'))
      assert.equal(await direct.command('GET', indexKey('S', 'i')), 'c')
      await store.close()
      await assert.rejects(store.getById('S', 'i'), { message: 'Store not initialized' })
    })

  for (const name of ['redis', 'client', 'connection'] as const)
    it(`${name} may be an ioredis client, which is neither used nor closed`, async () => {
      await direct.command('FLUSHALL')
      const client = new Redis(server.url, { lazyConnect: true })
      const store = new RedisSagaStore<Counter>({ [name]: client })
      await store.initialize()
      await store.insert('S', 'c', counter('i'))
      await store.close()
      assert.equal(client.status, 'wait')
      assert.equal(await client.exists(stateKey('S', 'c')), 1)
      client.disconnect()
    })

  it('one of them must be there', () => {
    for (const options of [{}, { redis: undefined }, { ttl: 5 }, { keyPrefix: 'x:' }] as Options[])
      assert.throws(() => new RedisSagaStore(options), {
        name: ConfigError.name,
        message: 'Either redis or connection must be provided',
      })
  })

  it('ttl and completedTtl are seconds, and the documented names win over them', async () => {
    for (const [options, running, completed] of [
      [{ ttl: 90 }, 90, 90],
      [{ completedTtl: 60 }, -1, 60],
      [{ ttl: 90, completedTtl: 60 }, 90, 60],
      [{ ttl: 90, defaultTtlSeconds: 30, completedTtl: 60, completedTtlSeconds: 20 }, 30, 20],
      [{ ttl: 90, defaultTtlSeconds: 0, completedTtl: 60, completedTtlSeconds: 0 }, -1, -1],
    ] as const) {
      await direct.command('FLUSHALL')
      const store = new RedisSagaStore<Counter>({ redis: server.url, ...options })
      await store.insert('S', 'running', counter('i1'))
      await store.insert('S', 'completed', counter('i2', 0, { isCompleted: true }))
      for (const [correlationId, sagaId, seconds] of [
        ['running', 'i1', running],
        ['completed', 'i2', completed],
      ] as const)
        for (const key of [stateKey('S', correlationId), indexKey('S', sagaId)]) {
          const left = Number(await direct.command('PTTL', key))
          if (seconds === -1) assert.equal(left, -1, key)
          else assert.ok(left > seconds * 1000 - 5000 && left <= seconds * 1000, `${key}: ${left} ms`)
        }
      await store.close()
    }
  })

  it('maxRetries and retryDelayMs change nothing, and 0 writes as well', async () => {
    await direct.command('FLUSHALL')
    const store = new RedisSagaStore<Counter>({ redis: server.url, maxRetries: 0, retryDelayMs: 0 })
    await store.insert('S', 'c', counter('i'))
    await store.update('S', counter('i', 1, { version: 1 }), 0)
    assert.equal((await store.getById('S', 'i'))?.n, 1)
    await assert.rejects(store.update('S', counter('i', 2, { version: 1 }), 0), ConcurrencyError)
    await store.close()
  })

  it('two stores on one connection lose none of 80 updates', async () => {
    await direct.command('FLUSHALL')
    const shared = connect(server.url)
    const stores = [1, 2].map(() => new RedisSagaStore<Counter>({ redis: shared }))
    await stores[0]!.insert('S', 'c', counter('i'))
    let conflicts = 0
    const increment = async (store: RedisSagaStore<Counter>): Promise<void> => {
      for (;;) {
        const { n, metadata } = (await store.getByCorrelationId('S', 'c')) as Counter
        const raised = counter('i', n + 1, { version: metadata.version + 1 })
        const error: unknown = await store.update('S', raised, metadata.version).catch((reason) => reason)
        if (error === undefined) return
        assert.ok(error instanceof ConcurrencyError, String(error))
        conflicts += 1
      }
    }
    await Promise.all(stores.flatMap((store) => Array.from({ length: 40 }, () => increment(store))))
    const { n, metadata } = (await stores[1]!.getById('S', 'i')) as Counter
    assert.deepEqual([n, metadata.version], [80, 80])
    assert.ok(conflicts > 0)
    await stores[0]!.close()
    assert.equal((await stores[1]!.getById('S', 'i'))?.n, 80)
    await shared.close()
  })
})
