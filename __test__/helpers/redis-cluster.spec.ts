import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RedisCluster, SLOTS, parseNodes } from './redis-cluster'
import type { RedisServer } from './redis-server'
import type { RespError } from './resp-client'

function codeOf(error: unknown): string {
  return (error as RespError).code
}

describe('RedisCluster', () => {
  it('covers all slots with three masters, each with a replica that can take over', async () => {
    await using cluster = await RedisCluster.start()
    const nodes = await cluster.nodes()
    assert.equal(nodes.length, 6)
    const masters = nodes.filter(({ isMaster }) => isMaster)
    const covered = masters
      .flatMap(({ slots }) => slots)
      .reduce((sum, [first, last]) => sum + last - first + 1, 0)
    assert.deepEqual([masters.length, covered], [3, SLOTS])
    const first = cluster.masters[0] as RedisServer
    const replica = await cluster.replicaOf(first)
    assert.equal(replica, cluster.replicas[0])

    await cluster.failover(replica)
    assert.equal(await cluster.ownerOf(0), replica)
    await cluster.settled()

    await replica.kill()
    await cluster.promoted(first)
    await replica.restart()
    await cluster.settled()
    assert.equal(await cluster.ownerOf(0), first)
    assert.equal(await cluster.replicaOf(first), replica)
  })

  it('works without replicas and with a password, and moves a slot with its keys', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0, password: 'secret' })
    const [first, second] = cluster.masters as [RedisServer, RedisServer]
    const slot = await cluster.slotOf('{a}')
    const from = await cluster.ownerOf(slot)
    const to = from === first ? second : first
    using source = await from.client()
    using target = await to.client()
    for (const key of ['{a}1', '{a}2', '{a}3']) await source.command('SET', key, 'x')
    await cluster.migrateSlot(slot, to, async () => {
      const codes = await Promise.all(
        ['{a}1', '{a}2', '{a}3'].map((key) => source.command('GET', key).then(String, codeOf)),
      )
      assert.deepEqual(codes.toSorted(), ['ASK', 'ASK', 'x'])
    })
    await assert.rejects(source.command('GET', '{a}1'), { code: 'MOVED' })
    assert.equal(await target.command('GET', '{a}3'), 'x')
  })

  it('reads the rows of CLUSTER NODES', () => {
    const text =
      'a 127.0.0.1:1@10001,host myself,master - 0 0 1 connected 0-5 7 [8->-b]\n' +
      'b 127.0.0.1:2@10002 slave,fail a 0 0 1 connected\nc 127.0.0.1:3@10003 slave,fail? a 0 0 1 connected\n'
    const ranges: [number, number][] = [
      [0, 5],
      [7, 7],
    ]
    assert.deepEqual(parseNodes(text), [
      { id: 'a', port: 1, isMaster: true, isFailed: false, slots: ranges, masterId: undefined },
      { id: 'b', port: 2, isMaster: false, isFailed: true, slots: [], masterId: 'a' },
      { id: 'c', port: 3, isMaster: false, isFailed: true, slots: [], masterId: 'a' },
    ])
  })
})
