/** What `connection.doctor()` finds out about a server, and what it leaves out. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { ConnectionError, type Connection, type Diagnosis, connect } from '../../index.js'
import { like } from '../helpers/errors'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'

const codes = ({ warnings }: Diagnosis): string[] => warnings.map(({ code }) => code).toSorted()

describe('doctor', () => {
  let server: RedisServer
  let direct: RespClient
  let connection: Connection

  before(async () => {
    server = await RedisServer.start({
      args: ['--appendonly', 'yes'],
      users: ['poor on >pw ~* resetchannels -@all +get +exists', 'rich on >pw ~* &* +@all'],
    })
    direct = await server.client()
    connection = connect(server.url)
  })
  after(async () => {
    await connection.close()
    direct.close()
    await server.stop()
  })

  it('finds nothing wrong with a server that is right, and writes nothing', async () => {
    const { version, clockAheadMs, warnings, ...rest } = await connection.doctor()
    assert.deepEqual([rest.topology, warnings], ['standalone', []])
    assert.match(version, /^\d+\.\d+\.\d+/)
    assert.ok(['redis', 'valkey'].includes(rest.server))
    assert.ok(clockAheadMs !== null && Math.abs(clockAheadMs) < 500)
    assert.deepEqual(await direct.keys('*'), [])
  })

  it('names a policy that removes what is needed, and only if it can', async () => {
    await direct.command('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru')
    assert.deepEqual(codes(await connection.doctor()), [])
    await direct.command('CONFIG', 'SET', 'maxmemory', '100mb')
    const { warnings } = await connection.doctor()
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ['EVICTION'],
    )
    assert.match(warnings[0]!.message, /volatile-lru at 104857600 bytes/)
    await direct.command('CONFIG', 'SET', 'maxmemory', '0')
  })

  it('says that a crash costs what is in no file', async () => {
    await direct.command('CONFIG', 'SET', 'appendonly', 'no')
    assert.deepEqual(codes(await connection.doctor()), ['PERSISTENCE'])
    await direct.command('CONFIG', 'SET', 'appendonly', 'yes')
  })

  it('says that a replica refuses writes', async () => {
    const replica = await RedisServer.start({ args: ['--replicaof', server.host, String(server.port)] })
    try {
      const there = connect(replica.url)
      assert.ok(codes(await there.doctor()).includes('REPLICATION'))
      await there.close()
    } finally {
      await replica.stop()
    }
  })

  it('names missing rights, and leaves out what the user may not ask', async () => {
    const poor = connect(`redis://poor:pw@${server.host}:${server.port}`)
    const diagnosis = await poor.doctor()
    assert.deepEqual([diagnosis.server, diagnosis.version, diagnosis.clockAheadMs], ['unknown', '', null])
    const rights = diagnosis.warnings.map(({ code, message }) => [code, /lacks (\+\w+)/.exec(message)?.[1]])
    assert.deepEqual(
      rights,
      ['+eval', '+hgetall', '+publish', '+time'].map((right) => ['MISSING_RIGHT', right]),
    )
    assert.ok(!JSON.stringify(diagnosis).includes('pw'))
    await poor.close()
    const rich = connect(`redis://rich:pw@${server.host}:${server.port}`)
    assert.deepEqual(codes(await rich.doctor()), [])
    await rich.close()
  })

  it('has nothing to say of the embedded engine', async () => {
    const embedded = connect('memory://doctor')
    assert.deepEqual(await embedded.doctor(), {
      server: 'memory',
      version: '',
      topology: 'standalone',
      clockAheadMs: 0,
      warnings: [],
    })
    await embedded.close()
  })

  it('fails like any call while there is no server', async () => {
    const nowhere = connect('redis://127.0.0.1:1', { commandTimeout: 100 })
    await assert.rejects(
      nowhere.doctor(),
      like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /no connection/ }),
    )
    await nowhere.close()
  })
})
