import type { ServerResponse } from 'node:http'

import type { HttpRequest } from './http.js'
import type { ServedState } from './source.js'

const FINAL = new Set(['completed', 'failed', 'cancelled'])
/** How long clients wait before they come back, in milliseconds. */
const RETRY_MS = 2000

/** Whether an execution has ended. */
export function isFinal({ status }: ServedState): boolean {
  return FINAL.has(status)
}

/** The id of an event: the same in all processes, so that a client can go on with any of them. */
function idOf({ updatedAt }: ServedState): string {
  return String(updatedAt)
}

/** A state as an event. JSON has no line breaks. */
export function encodeState(state: ServedState): string {
  return `id: ${idOf(state)}\nevent: progress\ndata: ${JSON.stringify(state)}\n\n`
}

/** One response that stays open. */
export class StreamClient {
  readonly #request: HttpRequest
  readonly #response: ServerResponse
  readonly #expiresAt: number
  #lastId: string | undefined

  constructor(
    request: HttpRequest,
    response: ServerResponse,
    { lastEventId, expiresAt = Infinity }: { lastEventId?: string; expiresAt?: number },
  ) {
    this.#request = request
    this.#response = response
    this.#lastId = lastEventId
    this.#expiresAt = expiresAt
  }

  /** Begins with the present state, as an event, unless the client has it. Returns whether there is more to come. */
  begin(state: ServedState, event: () => string): boolean {
    const final = isFinal(state)
    if (final && this.#lastId === idOf(state)) {
      // An EventSource comes back for ever, except after this.
      this.#response.writeHead(204, { 'Cache-Control': 'no-store' }).end()
      return false
    }
    this.#response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      // Neither caches nor compression may hold events back.
      'Cache-Control': 'no-cache, no-transform',
      'X-Accel-Buffering': 'no',
      'X-Content-Type-Options': 'nosniff',
    })
    if (this.#request.method === 'HEAD') {
      this.#response.end()
      return false
    }
    this.#request.socket.setTimeout(0)
    this.#request.socket.setNoDelay(true)
    this.#response.write(`retry: ${RETRY_MS}\n\n`)
    if (this.#lastId !== idOf(state)) this.#write(event(), state)
    if (final) this.end(state.status)
    return !final
  }

  /** Passes an event on, unless the client has it. One who does not take what it gets is dropped. */
  send(event: string, state: ServedState, maxBufferBytes: number): void {
    if (!this.#open || this.#lastId === idOf(state)) return
    if (!this.#dropIfSlow(maxBufferBytes)) this.#write(event, state)
  }

  #write(event: string, state: ServedState): void {
    this.#lastId = idOf(state)
    this.#response.write(event)
  }

  /** A sign of life, which proxies and clients wait for. */
  beat(now: number, maxBufferBytes: number): void {
    // Ended a while ago, and it still does not take the end.
    if (!this.#open) return void this.#response.destroy()
    if (now >= this.#expiresAt) return this.end()
    if (!this.#dropIfSlow(maxBufferBytes)) this.#response.write(': heartbeat\n\n')
  }

  /** By what is left of earlier events: one event alone may be larger. */
  #dropIfSlow(maxBufferBytes: number): boolean {
    const slow = this.#response.writableLength > maxBufferBytes
    if (slow) this.#response.destroy()
    return slow
  }

  get #open(): boolean {
    return !this.#response.writableEnded && !this.#response.destroyed
  }

  /** Ends the stream; with a reason, there is nothing to come back for. */
  end(reason?: string): void {
    if (!this.#open) return
    if (reason !== undefined) this.#response.write(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`)
    this.#response.end()
  }

  /** Calls `listener` when the client is gone, for whatever reason. */
  onClose(listener: () => void): void {
    this.#response.once('close', listener)
  }
}
