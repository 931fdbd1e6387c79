/**
 * Errors of `RedisSagaStore` as the runtime sees them: it tests conflicts with its own class, retries what its patterns
 * call transient, and gives up on everything else.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  ArgumentError,
  ConcurrencyError,
  type Connection,
  type ConnectionOptions,
  RedisSagaStore,
  SagaError,
  connect,
} from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { ProxiedStores, isWrite } from '../helpers/proxied-stores'
import { RedisServer, serverVersion } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { type Counter, counter } from '../helpers/saga-states'
import { until } from '../helpers/wait'

/** Each as the runtime has it. */
const TRANSIENT = [
  /ECONNREFUSED/,
  /ECONNRESET/,
  /ETIMEDOUT/,
  /ENOTFOUND/,
  /timeout/,
  /connection.*refused/,
  /connection.*reset/,
  /network/,
  /socket hang up/,
  /EPIPE/,
  /EHOSTUNREACH/,
]
const isTransient = (message: string): boolean => TRANSIENT.some((pattern) => pattern.test(message))

async function reasonOf(call: Promise<unknown>): Promise<Error & { code?: string; retryable?: boolean }> {
  const reason: unknown = await call.then(
    () => assert.fail('It resolved'),
    (error: unknown) => error,
  )
  assert.ok(reason instanceof Error)
  return reason
}

/** One call of each method that reaches the server. */
const methods: Record<string, (store: RedisSagaStore<Counter>) => Promise<unknown>> = {
  initialize: (store) => store.initialize(),
  getById: (store) => store.getById('S', 'i'),
  getByCorrelationId: (store) => store.getByCorrelationId('S', 'c'),
  findById: (store) => store.findById('S', 'i'),
  findByCorrelationId: (store) => store.findByCorrelationId('S', 'c'),
  insert: (store) => store.insert('S', 'c', counter('i')),
  update: (store) => store.update('S', counter('i', 1, { version: 1 }), 0),
  save: (store) => store.save('S', counter('i')),
  delete: (store) => store.delete('S', 'i'),
  deleteById: (store) => store.deleteById('S', 'i'),
  deleteByCorrelationId: (store) => store.deleteByCorrelationId('S', 'c'),
}

async function assertTransient(
  store: RedisSagaStore<Counter>,
  codes: string[],
  names: string[] = Object.keys(methods),
): Promise<void> {
  const reasons = await Promise.all(names.map((name) => reasonOf(methods[name]!(store))))
  for (const [index, { code = '', message }] of reasons.entries()) {
    assert.ok(codes.includes(code), `${names[index]}: ${code} ${message}`)
    assert.ok(isTransient(message), `${names[index]}: ${message}`)
  }
}

async function loseMaster(replica: RespClient): Promise<void> {
  await replica.command('CONFIG', 'SET', 'replica-serve-stale-data', 'no')
  // Nobody answers at port 1.
  await replica.command('REPLICAOF', '127.0.0.1', '1')
}

/** A store of its own, whose calls end soon. */
function openStore(url: string, options: ConnectionOptions = {}): [RedisSagaStore<Counter>, Connection] {
  const connection = connect(url, { commandTimeout: 400, ...options })
  return [new RedisSagaStore<Counter>({ redis: connection }), connection]
}

/** A server that holds the saga `i`, made unable to write (or to answer) by `disable`. */
async function assertDisabled(
  disable: (admin: RespClient) => Promise<unknown>,
  message: RegExp,
  names: string[],
): Promise<void> {
  await using own = await RedisServer.start()
  const [mortal, connection] = openStore(own.url)
  await mortal.insert('S', 'c', counter('i'))
  using admin = await own.client()
  await disable(admin)
  await assertTransient(mortal, ['SERVER_NOT_READY'], names)
  for (const name of names) assert.match((await reasonOf(methods[name]!(mortal))).message, message, name)
  await assertTransient(mortal, ['SERVER_NOT_READY'], names)
  await assert.rejects(mortal.insert('S', 'new', counter('new')), message)
  await connection.close()
}

const old = serverVersion()[0] < 7

