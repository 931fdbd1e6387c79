/** One case of the crash matrix: an operation, a moment, a thing that goes wrong. It follows from a seed and a number. */
import { random } from '../helpers/random'
import { OPERATIONS, type Operation } from './crash-operations'

/** Where on its way a request or its reply is when it happens. */
const MOMENTS = [
  'before sending',
  'inside the request',
  'after the request',
  'before the reply',
  'inside the reply',
] as const
type Moment = (typeof MOMENTS)[number]

/** What happens. `kill` ends the server as a crash does; `wipe` does so on one that keeps nothing. */
const MEANS = ['end', 'reset', 'kill', 'kill', 'kill', 'wipe', 'black-hole', 'late', 'twice'] as const
type Means = (typeof MEANS)[number]

export interface Case {
  number: number
  operation: Operation
  moment: Moment
  means: Means
  /** Where in the message, if inside. */
  part: number
  /** Which of the requests of the call, of those that it has. */
  request: number
  /** Scripts are known to the server, are not, or were forgotten. */
  scripts: 'cold' | 'warm' | 'flushed'
  /** Whether the server comes back before the deadline of the call. */
  prompt: boolean
  /** Of the connection, in milliseconds. */
  deadline: number
}

/** Another order for every seed, in which each operation meets each moment once in a round. */
export function caseOf(seed: number, number: number): Case {
  const dice = random(seed * 1_000_003 + number)
  const cells = OPERATIONS.length * MOMENTS.length
  const cell = (number * stride(cells) + seed * 7919) % cells
  const moment = MOMENTS[cell % MOMENTS.length] as Moment
  const operation = OPERATIONS[Math.floor(cell / MOMENTS.length)] as Operation
  const means = dice.pick(
    MEANS.filter((each) => moment.includes('request') || !['late', 'twice'].includes(each)),
  )
  const prompt = means === 'black-hole' ? false : dice.below(5) > 0
  return {
    number,
    operation,
    moment,
    means,
    part: dice.below(1000) / 1000,
    request: dice.below(1000),
    scripts: dice.pick(['cold', 'warm', 'flushed'] as const),
    prompt,
    deadline: prompt ? 6000 : 250,
  }
}

function stride(cells: number): number {
  const common = (a: number, b: number): number => (b === 0 ? a : common(b, a % b))
  let found = Math.floor(cells * 0.618)
  while (common(found, cells) !== 1) found += 1
  return found
}

export function describeCase({ number, operation, moment, means, scripts, prompt }: Case): string {
  return `case ${number}: ${operation.name}, ${means} ${moment}, scripts ${scripts}, ${prompt ? 'back soon' : 'back late'}`
}
