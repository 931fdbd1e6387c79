/**
 * One client of the proxy and its connection to the server.
 *
 * Bytes are forwarded message by message, unchanged, so that a policy can decide about each message before the other
 * side has seen any of it.
 */
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { HeldWriter } from './held-writer'
import { ReplyMatcher } from './reply-matcher'
import { RespParser, type RespValue } from './resp-parser'

/** A command on its way from a client to the server. */
export interface ProxiedRequest {
  /** Number of the connection, counted from 1 in the order of their arrival. */
  connection: number
  /** In upper case, without a subcommand. */
  name: string
  /** Everything after the name, as bytes. */
  args: Buffer[]
  /** The arguments as text. */
  texts: string[]
  /** Size on the wire. */
  bytes: number
  /** Which round trip of its connection the request belongs to, from 1. */
  roundTrip: number
  /** The server has been sent all of it. */
  forwarded: boolean
  /** The client has been sent the reply. */
  answered: boolean
}

/** How a connection ends: `end` delivers what was forwarded and closes in order, `reset` breaks off (ECONNRESET). */
export type CutMode = 'end' | 'reset'

/** Which way nothing passes any more. */
export type Direction = 'requests' | 'replies' | 'both'

/** What to do with a message. Bytes that are not forwarded are lost. */
export interface Verdict {
  /** How many bytes of the message to forward. Default: all */
  forwardBytes?: number
  /** End the connection after that. */
  cut?: CutMode
  /** Nothing more passes in either direction after that, while the connection stays open. */
  silence?: boolean
  /** Deliver this, and what follows in the same direction, so many milliseconds later. */
  delayMs?: number
}

/** Decides about every message, and is told what happened. */
export interface ConnectionPolicy {
  request(request: ProxiedRequest, raw: Buffer): Verdict
  /** `request` is undefined for a message that answers none. */
  reply(request: ProxiedRequest | undefined, raw: Buffer): Verdict
  /** Called after a reply (`request`) or an unsolicited message (undefined) has gone to the client. */
  delivered(request: ProxiedRequest | undefined): void
  /** Called once for each round trip, with its first request. */
  roundTripStarted(): void
  protocolError(error: Error): void
  closed(connection: ProxiedConnection): void
  /** Milliseconds between the arrival of a reply and its delivery. */
  readonly replyDelayMs: number
  /** Deliver replies only after the client has sent nothing for so long; 0: at once. */
  readonly quietMs: number
}

/** A client in this process needs several turns to push a long pipeline through its socket. */
const QUIET_TURNS = 5

type Outgoing = { due: number } & ({ value: RespValue; raw: Buffer } | { value: 'end' })

export class ProxiedConnection {
  readonly #client: Socket
  readonly #server: Socket
  readonly #policy: ConnectionPolicy
  readonly #toServer: HeldWriter
  readonly #toClient: HeldWriter
  readonly #matcher = new ReplyMatcher<ProxiedRequest>()
  /** Replies that wait for their delivery, in order. */
  readonly #outgoing: Outgoing[] = []
  /** Cancels the delivery that is planned. */
  #cancelDelivery: (() => void) | undefined
  #lastRequestAt = 0
  #roundTrip = 0
  /** A reply of the current round trip was delivered, so the next request belongs to a new one. */
  #roundTripAnswered = true
  #cut = false
  #silent = { requests: false, replies: false }
  /** Bytes were lost on this connection, so it can never be used again. */
  lossy = false

