import { BoundedMap } from './bounded-map.js'

const BOUNDS = { entries: 10_000, bytes: 32 * 1024 * 1024 }

interface Known {
  /** As it is stored; `undefined` for one that is not there. */
  json: string | undefined
  at: number
}

/** The last known states of executions. Reads may come back late; what is known since they began stays. */
export class LastKnown {
  readonly #states = new BoundedMap<Known>(BOUNDS.entries, BOUNDS.bytes)
  #now = 0

  get(executionId: string): string | undefined {
    return this.#states.get(executionId)?.json
  }

  ids(): string[] {
    return [...this.#states.keys()]
  }

  forget(executionId: string): void {
    this.#states.delete(executionId)
  }

  /** The moment at which a read begins, for {@link learn}. */
  moment(): number {
    this.#now += 1
    return this.#now
  }

  /** What a write has left there, or found. */
  remember(executionId: string, json: string | undefined): void {
    this.#set(executionId, json, this.moment())
  }

  /** What a read has found that began at a moment. */
  learn(executionId: string, json: string | undefined, began: number): void {
    if ((this.#states.get(executionId)?.at ?? 0) <= began) this.#set(executionId, json, began)
  }

  #set(executionId: string, json: string | undefined, at: number): void {
    this.#states.set(executionId, { json, at }, json?.length ?? 0)
  }
}
