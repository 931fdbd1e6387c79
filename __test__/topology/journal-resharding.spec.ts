/** Runs of @pikku/core in a cluster without a hash tag, written while slots move between masters. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { connect } from '../../index.js'
import { type Stores, assertWhole, openStores } from '../helpers/journal'
import { Load } from '../helpers/load'
import { createRun, insertStep } from '../helpers/pikku'
import { RedisCluster } from '../helpers/redis-cluster'
import type { RedisServer } from '../helpers/redis-server'

const WRITERS = 6
/** The lists over all runs, which every writer changes. */
const LISTS = ['', ':idle', ':pending-steps', ':status:running', ':status:completed', ':workflow:w']

const STATUSES = ['suspended', 'completed', 'failed', 'running'] as const

/** What was acknowledged of a run. */
interface Acknowledged {
  status: string
  steps: Map<string, string>
  isDeleted: boolean
}

/** A run from its creation to its end, or its deletion. */
async function write(
  { service, runs }: Stores,
  index: number,
  all: Map<string, Acknowledged>,
): Promise<void> {
  const run = await createRun(service)
  const known: Acknowledged = { status: 'running', steps: new Map(), isDeleted: false }
  all.set(run, known)
  for (const [name, count] of [
    ['a', 1],
    ['b', index % 3],
  ] as const) {
    // oxlint-disable no-await-in-loop -- one after the other
    const step = await insertStep(service, run, name)
    known.steps.set(name, 'pending')
    assert.equal((await service.claimStepForExecution(run, name, 'rpc'))?.stepId, step)
    known.steps.set(name, 'running')
    if (count === 0) continue
    await service.setStepError(step, new Error('no'))
    known.steps.set(name, 'failed')
    await service.createRetryAttempt(step, 'running')
    known.steps.set(name, 'running')
    await service.setStepResult(step, { index })
    known.steps.set(name, 'succeeded')
    // oxlint-enable no-await-in-loop
  }
  await service.updateRunState(run, 'index', index)
  const status = STATUSES[index % 4] ?? 'running'
  await service.updateRunStatus(run, status)
  known.status = status
  if (index % 5 !== 4) return
  assert.equal(await runs.deleteRun(run), true)
  known.isDeleted = true
}

/** The newest run that has a step, and the id of that. */
async function stepped({ service }: Stores, all: Map<string, Acknowledged>): Promise<[string, string]> {
  for (const run of [...all.keys()].toReversed()) {
    // oxlint-disable-next-line no-await-in-loop -- until one is found
    const [step] = await service.listStepStates(run)
    if (step !== undefined) return [run, step.stepId]
  }
  throw new Error('No run has a step')
}

describe('resharding under writers of a journal in several slots', () => {
  it('costs no call, and no acknowledged change', async () => {
    await using cluster = await RedisCluster.start({ replicas: 0 })
    const target = { cluster: cluster.addresses }
    const writers = await Promise.all(
      Array.from({ length: WRITERS }, (_, index) =>
        openStores(connect({ ...target, connectionName: `w${index}` })),
      ),
    )
    const all = new Map<string, Acknowledged>()
    await using load = new Load(WRITERS, (lane, index) => write(writers[lane] as Stores, index, all))
    await load.more(20, 30_000)
    const [first, second] = cluster.masters as [RedisServer, RedisServer]
    const move = async (key: string, to: RedisServer): Promise<void> => {
      const slot = await cluster.slotOf(key)
      if ((await cluster.ownerOf(slot)) !== to)
        await cluster.migrateSlot(slot, to, () => load.more(5, 30_000))
    }
    // Nobody has been told of the last one: it has no slots yet.
    for (const to of [first, second, await cluster.addMaster()]) {
      // oxlint-disable no-await-in-loop -- one move after the other
      for (const list of LISTS) await move(`workflows:runs${list}`, to)
      const [run, step] = await stepped(writers[0] as Stores, all)
      for (const key of [`run:${run}`, `steps:${run}`, `step:${run}:a`, `step-history:${step}`])
        await move(`workflows:${key}`, to)
      // oxlint-enable no-await-in-loop
    }
    await load.more(20, 30_000)
    await load.stop()
    assert.deepEqual([...load.codes], [])

    const sound = writers[0] as Stores
    const kept = [...all].filter(([, { isDeleted }]) => !isDeleted)
    for (const wanted of [...STATUSES, undefined]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const listed = await sound.runs.listRuns({ status: wanted, limit: 100_000 })
      const expected = kept.filter(([, { status }]) => wanted === undefined || status === wanted)
      assert.deepEqual(listed.map(({ id }) => id).toSorted(), expected.map(([run]) => run).toSorted())
    }
    const states = await Promise.all(kept.map(([run]) => sound.service.listStepStates(run)))
    assert.deepEqual(
      states.map((steps) => new Map(steps.map((step) => [step.stepName, step.status as string]))),
      kept.map(([, { steps }]) => steps),
    )
    const gone = [...all.keys()].filter((run) => all.get(run)?.isDeleted)
    assert.ok(kept.length > 100 && gone.length > 20)
    assert.ok((await Promise.all(gone.map((run) => sound.service.getRun(run)))).every((run) => run === null))
    // The last ones of each kind, in all that is said of them.
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    for (const run of [...kept.slice(-10).map(([id]) => id), ...gone.slice(-5)]) await assertWhole(sound, run)
    await Promise.all(writers.map(({ service }) => service.connection.close()))
  })
})
