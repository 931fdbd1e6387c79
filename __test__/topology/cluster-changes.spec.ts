/** Calls while slots and masters of a cluster move. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { RedisWakeSignaler, RedisWorkflowStateService, connect } from '../../index.js'
import { Load } from '../helpers/load'
import { RedisCluster } from '../helpers/redis-cluster'
import type { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

describe('resharding under load', () => {
  it('costs no call', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const connection = connect({ cluster: cluster.addresses })
    const service = new RedisWorkflowStateService({ cluster: cluster.addresses })
    const [first, second] = cluster.masters as [RedisServer, RedisServer]
    const slot = await cluster.slotOf('{t}')
    const from = await cluster.ownerOf(slot)
    const to = from === first ? second : first
    const counts = Array.from({ length: 10 }, () => 0)
    await using load = new Load(10, async (lane, index) => {
      // Keys that exist, and keys that are made while the slot is in motion.
      counts[lane]! += 1
      assert.equal(await connection.command('INCR', `{t}${lane}`), counts[lane])
      await connection.command('SET', `{t}${lane}:${index}`, 'x')
      assert.equal(await connection.command('GET', `{t}${lane}:${index}`), 'x')
      await connection.command('DEL', `{t}${lane}:${index}`)
      await service.setStepResult(`{t}${lane}`, `s${index % 5}`, index)
    })
    await load.more(50)
    // Nobody has been told of the last one: it has no slots yet.
    for (const target of [to, from, await cluster.addMaster()]) {
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await cluster.migrateSlot(slot, target, () => load.more(50))
      // oxlint-disable-next-line no-await-in-loop -- one move after the other
      await load.more(50)
    }
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await Promise.all([connection.close(), service.close()])
  })
})

describe('a cluster failover', () => {
  for (const [what, end] of [
    ['killed', (server: RedisServer) => server.kill()],
    ['frozen', (server: RedisServer) => Promise.resolve(server.pause())],
  ] as const)
    it(`of a ${what} master under load: writes work within 2 s of a writable master`, async (t) => {
      await using cluster = await RedisCluster.start()
      const connection = connect({ cluster: cluster.addresses, commandTimeout: 2000 })
      const listeners = Array.from({ length: 4 }, () => new RedisWakeSignaler({ cluster: cluster.addresses }))
      const heard = new Set<number>()
      t.after(() => Promise.all([connection.close(), ...listeners.map((listener) => listener.disconnect())]))
      await Promise.all(listeners.map((listener, index) => listener.subscribe(() => void heard.add(index))))
      const victim = cluster.masters[0] as RedisServer
      const replica = cluster.replicas[0] as RedisServer
      await using load = new Load(20, (lane) => connection.command('SET', `key:${lane}`, 'v'))
      const owners = await Promise.all(
        Array.from({ length: 20 }, async (_, lane) => cluster.ownerOf(await cluster.slotOf(`key:${lane}`))),
      )
      const lanes = [...owners.keys()].filter((lane) => owners[lane] === victim)
      assert.ok(lanes.length > 0)
      await load.more(200)
      await end(victim)
      await until(
        'the replica takes over',
        async () => {
          using client = await replica.client()
          return (await client.info('replication'))['role'] === 'master'
        },
        20_000,
      )
      const failedOver = performance.now()
      await until(
        'a write succeeds on the new master',
        () => lanes.some((lane) => (load.last[lane] ?? 0) > failedOver),
        2000,
      )
      await until('every lane goes on', () => load.last.every((last) => last > failedOver), 4000)
      await load.stop()
      assert.deepEqual(
        [...load.codes.keys()].filter((code) => !['OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'].includes(code)),
        [],
      )
      await until(
        'every listener hears again',
        async () => {
          using client = await replica.client()
          await client.command('PUBLISH', 'fm:wake', JSON.stringify({ executionId: 'e', timestamp: 1 }))
          return heard.size === listeners.length
        },
        8000,
      )
      if (victim.running) victim.resume()
      else await victim.restart()
      await cluster.settled()
      await using again = new Load(20, (lane) => connection.command('SET', `key:${lane}`, 'v'))
      await again.more(200)
      await again.stop()
      assert.deepEqual([...again.codes], [])
      assert.equal(connection.status, 'ready')
    })

  it('that was asked for costs no call that may be repeated', async () => {
    await using cluster = await RedisCluster.start()
    const service = new RedisWorkflowStateService({ cluster: cluster.addresses })
    await using load = new Load(10, (lane, index) => service.setStepResult(`run${lane}`, `s${index % 20}`, 1))
    await load.more(100)
    await cluster.failover(cluster.replicas[0] as RedisServer)
    await cluster.failover(cluster.replicas[1] as RedisServer)
    await load.more(100)
    await load.stop()
    assert.deepEqual([...load.codes], [])
    await service.close()
  })

  it('shows in the status, and a master that comes back is used again', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const connection = connect({ cluster: cluster.addresses, commandTimeout: 10_000 })
    await connection.command('PING')
    await until('it is ready', () => connection.status === 'ready')
    const victim = await cluster.ownerOf(await cluster.slotOf('k'))
    const lost = once(connection, 'status')
    await victim.kill()
    assert.deepEqual(await lost, ['reconnecting', 'a part of the cluster is out of reach'])
    const waiting = connection.command('SET', 'k', 'v')
    const back = once(connection, 'status')
    await victim.restart()
    assert.equal(await waiting, 'OK')
    assert.deepEqual(await back, ['ready', undefined])
    await connection.close()
  })
})
