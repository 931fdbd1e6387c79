/** Calls under which something else happens, and what became of them. */
import type { FerroflowError } from '../../index.js'
import { until } from './wait'

/** Calls without end, each after the other, in so many lanes. */
export class Load {
  succeeded = 0
  /** When a call succeeded for the last time, by lane. */
  readonly last: number[] = []
  /** How often calls failed, by code; with the text where the code is not one of a lost connection. */
  readonly codes = new Map<string, number>()
  #stopped = false
  readonly #done: Promise<unknown>

  constructor(lanes: number, call: (lane: number, index: number) => Promise<unknown>) {
    this.#done = Promise.all(Array.from({ length: lanes }, (_, lane) => this.#run(lane, call)))
  }

  async #run(lane: number, call: (lane: number, index: number) => Promise<unknown>): Promise<void> {
    for (let index = 0; !this.#stopped; index++) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- one after the other is the load
        await call(lane, index)
        this.succeeded += 1
        this.last[lane] = performance.now()
      } catch (error) {
        const { code, message } = error as FerroflowError
        const text = code === 'OUTCOME_UNKNOWN' || code === 'REDIS_UNAVAILABLE' ? code : `${code} ${message}`
        this.codes.set(text, (this.codes.get(text) ?? 0) + 1)
      }
    }
  }

  /** Waits for so many more successes. */
  async more(count: number, timeoutMs = 5000): Promise<void> {
    const goal = this.succeeded + count
    await until(`${count} more calls`, () => this.succeeded >= goal, timeoutMs)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }
}
