import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConnectionError, type Transition, type Workstation } from '../../index.js'
import { added, scrape } from '../helpers/metrics'
import { isDegraded, outages, recovered } from '../helpers/outages'
import { timed, until } from '../helpers/wait'

describe('A workstation whose server goes away', () => {
  const stage = outages()

  it('goes through its states with an event, a line and a count each', async () => {
    const lines: string[] = []
    const workstation = stage.start({ log: (line) => lines.push(line) })
    const moves: Transition[] = []
    workstation.on('transition', (transition) => moves.push(transition))
    await workstation.setSession('u', { n: 1 })
    await stage.goDown(workstation)
    await Promise.all(Array.from({ length: 50 }, () => workstation.getSession('u')))
    assert.ok(workstation.degradation.fallbackOps.session >= 50)
    const health = await workstation.redisHealthCheck()
    assert.deepEqual([health.healthy, health.usingRedis, health.status], [false, false, 'down'])
    assert.ok(!health.error!.includes(String(stage.server.port)), health.error)
    assert.equal((await workstation.checkReadiness()).ready, false)
    await stage.comeBack()
    await recovered(workstation)
    assert.deepEqual(
      moves.map(({ from, to }) => `${from} ${to}`),
      ['up degraded', 'degraded recovering', 'recovering up'],
    )
    assert.equal(lines.length, 3)
    await until('health is asked anew', async () => (await workstation.redisHealthCheck()).status === 'up')
  })

  it('answers at once while it is degraded', async () => {
    const workstation = stage.start({ cache: { memory: {} } })
    await workstation.setSession('u', { n: 1 })
    await workstation.cacheAPIResponse('h', { n: 1 })
    await stage.goDown(workstation)
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
    const [workstation, impatient] = [stage.start(), stage.start({ sessions: { staleMs: 0 } })]
    await workstation.setSession('u', { n: 1 })
    await impatient.getSession('u')
    await stage.goDown(workstation, impatient)
    assert.deepEqual(await workstation.getSession('u'), { n: 1 })
    assert.equal((await workstation.getSessionEntry('u'))!.stale, true)
    assert.equal(await workstation.getSession('never seen'), null)
    assert.equal(await impatient.getSession('u'), null)
  })

  it('serves no copy that is older than allowed', async () => {
    const workstation = stage.start({ sessions: { staleMs: 700 } })
    await workstation.setSession('u', { n: 1 })
    const written = performance.now()
    await stage.goDown(workstation)
    let [served, late] = [0, 0]
    await until('it is too old', async () => {
      const asked = performance.now()
      const session = await workstation.getSession('u')
      if (session !== null) served += 1
      if (session !== null && asked - written > 700) late += 1
      return session === null
    })
    assert.ok(served > 0 && late === 0, `${served} times, ${late} of them too late`)
  })

  it('refuses within 1 ms, 99 times of 100', async () => {
    const workstation = stage.start()
    await workstation.redisService.get('k')
    await stage.goDown(workstation)
    let best = Infinity
    // Whatever else this machine does, one of many short rounds has the processor for itself.
    await until('a round is fast', async () => {
      const took: number[] = []
      for (let call = 0; call < 100; call += 1) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { ms, outcome } = await timed(() => workstation.lockWorkflowExecution('e', 'w'))
        assert.equal(outcome.status, 'rejected')
        took.push(ms)
      }
      best = Math.min(best, took.toSorted((one, other) => one - other)[98]!)
      return best <= 1
    }).catch(() => assert.fail(`p99 of the best round: ${best} ms`))
  })

  it('shows in the metrics that it does without Redis, and what', async () => {
    const workstation = stage.start()
    await workstation.setSession('u', { n: 1 })
    assert.equal(await gauge('redis_fallback_active'), 0)
    await stage.goDown(workstation)
    assert.equal(await gauge('redis_fallback_active'), 1)
    const change = await added(async () => {
      await workstation.getSession('u')
      await workstation.deleteSession('u')
      await workstation.getCachedAPIResponse('h')
      await workstation.startWorkflowTracking('e', 'wf', 1)
      await assert.rejects(workstation.lockWorkflowExecution('e', 'w'))
      await assert.rejects(workstation.redisService.get('k'))
    })
    const counted = Object.entries(change).filter(([series]) => series.includes('fallback_ops'))
    assert.deepEqual(
      Object.fromEntries(counted),
      Object.fromEntries(
        Object.keys(workstation.degradation.fallbackOps).map((kind) => [
          `ferroflow_fallback_ops_total{class="${kind}"}`,
          1,
        ]),
      ),
    )
    await stage.comeBack()
    await recovered(workstation)
    assert.equal(await gauge('redis_fallback_active'), 0)
  })

  it('a copy ends with its session', async () => {
    const [workstation, reader] = [stage.start(), stage.start()]
    for (const [user, ttl] of [
      ['short', 1],
      ['touched', 1],
      ['long', 600],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await workstation.setSession(user, { user }, ttl)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await reader.getSession(user)
    }
    await workstation.touchSession('touched', 600)
    const ended = performance.now() + 1000
    await stage.goDown(workstation, reader)
    await until('the sessions ended', () => performance.now() > ended)
    for (const each of [workstation, reader]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await each.getSession('short'), null)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.deepEqual(await each.getSession('long'), { user: 'long' })
    }
    assert.deepEqual(await workstation.getSession('touched'), { user: 'touched' })
  })

  it('two processes get no lock in 10,000 attempts', async () => {
    const both = [stage.start(), stage.start()]
    await Promise.all(both.map((workstation) => workstation.isWorkflowLocked('e')))
    await stage.goDown(...both)
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
    const workstation = stage.start()
    await workstation.redisService.get('k')
    await stage.goDown(workstation)
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

  it('several who grant locks by themselves are found, one after the other is not', async () => {
    const lines: string[] = []
    const log = (line: string): unknown => lines.push(line)
    const known = (): Promise<unknown> => stage.other.command('HLEN', 'wks:ferroflow:local-locks')
    const safe = stage.start()
    const first = stage.start({ localLocks: 'unsafe', log })
    await first.redisService.get('k')
    await until('the first is known', async () => (await known()) === 1)
    await first.close()
    const second = stage.start({ localLocks: 'unsafe', log })
    await second.redisService.get('k')
    await until('the second is known', async () => (await known()) === 2)
    assert.equal(await hasLocalLocks(safe), false, 'a restart is no second instance')
    const third = stage.start({ localLocks: 'unsafe', log })
    await third.redisService.get('k')
    await until('the third is known', async () => (await known()) === 3)
    // The second says again that it is there, as it does from time to time and with each connection.
    await stage.other.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await until('they are found', () => hasLocalLocks(safe).catch(() => false), 20_000)
    await until('they say so', () => lines.some((line) => line.includes('more than one instance')), 20_000)
  })

  it('local locks are granted only where they were asked for', async () => {
    const workstation = stage.start({ localLocks: 'unsafe' })
    await workstation.redisService.get('k')
    await stage.goDown(workstation)
    assert.equal(await workstation.lockWorkflowExecution('e', 'w1'), true)
    assert.equal(await workstation.lockWorkflowExecution('e', 'w2'), false)
    assert.equal(await workstation.unlockWorkflowExecution('e'), true)
    assert.ok(workstation.degradation.fallbackOps.lock >= 2)
  })

  it('the cache misses, or serves what it kept', async () => {
    const [forgetful, keeping] = [stage.start(), stage.start({ cache: { memory: { maxEntries: 2 } } })]
    for (const workstation of [forgetful, keeping]) {
      for (const hash of ['a', 'b', 'c']) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await workstation.cacheAPIResponse(hash, { hash })
      }
    }
    await stage.goDown(forgetful, keeping)
    assert.equal(await forgetful.getCachedAPIResponse('c'), null)
    assert.deepEqual(await keeping.getCachedAPIResponse('c'), { hash: 'c' })
    assert.equal(await keeping.getCachedAPIResponse('a'), null)
    assert.equal(await forgetful.cacheAPIResponse('d', 1), false)
    assert.equal(await forgetful.getOrCompute('e', () => 'computed'), 'computed')
  })

  it('the journal has a bound', async () => {
    const workstation = stage.start({ degraded: { journalBytes: 100_000 } })
    await workstation.getSession('u')
    await stage.goDown(workstation)
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
    await stage.comeBack()
    await recovered(workstation)
    assert.equal(
      await stage.other.command('DBSIZE'),
      accepted - 1 + accepted,
      'sessions and records, of u1 the record alone',
    )
  })

  it('a server that hangs is noticed, and asked again', async () => {
    const workstation = stage.start()
    await workstation.setSession('u', { n: 1 })
    stage.server.pause()
    try {
      const writes = [1, 2, 3].map((n) => workstation.setSession(`u${n}`, { n }))
      assert.deepEqual(await Promise.all(writes), [true, true, true])
      assert.ok(isDegraded(workstation))
    } finally {
      stage.server.resume()
    }
    await recovered(workstation)
    assert.deepEqual(await workstation.getSession('u2'), { n: 2 })
  })
})

async function gauge(name: string): Promise<number | undefined> {
  return (await scrape()).get(name)
}

/** Whether the doctor finds that several instances grant locks by themselves. */
async function hasLocalLocks({ connection }: Workstation): Promise<boolean> {
  return (await connection.doctor()).warnings.some(({ code }) => code === 'LOCAL_LOCKS')
}
