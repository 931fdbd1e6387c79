/** When calls are tried, and when only one is. */
export type BreakerState = 'closed' | 'open' | 'half-open'

/** Failures in a row that open it. */
const CONSECUTIVE = 3
/** Or a share of the calls of the last ten seconds, if there were enough to tell. */
const WINDOW_SECONDS = 10
const WINDOW_CALLS = 20
const WINDOW_SHARE = 0.5
/** Time between two probes. */
export const PROBE_INTERVAL = 250
/** A probe that nobody reported on does not bar others for ever. */
const PROBE_LOST = 20_000

interface Second {
  second: number
  calls: number
  failures: number
}

/**
 * A circuit breaker without I/O and without timers: every answer follows from the time that it is given, in
 * milliseconds of a clock that nobody sets back.
 */
export class Breaker {
  readonly #minOpenMs: number
  readonly #random: () => number
  readonly #window: Second[] = []
  #consecutive = 0
  #opened = false
  #nextProbe = 0
  #probeSince: number | undefined

  constructor(minOpenMs: number, random: () => number = Math.random) {
    this.#minOpenMs = minOpenMs
    this.#random = random
  }

  state(now: number): BreakerState {
    if (!this.#opened) return 'closed'
    return now >= this.#nextProbe ? 'half-open' : 'open'
  }

  succeeded(now: number): void {
    if (this.#opened) return
    this.#consecutive = 0
    this.#second(now).calls += 1
  }

  /** `true` if that opened it. */
  failed(now: number): boolean {
    if (this.#opened) return false
    this.#consecutive += 1
    const second = this.#second(now)
    second.calls += 1
    second.failures += 1
    const calls = this.#window.reduce((sum, each) => sum + each.calls, 0)
    const failures = this.#window.reduce((sum, each) => sum + each.failures, 0)
    const often = calls >= WINDOW_CALLS && failures >= calls * WINDOW_SHARE
    return (this.#consecutive >= CONSECUTIVE || often) && this.trip(now)
  }

  /** Opens it, whatever the calls say. `true` unless it was open. */
  trip(now: number): boolean {
    if (this.#opened) return false
    this.#opened = true
    this.#probeSince = undefined
    // Spread, so that processes that failed together do not come back together.
    this.#nextProbe = now + this.#minOpenMs * (0.7 + 0.2 * this.#random())
    return true
  }

  /** Milliseconds until a probe makes sense. */
  untilProbe(now: number): number {
    return this.#opened ? Math.max(this.#nextProbe - now, 0) : 0
  }

  /** Whether the caller may try whether it works again. Whoever gets `true` reports with `close` or `probeFailed`. */
  mayProbe(now: number): boolean {
    if (this.state(now) !== 'half-open') return false
    if (this.#probeSince !== undefined && now - this.#probeSince < PROBE_LOST) return false
    this.#probeSince = now
    return true
  }

  probeFailed(now: number): void {
    this.#probeSince = undefined
    this.#nextProbe = now + PROBE_INTERVAL
  }

  close(): void {
    this.#opened = false
    this.#probeSince = undefined
    this.#consecutive = 0
    this.#window.length = 0
  }

  #second(now: number): Second {
    const second = Math.floor(now / 1000)
    while (this.#window.length > 0 && this.#window[0]!.second <= second - WINDOW_SECONDS) this.#window.shift()
    const last = this.#window.at(-1)
    if (last?.second === second) return last
    const next = { second, calls: 0, failures: 0 }
    this.#window.push(next)
    return next
  }
}
