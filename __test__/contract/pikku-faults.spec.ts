/** A connection that is cut around any write of the service leaves a step and its history saying the same. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { connect } from '../../index.js'
import { CountingProxy, type FaultPoint } from '../helpers/counting-proxy'
import { type WorkflowService, createRun, insertStep, openService } from '../helpers/pikku'
import { RedisServer } from '../helpers/redis-server'

const POINTS: FaultPoint[] = ['before-forward', 'after-forward', 'before-reply']

type Write = (service: WorkflowService, run: string, step: string) => Promise<unknown>

const WRITES: Record<string, Write> = {
  insertStepState: (service, run) => insertStep(service, run, 'new'),
  setStepScheduled: (service, _, step) => service.setStepScheduled(step),
  setStepRunning: (service, _, step) => service.setStepRunning(step),
  setStepResult: (service, _, step) => service.setStepResult(step, { a: 1 }),
  setStepError: (service, _, step) => service.setStepError(step, new Error('no')),
  createRetryAttempt: (service, _, step) => service.createRetryAttempt(step, 'running'),
  claimStepForExecution: (service, run) => service.claimStepForExecution(run, 's', 'rpc'),
  updateRunStatus: (service, run) => service.updateRunStatus(run, 'suspended'),
  updateRunState: (service, run) => service.updateRunState(run, 'name', 1),
}

describe('a cut connection', () => {
  let server: RedisServer
  let proxy: CountingProxy
  let sound: WorkflowService

  before(async () => {
    server = await RedisServer.start()
    proxy = await CountingProxy.start(server)
    sound = await openService(server.url)
  })
  after(async () => {
    await sound.close()
    await proxy.close()
    await server.stop()
  })

  /** Every step says of its last attempt what the history says, and is where the sweeps look for it. */
  async function assertWhole(run: string): Promise<void> {
    const [steps, history] = await Promise.all([sound.listStepStates(run), sound.getRunHistory(run)])
    for (const { stepName, status, attemptCount, result } of steps) {
      const attempts = history.filter((attempt) => attempt.stepName === stepName)
      assert.equal(attempts.length, attemptCount)
      assert.deepEqual([attempts.at(-1)!.status, attempts.at(-1)!.result], [status, result])
    }
    const soon = new Date(Date.now() + 1000)
    const running = (await sound.getRun(run))!.status === 'running'
    const pending = steps.filter(({ status }) => running && status === 'pending')
    const found = await sound.findUndispatchedSteps(soon, 10_000)
    const ofRun = found.filter(({ runId }) => runId === run).map(({ stepId }) => stepId)
    assert.deepEqual(ofRun.toSorted(), pending.map(({ stepId }) => stepId).toSorted())
    const busy = steps.some(({ status }) => ['scheduled', 'running'].includes(status))
    assert.equal((await sound.findStalledRunIds(soon, 10_000)).includes(run), running && !busy)
  }

  for (const [name, write] of Object.entries(WRITES)) {
    for (const point of POINTS) {
      it(`${point} of ${name}`, async () => {
        // One of its own: after the first cut, a connection takes its time to redial.
        const connection = connect(proxy.url, { connectionName: randomUUID(), redialDelay: 50 })
        const cut = await openService(connection)
        await cut.init()
        const run = await createRun(sound)
        const step = await insertStep(sound, run, 's')
        const fault = proxy.cutOn(point, ({ name: command }) => command.startsWith('EVAL'))
        const answer = await write(cut, run, step)
        if (name === 'claimStepForExecution') assert.notEqual(answer, null)
        assert.equal(fault.struck.length, 1)
        await assertWhole(run)
        await connection.close()
      })
    }
  }

  it('a claim of another in the same millisecond is not taken for ours', async () => {
    const connection = connect(proxy.url, { connectionName: randomUUID(), redialDelay: 500 })
    const cut = await openService(connection)
    await cut.init()
    const run = await createRun(sound)
    await insertStep(sound, run, 's')
    const fault = proxy.cutOn('before-forward', ({ name: command }) => command.startsWith('EVAL'))
    const claim = cut.claimStepForExecution(run, 's', 'rpc')
    await fault.done
    const other = await sound.claimStepForExecution(run, 's', 'rpc')
    assert.notEqual(other, null)
    assert.equal(await claim, null)
    await assertWhole(run)
    await connection.close()
  })

  it('a claim that somebody ended before its reply came is in doubt', async () => {
    const connection = connect(proxy.url, { connectionName: randomUUID(), redialDelay: 500 })
    const cut = await openService(connection)
    await cut.init()
    const run = await createRun(sound)
    const step = await insertStep(sound, run, 's')
    const fault = proxy.cutOn('before-reply', ({ name: command }) => command.startsWith('EVAL'))
    const claim = assert.rejects(cut.claimStepForExecution(run, 's', 'rpc'), { code: 'OUTCOME_UNKNOWN' })
    await fault.done
    await sound.setStepError(step, new Error('too late'))
    await claim
    await assertWhole(run)
    await connection.close()
  })
})
