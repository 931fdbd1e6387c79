import { ConnectionError } from '../errors.js'

/** What every entry costs beside its text. */
const OVERHEAD = 400

/** A write that waits. */
export interface Waiting {
  /** Characters of the texts that it holds. */
  readonly length: number
}

/** Writes of one kind that wait for Redis: one for each name. */
export class WriteJournal<W extends Waiting> {
  readonly #entries = new Map<string, { write: W; bytes: number }>()
  readonly #budget: JournalBudget

  constructor(budget: JournalBudget) {
    this.#budget = budget
  }

  get size(): number {
    return this.#entries.size
  }

  get(name: string): W | undefined {
    return this.#entries.get(name)?.write
  }

  /**
   * Puts a write in the place of the one of this name.
   *
   * @throws {@link ConnectionError} `QUEUE_FULL` if there is no room; then the one of before stays
   */
  put(name: string, write: W): void {
    const old = this.#entries.get(name)
    const bytes = (name.length + write.length) * 2 + OVERHEAD
    this.#budget.take(bytes - (old?.bytes ?? 0), old === undefined ? 1 : 0)
    this.#entries.set(name, { write, bytes })
  }

  /** Takes a write out, unless another took its place. */
  settle(name: string, write: W): void {
    const entry = this.#entries.get(name)
    if (entry?.write === write) this.#remove(name, entry.bytes)
  }

  /** Takes out whatever is there. */
  drop(name: string): void {
    const entry = this.#entries.get(name)
    if (entry !== undefined) this.#remove(name, entry.bytes)
  }

  /** The names of all writes, the oldest first. */
  names(): string[] {
    return [...this.#entries.keys()]
  }

  /**
   * Has everything applied that waits now, so many at once; what comes meanwhile waits on, so that there is an end. A
   * write that fails waits on as well, and the first failure is thrown.
   */
  async drain(atOnce: number, apply: (name: string, write: W) => Promise<void>): Promise<void> {
    const names = this.names()
    for (let first = 0; first < names.length; first += atOnce) {
      // oxlint-disable-next-line no-await-in-loop -- some at a time
      const outcomes = await Promise.allSettled(
        names.slice(first, first + atOnce).map(async (name) => {
          const write = this.get(name)
          if (write === undefined) return
          await apply(name, write)
          this.settle(name, write)
        }),
      )
      const failed = outcomes.find((outcome) => outcome.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    }
  }

  #remove(name: string, bytes: number): void {
    this.#entries.delete(name)
    this.#budget.take(-bytes, -1)
  }
}

/** What all journals of a workstation may hold together. */
export class JournalBudget {
  readonly maxBytes: number
  #bytes = 0
  #entries = 0

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  get entries(): number {
    return this.#entries
  }

  take(bytes: number, entries: number): void {
    if (bytes > 0 && this.#bytes + bytes > this.maxBytes) {
      const message = `Redis is out of reach, and ${this.maxBytes} bytes of writes wait for it already`
      throw new ConnectionError('QUEUE_FULL', message, { retryable: true })
    }
    this.#bytes += bytes
    this.#entries += entries
  }
}
