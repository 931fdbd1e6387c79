/** Waiting for conditions, and measuring how long something took. */
import { setTimeout as delay } from 'node:timers/promises'

/** Looks until the condition holds; fails after `timeoutMs` with what was waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 5000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  // oxlint-disable-next-line no-await-in-loop -- polling
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${what}`)
    // oxlint-disable-next-line no-await-in-loop -- polling
    await delay(2)
  }
}

/** Milliseconds that a call took to settle, and how it did. */
export async function timed<T>(
  run: () => Promise<T>,
): Promise<{ ms: number; outcome: PromiseSettledResult<T> }> {
  const begin = performance.now()
  const [outcome] = await Promise.allSettled([run()])
  return { ms: performance.now() - begin, outcome }
}

export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] as number
}

/** A promise together with what settles it. */
export function deferred<T = void>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}

/** Blocks the event loop: nothing at all runs in this thread meanwhile. */
export function block(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
}
