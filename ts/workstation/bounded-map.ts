/** What every entry costs beside its value. */
const OVERHEAD = 200

interface Entry<V> {
  value: V
  bytes: number
  at: number
}

/** Values by name, those that were written longest ago forgotten first. */
export class BoundedMap<V> {
  readonly #entries = new Map<string, Entry<V>>()
  readonly #maxEntries: number
  readonly #maxBytes: number
  #bytes = 0

  constructor(maxEntries: number, maxBytes: number) {
    this.#maxEntries = maxEntries
    this.#maxBytes = maxBytes
  }

  get size(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#bytes
  }

  /** @param length - of what is kept, in characters of a string */
  set(name: string, value: V, length: number): void {
    this.delete(name)
    const bytes = (name.length + length) * 2 + OVERHEAD
    if (bytes > this.#maxBytes) return
    this.#entries.set(name, { value, bytes, at: performance.now() })
    this.#bytes += bytes
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes && this.#entries.size <= this.#maxEntries) break
      this.delete(oldest)
    }
  }

  /** @param maxAge - milliseconds since it was written */
  get(name: string, maxAge = Infinity): V | undefined {
    const entry = this.#entries.get(name)
    return entry !== undefined && performance.now() - entry.at <= maxAge ? entry.value : undefined
  }

  delete(name: string): void {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    this.#bytes -= entry.bytes
    this.#entries.delete(name)
  }

  clear(): void {
    this.#entries.clear()
    this.#bytes = 0
  }

  keys(): IterableIterator<string> {
    return this.#entries.keys()
  }
}
