/**
 * A TCP proxy between a client and a Redis server that counts what passes and breaks things on demand.
 *
 * Round trips: a request starts a new one when a reply to a request of the current one has been delivered before it,
 * that is when the client could have waited for it. A fast server answers the first packet of a long pipeline before
 * the last has arrived, so `count` holds the replies back until the client is silent: then the number is exact.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type NetConnectOpts, type Server } from 'node:net'
import { type Disturbance, Fault, type FaultPoint, type RequestFilter } from './fault'
import {
  ProxiedConnection,
  type ConnectionPolicy,
  type CutMode,
  type Direction,
  type ProxiedRequest,
  type Verdict,
} from './proxied-connection'
import { RespParser } from './resp-parser'

export type { CutMode, ProxiedRequest } from './proxied-connection'
export { type Disturbance, Fault, type FaultPoint, type RequestFilter } from './fault'

/** What has passed through the proxy. */
export interface Traffic {
  /** Every command in the order of arrival, also those that were not forwarded. */
  requests: ProxiedRequest[]
  /** Replies that reached the client. */
  replies: number
  /** Messages that answered nothing: RESP3 pushes, pub/sub messages, lines of MONITOR. */
  pushes: number
  /** Summed over the connections. */
  roundTrips: number
  requestBytes: number
  replyBytes: number
  /** Connections that were accepted. */
  connections: number
}

const HOST = '127.0.0.1'

export class CountingProxy {
  readonly host = HOST
  readonly port: number
  /** Streams that were not RESP. Each was cut and reported on standard error. */
  readonly protocolErrors: Error[] = []
  readonly #server: Server
  readonly #target: NetConnectOpts
  readonly #open = new Set<ProxiedConnection>()
  readonly #faults = new Set<Fault>()
  readonly #waiters = new Set<(request: ProxiedRequest) => void>()
  readonly #policy: ConnectionPolicy
  #traffic = noTraffic()
  #accepted = 0
  #blackhole = false
  #replyDelayMs = 0
  #quietMs = 0

  private constructor(target: NetConnectOpts, server: Server) {
    this.#target = target
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    this.#policy = this.#createPolicy()
    server.on('connection', (socket) => {
      this.#accepted += 1
      this.#traffic.connections += 1
      this.#open.add(new ProxiedConnection(this.#accepted, socket, this.#target, this.#policy))
    })
  }

  /** Listens on a free port; `target` is a server's `{ host, port }` or `{ path }`. */
  static async start(target: { host?: string; port: number } | { path: string }): Promise<CountingProxy> {
    const server = createServer({ allowHalfOpen: true })
    server.listen(0, HOST)
    await once(server, 'listening')
    return new CountingProxy('port' in target ? { host: HOST, ...target } : target, server)
  }

  get url(): string {
    return `redis://${HOST}:${this.port}`
  }

  /** Everything since the start or the last `reset`. */
  get traffic(): Readonly<Traffic> {
    return this.#traffic
  }

  /** Names of the commands in the order of their arrival. */
  get commands(): string[] {
    return this.#traffic.requests.map(({ name }) => name)
  }

  /** Connections that are open at this moment. */
  get openConnections(): number {
    return this.#open.size
  }

  /** Forgets what was counted. */
  reset(): void {
    this.#traffic = noTraffic()
  }

  /**
   * What passes while `run` runs. Nothing else should use the proxy meanwhile. Replies are delivered once the client
   * has sent nothing for `quietMs`, which makes every round trip that much slower; 0 leaves them alone.
   */
  async count(run: () => Promise<unknown>, { quietMs = 10 } = {}): Promise<Traffic> {
    const outer = this.#traffic
    const outerQuietMs = this.#quietMs
    const inner = noTraffic()
    this.#traffic = inner
    this.#quietMs = quietMs
    try {
      await run()
    } finally {
      this.#traffic = addTraffic(outer, inner)
      this.#quietMs = outerQuietMs
    }
    return inner
  }

  /** Resolves with the next request that the filter accepts. */
  nextRequest(filter: RequestFilter): Promise<ProxiedRequest> {
    return new Promise((resolve) => {
      const look = (request: ProxiedRequest): void => {
        if (!filter(request)) return
        this.#waiters.delete(look)
        resolve(request)
      }
      this.#waiters.add(look)
    })
  }

