import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import {
  ConnectionError,
  type Transition,
  type Workstation,
  type WorkstationOptions,
  createWorkstation,
} from '../../index.js'
import { RedisServer } from '../helpers/redis-server'
import { RespClient } from '../helpers/resp-client'
import { timed, until } from '../helpers/wait'

/** Long enough for everybody to notice that a server is gone. */
const NOTICED = 5000

describe('A workstation whose server goes away', () => {
  let server: RedisServer
  let other: RespClient
  const open: Workstation[] = []

  before(async () => {
    server = await RedisServer.start()
  })

  after(async () => {
    await Promise.all(open.map((workstation) => workstation.close()))
    other?.close()
    await server.stop()
  })

  beforeEach(async () => {
    if (!server.running) await server.restart()
    other?.close()
    other = await server.client()
    await other.command('FLUSHALL')
  })

  function start(options: WorkstationOptions = {}): Workstation {
    const { host, port } = server
    const workstation = createWorkstation({
      redis: { host, port, commandTimeout: 500, connectTimeout: 500, redialDelay: 50 },
      log: false,
      ...options,
    })
    open.push(workstation)
    return workstation
  }

  async function goDown(...workstations: Workstation[]): Promise<void> {
    await server.kill()
    await until('everybody noticed', () => workstations.every(isDegraded), NOTICED)
  }

  /** The same server again, with what a persistent one would have kept. */
  async function comeBack(kept: Record<string, string> = {}): Promise<void> {
    await server.restart()
    other.close()
    other = await server.client()
    for (const [key, value] of Object.entries(kept)) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await other.command('SET', key, value)
    }
  }

  it('goes through its states with an event, a line and a count each', async () => {
    const lines: string[] = []
    const workstation = start({ log: (line) => lines.push(line) })
    const moves: Transition[] = []
    workstation.on('transition', (transition) => moves.push(transition))
    await workstation.setSession('u', { n: 1 })
    await goDown(workstation)
    await Promise.all(Array.from({ length: 50 }, () => workstation.getSession('u')))
    assert.ok(workstation.degradation.fallbackOps.session >= 50)
    const health = await workstation.redisHealthCheck()
    assert.deepEqual([health.healthy, health.usingRedis, health.status], [false, false, 'down'])
    assert.ok(!health.error!.includes(String(server.port)), health.error)
    assert.equal((await workstation.checkReadiness()).ready, false)
    await comeBack()
    await recovered(workstation)
    assert.deepEqual(
      moves.map(({ from, to }) => `${from} ${to}`),
      ['up degraded', 'degraded recovering', 'recovering up'],
    )
    assert.equal(lines.length, 3)
    await until('health is asked anew', async () => (await workstation.redisHealthCheck()).status === 'up')
  })

  it('answers at once while it is degraded', async () => {
    const workstation = start({ cache: { memory: {} } })
    await workstation.setSession('u', { n: 1 })
    await workstation.cacheAPIResponse('h', { n: 1 })
    await goDown(workstation)
    const calls = 2000
    const begin = performance.now()
    for (let call = 0; call < calls; call += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one request after the other
      await workstation.getSession('u')
      // oxlint-disable-next-line no-await-in-loop -- one request after the other
      await workstation.getCachedAPIResponse('h')
    }
    const each = (performance.now() - begin) / calls
    assert.ok(each < 1, `${each} ms a request`)
  })

  it('serves copies of sessions for a while and says that they are copies', async () => {
    const [workstation, impatient] = [start(), start({ sessions: { staleMs: 0 } })]
    await workstation.setSession('u', { n: 1 })
    await impatient.getSession('u')
    await goDown(workstation, impatient)
    assert.deepEqual(await workstation.getSession('u'), { n: 1 })
    assert.equal((await workstation.getSessionEntry('u'))!.stale, true)
    assert.equal(await workstation.getSession('never seen'), null)
    assert.equal(await impatient.getSession('u'), null)
  })

  it('journals sessions and writes them when the server returns', async () => {
    const workstation = start()
    await workstation.setSession('u', { n: 1 })
    await goDown(workstation)
    assert.equal(await workstation.setSession('u', { n: 2 }, 500), true)
    assert.equal(await workstation.setSession('new', { n: 3 }), true)
    assert.deepEqual((await workstation.getSessionEntry('u'))!.session, { n: 2 })
    assert.equal(workstation.degradation.journal.entries, 2)
    await comeBack()
    await recovered(workstation)
    assert.equal(await other.command('GET', 'wks:session:u'), '{"n":2}')
    assert.equal(await other.command('GET', 'wks:session:new'), '{"n":3}')
    const left = (await other.command('TTL', 'wks:session:u')) as number
    assert.ok(left > 480 && left <= 500, `${left}`)
    assert.deepEqual([workstation.degradation.journal.entries, workstation.degradation.journal.bytes], [0, 0])
    assert.equal((await workstation.getSessionEntry('u'))!.stale, false)
  })

  it('a logout is not acknowledged before it happened, and happens when the server returns', async () => {
    const workstation = start()
    await workstation.setSession('u', { n: 1 })
    await goDown(workstation)
    assert.equal(await workstation.deleteSession('u'), false)
    assert.equal(await workstation.getSession('u'), null, 'here it is dead at once')
    assert.equal(await workstation.setSession('u', { n: 2 }, 60, { version: 7 }), false, 'a slow request')
    await comeBack({ 'wks:session:u': '{"n":1}' })
    const back = performance.now()
    await until('the session is dead', async () => (await other.command('EXISTS', 'wks:session:u')) === 0)
    assert.ok(performance.now() - back < 1000, `${performance.now() - back} ms`)
    await recovered(workstation)
    assert.equal(await workstation.getSession('u'), null)
  })

  it('a slow request elsewhere does not save a session from a logout that waits', async () => {
    const workstation = start()
    await workstation.getSession('u')
    await goDown(workstation)
    assert.equal(await workstation.deleteSession('u'), false)
    const [later, earlier] = [Date.now() * 1000 + 60_000_000, Date.now() * 1000 - 60_000_000]
    // Written after the logout was asked for, going on with what was logged in before it.
    await comeBack({ 'wks:session:u': '{"slow":true}', [record('u')]: `${later} ${earlier}` })
    await recovered(workstation)
    assert.equal(await other.command('EXISTS', 'wks:session:u'), 0)
  })

  it('what others wrote later is not overwritten', async () => {
    const workstation = start()
    const rejected: string[] = []
    workstation.on('rejected', ({ kind, id, reason }) => rejected.push(`${kind} ${id} ${reason}`))
    await workstation.getSession('u')
    await goDown(workstation)
    await workstation.setSession('u', { mine: true })
    await workstation.setSession('gone', { mine: true })
    await workstation.deleteSession('again')
    // Others reach the server before we do, and write later than we were asked to.
    const later = String(Date.now() * 1000 + 60_000_000)
    await comeBack({
      'wks:session:u': '{"theirs":true}',
      [record('u')]: later,
      [record('gone')]: `-${later}`,
      'wks:session:again': '{"login":true}',
      [record('again')]: later,
    })
    await recovered(workstation)
    assert.equal(await other.command('GET', 'wks:session:u'), '{"theirs":true}')
    assert.equal(await other.command('EXISTS', 'wks:session:gone'), 0)
    assert.equal(await other.command('GET', 'wks:session:again'), '{"login":true}')
    assert.deepEqual(rejected.toSorted(), ['delete again newer', 'session gone newer', 'session u newer'])
  })

  it('journals progress, keeps what is known, and reopens nothing', async () => {
    const workstation = start()
    await workstation.startWorkflowTracking('e', 'wf', 4, { a: 1 })
    await workstation.startWorkflowTracking('ended', 'wf', 4)
    const kept = String(await other.command('GET', 'wks:workflow:e'))
    const running = JSON.parse(String(await other.command('GET', 'wks:workflow:ended'))) as object
    await goDown(workstation)
    assert.equal(await workstation.updateWorkflowProgress('e', 1, 'one', { b: 1 }), true)
    assert.equal(await workstation.updateWorkflowProgress('e', 3, 'three', { c: 1 }), true)
    assert.equal(await workstation.updateWorkflowProgress('ended', 1, 'late'), true)
    assert.equal(await workstation.startWorkflowTracking('new', 'wf', 2), true)
    const seen = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual([seen.progress, seen.degraded, seen.data], [75, true, { a: 1, b: 1, c: 1 }])
    assert.deepEqual(await workstation.listActiveWorkflows(), ['e', 'ended', 'new'])
    assert.equal((await workstation.getWorkflowStatistics()).activeExecutions, 3)
    const ended = JSON.stringify({ ...running, status: 'failed', error: 'by another' })
    await comeBack({ 'wks:workflow:e': kept, 'wks:workflow:ended': ended })
    await recovered(workstation)
    const state = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual(
      [state.progress, state.currentStep, state.data, 'degraded' in state],
      [75, 'three', { a: 1, b: 1, c: 1 }, false],
    )
    assert.equal(await other.command('GET', 'wks:workflow:ended'), ended)
    assert.equal((await workstation.fetchWorkflowState('new'))!.status, 'running')
    assert.deepEqual(await workstation.listActiveWorkflows(), ['e', 'new'])
  })

  it('what others started or stored later is not replaced', async () => {
    const workstation = start()
    await workstation.fetchWorkflowState('e')
    await goDown(workstation)
    const asked = ['started', 'updated', 'cleared']
    await workstation.startWorkflowTracking('started', 'wf', 4)
    const mine = { ...(await workstation.fetchWorkflowState('started'))!, executionId: 'updated' }
    await workstation.updateWorkflowState(mine)
    assert.equal(await workstation.clearWorkflowState('cleared'), false)
    const later = Date.now() + 60_000
    const theirs = JSON.stringify({
      status: 'running',
      progress: 50,
      data: {},
      startedAt: later,
      updatedAt: later,
    })
    await comeBack(Object.fromEntries(asked.map((id) => [`wks:workflow:${id}`, theirs])))
    await recovered(workstation)
    for (const id of asked) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await other.command('GET', `wks:workflow:${id}`), theirs, id)
    }
  })

  it('two processes get no lock in 10,000 attempts', async () => {
    const both = [start(), start()]
    await Promise.all(both.map((workstation) => workstation.isWorkflowLocked('e')))
    await goDown(...both)
    let granted = 0
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10_000 }, async (_, index) => {
        const workstation = both[index % 2]!
        if (index % 4 < 2) {
          if (await workstation.lockWorkflowExecution('e', `w${index}`)) granted += 1
        } else await workstation.executeWithLock('e', `w${index}`, () => (granted += 1))
      }),
    )
    assert.equal(granted, 0)
    for (const outcome of outcomes) {
      assert.equal(outcome.status, 'rejected')
      assert.ok(outcome.reason instanceof ConnectionError && outcome.reason.code === 'REDIS_UNAVAILABLE')
    }
  })

  it('refuses within 250 ms what only Redis can answer', async () => {
    const workstation = start()
    await workstation.redisService.get('k')
    await goDown(workstation)
    for (const call of [
      () => workstation.lockWorkflowExecution('e', 'w'),
      () => workstation.isWorkflowLocked('e'),
      () => workstation.redisService.set('k', 'v'),
      () => workstation.cleanupStaleWorkflows(),
    ]) {
      // oxlint-disable-next-line no-await-in-loop -- each by itself
      const { ms, outcome } = await timed<unknown>(call)
      assert.equal(outcome.status, 'rejected')
      assert.ok(ms < 250, `${ms} ms`)
    }
  })

  it('local locks are granted only where they were asked for', async () => {
    const workstation = start({ localLocks: 'unsafe' })
    await workstation.redisService.get('k')
    await goDown(workstation)
    assert.equal(await workstation.lockWorkflowExecution('e', 'w1'), true)
    assert.equal(await workstation.lockWorkflowExecution('e', 'w2'), false)
    assert.equal(await workstation.unlockWorkflowExecution('e'), true)
    assert.ok(workstation.degradation.fallbackOps.lock >= 2)
  })

  it('a release that Redis did not hear of happens when it returns', async () => {
    const workstation = start()
    await workstation.lockWorkflowExecution('e', 'w1')
    const token = String(await other.command('GET', 'wks:lock:execution:e'))
    await goDown(workstation)
    assert.equal(await workstation.unlockWorkflowExecution('e'), false)
    await comeBack({ 'wks:lock:execution:e': token })
    await recovered(workstation)
    assert.equal(await other.command('EXISTS', 'wks:lock:execution:e'), 0)
  })

  it('the cache misses, or serves what it kept', async () => {
    const [forgetful, keeping] = [start(), start({ cache: { memory: { maxEntries: 2 } } })]
    for (const workstation of [forgetful, keeping]) {
      for (const hash of ['a', 'b', 'c']) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await workstation.cacheAPIResponse(hash, { hash })
      }
    }
    await goDown(forgetful, keeping)
    assert.equal(await forgetful.getCachedAPIResponse('c'), null)
    assert.deepEqual(await keeping.getCachedAPIResponse('c'), { hash: 'c' })
    assert.equal(await keeping.getCachedAPIResponse('a'), null)
    assert.equal(await forgetful.cacheAPIResponse('d', 1), false)
    assert.equal(await forgetful.getOrCompute('e', () => 'computed'), 'computed')
  })

  it('the journal has a bound', async () => {
    const workstation = start({ degraded: { journalBytes: 100_000 } })
    await workstation.getSession('u')
    await goDown(workstation)
    const text = 'x'.repeat(10_000)
    assert.equal(await workstation.setSession('u1', { text }), true)
    assert.equal(await workstation.setSession('u1', { text: `${text}y` }), true, 'in the same place')
    let accepted = 1
    await assert.rejects(
      async () => {
        for (let user = 2; user < 20; user += 1) {
          // oxlint-disable-next-line no-await-in-loop -- until it is full
          await workstation.setSession(`u${user}`, { text })
          accepted += 1
        }
      },
      { code: 'QUEUE_FULL' },
    )
    const { journal } = workstation.degradation
    assert.ok(
      journal.entries === accepted && journal.bytes <= 100_000 && accepted >= 4,
      JSON.stringify(journal),
    )
    assert.equal(await workstation.deleteSession('u1'), false)
    await comeBack()
    await recovered(workstation)
    assert.equal(
      await other.command('DBSIZE'),
      accepted - 1 + accepted,
      'sessions and records, of u1 the record alone',
    )
  })

  it('a server that hangs is noticed, and asked again', async () => {
    const workstation = start()
    await workstation.setSession('u', { n: 1 })
    server.pause()
    try {
      const writes = [1, 2, 3].map((n) => workstation.setSession(`u${n}`, { n }))
      assert.deepEqual(await Promise.all(writes), [true, true, true])
      assert.ok(isDegraded(workstation))
    } finally {
      server.resume()
    }
    await recovered(workstation)
    assert.deepEqual(await workstation.getSession('u2'), { n: 2 })
  })

  it('10,000 logouts and late writes around outages resurrect nobody', async () => {
    const [workstation, elsewhere] = [
      start({ degraded: { minOpenMs: 50 } }),
      start({ degraded: { minOpenMs: 50 } }),
    ]
    const users = Array.from({ length: 2500 }, (_, index) => `u${index}`)
    for (let round = 0; round < 4; round += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await recovered(workstation, elsewhere)
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await Promise.all(users.map((user) => workstation.setSession(user, { round })))
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      const entries = await Promise.all(users.map((user) => elsewhere.getSessionEntry(user)))
      const late = users.map(async (user, index) => {
        await new Promise((resolve) => setTimeout(resolve, index % 40))
        const { version } = entries[index]!
        const writing = elsewhere.setSession(user, { late: round }, 600, { version })
        await workstation.deleteSession(user)
        await writing
      })
      // The connections break in the middle of it; the data stays.
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await new Promise((resolve) => setTimeout(resolve, 10))
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await other.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await Promise.all(late)
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await recovered(workstation, elsewhere)
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      const left = (await other.command('KEYS', 'wks:session:*')) as string[]
      assert.deepEqual(left, [])
    }
  })
})

function isDegraded({ degradation }: Workstation): boolean {
  return degradation.state !== 'up'
}

async function recovered(...workstations: Workstation[]): Promise<void> {
  await until(
    'everybody is up',
    () => workstations.every(({ degradation }) => degradation.state === 'up'),
    10_000,
  )
}

function record(user: string): string {
  return `ferroflow:session:{wks:session:${user}}`
}
