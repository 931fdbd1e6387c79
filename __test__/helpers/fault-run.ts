/**
 * How long a test of faults runs, and what decides its choices. `npm test` runs the short form; `npm run test:faults`
 * sets both.
 */
export interface FaultRun {
  /** How long the fault lasts. */
  readonly seconds: number
  /** Whether this is more than the short form. */
  readonly long: boolean
  readonly seed: number
  /** Evenly from 0 to 1, the same sequence for the same seed. */
  random(): number
}

/** Prints the seed, so that a failure can be had again. */
export function faultRun(title: string, shortSeconds: number): FaultRun {
  const given = process.env['FERROFLOW_FAULT_SECONDS']
  const seed = Number(process.env['FERROFLOW_FAULT_SEED'] ?? Math.floor(Math.random() * 2 ** 32))
  const seconds = given === undefined ? shortSeconds : Number(given)
  console.log(`${title}: ${seconds} s, --seed ${seed}`)
  return { seconds, long: given !== undefined, seed, random: mulberry32(seed) }
}

function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let word = Math.imul(state ^ (state >>> 15), state | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32
  }
}

/** One of them. */
export function pick<T>(from: readonly T[], random: () => number): T {
  return from[Math.floor(random() * from.length)] as T
}
