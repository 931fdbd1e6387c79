/** How a call of the crash matrix ended, and how it ends without a fault. */
import { inspect } from 'node:util'
import { FerroflowError } from '../../index.js'
import { timeless } from './dump'

export interface Outcome {
  status: 'acknowledged' | 'refused' | 'unknown'
  /** The answer or the code. */
  what: string
}

/** What an operation does without faults, once and once more. */
export interface Reference {
  before: string
  after: string
  again: string
  first: Outcome
  second: Outcome
  requests: number
}

/** Codes that say that nothing was written. */
export const REFUSED = new Set([
  'REDIS_UNAVAILABLE',
  'QUEUE_FULL',
  'SERVER_NOT_READY',
  'LOCK_TIMEOUT',
  'LOCK_HELD',
  'TIMEOUT',
])
const UNKNOWN = new Set(['OUTCOME_UNKNOWN', 'LOCK_LOST'])

export interface Tally {
  cases: number
  /** Cases whose fault found no message. */
  missed: number
  acknowledged: number
  refused: number
  unknown: number
}

export function outcomeOf(settled: PromiseSettledResult<unknown>): Outcome {
  if (settled.status === 'fulfilled') return { status: 'acknowledged', what: timeless(settled.value) }
  const { reason } = settled
  if (!(reason instanceof FerroflowError)) {
    // @pikku/core wraps nothing, and users' own classes do not occur here.
    const code = (reason as { code?: unknown })?.code
    if (typeof code !== 'string') throw new Error(`not an error of ours: ${inspect(reason)}`)
    return { status: 'refused', what: code }
  }
  return { status: UNKNOWN.has(reason.code) ? 'unknown' : 'refused', what: reason.code }
}

export function assertEqual(what: string, actual: string, expected: string): void {
  if (actual !== expected)
    throw new Error(`${what} is\n${actual || '(nothing)'}\nand not\n${expected || '(nothing)'}`)
}
