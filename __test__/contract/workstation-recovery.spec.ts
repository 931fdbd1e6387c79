/** What waited while the server was away, and what others did meanwhile. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { outages, record, recovered } from '../helpers/outages'
import { until } from '../helpers/wait'

describe('A workstation whose server comes back', () => {
  const stage = outages()

  it('journals sessions and writes them when the server returns', async () => {
    const workstation = stage.start()
    await workstation.setSession('u', { n: 1 })
    await stage.goDown(workstation)
    assert.equal(await workstation.setSession('u', { n: 2 }, 500), true)
    assert.equal(await workstation.setSession('new', { n: 3 }), true)
    assert.deepEqual((await workstation.getSessionEntry('u'))!.session, { n: 2 })
    assert.equal(workstation.degradation.journal.entries, 2)
    await stage.comeBack()
    await recovered(workstation)
    assert.equal(await stage.other.command('GET', 'wks:session:u'), '{"n":2}')
    assert.equal(await stage.other.command('GET', 'wks:session:new'), '{"n":3}')
    const left = (await stage.other.command('TTL', 'wks:session:u')) as number
    assert.ok(left > 480 && left <= 500, `${left}`)
    assert.deepEqual([workstation.degradation.journal.entries, workstation.degradation.journal.bytes], [0, 0])
    assert.equal((await workstation.getSessionEntry('u'))!.stale, false)
  })

  it('a journaled session ends when its time is over, and is not written any more', async () => {
    const workstation = stage.start()
    await workstation.getSession('u')
    await stage.goDown(workstation)
    assert.equal(await workstation.setSession('brief', { n: 1 }, 1), true)
    assert.equal(await workstation.setSession('long', { n: 1 }, 100), true)
    assert.deepEqual(await workstation.getSession('brief'), { n: 1 })
    await until('it is over', async () => (await workstation.getSession('brief')) === null)
    await stage.comeBack()
    await recovered(workstation)
    assert.deepEqual(await stage.other.command('KEYS', 'wks:session:*'), ['wks:session:long'])
  })

  it('a logout is not acknowledged before it happened, and happens when the server returns', async () => {
    const workstation = stage.start()
    await workstation.setSession('u', { n: 1 })
    await stage.goDown(workstation)
    assert.equal(await workstation.deleteSession('u'), false)
    assert.equal(await workstation.getSession('u'), null, 'here it is dead at once')
    assert.equal(await workstation.setSession('u', { n: 2 }, 60, { version: 7 }), false, 'a slow request')
    await stage.comeBack({ 'wks:session:u': '{"n":1}' })
    const back = performance.now()
    await until(
      'the session is dead',
      async () => (await stage.other.command('EXISTS', 'wks:session:u')) === 0,
    )
    assert.ok(performance.now() - back < 1000, `${performance.now() - back} ms`)
    await recovered(workstation)
    assert.equal(await workstation.getSession('u'), null)
  })

  it('a slow request elsewhere does not save a session from a logout that waits', async () => {
    const workstation = stage.start()
    await workstation.getSession('u')
    await stage.goDown(workstation)
    assert.equal(await workstation.deleteSession('u'), false)
    const [later, earlier] = [Date.now() * 1000 + 60_000_000, Date.now() * 1000 - 60_000_000]
    // Written after the logout was asked for, going on with what was logged in before it.
    await stage.comeBack({ 'wks:session:u': '{"slow":true}', [record('u')]: `${later} ${earlier}` })
    await recovered(workstation)
    assert.equal(await stage.other.command('EXISTS', 'wks:session:u'), 0)
  })

  it('what others wrote later is not overwritten', async () => {
    const workstation = stage.start()
    const rejected: string[] = []
    workstation.on('rejected', ({ kind, id, reason }) => rejected.push(`${kind} ${id} ${reason}`))
    await workstation.getSession('u')
    await stage.goDown(workstation)
    await workstation.setSession('u', { mine: true })
    await workstation.setSession('gone', { mine: true })
    await workstation.deleteSession('again')
    // Others reach the server before we do, and write later than we were asked to.
    const later = String(Date.now() * 1000 + 60_000_000)
    await stage.comeBack({
      'wks:session:u': '{"theirs":true}',
      [record('u')]: later,
      [record('gone')]: `-${later}`,
      'wks:session:again': '{"login":true}',
      [record('again')]: later,
    })
    await recovered(workstation)
    assert.equal(await stage.other.command('GET', 'wks:session:u'), '{"theirs":true}')
    assert.equal(await stage.other.command('EXISTS', 'wks:session:gone'), 0)
    assert.equal(await stage.other.command('GET', 'wks:session:again'), '{"login":true}')
    assert.deepEqual(rejected.toSorted(), ['delete again newer', 'session gone newer', 'session u newer'])
  })

  it('journals progress, keeps what is known, and reopens nothing', async () => {
    const workstation = stage.start()
    await workstation.startWorkflowTracking('e', 'wf', 4, { a: 1 })
    await workstation.startWorkflowTracking('ended', 'wf', 4)
    const kept = String(await stage.other.command('GET', 'wks:workflow:e'))
    const running = JSON.parse(String(await stage.other.command('GET', 'wks:workflow:ended'))) as object
    await stage.goDown(workstation)
    assert.equal(await workstation.updateWorkflowProgress('e', 1, 'one', { b: 1 }), true)
    assert.equal(await workstation.updateWorkflowProgress('e', 3, 'three', { c: 1 }), true)
    assert.equal(await workstation.updateWorkflowProgress('ended', 1, 'late'), true)
    assert.equal(await workstation.startWorkflowTracking('new', 'wf', 2), true)
    const seen = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual([seen.progress, seen.degraded, seen.data], [75, true, { a: 1, b: 1, c: 1 }])
    assert.deepEqual(await workstation.listActiveWorkflows(), ['e', 'ended', 'new'])
    assert.equal((await workstation.getWorkflowStatistics()).activeExecutions, 3)
    const ended = JSON.stringify({ ...running, status: 'failed', error: 'by another' })
    await stage.comeBack({ 'wks:workflow:e': kept, 'wks:workflow:ended': ended })
    await recovered(workstation)
    const state = (await workstation.fetchWorkflowState('e'))!
    assert.deepEqual(
      [state.progress, state.currentStep, state.data, 'degraded' in state],
      [75, 'three', { a: 1, b: 1, c: 1 }, false],
    )
    assert.equal(await stage.other.command('GET', 'wks:workflow:ended'), ended)
    assert.equal((await workstation.fetchWorkflowState('new'))!.status, 'running')
    assert.deepEqual(await workstation.listActiveWorkflows(), ['e', 'new'])
  })

  it('what others started or stored later is not replaced', async () => {
    const workstation = stage.start()
    await workstation.fetchWorkflowState('e')
    await stage.goDown(workstation)
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
    await stage.comeBack(Object.fromEntries(asked.map((id) => [`wks:workflow:${id}`, theirs])))
    await recovered(workstation)
    for (const id of asked) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await stage.other.command('GET', `wks:workflow:${id}`), theirs, id)
    }
  })

  it('a release that Redis did not hear of happens when it returns', async () => {
    const workstation = stage.start()
    await workstation.lockWorkflowExecution('e', 'w1')
    const token = String(await stage.other.command('GET', 'wks:lock:execution:e'))
    await stage.goDown(workstation)
    assert.equal(await workstation.unlockWorkflowExecution('e'), false)
    await stage.comeBack({ 'wks:lock:execution:e': token })
    await recovered(workstation)
    assert.equal(await stage.other.command('EXISTS', 'wks:lock:execution:e'), 0)
  })

  it('10,000 logouts and late writes around outages resurrect nobody', async () => {
    const [workstation, elsewhere] = [
      stage.start({ degraded: { minOpenMs: 50 } }),
      stage.start({ degraded: { minOpenMs: 50 } }),
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
      await stage.other.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await Promise.all(late)
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      await recovered(workstation, elsewhere)
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      const left = (await stage.other.command('KEYS', 'wks:session:*')) as string[]
      assert.deepEqual(left, [])
    }
  })
})
