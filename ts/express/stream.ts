import type { ServerResponse } from 'node:http'

import { HttpError, type HttpRequest } from './http.js'
import type { ServedState, WorkflowStateSource } from './source.js'
import { Feed } from './feed.js'
import { StreamClient } from './stream-client.js'

/** Options of the live streams. */
export interface StreamOptions {
  /** Time between two signs of life, in milliseconds. Also how long a change stays unseen that nobody announced. Default: 15,000. */
  heartbeatMs?: number
  /** Events per second and execution; what comes between is merged, and the last one always sent. Default: 10. */
  maxEventsPerSecond?: number
  /** A client that has not taken so many bytes by the next event is dropped. Default: 1 MiB. */
  maxBufferBytes?: number
  /** Clients of this process at once; more get a 503. Default: 10,000. */
  maxClients?: number
}

export type StreamLimits = Required<StreamOptions>

/** What is shown of a state. */
export type Present = (state: ServedState) => ServedState

/** Read again at once, without crowding out the calls of others. */
const REFRESH_BATCH = 100

/** The streams of one router: one subscription for all clients, one {@link Feed} an execution. */
export class ProgressStreams {
  readonly #source: WorkflowStateSource
  readonly #limits: StreamLimits
  readonly #present: Present
  readonly #feeds = new Map<string, Feed>()
  readonly #clients = new Set<StreamClient>()
  /** Clients, and requests that are about to become one. */
  #users = 0
  #watch: Promise<() => void> | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #closed = false

  constructor(source: WorkflowStateSource, limits: StreamLimits, present: Present) {
    this.#source = source
    this.#limits = limits
    this.#present = present
  }

  /** How many clients listen. */
  get size(): number {
    return this.#clients.size
  }

  /**
   * Answers a request with the stream of an execution. Rejects if it could not begin.
   *
   * @param expiresAt - when the client's token ends, in milliseconds since 1970
   */
  async open(
    executionId: string,
    request: HttpRequest,
    response: ServerResponse,
    { lastEventId, expiresAt }: { lastEventId: string | undefined; expiresAt: number | undefined },
  ): Promise<void> {
    if (this.#closed || this.#users >= this.#limits.maxClients)
      throw new HttpError(503, 'TOO_MANY_STREAMS', 'There is no room for another stream', {
        'Retry-After': '5',
      })
    const feed = this.#feedOf(executionId)
    this.#users += 1
    feed.users += 1
    try {
      // In this order, nothing can change unseen between the two.
      await this.#listen()
      const state = await feed.current()
      if (state === null) throw new HttpError(404, 'NOT_FOUND', 'Workflow state not found')
      if (response.destroyed || this.#closed) return this.#leave(feed)
      this.#join(new StreamClient(request, response, { lastEventId, expiresAt }), feed, state)
    } catch (error) {
      this.#leave(feed)
      throw error
    }
  }

  #join(client: StreamClient, feed: Feed, state: ServedState): void {
    if (!client.begin(state, () => feed.encode(state))) return this.#leave(feed)
    this.#clients.add(client)
    feed.add(client)
    client.onClose(() => {
      this.#clients.delete(client)
      feed.clients.delete(client)
      this.#leave(feed)
    })
    this.#heartbeat ??= setInterval(() => this.#beat(), this.#limits.heartbeatMs).unref()
  }

  #leave(feed: Feed): void {
    this.#users -= 1
    feed.users -= 1
    if (feed.users === 0) {
      feed.stop()
      this.#feeds.delete(feed.executionId)
    }
    if (this.#users === 0) this.#rest()
  }

  /** Without clients there is no timer and no subscription, which would keep the process alive. */
  #rest(): void {
    clearInterval(this.#heartbeat)
    this.#heartbeat = undefined
    const watch = this.#watch
    this.#watch = undefined
    void watch?.then(
      (stop) => stop(),
      () => undefined,
    )
  }

  #feedOf(executionId: string): Feed {
    let feed = this.#feeds.get(executionId)
    if (feed === undefined) {
      feed = new Feed(executionId, this.#source, this.#limits, this.#present)
      this.#feeds.set(executionId, feed)
    }
    return feed
  }

  async #listen(): Promise<void> {
    const watch = (this.#watch ??= this.#source.watchProgress({
      progress: ({ executionId, state }) => this.#feeds.get(executionId)?.update(state),
      gap: () => void this.#refresh(),
    }))
    try {
      await watch
    } catch (error) {
      if (this.#watch === watch) this.#watch = undefined
      throw error
    }
  }

  #beat(): void {
    const now = Date.now()
    for (const client of this.#clients) client.beat(now, this.#limits.maxBufferBytes)
    // Other packages change states without announcing it.
    void this.#refresh()
  }

  async #refresh(): Promise<void> {
    const feeds = [...this.#feeds.values()]
    for (let at = 0; at < feeds.length; at += REFRESH_BATCH) {
      // oxlint-disable-next-line no-await-in-loop -- one batch after the other
      await Promise.all(feeds.slice(at, at + REFRESH_BATCH).map((feed) => feed.refresh()))
    }
  }

  /** Ends all streams. Clients come back by themselves, to another process or after the restart. */
  close(): void {
    this.#closed = true
    for (const client of this.#clients) client.end()
  }
}
