/**
 * Calls a server at a steady rate: for a while as it is, then through an outage. Talks by lines on standard output:
 * `warm` when the outage may begin, `result {…}` at the end.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { RedisLockManager, RedisSagaStore, RedisWorkflowStateService, connect } from '../../index.js'
import { pick } from '../helpers/fault-run'
import { counter } from '../helpers/saga-states'
import { until } from '../helpers/wait'

export interface OutageResult {
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

// What a program under test would not pay: tsx has stacks of errors translated.
process.setSourceMapsEnabled(false)

const TICK_MS = 5
const WARM_UP_MS = 4000
const MIB = 1024 * 1024

const [target = '', rateText, secondsText, deadlineText, queueText] = process.argv.slice(2)
const rate = Number(rateText)
const connection = connect(target, {
  commandTimeout: Number(deadlineText),
  maxQueuedCommands: Number(queueText),
})
const runs = new RedisWorkflowStateService(connection)
const locks = new RedisLockManager(connection, { maxRetries: 0 })
const sagas = new RedisSagaStore({ redis: connection })
const text = 'x'.repeat(200)

let number = 0
const calls: (() => Promise<unknown>)[] = [
  () => connection.command('GET', 'k'),
  () => connection.command('SET', 'k', text),
  () => runs.setStepResult(`r${number % 100}`, 's', { text }),
  () => runs.getRun('r'),
  () => locks.isLocked('l'),
  () => sagas.save('S', counter(`i${number % 100}`)),
]

const result: OutageResult = {
  calls: 0,
  outcomes: {},
  slowestMs: 0,
  latestTickMs: 0,
  beforeMiB: 0,
  highestMiB: 0,
}

let pending = 0

/** As little of its own as can be for each call, since memory is what is measured. */
function send(): void {
  number += 1
  pending += 1
  const begin = performance.now()
  const settle = (error: unknown): void => {
    pending -= 1
    result.calls += 1
    const outcome = error instanceof Error ? ((error as { code?: string }).code ?? String(error)) : 'done'
    result.outcomes[outcome] = (result.outcomes[outcome] ?? 0) + 1
    result.slowestMs = Math.max(result.slowestMs, performance.now() - begin)
  }
  pick(calls, Math.random)().then(settle, settle)
}

/** Calls at the rate for so long, whatever becomes of the calls. */
async function traffic(ms: number): Promise<void> {
  const begin = performance.now()
  let sent = 0
  let last = begin
  for (let now = begin; now < begin + ms; now = performance.now()) {
    result.latestTickMs = Math.max(result.latestTickMs, now - last - TICK_MS)
    last = now
    // What a pause of the process has kept from being sent is not caught up with in one burst.
    const due = Math.min(((now - begin) / 1000) * rate, sent + rate / 10)
    while (sent < due) {
      sent += 1
      send()
    }
    result.highestMiB = Math.max(result.highestMiB, process.memoryUsage.rss() / MIB)
    // oxlint-disable-next-line no-await-in-loop -- a clock
    await delay(TICK_MS)
  }
  await until('everything has settled', () => pending === 0, 60_000)
}

async function main(): Promise<void> {
  await traffic(WARM_UP_MS)
  result.beforeMiB = result.highestMiB
  Object.assign(result, { calls: 0, outcomes: {}, slowestMs: 0, latestTickMs: 0 })
  console.log('warm')
  while (connection.status !== 'reconnecting') {
    // oxlint-disable-next-line no-await-in-loop -- polling
    await delay(1)
  }
  await traffic(Number(secondsText) * 1000)
  console.log(`result ${JSON.stringify(result)}`)
  await connection.close()
}

void main()
