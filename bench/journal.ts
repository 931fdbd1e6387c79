/** Lists and sweeps of the journal on a Redis that holds much else. */
import { setTimeout as delay } from 'node:timers/promises'

import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { connect, RedisWorkflowRunService } from '../index.js'

const FOREIGN_KEYS = 1_000_000
const RUNS = 100_000
const AT_ONCE = 1000
const SAMPLES = 500

const STATUSES = ['completed', 'failed', 'suspended'] as const

/** Milliseconds of each call, sorted. */
async function timed(call: (index: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = []
  for (let index = 0; index < SAMPLES; index++) {
    const begin = performance.now()
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await call(index)
    times.push(performance.now() - begin)
  }
  return times.toSorted((left, right) => left - right)
}

function report(name: string, times: number[]): void {
  const at = (part: number): string => times[Math.floor((times.length - 1) * part)]!.toFixed(2).padStart(7)
  console.log(`${name.padEnd(36)} p50 ${at(0.5)} ms   p99 ${at(0.99)} ms   max ${at(1)} ms`)
}

export async function measureJournal(server: RedisServer): Promise<void> {
  const { RedisWorkflowService } = await import('../pikku.mjs')
  const connection = connect(server.url, { commandTimeout: 60_000 })
  const service = new RedisWorkflowService(connection, 'workflows', { wireQueues: false })
  const runs = new RedisWorkflowRunService(connection)
  const fill = "for i = 1, ARGV[1] do redis.call('SET', 'foreign:' .. i, i) end"
  await connection.command('EVAL', fill, 0, FOREIGN_KEYS)
  for (let made = 0; made < RUNS; made += AT_ONCE) {
    const create = async (index: number): Promise<void> => {
      const id = await service.createRun(`workflow ${index % 20}`, { index }, false, 'h', { type: 'bench' })
      const status = STATUSES[index % 10]
      if (status !== undefined) await service.updateRunStatus(id, status, { done: true })
    }
    // oxlint-disable-next-line no-await-in-loop -- so many at once and no more
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => create(made + index)))
  }
  await delay(10)
  console.log(`${RUNS} runs among ${FOREIGN_KEYS} foreign keys, ${SAMPLES} calls each, one after the other`)
  const before = new Date()
  report('page of 50, newest', await timed(() => runs.listRuns()))
  report(
    'page of 50, one workflow',
    await timed((n) => runs.listRuns({ workflowName: `workflow ${n % 20}` })),
  )
  report('page of 50, one status', await timed((n) => runs.listRuns({ status: STATUSES[n % 3]! })))
  report(
    'page of 50, workflow and status',
    await timed(() => runs.listRuns({ workflowName: 'workflow 1', status: 'failed' })),
  )
  report('page of 50, offset 90,000', await timed(() => runs.listRuns({ offset: 90_000 })))
  report('names of workflows', await timed(() => runs.getDistinctWorkflowNames()))
  report('100 stalled runs', await timed(() => service.findStalledRunIds(before, 100)))
  report('100 undispatched steps (none)', await timed(() => service.findUndispatchedSteps(before, 100)))
  await connection.close()
}