  /** Ends all open connections. New ones are accepted. */
  cut(mode: CutMode = 'end'): void {
    for (const connection of this.#open) connection.cut(mode)
  }

  /**
   * Cuts the connection of the next request that the filter accepts: before the server gets it (`before-forward`),
   * after the server got it (`after-forward`, the reply is lost whether it was executed or not), or when its reply has
   * arrived here and was not delivered (`before-reply`, the server has executed it for certain).
   */
  cutOn(point: FaultPoint, filter: RequestFilter, options: { times?: number; mode?: CutMode } = {}): Fault {
    return this.#inject(new Fault({ point, filter, ...options }))
  }

  /** Cuts the connection that sends the `bytes`-th byte from now, after forwarding exactly so many. */
  cutAfterRequestBytes(bytes: number, mode: CutMode = 'end'): Fault {
    return this.#inject(new Fault({ point: 'request-bytes', bytes, mode }))
  }

  /** The same for bytes on their way to the client. */
  cutAfterReplyBytes(bytes: number, mode: CutMode = 'end'): Fault {
    return this.#inject(new Fault({ point: 'reply-bytes', bytes, mode }))
  }

  /** Does anything that can happen to a message to the next that the filter accepts. */
  disturb(disturbance: Disturbance): Fault {
    return this.#inject(new Fault(disturbance))
  }

  /** Sends the server what a fault has kept for later, on a connection of its own, and waits until it was executed. */
  async deliverLate(fault: Fault): Promise<void> {
    for (const raw of fault.late.splice(0)) {
      const socket = connect(this.#target)
      const answered = new Promise<void>((resolve) => {
        const parser = new RespParser({ onMessage: () => resolve() })
        socket.on('data', (chunk: Buffer) => parser.push(chunk))
      })
      socket.write(raw)
      // oxlint-disable-next-line no-await-in-loop -- in the order in which they were sent
      await Promise.race([answered, once(socket, 'close')])
      socket.destroy()
    }
  }

  /** Delivers every reply so much later, in order. 0 ends it for replies that have not arrived yet. */
  delayReplies(ms: number): void {
    this.#replyDelayMs = ms
  }

  /** From now on nothing passes in either direction, while connections stay open and new ones are accepted. */
  blackhole(): void {
    this.#blackhole = true
  }

  /** The same for the connections that are open, in one direction or both. New ones are not concerned. */
  silence(direction: Direction): void {
    for (const connection of this.#open) connection.silence(direction)
  }

  /** Refuses new connections (ECONNREFUSED). Open ones go on. */
  async refuse(): Promise<void> {
    if (!this.#server.listening) return
    // The callback of close() waits for the open connections; refusing does not.
    this.#server.close()
    await new Promise((resolve) => setImmediate(resolve))
  }

  /** Ends `blackhole` and `refuse`. Connections that have lost bytes are cut, because they are out of step. */
  async resume(): Promise<void> {
    this.#blackhole = false
    for (const connection of this.#open) if (connection.lossy) connection.cut('reset')
    if (this.#server.listening) return
    this.#server.listen(this.port, HOST)
    await once(this.#server, 'listening')
  }

  /** Ends everything. */
  async close(): Promise<void> {
    this.cut('reset')
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #inject(fault: Fault): Fault {
    this.#faults.add(fault)
    void fault.ended.then(() => this.#faults.delete(fault))
    return fault
  }

  #createPolicy(): ConnectionPolicy {
    const delay = (): number => this.#replyDelayMs
    const quiet = (): number => this.#quietMs
    return {
      get replyDelayMs() {
        return delay()
      },
      get quietMs() {
        return quiet()
      },
      request: (request, raw) => this.#judgeRequest(request, raw),
      reply: (request, raw) => this.#judgeReply(request, raw),
      delivered: (request) => {
        if (request === undefined) this.#traffic.pushes += 1
        else this.#traffic.replies += 1
      },
      roundTripStarted: () => {
        this.#traffic.roundTrips += 1
      },
      protocolError: (error) => {
        this.protocolErrors.push(error)
        console.error(`CountingProxy on port ${this.port}: ${error.message}`)
      },
      closed: (connection) => this.#open.delete(connection),
    }
  }

  #judgeRequest(request: ProxiedRequest, raw: Buffer): Verdict {
    this.#traffic.requests.push(request)
    for (const look of this.#waiters) look(request)
    if (this.#blackhole) return { forwardBytes: 0 }
    const verdict = this.#judge(['before-forward', 'after-forward'], 'request-bytes', request, raw)
    this.#traffic.requestBytes += verdict.forwardBytes ?? raw.length
    return verdict
  }

  #judgeReply(request: ProxiedRequest | undefined, raw: Buffer): Verdict {
    if (this.#blackhole) return { forwardBytes: 0 }
    const verdict = this.#judge(['before-reply'], 'reply-bytes', request, raw)
    this.#traffic.replyBytes += verdict.forwardBytes ?? raw.length
    return verdict
  }

  /** The first fault that applies decides. */
  #judge(
    points: FaultPoint[],
    bytes: 'request-bytes' | 'reply-bytes',
    request: ProxiedRequest | undefined,
    raw: Buffer,
  ): Verdict {
    for (const fault of this.#faults) {
      const verdict = fault.judge(points, bytes, request, raw)
      if (verdict !== undefined) return verdict
    }
    return {}
  }
}

function noTraffic(): Traffic {
  return {
    requests: [],
    replies: 0,
    pushes: 0,
    roundTrips: 0,
    requestBytes: 0,
    replyBytes: 0,
    connections: 0,
  }
}

function addTraffic(a: Traffic, b: Traffic): Traffic {
  return {
    requests: [...a.requests, ...b.requests],
    replies: a.replies + b.replies,
    pushes: a.pushes + b.pushes,
    roundTrips: a.roundTrips + b.roundTrips,
    requestBytes: a.requestBytes + b.requestBytes,
    replyBytes: a.replyBytes + b.replyBytes,
    connections: a.connections + b.connections,
  }
}
