import type { Connection, ConnectionStatus } from '../connection.js'
import { nativeOf } from '../connection.js'
import { ConnectionError, FerroflowError } from '../errors.js'
import { binding } from '../native.js'
import type { DegradationState, FallbackClass, Replay, Transition } from './api.js'
import { Breaker, PROBE_INTERVAL } from './breaker.js'

const UNREACHABLE: ReadonlySet<string> = new Set([
  'REDIS_UNAVAILABLE',
  'TIMEOUT',
  'OUTCOME_UNKNOWN',
  'QUEUE_FULL',
  'SERVER_NOT_READY',
])

/** Whether an error says that Redis did not, or may not have, done what it was asked. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof FerroflowError && UNREACHABLE.has(error.code)
}

/** A lost connection that is back this soon is nothing to speak of. */
const GRACE = 100

/** So few writes are soon done, so others can wait for them. */
const FEW = 256
/** If there are not fewer after so many rounds, there never will be. */
const ROUNDS = 10

/** What the gate needs of its surroundings. */
export interface Surroundings {
  /** Writes what was journaled, or fails with an error that {@link isUnreachable}. */
  drain(): Promise<Replay>
  /** How many writes there are. */
  waiting(): number
  /** Drops copies that only served while Redis was away. */
  forget(): void
  changed(transition: Transition): void
  replayed(replay: Replay): void
}

/**
 * Decides whether calls go to Redis. The states follow one another: up, degraded, recovering, up. What is read and
 * written in between comes from memory alone, so that nobody sees a mixture.
 */
