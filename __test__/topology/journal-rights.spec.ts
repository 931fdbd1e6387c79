/** Runs of @pikku/core in a cluster without a hash tag, by users who lack one of the rights that are documented. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { type ServerError, connect } from '../../index.js'
import { Data } from '../helpers/backends'
import { type Stores, WRITES, assertWhole, openStores } from '../helpers/journal'
import { createRun, insertStep } from '../helpers/pikku'
import { RedisCluster } from '../helpers/redis-cluster'
import type { RespClient } from '../helpers/resp-client'
import { IN_CLUSTER } from '../helpers/rights'

const RULES = IN_CLUSTER.get('workflow') ?? []
const RIGHTS = RULES.filter((rule) => /^\+[a-z]+$/.test(rule)).map((rule) => rule.slice(1))

/** What writes need. The others are for locks, for reading, for the lists of runs, and for runs of the original. */
const NEEDED =
  'del eval evalsha exists get hdel hexists hget hgetall hmget hset set zadd zcard zrange zrangebyscore zrem zscore'

describe('a journal in several slots, of a user without the right to', () => {
  let cluster: RedisCluster
  let admins: RespClient[]
  let sound: Stores
  let data: Data
  const refused = new Set<string>()

  before(async () => {
    cluster = await RedisCluster.start({ replicas: 0 })
    admins = await Promise.all(cluster.servers.map((server) => server.client()))
    sound = await openStores(connect({ cluster: cluster.addresses }))
    data = new Data({ cluster: cluster.addresses })
  })
  after(async () => {
    await Promise.all([sound.service.connection.close(), data.close()])
    for (const admin of admins) admin.close()
    await cluster.stop()
  })
  afterEach(() => data.clear())

  /** What servers have refused since it was asked before. */
  async function refusals(): Promise<string[]> {
    const logs = await Promise.all(
      admins.map(async (admin) => {
        const entries = await admin.command<string[][]>('ACL', 'LOG')
        await admin.command('ACL', 'LOG', 'RESET')
        return entries.map((entry) => String(entry[entry.indexOf('object') + 1]).toLowerCase())
      }),
    )
    return [...new Set(logs.flat())]
  }

  /** A step that has been through much, so that a call finds something to change. */
  async function prepare(): Promise<{ run: string; step: string }> {
    const run = await createRun(sound.service)
    const step = await insertStep(sound.service, run, 's')
    await sound.service.setStepError(step, new Error('no'))
    await sound.service.createRetryAttempt(step, 'pending')
    await sound.service.updateRunState(run, 'kept', 1)
    return { run, step }
  }

  for (const right of RIGHTS.filter((name) => name !== 'asking'))
    it(`${right}: it is named, and with it a repeat finishes everything`, async () => {
      const user = `without-${right}`
      const rules = ['on', '>pw', 'allkeys', '&*', ...RULES.filter((rule) => /^[-+]/.test(rule))]
      await Promise.all(admins.map((admin) => admin.setUser(user, ...rules, `-${right}`)))
      const limited = { cluster: cluster.addresses, username: user, password: 'pw' }
      const stores = await openStores(connect(limited))
      for (const [name, write] of Object.entries(WRITES)) {
        // oxlint-disable no-await-in-loop -- one after the other
        const prepared = await prepare()
        await refusals()
        const error = await write(stores, prepared).then(
          () => undefined,
          (thrown: ServerError) => thrown,
        )
        const denied = (await refusals()).includes(right)
        if (denied) refused.add(right)
        if (error === undefined) {
          // A claim that was granted is told, whatever else may not be done.
          const isGranted = name === 'claimStepForExecution' && right !== 'set' && right !== 'get'
          assert.ok(!denied || isGranted, `${name} says nothing`)
        } else {
          assert.equal(error.code, 'NO_PERMISSION', `${name}: ${error.message}`)
          assert.match(error.message, new RegExp(`\\b${right}\\b`, 'i'), name)
        }
        await assertWhole(sound, prepared.run)
        await write(sound, prepared)
        await assertWhole(sound, prepared.run)
        await data.clear()
        // oxlint-enable no-await-in-loop
      }
      await stores.service.connection.close()
    })

  it('nothing that was refused above, or should have been', () => {
    assert.deepEqual([...refused].toSorted(), NEEDED.split(' '))
  })

  it('asking: it is named where a slot moves', async () => {
    const rules = ['on', '>pw', 'allkeys', '&*', ...RULES.filter((rule) => /^[-+]/.test(rule))]
    await Promise.all(admins.map((admin) => admin.setUser('without-asking', ...rules, '-asking')))
    const limited = { cluster: cluster.addresses, username: 'without-asking', password: 'pw' }
    const stores = await openStores(connect({ ...limited, commandTimeout: 1000 }))
    const { run } = await prepare()
    const slot = await cluster.slotOf(`workflows:run:${run}`)
    const home = await cluster.ownerOf(slot)
    const to = cluster.masters.find((master) => master !== home)
    assert.ok(to)
    await cluster.migrateSlot(slot, to, async () => {
      await assert.rejects(stores.service.getRun(run), (error: ServerError) => {
        assert.equal(error.code, 'NO_PERMISSION', error.message)
        assert.match(error.message, /asking/i)
        return true
      })
    })
    assert.equal((await stores.service.getRun(run))?.id, run)
    await stores.service.connection.close()
  })
})
