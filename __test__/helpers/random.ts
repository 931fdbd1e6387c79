/** Random numbers that come again with the same seed. */
import type { TestContext } from 'node:test'

export interface Random {
  /** A whole number from 0 to below the bound. */
  below(bound: number): number
  pick<T>(list: readonly T[]): T
}

export function random(seed: number): Random {
  // mulberry32
  let state = seed >>> 0
  const below = (bound: number): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound)
  }
  return { below, pick: (list) => list[below(list.length)] as (typeof list)[number] }
}

/** The seed that LOCK_HISTORY_SEED names, or this one; the test says which. */
export function seedOf(t: TestContext, usual: number): number {
  const seed = Number(process.env['LOCK_HISTORY_SEED'] ?? usual)
  t.diagnostic(`LOCK_HISTORY_SEED=${seed}`)
  return seed
}