export class Gate {
  readonly #connection: Connection
  readonly #surroundings: Surroundings
  readonly #breaker: Breaker
  /** The same numbers for the metrics, over all workstations of all threads. */
  readonly #counted = new binding.NativeFallback()
  readonly #fallbackOps: Record<FallbackClass, number> = {
    cache: 0,
    session: 0,
    delete: 0,
    progress: 0,
    lock: 0,
    command: 0,
  }
  readonly #onStatus = (status: ConnectionStatus, reason: string | undefined): void =>
    this.#heard(status, reason)
  #state: DegradationState = 'up'
  #since = Date.now()
  #reason: string | undefined
  #timer: NodeJS.Timeout | undefined
  #grace: NodeJS.Timeout | undefined
  #closed = false
  #ending: { done: Promise<void>; end(): void } | undefined

  constructor(connection: Connection, minOpenMs: number, surroundings: Surroundings) {
    this.#connection = connection
    this.#surroundings = surroundings
    this.#breaker = new Breaker(minOpenMs)
    connection.on('status', this.#onStatus)
  }

  get state(): DegradationState {
    return this.#state
  }

  get up(): boolean {
    return this.#state === 'up'
  }

  get since(): number {
    return this.#since
  }

  get reason(): string | undefined {
    return this.#reason
  }

  get fallbackOps(): Record<FallbackClass, number> {
    return { ...this.#fallbackOps }
  }

  /**
   * There at the end of a recovery: writes wait for it instead of being journaled. Otherwise a steady stream of them
   * would keep it from ever coming to its end. Otherwise nobody waits, not even a turn: calls leave in the order in which
   * they were made.
   */
  get ending(): Promise<void> | undefined {
    return this.#ending?.done
  }

  /** Notes an operation that is answered without Redis. */
  fallback(kind: FallbackClass): void {
    this.#fallbackOps[kind] += 1
    this.#counted.count(kind)
    // Also where no timer ran for long.
    void this.#probe()
  }

  /** Refuses an operation that only Redis can answer. */
  refuse(kind: FallbackClass): never {
    this.fallback(kind)
    throw new ConnectionError('REDIS_UNAVAILABLE', 'Redis is out of reach, so nothing was done', {
      retryable: true,
    })
  }

  /** Runs an operation that only Redis can answer. */
  async strictly<T>(kind: FallbackClass, operation: () => Promise<T>): Promise<T> {
    return this.up ? this.run(operation) : this.refuse(kind)
  }

  /** Runs an operation while the gate is up, and learns from how it ends. */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    try {
      const value = await operation()
      this.#breaker.succeeded(performance.now())
      return value
    } catch (error) {
      if (isUnreachable(error) && this.#breaker.failed(performance.now())) {
        this.#degrade((error as FerroflowError).code)
      }
      throw error
    }
  }

  /** Something waits to be written, so nothing is read past it. */
  hold(reason: string): void {
    if (this.#breaker.trip(performance.now())) this.#degrade(reason)
  }

  /** Tries at once what is tried from time to time. */
  reconnect(): void {
    nativeOf(this.#connection).redial(true)
    void this.#probe()
  }

  close(): void {
    this.#closed = true
    this.#counted.setActive(false)
    clearTimeout(this.#timer)
    clearTimeout(this.#grace)
    this.#connection.off('status', this.#onStatus)
  }

  /** Resolves when the gate is up, or the time is over. */
  async settled(withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs
    this.reconnect()
    while (!this.up && performance.now() < deadline) {
      void this.#probe()
      // oxlint-disable-next-line no-await-in-loop -- waiting for a condition
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  #heard(status: ConnectionStatus, reason: string | undefined): void {
    clearTimeout(this.#grace)
    if (status === 'ready') void this.#probe()
    if (status !== 'reconnecting' || !this.up) return
    this.#grace = setTimeout(() => {
      if (this.#connection.status === 'reconnecting') this.hold(reason ?? 'the connection was lost')
    }, GRACE)
    this.#grace.unref()
  }

  #degrade(reason: string): void {
    this.#move('degraded', reason)
    this.#tickLater()
  }

  #tickLater(): void {
    clearTimeout(this.#timer)
    if (this.#closed || this.up) return
    const pause = this.#breaker.untilProbe(performance.now())
    const wait = pause > 0 ? Math.min(pause + 1, PROBE_INTERVAL) : PROBE_INTERVAL
    this.#timer = setTimeout(() => {
      nativeOf(this.#connection).redial(false)
      void this.#probe().finally(() => this.#tickLater())
    }, wait)
    this.#timer.unref()
  }

  async #probe(): Promise<void> {
    // A call that waits for a connection would keep the process alive for nothing.
    if (this.#closed || this.#state !== 'degraded' || this.#connection.status !== 'ready') return
    if (!this.#breaker.mayProbe(performance.now())) return
    try {
      await this.#connection.command('PING')
    } catch (error) {
      // That it is not allowed is an answer too.
      if (isUnreachable(error)) return this.#breaker.probeFailed(performance.now())
    }
    await this.#recover()
  }

  async #recover(): Promise<void> {
    if (this.#closed || this.#state !== 'degraded') return
    this.#move('recovering', 'Redis answers')
    const replay: Replay = { applied: 0, rejected: 0 }
    try {
      await this.#drain(replay)
      this.#surroundings.forget()
      this.#breaker.close()
      this.#move('up', `${replay.applied} journaled writes applied, ${replay.rejected} rejected`)
    } catch (error) {
      this.#breaker.probeFailed(performance.now())
      this.#move('degraded', error instanceof FerroflowError ? error.code : String(error))
      this.#tickLater()
      return
    } finally {
      this.#ending?.end()
      this.#ending = undefined
    }
    this.#surroundings.replayed(replay)
  }

  /** Until nothing has come meanwhile. */
  async #drain(replay: Replay): Promise<void> {
    for (let round = 1; ; round += 1) {
      // oxlint-disable-next-line no-await-in-loop -- what came meanwhile comes after what was there
      const { applied, rejected } = await this.#surroundings.drain()
      replay.applied += applied
      replay.rejected += rejected
      const waiting = this.#surroundings.waiting()
      if (waiting === 0) return
      if (waiting > FEW && round < ROUNDS) continue
      this.#ending ??= deferred()
    }
  }

  #move(to: DegradationState, reason: string): void {
    const from = this.#state
    this.#state = to
    this.#counted.setActive(to !== 'up' && !this.#closed)
    this.#since = Date.now()
    this.#reason = to === 'up' ? undefined : reason
    this.#surroundings.changed({ from, to, at: this.#since, reason })
  }
}

function deferred(): { done: Promise<void>; end(): void } {
  let end!: () => void
  const done = new Promise<void>((resolve) => (end = resolve))
  return { done, end }
}
