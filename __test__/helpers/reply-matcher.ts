/**
 * Pairs what a server sends with the requests of one connection.
 *
 * Replies come in the order of the requests, with two exceptions that are dealt with here: pub/sub, where one request
 * has a confirmation per channel (an array in RESP2, a push in RESP3), and messages that answer nothing. `CLIENT REPLY
 * OFF` and `SKIP` are not followed.
 */
import type { RespValue } from './resp-parser'

/** What the matcher needs to know of a request. */
export interface NamedRequest {
  /** In upper case. */
  name: string
  args: Buffer[]
}

export interface Matched<R> {
  /** The request that is answered; undefined for pushes, pub/sub messages and lines of MONITOR. */
  request: R | undefined
  /** False while more confirmations of the same request must follow. */
  complete: boolean
}

interface Outstanding<R> {
  request: R
  /** Messages that still answer this request, known once the first has arrived. */
  missing: number | undefined
}

const MESSAGES = new Set(['message', 'pmessage', 'smessage'])
const CONFIRMATION = /^([ps]?)(un)?subscribe$/

export class ReplyMatcher<R extends NamedRequest> {
  readonly #outstanding: Outstanding<R>[] = []
  /** Channels by family: '' for SUBSCRIBE, 'p' for PSUBSCRIBE, 's' for SSUBSCRIBE. */
  readonly #channels = new Map<string, Set<string>>()
  #resp3 = false

  /** Requests that are not answered yet. */
  get outstanding(): number {
    return this.#outstanding.length
  }

  sent(request: R): void {
    this.#outstanding.push({ request, missing: undefined })
  }

  received(value: RespValue): Matched<R> {
    const [kind, channel] = pubSubHead(value)
    if (kind !== undefined && CONFIRMATION.test(kind)) {
      const matched = this.#confirmation(kind, channel ?? '')
      if (matched !== undefined) return matched
    }
    const unsolicited = value.type === 'push' || (this.#isResp2Subscriber() && MESSAGES.has(kind ?? ''))
    const answered = unsolicited ? undefined : this.#outstanding.shift()
    // HELLO answers with a map in RESP3 and with an array in RESP2.
    if (answered?.request.name === 'HELLO' && value.type !== 'error') this.#resp3 = value.type === 'map'
    return { request: answered?.request, complete: true }
  }

  #confirmation(kind: string, channel: string): Matched<R> | undefined {
    const [, family = '', un] = CONFIRMATION.exec(kind) as RegExpExecArray
    const channels = this.#channels.get(family) ?? new Set()
    const before = channels.size
    if (un) channels.delete(channel)
    else channels.add(channel)
    this.#channels.set(family, channels)
    const first = this.#outstanding[0]
    // A server may end subscriptions by itself, for instance when a slot moves: then nobody asked.
    if (first?.request.name !== kind.toUpperCase()) return undefined
    first.missing ??= first.request.args.length || Math.max(1, before)
    first.missing -= 1
    const complete = first.missing === 0
    if (complete) this.#outstanding.shift()
    return { request: first.request, complete }
  }

  /** Only then an array that starts with "message" is no ordinary reply. */
  #isResp2Subscriber(): boolean {
    return !this.#resp3 && [...this.#channels.values()].some((channels) => channels.size > 0)
  }
}

/** The first two texts of an aggregate: kind and channel of a pub/sub message. */
function pubSubHead(value: RespValue): [kind?: string, channel?: string] {
  if (value.type !== 'array' && value.type !== 'push') return []
  return value.items
    .slice(0, 2)
    .map((item) =>
      item.type === 'bulk-string'
        ? item.bytes.toString('latin1')
        : item.type === 'simple-string'
          ? item.text
          : '',
    ) as [string, string]
}