describe('saga errors', () => {
  let server: RedisServer
  let shared: Connection
  let store: RedisSagaStore<Counter>

  before(async () => {
    server = await RedisServer.start()
    shared = connect(server.url)
    store = new RedisSagaStore<Counter>({ redis: shared })
  })
  after(async () => {
    await shared.close()
    await server.stop()
  })

  describe('of conflicts, without the core', () => {
    it('have the documented and the original text, the fields, and are transient', async () => {
      await store.insert('S', 'c1', counter('i1'))
      for (const call of [
        store.update('S', counter('i1', 1, { version: 6 }), 5),
        store.save('S', counter('i1', 1, { version: 5 })),
      ]) {
        const error = await reasonOf(call)
        assert.ok(error instanceof ConcurrencyError)
        assert.ok(error.message.includes('Optimistic concurrency conflict'))
        assert.ok(error.message.includes('Concurrency conflict for saga i1: expected version 5, got 0'))
        assert.deepEqual([error.sagaId, error.expectedVersion, error.actualVersion], ['i1', 5, 0])
        assert.deepEqual([error.name, error.code], ['ConcurrencyError', 'CONCURRENCY_CONFLICT'])
        assert.ok(isTransient(error.message), error.message)
      }
    })

    it('an insert of a saga that exists is one of them, and says that it exists', async () => {
      await store.insert('S', 'c2', counter('i2'))
      for (const [correlationId, sagaId] of [
        ['c2', 'i2'],
        ['c2', 'another'],
        ['another', 'i2'],
      ] as const) {
        const error = await reasonOf(store.insert('S', correlationId, counter(sagaId)))
        assert.ok(error instanceof ConcurrencyError)
        assert.equal(error.code, 'SAGA_EXISTS')
        assert.match(error.message, /^Saga S with correlation ID \S+ already exists/)
        assert.ok(error.message.includes('Optimistic concurrency conflict'))
        assert.ok(isTransient(error.message), error.message)
      }
    })

    it('what is wrong for good is not transient', async () => {
      await shared.command('SET', 'saga-bus:saga:S:corrupt', '{')
      await shared.command('HSET', 'saga-bus:saga:S:hash', 'f', 'v')
      const reasons = await Promise.all([
        reasonOf(store.update('S', counter('nobody', 1, { version: 1 }), 0)),
        reasonOf(store.getByCorrelationId('S', 'corrupt')),
        reasonOf(store.getByCorrelationId('S', 'hash')),
        reasonOf(store.insert('S', 'c', null as never)),
      ])
      assert.deepEqual(
        reasons.map(({ code }) => code),
        ['SAGA_NOT_FOUND', 'CORRUPT_ENTRY', 'WRONG_TYPE', 'INVALID_ARGUMENT'],
      )
      assert.ok(reasons[0] instanceof SagaError && reasons[3] instanceof ArgumentError)
      for (const { message } of reasons) assert.ok(!isTransient(message), message)
    })
  })

  describe('with the option ConcurrencyError', () => {
    class Conflict extends Error {
      override readonly name = 'ConcurrencyError'
      constructor(
        readonly sagaId: string,
        readonly expectedVersion: number,
        readonly actualVersion: number,
      ) {
        super('a text of its own')
      }
    }

    it('are of that class, and count as ours', async () => {
      const own = new RedisSagaStore<Counter>({ redis: shared, ConcurrencyError: Conflict })
      await own.insert('S', 'c3', counter('i3'))
      const conflict = await reasonOf(own.update('S', counter('i3', 1, { version: 6 }), 5))
      assert.ok(conflict instanceof Conflict && conflict instanceof ConcurrencyError)
      assert.deepEqual([conflict.sagaId, conflict.expectedVersion, conflict.actualVersion], ['i3', 5, 0])
      assert.match(conflict.message, /^Optimistic concurrency conflict: Concurrency conflict for saga i3/)
      const exists = await reasonOf(own.insert('S', 'c3', counter('i3')))
      assert.ok(exists instanceof Conflict && exists instanceof ConcurrencyError)
      assert.match(exists.message, /already exists/)
    })

    it('whatever its constructor makes of the arguments', async () => {
      class Silent extends Error {
        override readonly name = 'ConcurrencyError'
        constructor() {
          super('nothing')
        }
      }
      const own = new RedisSagaStore<Counter>({ redis: shared, ConcurrencyError: Silent })
      await own.insert('S', 'c4', counter('i4'))
      const conflict = await reasonOf(own.update('S', counter('i4', 1, { version: 6 }), 5))
      assert.ok(conflict instanceof Silent && conflict instanceof ConcurrencyError)
      assert.equal(conflict.sagaId, 'i4')
      assert.match(conflict.message, /Optimistic concurrency conflict/)
    })

    it('also where it says nothing about its name', async () => {
      class Nameless extends Error {}
      const own = new RedisSagaStore<Counter>({ redis: shared, ConcurrencyError: Nameless })
      await own.insert('S', 'c5', counter('i5'))
      const conflict = await reasonOf(own.update('S', counter('i5', 1, { version: 6 }), 5))
      assert.ok(conflict instanceof Nameless && conflict instanceof ConcurrencyError)
    })

    it('is given up where it cannot be written to, but not the conflict', async () => {
      class Fixed extends Error {
        get sagaId(): string {
          return 'x'
        }
      }
      class Frozen extends Error {
        constructor() {
          super('frozen')
          Object.freeze(this)
        }
      }
      class Unmakeable extends Error {
        constructor() {
          super('never')
          throw new TypeError('cannot be made')
        }
      }
      await new RedisSagaStore<Counter>({ redis: shared }).insert('S', 'c6', counter('i6'))
      for (const Class of [Fixed, Frozen, Unmakeable]) {
        const own = new RedisSagaStore<Counter>({ redis: shared, ConcurrencyError: Class as never })
        const conflict = await reasonOf(own.update('S', counter('i6', 1, { version: 6 }), 5))
        assert.ok(conflict instanceof ConcurrencyError, Class.name)
        assert.ok(isTransient(conflict.message), conflict.message)
      }
    })

    it('must be a class', () => {
      for (const value of ['ConcurrencyError', {}, 1, null])
        assert.throws(() => new RedisSagaStore({ redis: shared, ConcurrencyError: value as never }), {
          code: 'INVALID_ARGUMENT',
          message: /^ConcurrencyError must be a class/,
        })
    })
  })

  describe('of connections are transient', () => {
    it('when the server is stopped', async () => {
      const own = await RedisServer.start()
      const [mortal, connection] = openStore(own.url)
      await mortal.insert('S', 'c', counter('i'))
      await own.kill()
      await assertTransient(mortal, ['REDIS_UNAVAILABLE', 'TIMEOUT', 'OUTCOME_UNKNOWN'])
      await assertTransient(mortal, ['REDIS_UNAVAILABLE'])
      await connection.close()
      await own.stop()
    })

    it('when it never ran', async () => {
      const own = await RedisServer.start()
      await own.stop()
      const [mortal, connection] = openStore(own.url)
      await assertTransient(mortal, ['REDIS_UNAVAILABLE'])
      await connection.close()
    })

    it('when its host has no address', async () => {
      const [mortal, connection] = openStore('redis://nowhere.invalid:6379')
      await assertTransient(mortal, ['REDIS_UNAVAILABLE'])
      await connection.close()
    })

    it('when nothing passes any more', async () => {
      await using proxy = await CountingProxy.start(server)
      const [mortal, connection] = openStore(proxy.url)
      await mortal.initialize()
      proxy.blackhole()
      await assertTransient(mortal, ['TIMEOUT', 'OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'])
      await connection.close()
    })

    it('when the answer is lost, and there is no way back', async () => {
      for (const name of ['insert', 'update', 'save']) {
        const proxied = await (await ProxiedStores.open(server, { commandTimeout: 400 })).warm()
        await proxied.proxy.refuse()
        proxied.proxy.cutOn('before-reply', isWrite, { mode: 'reset' })
        await assertTransient(proxied.saga, ['OUTCOME_UNKNOWN'], [name])
        await proxied.close()
      }
    })

    it('when too many calls wait', async () => {
      await using proxy = await CountingProxy.start(server)
      const [mortal, connection] = openStore(proxy.url, { maxQueuedCommands: 0 })
      await until('it is up', () => connection.status === 'ready')
      await proxy.refuse()
      proxy.cut('reset')
      await until('it is lost', () => connection.status === 'reconnecting')
      await assertTransient(mortal, ['QUEUE_FULL'])
      await connection.close()
    })

    it('when the server is a replica', async () => {
      const master = await RedisServer.start({ args: ['--repl-diskless-sync-delay', '0'] })
      const writer = new RedisSagaStore<Counter>({ redis: master.url })
      await writer.insert('S', 'c', counter('i'))
      const replica = await RedisServer.start({ args: ['--replicaof', master.host, String(master.port)] })
      const [mortal, connection] = openStore(replica.url)
      await until('it has a copy', () => mortal.getById('S', 'i').then(Boolean, () => false), 15_000)
      await assertTransient(mortal, ['SERVER_NOT_READY'], ['update', 'save', 'delete'])
      for (const name of ['update', 'save', 'delete'])
        assert.match((await reasonOf(methods[name]!(mortal))).message, /READONLY/)
      await assert.rejects(mortal.insert('S', 'new', counter('new')), /READONLY/)
      assert.equal((await mortal.getById('S', 'i'))?.n, 0)
      await Promise.all([connection.close(), writer.close()])
      await Promise.all([replica.stop(), master.stop()])
    })

    it('when the replica has lost its master', async () => {
      // Before Redis 7, PING is answered even then.
      const names = Object.keys(methods).filter((name) => !old || name !== 'initialize')
      await assertDisabled(loseMaster, /MASTERDOWN/, names)
    })

    it('when its memory is full', () =>
      assertDisabled((admin) => admin.command('CONFIG', 'SET', 'maxmemory', '1'), /OOM/, ['update', 'save']))

    it(
      'when too few replicas are there',
      { skip: old && 'before Redis 7, scripts do not look for replicas' },
      () =>
        assertDisabled(
          (admin) => admin.command('CONFIG', 'SET', 'min-replicas-to-write', '1'),
          /NOREPLICAS/,
          ['update', 'save'],
        ),
    )
  })
})
