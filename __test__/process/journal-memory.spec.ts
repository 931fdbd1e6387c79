/** A journal that is full takes no more memory than it says. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Program } from '../helpers/program'

const MIB = 1024 * 1024
const LIMIT = 64 * MIB

interface Filled {
  entries: number
  /** By its own account. */
  bytes: number
  /** By that of V8. */
  heap: number
  rss: number
}

/** Calls until the journal of a workstation without a server is full. */
const PROGRAM = `
  const { createWorkstation } = require('./index.js')
  const calls = {
    'short sessions': (workstation, n) => workstation.setSession('user' + n, { n }),
    sessions: (workstation, n) => workstation.setSession('user' + n, { n, text: 'x'.repeat(200) + n }),
    'sessions of wide characters': (workstation, n) =>
      workstation.setSession('user' + n, { n, text: '\\u00e9\\u6f22'.repeat(100) + n }),
    logouts: (workstation, n) => workstation.deleteSession('user' + n),
    executions: (workstation, n) => workstation.startWorkflowTracking('execution' + n, 'wf', 5, { n }),
  }
  const taken = () => {
    gc()
    const { heapUsed, external, rss } = process.memoryUsage()
    return { heap: heapUsed + external, rss }
  }
  async function fill(call) {
    const workstation = createWorkstation({ redis: { port: 1, commandTimeout: 100 }, log: false })
    await workstation.setSession('first', {})
    const before = taken()
    try {
      for (let n = 0; ; n += 1) await call(workstation, n)
    } catch (error) {
      if (error.code !== 'QUEUE_FULL') throw error
    }
    const { entries, bytes } = workstation.degradation.journal
    const after = taken()
    console.log('filled ' + JSON.stringify({ entries, bytes, heap: after.heap - before.heap, rss: after.rss - before.rss }))
    process.exit(0)
  }
  void fill(calls[process.env.CALL])
`

describe('a journal of 64 MiB, filled with', () => {
  for (const call of ['short sessions', 'sessions', 'sessions of wide characters', 'logouts', 'executions'])
    it(`${call}, takes no more than that of the heap`, async () => {
      await using program = new Program(['--expose-gc', '--eval', PROGRAM], { env: { CALL: call } })
      const [, json = ''] = await program.printed(/^filled (.*)$/m, 60_000)
      const { entries, bytes, heap, rss } = JSON.parse(json) as Filled
      console.log(
        `${entries} ${call}: ${Math.round(heap / MIB)} MiB of heap, ${Math.round(rss / MIB)} of memory`,
      )
      assert.ok(entries > 10_000 && bytes <= LIMIT && bytes > LIMIT - MIB, json)
      assert.ok(heap <= LIMIT, json)
    })
})
