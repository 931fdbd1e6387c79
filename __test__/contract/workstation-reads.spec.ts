/** Reads go on through outages: each sees one store alone, and never less than what this process wrote before. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createWorkstation } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { recovered } from '../helpers/outages'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const READS = 100_000
const READERS = 30
const OUTAGES = 5

it(`none of ${READS} reads mixes memory and Redis`, async () => {
  await using server = await RedisServer.start()
  await using proxy = await CountingProxy.start(server)
  const { port } = proxy
  const workstation = createWorkstation({
    redis: { port, commandTimeout: 500, redialDelay: 20 },
    degraded: { minOpenMs: 50 },
    log: false,
  })
  let [begun, written] = [0, 0]
  const reads = { redis: 0, memory: 0, unknown: 0 }
  const stopped = new AbortController()

  async function write(): Promise<void> {
    begun += 1
    const n = begun
    await Promise.all([
      workstation.setSession('u', { n }),
      workstation.updateWorkflowProgress('e', n, `step ${n}`, { n }),
    ])
    written = n
  }
  const isCurrent = (n: number, before: number): void =>
    assert.ok(n >= before && n <= begun, `${n}, and ${before} was written`)

  async function read(): Promise<void> {
    const before = written
    const [entry, state, page] = await Promise.all([
      workstation.getSessionEntry('u'),
      workstation.fetchWorkflowState('e'),
      workstation.pageActiveWorkflows(),
    ])
    // A copy is there only of what was written or read since the last outage.
    if (entry === null) reads.unknown += 1
    else {
      isCurrent(entry.session['n'] as number, before)
      reads[entry.stale ? 'memory' : 'redis'] += 1
    }
    isCurrent((state!.data as { n: number }).n, before)
    reads[state!.degraded === true ? 'memory' : 'redis'] += 1
    const [first, ...others] = page.workflows
    assert.deepEqual(
      others.map(({ degraded }) => degraded),
      [undefined, undefined].map(() => first!.degraded),
    )
    assert.equal(first!.degraded === true, page.degraded)
    isCurrent((first!.data as { n: number }).n, before)
    reads[page.degraded ? 'memory' : 'redis'] += 1
  }
  async function forever(work: () => Promise<void>): Promise<void> {
    while (!stopped.signal.aborted) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await work()
      // What comes from memory leaves no turn to anybody else.
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await turn()
    }
  }
  const total = (): number => reads.redis + reads.memory

  try {
    await Promise.all(['e', 'f', 'g'].map((id) => workstation.startWorkflowTracking(id, 'wf', 1_000_000)))
    await write()
    const work = Promise.all([forever(write), ...Array.from({ length: READERS }, () => forever(read))])
    // Reported here at once, not after the last outage.
    work.catch(() => stopped.abort())
    const more = async (what: keyof typeof reads, count: number): Promise<void> => {
      const enough = reads[what] + count
      await until(`reads from ${what}`, () => stopped.signal.aborted || reads[what] >= enough, 60_000)
    }
    // Those of Redis go through a proxy of this process, which takes most of the time.
    const share = { redis: (READS / OUTAGES) * 0.25, memory: (READS / OUTAGES) * 0.75 }
    for (let outage = 0; outage < OUTAGES && !stopped.signal.aborted; outage += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await more('redis', share.redis)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await proxy.refuse()
      proxy.cut(outage % 2 === 0 ? 'reset' : 'end')
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await more('memory', share.memory)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await proxy.resume()
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      if (!stopped.signal.aborted) await recovered(workstation)
    }
    stopped.abort()
    await work
    assert.ok(total() >= READS, JSON.stringify(reads))
    assert.ok(reads.unknown < READS / 100, JSON.stringify(reads))
  } finally {
    stopped.abort()
    await workstation.close()
  }
})
