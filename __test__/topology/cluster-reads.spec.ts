/** Where reads of a cluster go, and nodes that are reached by name, with TLS. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Cluster } from 'ioredis'
import { ConnectionError, RedisWorkflowStateService, type Target, connect } from '../../index.js'
import { Certificates } from '../helpers/certificates'
import { like } from '../helpers/errors'
import { Load } from '../helpers/load'
import { RedisCluster } from '../helpers/redis-cluster'
import { type RedisServer, serverVersion } from '../helpers/redis-server'
import { until } from '../helpers/wait'

/** How many GETs each server has run since the last look. */
async function counted(servers: readonly RedisServer[]): Promise<number[]> {
  return Promise.all(
    servers.map(async (server) => {
      using client = await server.client()
      const stats = await client.commandStats()
      await client.resetCommandStats()
      return stats['get']?.calls ?? 0
    }),
  )
}

describe('reads in a cluster', () => {
  let cluster: RedisCluster
  before(async () => {
    cluster = await RedisCluster.start()
  })
  after(() => cluster.stop())

  const keys = Array.from({ length: 60 }, (_, index) => `key:${index}`)
  const targets: Record<string, [target: () => Target, master: boolean, replica: boolean]> = {
    'go to masters by default': [() => ({ cluster: cluster.addresses }), true, false],
    'go to replicas where the option says so': [
      () => ({ cluster: cluster.addresses, scaleReads: 'slave' }),
      false,
      true,
    ],
    'go to replicas where an ioredis Cluster says so': [
      () => new Cluster(cluster.addresses, { scaleReads: 'slave', lazyConnect: true }),
      false,
      true,
    ],
    'go to all': [() => ({ cluster: cluster.addresses, scaleReads: 'all' }), true, true],
  }
  for (const [what, [target, masters, replicas]] of Object.entries(targets))
    it(what, async () => {
      const connection = connect(target())
      const workflow = new RedisWorkflowStateService(target())
      await Promise.all(keys.map((key) => connection.command('SET', key, key)))
      // So that replicas have what is read, and are connected to.
      const read = async (): Promise<boolean> => {
        const values = await Promise.all(keys.map((key) => connection.command('GET', key)))
        return values.every((value, index) => value === keys[index])
      }
      await until('replicas have everything', read)
      // Nodes name a new replica only once it has told them how far it is.
      const areAsked = async (): Promise<boolean> => {
        await counted(cluster.servers)
        assert.ok(await read())
        return (await counted(cluster.replicas)).every((count) => count > 0)
      }
      if (replicas) await until('replicas are asked', areAsked, 10_000)
      else assert.equal(await areAsked(), false)
      await counted(cluster.servers)
      assert.ok(await read())
      const onMasters = (await counted(cluster.masters)).every((count) => count > 0)
      assert.equal(onMasters, masters)
      await workflow.setStepResult('r', 's', 1)
      await until('it can be read', async () => (await workflow.getStepState('r', 's')).result === 1)
      await Promise.all([connection.close(), workflow.close()])
    })

  it('go to the master while there is no replica', async () => {
    const connection = connect({ cluster: cluster.addresses, scaleReads: 'slave' })
    await connection.command('SET', 'key:0', '1')
    const master = await cluster.ownerOf(await cluster.slotOf('key:0'))
    const replica = await cluster.replicaOf(master)
    const load = new Load(10, () => connection.command('GET', 'key:0'))
    await load.more(200)
    await replica.kill()
    await load.more(2000)
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await connection.close()
  })
})

const unnamed = serverVersion()[0] < 7 && 'before Redis 7, nodes announce no names'

describe('a cluster with TLS and names', () => {
  it('is reached by name on every node, and verified', { skip: unnamed }, async () => {
    const certificates = new Certificates()
    const args = ['--cluster-announce-hostname', 'localhost', '--cluster-preferred-endpoint-type', 'hostname']
    await using cluster = await RedisCluster.start({ masters: 3, replicas: 0, certificates, args })
    const port = cluster.tlsPorts[0] as number
    const connection = connect({ cluster: [{ port }], tls: { ca: certificates.ca } })
    const keys = Array.from({ length: 30 }, (_, index) => `key:${index}`)
    await Promise.all(keys.map((key) => connection.command('SET', key, key)))
    assert.deepEqual(await Promise.all(keys.map((key) => connection.command('GET', key))), keys)
    const slots = JSON.stringify(await connection.command('CLUSTER', 'SLOTS'))
    assert.ok(slots.includes('"localhost"'), slots)
    await connection.close()
    const unverified = connect({ cluster: [{ port }], tls: {}, commandTimeout: 500 })
    await assert.rejects(
      unverified.command('GET', 'k'),
      like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /certificate/i }),
    )
    await unverified.close()
    certificates.remove()
  })
})
