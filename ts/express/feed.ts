import type { ServedState, WorkflowStateSource } from './source.js'
import type { Present, StreamLimits } from './stream.js'
import { type StreamClient, encodeState, isFinal } from './stream-client.js'

/** One execution and those who watch it. */
export class Feed {
  readonly executionId: string
  readonly clients = new Set<StreamClient>()
  /** Clients, and requests that are about to become one. */
  users = 0
  readonly #source: WorkflowStateSource
  readonly #limits: StreamLimits
  readonly #present: Present
  #latest: ServedState | undefined
  #reading: Promise<ServedState | null> | undefined
  #sentAt = -Infinity
  #timer: NodeJS.Timeout | undefined

  constructor(executionId: string, source: WorkflowStateSource, limits: StreamLimits, present: Present) {
    this.executionId = executionId
    this.#source = source
    this.#limits = limits
    this.#present = present
  }

  /** The newest state that is known; read once for all who ask at the same time. */
  async current(): Promise<ServedState | null> {
    if (this.#latest === undefined) this.#take(await this.#read())
    return this.#latest ?? null
  }

  /** A client that just got the present state. */
  add(client: StreamClient): void {
    this.clients.add(client)
    this.#sentAt = performance.now()
  }

  #read(): Promise<ServedState | null> {
    this.#reading ??= this.#source.fetchWorkflowState(this.executionId).finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  /** A state that was announced; `null` if there is none any more. */
  update(state: ServedState | null): void {
    if (state === null) this.#clear()
    else if (this.#take(state)) this.#schedule()
  }

  /** Looks for itself. What cannot be read now is read again later. */
  async refresh(): Promise<void> {
    if (this.clients.size === 0) return
    try {
      const state = await this.#read()
      // Without Redis, a state that is not known may exist all the same.
      const reliable = (this.#source.degradation?.state ?? 'up') === 'up'
      if (state !== null || reliable) this.update(state)
    } catch {
      // The clients keep what they have.
    }
  }

  /** Whether a state is newer than the one before. Announcements and reads may arrive in any order. */
  #take(state: ServedState | null): boolean {
    if (state === null || (this.#latest !== undefined && state.updatedAt <= this.#latest.updatedAt))
      return false
    this.#latest = state
    return true
  }

  /** The first one goes out at once; then one an interval, with what is newest by then. */
  #schedule(): void {
    if (this.#timer !== undefined) return
    const wait = this.#sentAt + 1000 / this.#limits.maxEventsPerSecond - performance.now()
    if (wait <= 0) this.#send()
    // A timer may be early by a part of a millisecond.
    else this.#timer = setTimeout(() => this.#send(), Math.ceil(wait) + 1).unref()
  }

  #send(): void {
    this.#timer = undefined
    const state = this.#latest
    if (state === undefined) return
    this.#sentAt = performance.now()
    const event = this.encode(state)
    for (const client of this.clients) {
      client.send(event, state, this.#limits.maxBufferBytes)
      if (isFinal(state)) client.end(state.status)
    }
  }

  /** A state as an event, as far as it may be shown. */
  encode(state: ServedState): string {
    return encodeState(this.#present(state))
  }

  #clear(): void {
    this.#latest = undefined
    for (const client of this.clients) client.end('cleared')
  }

  /** Nothing is sent any more. */
  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
