/**
 * Every mutating operation, cut and killed at every moment. CRASH_CASES says how many cases, CRASH_SEED which,
 * CRASH_FROM with which number to begin, CRASH_CASE runs one of them alone: `npm run test:crash -- --cases 10000 --seed 7 --case 4711`.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { caseOf, describeCase } from './crash-case'
import { Lane } from './crash-matrix'
import type { Tally } from './crash-outcome'

const LANES = 3
/** More would say the same again. */
const FAILURES = 10

const count = Number(process.env['CRASH_CASES'] ?? 500)
const seed = Number(process.env['CRASH_SEED'] ?? 1)
const from = Number(process.env['CRASH_FROM'] ?? 0)
const only = process.env['CRASH_CASE']

describe('the crash matrix', () => {
  it('holds what was promised, whatever fails', async (t) => {
    const first = only === undefined ? from : Number(only)
    const end = only === undefined ? from + count : first + 1
    let number = first
    const failures: string[] = []
    const work = async (): Promise<Tally> => {
      const lane = await Lane.start()
      try {
        while (number < end && failures.length < FAILURES) {
          const each = caseOf(seed, number++)
          try {
            // oxlint-disable-next-line no-await-in-loop -- one case after the other
            await lane.run(each)
          } catch (error) {
            failures.push(
              `${describeCase(each)}\n${(error as Error).message}\nAlone: npm run test:crash -- --seed ${seed} --case ${each.number}`,
            )
          }
        }
      } finally {
        await lane.stop()
      }
      return lane.tally
    }
    const tallies = await Promise.all(Array.from({ length: Math.min(LANES, end - first) }, work))
    const sum = (name: keyof Tally): number => tallies.reduce((total, tally) => total + tally[name], 0)
    const names = ['cases', 'missed', 'acknowledged', 'refused', 'unknown'] as const
    t.diagnostic(`CRASH_SEED=${seed}: ${names.map((name) => `${sum(name)} ${name}`).join(', ')}`)
    assert.ok(failures.length === 0, failures.join('\n\n'))
    if (only === undefined)
      assert.ok(sum('missed') < sum('cases') / 20, `${sum('missed')} faults met nothing`)
  })
})