  constructor(
    readonly number: number,
    client: Socket,
    target: NetConnectOpts,
    policy: ConnectionPolicy,
  ) {
    this.#client = client
    this.#policy = policy
    this.#server = connect(target)
    this.#server.setNoDelay(true)
    client.setNoDelay(true)
    this.#toServer = new HeldWriter(this.#server)
    this.#toClient = new HeldWriter(client)
    this.#pipe(client, this.#server, new RespParser({ inlineCommands: true, onMessage: this.#onRequest }))
    this.#pipe(this.#server, client, new RespParser({ onMessage: this.#onReply }))
    client.on('end', () => this.#server.end())
    client.on('close', () => this.#finish())
    this.#server.on('end', () => this.#enqueue({ value: 'end', due: 0 }))
    this.#server.on('close', () => this.#enqueue({ value: 'end', due: 0 }))
  }

  /** Ends both sides. Nothing that arrives later is forwarded. */
  cut(mode: CutMode): void {
    if (this.#cut) return
    this.#cut = true
    this.#cancelDelivery?.()
    this.#toServer.drop()
    this.#toClient.drop()
    if (mode === 'reset') {
      // What was forwarded is on its way, also where the chunk that it came in is still being read.
      this.#client.uncork()
      this.#server.uncork()
      // A socket that is shutting down cannot be reset; Node would never finish closing it, and spin at its exit.
      if (this.#client.writableEnded) this.#client.destroy()
      else this.#client.resetAndDestroy()
      this.#server.destroy()
    } else {
      this.#client.destroySoon()
      this.#server.destroySoon()
    }
  }

  /** From now on nothing passes in this direction, while both sides believe in the connection. */
  silence(direction: Direction): void {
    this.#silent.requests ||= direction !== 'replies'
    this.#silent.replies ||= direction !== 'requests'
    this.lossy = true
  }

  #pipe(source: Socket, sink: Socket, parser: RespParser): void {
    source.on('data', (chunk: Buffer) => {
      if (this.#cut) return
      sink.cork()
      try {
        parser.push(chunk)
      } catch (error) {
        this.#policy.protocolError(error as Error)
        this.cut('reset')
      } finally {
        sink.uncork()
      }
    })
    // What went wrong shows as a closed connection on the other side, as it would without a proxy.
    source.on('error', () => source.destroy())
  }

  readonly #onRequest = (value: RespValue, raw: Buffer): void => {
    const words = toWords(value)
    if (this.#cut || this.#silent.requests) return
    this.#lastRequestAt = performance.now()
    // An empty inline command is no command and has no reply.
    if (words.length === 0) return this.#toServer.write(raw)
    const request = this.#describe(words, raw)
    const { forwardBytes = raw.length, ...then } = this.#policy.request(request, raw)
    request.forwarded = forwardBytes === raw.length
    if (request.forwarded) this.#matcher.sent(request)
    else this.lossy = true
    if (then.delayMs !== undefined) this.#toServer.hold(then.delayMs)
    if (forwardBytes > 0) this.#toServer.write(raw.subarray(0, forwardBytes))
    this.#disturb(then)
  }

  #disturb({ cut, silence = false }: Verdict): void {
    if (silence) this.silence('both')
    if (cut !== undefined) this.cut(cut)
  }

  #describe(words: Buffer[], raw: Buffer): ProxiedRequest {
    if (this.#roundTripAnswered) {
      this.#roundTrip += 1
      this.#roundTripAnswered = false
      this.#policy.roundTripStarted()
    }
    const [name, ...args] = words
    return {
      connection: this.number,
      name: String(name).toUpperCase(),
      args,
      texts: args.map(String),
      bytes: raw.length,
      roundTrip: this.#roundTrip,
      forwarded: false,
      answered: false,
    }
  }

  readonly #onReply = (value: RespValue, raw: Buffer): void => {
    this.#enqueue({ value, raw, due: performance.now() + this.#policy.replyDelayMs })
  }

  #enqueue(outgoing: Outgoing): void {
    if (this.#cut || this.#silent.replies) return
    this.#outgoing.push(outgoing)
    if (this.#cancelDelivery === undefined) this.#deliver()
  }

  /** `turns`: how often the event loop has looked for data of the client since the last wait. */
  #deliver(turns = 0): void {
    this.#cancelDelivery = undefined
    while (this.#outgoing.length > 0 && !this.#cut && !this.#silent.replies) {
      const next = this.#outgoing[0] as Outgoing
      const wait = this.#waitingTime(next)
      if (wait > 0) {
        const timer = setTimeout(() => this.#deliver(), wait)
        this.#cancelDelivery = () => clearTimeout(timer)
        return
      }
      if (turns < QUIET_TURNS && next.value !== 'end' && this.#policy.quietMs > 0) {
        // Time alone says little in a busy process: late timers run before requests that came long ago are read.
        const immediate = setImmediate(() => this.#deliver(turns + 1))
        this.#cancelDelivery = () => clearImmediate(immediate)
        return
      }
      this.#outgoing.shift()
      if (next.value === 'end') this.#toClient.end()
      else if ('raw' in next) this.#deliverReply(next.value, next.raw)
    }
  }

  #waitingTime(next: Outgoing): number {
    const now = performance.now()
    const { quietMs } = this.#policy
    const quiet = next.value === 'end' || quietMs === 0 ? 0 : this.#lastRequestAt + quietMs - now
    return Math.max(next.due - now, quiet)
  }

  #deliverReply(value: RespValue, raw: Buffer): void {
    const { request, complete } = this.#matcher.received(value)
    const { forwardBytes = raw.length, ...then } = this.#policy.reply(request, raw)
    if (then.delayMs !== undefined) this.#toClient.hold(then.delayMs)
    if (forwardBytes > 0) this.#toClient.write(raw.subarray(0, forwardBytes))
    if (forwardBytes < raw.length) this.lossy = true
    else if (complete) {
      if (request !== undefined) {
        request.answered = true
        if (request.roundTrip === this.#roundTrip) this.#roundTripAnswered = true
      }
      this.#policy.delivered(request)
    }
    this.#disturb(then)
  }

  #finish(): void {
    this.#cancelDelivery?.()
    this.#toServer.drop()
    this.#toClient.drop()
    this.#server.destroySoon()
    this.#policy.closed(this)
  }
}

function toWords(value: RespValue): Buffer[] {
  if (value.type === 'inline-command') return value.words
  if (value.type === 'array')
    return value.items.map((item) => (item.type === 'bulk-string' ? item.bytes : Buffer.from(item.type)))
  return [Buffer.from(value.type)]
}
