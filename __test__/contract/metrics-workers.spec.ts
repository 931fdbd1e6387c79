/** What worker threads do is in the metrics of the process, also of threads that ended. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { added, scrape } from '../helpers/metrics'
import { until } from '../helpers/wait'

const repository = join(__dirname, '../..')

function start(program: string): Worker {
  const require = "const ferroflow = require(require('node:worker_threads').workerData)"
  return new Worker(`${require}\n${program}`, { eval: true, workerData: repository })
}

async function active(): Promise<number | undefined> {
  return (await scrape()).get('redis_fallback_active')
}

async function journaled(): Promise<number | undefined> {
  return (await scrape()).get('ferroflow_fallback_ops_total{class="session"}')
}

describe('metrics of worker threads', () => {
  it('tell how their locks were waited for, held and lost', async () => {
    const change = await added(() =>
      once(
        start(`
          const [locks, others] = [1, 2].map(() => new ferroflow.RedisLockManager('memory://locks-of-a-worker', { defaultTTL: 500 }))
          const held = (async () => {
            const token = await locks.acquire('a')
            const waiting = others.acquire('a')
            await locks.release('a', token)
            await others.release('a', await waiting)
          })()
          const lost = locks.withLock('b', async ({ signal }) => {
            await others.forceRelease('b')
            const awake = setInterval(() => {}, 1000)
            await new Promise((resolve) => signal.addEventListener('abort', resolve))
            clearInterval(awake)
          })
          void Promise.allSettled([held, lost])`),
        'exit',
      ),
    )
    assert.equal(change['ferroflow_lock_wait_seconds_count'], 3)
    assert.equal(change['ferroflow_lock_hold_seconds_count'], 3)
    assert.equal(change['ferroflow_lock_acquisitions_total{outcome="granted"}'], 3)
    assert.equal(change['ferroflow_lock_lost_total{reason="gone"}'], 1)
  })

  it('say that a workstation does without Redis, until its thread ends', async () => {
    assert.equal(await active(), undefined, 'there is no workstation')
    const worker = start(`
      const workstation = ferroflow.createWorkstation({ redis: { port: 1, commandTimeout: 100 }, log: false })
      void workstation.setSession('u', {})
      setInterval(() => {}, 1000)`)
    await until('it is seen', async () => (await active()) === 1 && (await journaled()) === 1)
    await worker.terminate()
    await until('it is forgotten', async () => (await active()) === 0)
    assert.equal(await journaled(), 1)
  })
})
