/** Users log out while the server is away: they are logged out as soon as it is back, and stay so. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Replay, type Workstation, createWorkstation } from '../../index.js'
import { faultRun } from '../helpers/fault-run'
import { recovered } from '../helpers/outages'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const USERS = 500
const DEAD_MS = 1000
const TICK_MS = 10

const run = faultRun('logout', 3)

/** By how much timers are late at most: nothing can happen in this process while they are. */
function lateness(): { readonly ms: number; stop(): void } {
  let ms = 0
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    ms = Math.max(ms, now - last - TICK_MS)
    last = now
  }, TICK_MS)
  return {
    get ms() {
      return ms
    },
    stop: () => clearInterval(timer),
  }
}

it(`of ${USERS} logouts in an outage, all happen within ${DEAD_MS} ms after it, and none is undone`, async () => {
  // It has on disk what it acknowledged.
  await using server = await RedisServer.start({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
  const target = { port: server.port, commandTimeout: 500, connectTimeout: 500 }
  const [workstation, elsewhere] = ['here', 'elsewhere'].map((connectionName) =>
    createWorkstation({ redis: { ...target, connectionName }, log: false }),
  ) as [Workstation, Workstation]
  const replays: Replay[] = []
  elsewhere.on('replayed', (replay) => replays.push(replay))
  try {
    const users = Array.from({ length: USERS }, (_, index) => `u${index}`)
    await Promise.all([...users, 'stays'].map((user) => workstation.setSession(user, { user }, 3600)))
    const versions = await Promise.all(
      users.map(async (user) => (await elsewhere.getSessionEntry(user))!.version),
    )
    await server.kill()
    await until('both noticed', () => [workstation, elsewhere].every((w) => w.degradation.state !== 'up'))

    const outage = delay(run.seconds * 1000)
    const pause = (run.seconds * 1000) / USERS / 2
    for (const [index, user] of users.entries()) {
      // A slow request elsewhere goes on with the session, before and after its logout here.
      const late = elsewhere.setSession(user, { late: true }, 3600, { version: versions[index]! })
      // oxlint-disable-next-line no-await-in-loop -- spread over the outage
      const left = await workstation.deleteSession(user)
      // oxlint-disable-next-line no-await-in-loop -- spread over the outage
      const later = await workstation.setSession(user, { later: true }, 3600, { version: versions[index]! })
      // oxlint-disable-next-line no-await-in-loop -- spread over the outage
      assert.deepEqual([left, later, await late], [false, false, true])
      // oxlint-disable-next-line no-await-in-loop -- spread over the outage
      assert.equal(await workstation.getSession(user), null)
      // oxlint-disable-next-line no-await-in-loop -- spread over the outage
      await delay(pause)
    }
    await outage

    const late = lateness()
    await server.restart()
    const back = performance.now()
    using client = await server.client()
    const alive = async (): Promise<number> =>
      (await client.command('EXISTS', ...users.map((user) => `wks:session:${user}`))) as number
    await until('all are logged out', async () => (await alive()) === 0, 20_000)
    const took = performance.now() - back
    late.stop()
    console.log(`logged out after ${Math.round(took)} ms, timers were up to ${Math.round(late.ms)} ms late`)
    assert.ok(took <= DEAD_MS + late.ms, `${took} ms`)
    // From here on until everybody has written everything, and a while beyond.
    let resurrected = 0
    const watching = (async () => {
      for (const end = performance.now() + 1500; performance.now() < end;) {
        // oxlint-disable-next-line no-await-in-loop -- looking again and again
        resurrected += await alive()
      }
    })()
    await recovered(workstation, elsewhere)
    await watching
    assert.equal(resurrected, 0)
    assert.equal(await client.command('GET', 'wks:session:stays'), '{"user":"stays"}', 'the data was kept')
    // Some of the slow requests were written before the logout, and went with it; others were refused.
    assert.deepEqual(
      replays.map(({ applied, rejected }) => applied + rejected),
      [USERS],
    )
    for (const user of users)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.deepEqual([await workstation.getSession(user), await elsewhere.getSession(user)], [null, null])
  } finally {
    await Promise.all([workstation.close(), elsewhere.close()])
  }
})
