/** Runs of @pikku/core in a cluster without a hash tag: what is left when a call breaks off between any two of its steps. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, describe, it } from 'node:test'
import { type ConnectionOptions, FerroflowError, RedisWorkflowRunService, connect } from '../../index.js'
import { Data } from '../helpers/backends'
import type { CountingProxy } from '../helpers/counting-proxy'
import { type Stores, WRITES, assertWhole, openStores } from '../helpers/journal'
import { type WorkflowService, createRun, insertStep, openService } from '../helpers/pikku'
import { TOPOLOGIES, type Servers, throughProxies } from '../helpers/proxied-topology'
import { until } from '../helpers/wait'

/** What a call sends; the rest is about the connection. */
const SENT = /^(EVAL|Z|H|DEL$|EXISTS$|SET$)/

/** Breaks a call off before it has sent more than so many commands. Whether it was. */
async function breakOff(
  target: ConnectionOptions,
  proxies: CountingProxy[],
  sent: number,
  call: (stores: Stores) => Promise<unknown>,
): Promise<boolean> {
  const connection = connect({ ...target, connectionName: randomUUID(), commandTimeout: 100 })
  const stores = await openStores(connection)
  await until('every node is connected', () =>
    connection.command('DBSIZE').then(
      () => true,
      () => false,
    ),
  )
  let seen = 0
  const faults = proxies.map((proxy) =>
    proxy.cutOn('before-forward', ({ name }) => SENT.test(name) && (seen += 1) > sent, { times: 10_000 }),
  )
  await call(stores).catch((error: unknown) => assert.ok(error instanceof FerroflowError, String(error)))
  const wasCut = faults.some(({ struck }) => struck.length > 0)
  for (const fault of faults) fault.cancel()
  await connection.close()
  return wasCut
}

describe('a journal in several slots', () => {
  let servers: Servers
  let sound: Stores
  let data: Data

  before(async () => {
    servers = await (TOPOLOGIES['a cluster'] as () => Promise<Servers>)()
    sound = await openStores(connect(servers.target))
    data = new Data(servers.target)
  })
  after(async () => {
    await Promise.all([sound.service.connection.close(), data.close()])
    await servers.stop()
  })
  afterEach(() => data.clear())

  for (const [name, write] of Object.entries(WRITES))
    it(`${name} breaks off anywhere, and a repeat finishes it`, () =>
      throughProxies(servers, async (target, proxies) => {
        let sent = 0
        for (let wasCut = true; wasCut; sent += 1) {
          // oxlint-disable no-await-in-loop -- one after the other
          const run = await createRun(sound.service)
          const prepared = { run, step: await insertStep(sound.service, run, 's') }
          await sound.service.updateRunState(run, 'kept', 1)
          wasCut = await breakOff(target, proxies, sent, (stores) => write(stores, prepared))
          await assertWhole(sound, run)
          await write(sound, prepared)
          await assertWhole(sound, run)
          if (name !== 'createRetryAttempt') {
            const history = await sound.service.getRunHistory(run)
            assert.ok(history.every(({ attemptCount }) => attemptCount === 1))
          }
          if (name === 'deleteRun')
            assert.deepEqual(
              (await data.keys()).filter((key) => key.includes(run)),
              [],
            )
          // oxlint-enable no-await-in-loop
        }
        assert.ok(sent > 2, `only ${sent} commands`)
      }))

  it('64 inserts of one step from several connections make one attempt, and one of 64 claims wins', async () => {
    const stores = await Promise.all(Array.from({ length: 4 }, () => openStores({ ...servers.target })))
    const run = await createRun(sound.service)
    const each = <T>(call: (by: WorkflowService) => Promise<T>): Promise<PromiseSettledResult<T>[]> =>
      Promise.allSettled(
        Array.from({ length: 64 }, (_, index) => call((stores[index % 4] as Stores).service)),
      )
    const inserts = await each((service) => insertStep(service, run, 's'))
    assert.equal(inserts.filter(({ status }) => status === 'fulfilled').length, 1)
    await assertWhole(sound, run)
    const claims = await each((service) => service.claimStepForExecution(run, 's', 'rpc'))
    const won = claims.filter((claim) => claim.status === 'fulfilled' && claim.value !== null)
    assert.equal(won.length, 1)
    await assertWhole(sound, run)
    const history = await sound.service.getRunHistory(run)
    assert.deepEqual(
      history.map(({ attemptCount, status }) => [attemptCount, status]),
      [[1, 'running']],
    )
    await Promise.all(stores.flatMap(({ service, runs }) => [service.close(), runs.close()]))
  })

  it('many who change one run and its steps leave indexes and history that are true', async () => {
    const stores = await Promise.all(Array.from({ length: 4 }, () => openStores({ ...servers.target })))
    const run = await createRun(sound.service)
    const steps = await Promise.all(['a', 'b', 'c'].map((step) => insertStep(sound.service, run, step)))
    const work = async ({ service, runs }: Stores, worker: number): Promise<void> => {
      for (let round = 0; round < 25; round += 1) {
        const step = steps[(worker + round) % 3] as string
        const status = (['suspended', 'running', 'failed', 'running'] as const)[(worker + round) % 4]
        // oxlint-disable no-await-in-loop -- a worker does one after the other
        await service.setStepRunning(step)
        await service.setStepError(step, new Error(`e${worker}.${round}`))
        if (round % 5 === 0) await service.createRetryAttempt(step, 'pending')
        await service.updateRunStatus(run, status as 'running')
        await runs.listRuns({ status })
        await service.getRunHistory(run)
        // oxlint-enable no-await-in-loop
      }
    }
    await Promise.all(stores.map(work))
    await assertWhole(sound, run)
    await sound.service.updateRunStatus(run, 'running')
    await assertWhole(sound, run)
    assert.equal(await sound.runs.deleteRun(run), true)
    assert.deepEqual(await data.keys(), [])
    await Promise.all(stores.flatMap(({ service, runs }) => [service.close(), runs.close()]))
  })

  it('names that are odd for a cluster are names like others', async () => {
    for (const prefix of ['a}b', 'p']) {
      // oxlint-disable no-await-in-loop -- one after the other
      const service = await openService(servers.target, prefix)
      const runs = new RedisWorkflowRunService(servers.target, prefix)
      const run = await createRun(service, '{w}')
      const step = await insertStep(service, run, '{s}')
      await service.setStepResult(step, 1)
      await service.upsertWorkflowVersion('w', 'h', {}, 'dsl')
      await service.updateWorkflowVersionStatus('w', 'h', 'draft')
      assert.deepEqual(await runs.getDistinctWorkflowNames(), ['{w}'])
      assert.equal((await runs.listRuns({ workflowName: '{w}' })).length, 1)
      assert.equal(await runs.deleteRun(run), true)
      assert.deepEqual(await data.keys(), [`${prefix}:version:w:h`])
      await Promise.all([service.close(), runs.close()])
      await data.clear()
      // oxlint-enable no-await-in-loop
    }
  })
})
