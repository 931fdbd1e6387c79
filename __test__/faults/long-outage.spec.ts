/** A server that is away for long while calls go on: memory stays bounded, and every call settles in time. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { faultRun } from '../helpers/fault-run'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'

const MARGIN_MS = 250
const GROWTH_MIB = 80
const WARM_UP_MS = 4000

const run = faultRun('outage', 5)
/** In the long form the defaults at full load; the short one fills a smaller queue, beside other tests. */
const [rate, deadlineMs, queue] = run.long ? [5000, 5000, 10_000] : [1000, 2500, 2000]

interface Result {
  calls: number
  /** How many calls settled how; `done` is without an error. */
  outcomes: Record<string, number>
  /** Milliseconds of the slowest call during the outage. */
  slowestMs: number
  /** Milliseconds that the event loop itself was late at most: no call can settle while it is. */
  latestTickMs: number
  beforeMiB: number
  highestMiB: number
}

/**
 * Calls the server at a steady rate: for a while as it is, then through an outage. Prints `warm` when that may begin,
 * and `result {…}` at the end. In plain JavaScript, and with as little of its own as can be for each call: what lives
 * for long in the heap counts several times, since V8 lets that much more pile up before it collects.
 */
const PROGRAM = `
  const { RedisLockManager, RedisSagaStore, RedisWorkflowStateService, connect } = require('./index.js')
  const { setTimeout: delay } = require('node:timers/promises')

  const TICK_MS = 5
  const MIB = 1024 * 1024
  const RATE = ${rate}
  const connection = connect(process.env.TARGET, {
    commandTimeout: ${deadlineMs}, maxQueuedCommands: ${queue},
  })
  const runs = new RedisWorkflowStateService(connection)
  const locks = new RedisLockManager(connection, { maxRetries: 0 })
  const sagas = new RedisSagaStore({ redis: connection })
  const text = 'x'.repeat(200)
  const epoch = new Date(0)
  const saga = (sagaId) => ({
    n: 0, text,
    metadata: { sagaId, version: 0, createdAt: epoch, updatedAt: epoch, isCompleted: false,
      archivedAt: null, timeoutExpiresAt: null },
  })
  const calls = [
    () => connection.command('GET', 'k'),
    () => connection.command('SET', 'k', text),
    (n) => runs.setStepResult('r' + (n % 100), 's', { text }),
    () => runs.getRun('r'),
    () => locks.isLocked('l'),
    (n) => sagas.save('S', saga('i' + (n % 100))),
  ]
  const result = { calls: 0, outcomes: {}, slowestMs: 0, latestTickMs: 0, beforeMiB: 0, highestMiB: 0 }
  let pending = 0
  let number = 0

  /** What becomes of the calls of one tick: a function for each call would be a third of what it keeps in the heap. */
  function settler() {
    const begin = performance.now()
    return (outcome) => {
      pending -= 1
      result.calls += 1
      const code = outcome instanceof Error ? outcome.code ?? String(outcome) : 'done'
      result.outcomes[code] = (result.outcomes[code] ?? 0) + 1
      result.slowestMs = Math.max(result.slowestMs, performance.now() - begin)
    }
  }

  function send(settle) {
    number += 1
    pending += 1
    calls[number % calls.length](number).then(settle, settle)
  }

  /** Calls at the rate for so long, whatever becomes of the calls. */
  async function traffic(ms) {
    const begin = performance.now()
    let sent = 0
    let last = begin
    for (let now = begin; now < begin + ms; now = performance.now()) {
      result.latestTickMs = Math.max(result.latestTickMs, now - last - TICK_MS)
      last = now
      // What a pause of the process has kept from being sent is not caught up with in one burst.
      const due = Math.min(((now - begin) / 1000) * RATE, sent + RATE / 10)
      const settle = settler()
      for (; sent < due; sent += 1) send(settle)
      result.highestMiB = Math.max(result.highestMiB, process.memoryUsage.rss() / MIB)
      await delay(TICK_MS)
    }
    while (pending > 0) await delay(TICK_MS)
  }

  async function main() {
    await traffic(${WARM_UP_MS})
    result.beforeMiB = result.highestMiB
    Object.assign(result, { calls: 0, outcomes: {}, slowestMs: 0, latestTickMs: 0 })
    console.log('warm')
    while (connection.status !== 'reconnecting') await delay(1)
    await traffic(${run.seconds * 1000})
    console.log('result ' + JSON.stringify(result))
    await connection.close()
  }
  main()
`

it(`an outage at ${rate} calls a second costs at most ${GROWTH_MIB} MiB, and every call settles in time`, async () => {
  await using server = await RedisServer.start()
  await using program = new Program(['--unhandled-rejections=strict', '--eval', PROGRAM], {
    env: { TARGET: server.url },
  })
  await program.printed(/^warm$/m, 60_000)
  await server.kill()
  const [, json] = await program.printed(/^result (.*)$/m, run.seconds * 1000 + deadlineMs + 60_000)
  const result = JSON.parse(json as string) as Result
  console.log(json)
  assert.ok(result.calls >= rate * run.seconds * 0.8, `only ${result.calls} calls`)
  assert.deepEqual(Object.keys(result.outcomes).toSorted(), ['QUEUE_FULL', 'REDIS_UNAVAILABLE'])
  // A process that gets no processor cannot settle anything.
  const allowed = deadlineMs + MARGIN_MS + result.latestTickMs
  assert.ok(result.slowestMs <= allowed, `the slowest call took ${result.slowestMs} ms`)
  const growth = result.highestMiB - result.beforeMiB
  assert.ok(growth <= GROWTH_MIB, `${growth} MiB more`)
})
