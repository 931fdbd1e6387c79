/** Every kind of target reaches the same place as the client that it came from, which is left alone. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis-5'
import { createClient } from 'redis'
import {
  type Lock,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  type Target,
  connect,
} from '../../index.js'
import { Certificates } from '../helpers/certificates'
import { RedisServer, findFreePort } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { type Counter, counter } from '../helpers/saga-states'
import { timed, until } from '../helpers/wait'

const PASSWORD = 'p@ss/w:rd?%'

describe('targets', () => {
  let certificates: Certificates
  let server: RedisServer
  let tlsPort: number
  let admin: RespClient

  before(async () => {
    certificates = new Certificates()
    tlsPort = await findFreePort()
    server = await RedisServer.start({
      password: 'admin',
      unixSocket: true,
      users: [`alice on >${PASSWORD} ~* &* +@all`],
      args: certificates.serverArguments(tlsPort),
    })
    admin = await server.client()
  })
  after(async () => {
    admin.close()
    await server.stop()
    certificates.remove()
  })
  beforeEach(() => admin.command('FLUSHALL'))

  /** How many connections of that name the server has. */
  async function connections(name: string): Promise<number> {
    return (await admin.clientList()).filter((row) => row['name'] === name).length
  }

  /** Uses all three stores, and looks where their keys went. */
  async function assertReaches(target: Target, { db = 0, prefix = '' } = {}): Promise<void> {
    const workflow = new RedisWorkflowStateService(target)
    const lock = new RedisLockManager(target)
    const saga = new RedisSagaStore<Counter>({ redis: target })
    const runId = await workflow.createRun('w', 1)
    assert.equal((await workflow.getRun(runId))?.input, 1)
    // As in the original, a node-redis client gets lock objects.
    const acquired: string | Lock | null = await lock.acquire('job')
    const token = typeof acquired === 'string' ? acquired : (acquired as Lock | null)?.token
    await saga.insert('S', 'c', counter('i'))
    await admin.command('SELECT', db)
    const keys = [`workflows:run:${runId}`, 'fm:lock:job', 'saga-bus:saga:S:c', 'saga-bus:saga:S:idx:id:i']
    // Beside these there are keys of our own, which no contract names.
    const named = (await admin.keys()).filter((key) => !key.includes('ferroflow:'))
    assert.deepEqual(named, keys.map((key) => prefix + key).toSorted())
    assert.equal(await admin.command('GET', `${prefix}fm:lock:job`), token)
    await Promise.all([workflow.close(), lock.close(), saga.close()])
  }

  describe('addresses', () => {
    const encoded = encodeURIComponent(PASSWORD)
    const targets: Record<string, () => [target: Target, place?: { db?: number; prefix?: string }]> = {
      'a URL': () => [`redis://alice:${encoded}@127.0.0.1:${server.port}/3`, { db: 3 }],
      'a URL with a query': () => [
        `redis://127.0.0.1:${server.port}?username=alice&password=${encoded}&db=2&keyPrefix=app:`,
        { db: 2, prefix: 'app:' },
      ],
      'a URL without a user': () => [`redis://:admin@localhost:${server.port}`],
      'host and port in a string': () => [`127.0.0.1:${server.port}?password=admin`],
      options: () => [
        {
          host: '127.0.0.1',
          port: server.port,
          username: 'alice',
          password: PASSWORD,
          db: 4,
          keyPrefix: 'o:',
        },
        { db: 4, prefix: 'o:' },
      ],
      'the path of a socket': () => [
        { path: server.socketPath as string, password: 'admin', db: 1 },
        { db: 1 },
      ],
      'unix:': () => [`unix:${server.socketPath}?password=admin`],
      'unix://': () => [`unix://${server.socketPath}?password=admin`],
      'a bare path': () => [`${server.socketPath}?password=admin`],
      'rediss: with a CA': () => [
        connect(`rediss://:admin@localhost:${tlsPort}`, { tls: { ca: certificates.ca } }),
      ],
      'TLS to an address, with a CA in a Buffer': () => [
        { port: tlsPort, password: 'admin', tls: { ca: [Buffer.from(certificates.ca)] } },
      ],
      'TLS under another name': () => [
        { port: tlsPort, password: 'admin', tls: { ca: certificates.ca, servername: 'localhost' } },
      ],
      'TLS without verification': () => [
        { port: tlsPort, password: 'admin', tls: { rejectUnauthorized: false } },
      ],
    }
    for (const [what, make] of Object.entries(targets))
      it(what, async () => {
        const [target, place] = make()
        await assertReaches(target, place)
        if (typeof target === 'object' && 'command' in target) await target.close()
      })
  })

  describe('clients', () => {
    for (const [what, Client] of [
      ['ioredis 6', Redis],
      ['ioredis 5', Redis5 as unknown as typeof Redis],
    ] as const)
      describe(what, () => {
        for (const lazyConnect of [true, false])
          it(lazyConnect ? 'that was never connected' : 'that is connected', async () => {
            const client = new Client({
              port: server.port,
              username: 'alice',
              password: PASSWORD,
              db: 5,
              keyPrefix: 'k:',
              lazyConnect,
            })
            if (!lazyConnect) await client.ping()
            const { status } = client
            await assertReaches(client, { db: 5, prefix: 'k:' })
            assert.equal(client.status, status)
            if (!lazyConnect) assert.match(String(await client.get('saga-bus:saga:S:c')), /"metadata"/)
            client.disconnect()
          })

        it('by URL, by socket, and with TLS', async () => {
          const clients = [
            new Client(`redis://alice:${encodeURIComponent(PASSWORD)}@127.0.0.1:${server.port}/0`, {
              lazyConnect: true,
            }),
            new Client(server.socketPath as string, { password: 'admin', lazyConnect: true }),
            new Client({ port: tlsPort, password: 'admin', tls: { ca: certificates.ca }, lazyConnect: true }),
          ]
          for (const client of clients) {
            await assertReaches(client)
            assert.equal(client.status, 'wait')
            await admin.command('FLUSHALL')
          }
        })
      })

    it('node-redis, connected or not', async () => {
      const client = createClient({
        socket: { host: '127.0.0.1', port: server.port },
        username: 'alice',
        password: PASSWORD,
        database: 6,
      })
      await assertReaches(client, { db: 6 })
      assert.equal(client.isOpen, false)
      await admin.command('FLUSHALL')
      await client.connect()
      await assertReaches(client, { db: 6 })
      assert.equal(client.isOpen, true)
      assert.match(String(await client.get('saga-bus:saga:S:c')), /"metadata"/)
      await client.close()
    })

    it('node-redis by URL, by socket, and with TLS', async () => {
      for (const [client, place] of [
        [
          createClient({ url: `redis://alice:${encodeURIComponent(PASSWORD)}@127.0.0.1:${server.port}/7` }),
          { db: 7 },
        ],
        [createClient({ socket: { path: server.socketPath as string, tls: false }, password: 'admin' })],
        [
          createClient({
            socket: { host: 'localhost', port: tlsPort, tls: true, ca: certificates.ca },
            password: 'admin',
          }),
        ],
      ] as const) {
        await assertReaches(client as Target, place)
        assert.equal(client.isOpen, false)
        await admin.command('FLUSHALL')
      }
    })
  })

  describe('TLS', () => {
    it('does not talk to a server that it cannot verify', async () => {
      for (const tls of [{}, true, { ca: certificates.ca, servername: 'elsewhere' }]) {
        const connection = connect({ port: tlsPort, password: 'admin', tls, commandTimeout: 1000 })
        const { ms, outcome } = await timed(() => connection.command('PING'))
        assert.ok(outcome.status === 'rejected' && ms < 1250, `${ms} ms`)
        assert.match(outcome.reason.message, /certificate/i)
        await connection.close()
      }
    })

    it('shows a certificate of its own where one is asked for', async () => {
      await admin.command('CONFIG', 'SET', 'tls-auth-clients', 'yes')
      try {
        const { ca, clientCert: cert, clientKey: key } = certificates
        await assertReaches({ port: tlsPort, password: 'admin', tls: { ca, cert, key } })
        const bare = connect({ port: tlsPort, password: 'admin', tls: { ca }, commandTimeout: 1000 })
        await assert.rejects(bare.command('PING'))
        await bare.close()
      } finally {
        await admin.command('CONFIG', 'SET', 'tls-auth-clients', 'no')
      }
    })
  })

  describe('equal configurations', () => {
    it('share one server connection; closing one leaves the other usable', async () => {
      const name = `n${randomUUID()}`
      const options = { port: server.port, password: 'admin', connectionName: name }
      const one = connect(options)
      const two = connect({ ...options, db: undefined, host: '127.0.0.1' })
      const three = new RedisWorkflowStateService(options)
      const other = connect({ ...options, db: 1 })
      assert.notEqual(one, two)
      await Promise.all([one, two, other].map((connection) => connection.command('PING')))
      await three.init()
      assert.equal(await connections(name), 2)
      await one.close()
      await one.close()
      assert.equal(await two.command('PING'), 'PONG')
      assert.equal(await three.getRun('none'), null)
      await assert.rejects(one.command('PING'), { code: 'CLOSED' })
      await three.close()
      assert.equal(await two.command('PING'), 'PONG')
      assert.equal(await connections(name), 2)
      await Promise.all([two.close(), other.close()])
      await until('the server has let them go', async () => (await connections(name)) === 0)
      const again = connect(options)
      assert.equal(await again.command('PING'), 'PONG')
      await again.close()
    })
  })

  describe('other servers', () => {
    for (const [what, start, options] of [
      ['RESP2 by choice', {}, { protocol: 2 }],
      ['a server without HELLO', { args: ['--rename-command', 'HELLO', ''] }, {}],
      [
        'a user who may not subscribe',
        { users: ['default on nopass ~* resetchannels +@all -subscribe'] },
        {},
      ],
    ] as const)
      it(`${what}: all stores work, and who waits for a lock gets it`, async () => {
        const own = await RedisServer.start(start as object)
        const target = { port: own.port, ...options } as Target
        const holder = new RedisLockManager(target)
        const waiter = new RedisLockManager(
          { ...(target as object), connectionName: 'waiter' },
          { retryDelay: 1000 },
        )
        const workflow = new RedisWorkflowStateService(target)
        const saga = new RedisSagaStore<Counter>({ redis: target })
        try {
          const runId = await workflow.createRun('w', { a: 1 })
          await workflow.setStepResult(runId, 's', 5)
          assert.deepEqual((await workflow.getRun(runId))?.input, { a: 1 })
          assert.equal((await workflow.getStepState(runId, 's')).result, 5)
          await saga.save('S', { ...counter('i'), correlationId: 'c' } as Counter)
          assert.equal((await saga.getById('S', 'i'))?.metadata.version, 1)
          const token = (await holder.acquire('job')) as string
          const waiting = timed(() => waiter.acquire('job'))
          using direct = await own.client()
          const subscribed = async (): Promise<boolean> =>
            (await direct.command<string[]>('PUBSUB', 'CHANNELS')).length > 0
          const wakes = !what.includes('may not')
          if (wakes) await until('it waits', subscribed)
          const freed = performance.now()
          await holder.release('job', token)
          const { outcome } = await waiting
          const ms = performance.now() - freed
          assert.ok(outcome.status === 'fulfilled' && outcome.value !== null)
          assert.ok(ms < (wakes ? 500 : 1500), `${ms} ms`)
          assert.equal(await direct.command('GET', 'fm:lock:job'), outcome.value)
        } finally {
          await Promise.all([holder.close(), waiter.close(), workflow.close(), saga.close()])
          await own.stop()
        }
      })
  })
})
