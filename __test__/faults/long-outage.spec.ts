/** A server that is away for long while calls go on: memory stays bounded, and every call settles in time. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { faultRun } from '../helpers/fault-run'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import type { OutageResult } from './outage-program'

const MARGIN_MS = 250
const GROWTH_MIB = 80

const run = faultRun('outage', 5)
/** In the long form the defaults at full load; the short one fills a smaller queue, beside other tests. */
const [rate, deadlineMs, queue] = run.long ? [5000, 5000, 10_000] : [1000, 2500, 2000]

it(`an outage at ${rate} calls a second costs at most ${GROWTH_MIB} MiB, and every call settles in time`, async () => {
  await using server = await RedisServer.start()
  const args = [server.url, rate, run.seconds, deadlineMs, queue].map(String)
  await using program = Program.typescript('__test__/faults/outage-program.ts', args)
  await program.printed(/^warm$/m, 60_000)
  await server.kill()
  const [, json] = await program.printed(/^result (.*)$/m, run.seconds * 1000 + deadlineMs + 60_000)
  const result = JSON.parse(json as string) as OutageResult
  console.log(json)
  assert.ok(result.calls >= rate * run.seconds * 0.8, `only ${result.calls} calls`)
  assert.deepEqual(Object.keys(result.outcomes).toSorted(), ['QUEUE_FULL', 'REDIS_UNAVAILABLE'])
  // A process that gets no processor cannot settle anything.
  const allowed = deadlineMs + MARGIN_MS + result.latestTickMs
  assert.ok(result.slowestMs <= allowed, `the slowest call took ${result.slowestMs} ms`)
  const growth = result.highestMiB - result.beforeMiB
  assert.ok(growth <= GROWTH_MIB, `${growth} MiB more`)
})
