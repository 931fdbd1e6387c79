/**
 * A real server behind one that answers some commands itself, as a test tells it to. What it does not answer goes to the
 * real server, and replies keep the order of their commands.
 */
import { once } from 'node:events'
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net'
import { RespParser } from './resp-parser'
import { wordsOf } from './scripted-server'

/**
 * What becomes of a command: a reply in RESP2, no reply ever (nor to what follows on this connection), a part of the
 * real server's reply (from 0 to 1, never all) and the end of the connection, or nothing special.
 */
export type Ruling = string | 'never' | { part: number } | undefined

/** A command as words. The name is in upper case. */
export type Rule = (words: string[]) => Ruling

interface Slot {
  reply?: Buffer
  part?: number
}

export class RelayingServer {
  readonly host = '127.0.0.1'
  /** May be changed at any time. */
  rule: Rule
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(target: { host: string; port: number }, rule: Rule) {
    this.rule = rule
    this.#server = createServer((client) => this.#accept(client, connect(target)))
  }

  static async start(target: { host: string; port: number }, rule: Rule): Promise<RelayingServer> {
    const server = new RelayingServer(target, rule)
    server.#server.listen(0, server.host)
    await once(server.#server, 'listening')
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #accept(client: Socket, real: Socket): void {
    const slots: Slot[] = []
    /** Those of them that the real server fills, in order. */
    const relayed: Slot[] = []
    const flush = (): void => {
      for (let slot = slots[0]; slot?.reply !== undefined; slot = slots[0]) {
        slots.shift()
        const { reply, part } = slot
        if (part === undefined) client.write(reply)
        else {
          client.end(reply.subarray(0, Math.min(reply.length - 1, Math.floor(part * reply.length))))
          return
        }
      }
    }
    const requests = new RespParser({
      onMessage: (value, raw) => {
        const words = wordsOf(value)
        const ruling = this.rule(words) ?? (words[0] === 'HELLO' ? '-ERR unknown command\r\n' : undefined)
        const slot: Slot = {}
        slots.push(slot)
        if (ruling === 'never') return
        if (typeof ruling === 'string') slot.reply = Buffer.from(ruling)
        else {
          if (ruling !== undefined) slot.part = ruling.part
          relayed.push(slot)
          real.write(raw)
        }
        flush()
      },
    })
    const replies = new RespParser({
      onMessage: (_, raw) => {
        const slot = relayed.shift()
        // A message to who has subscribed answers no command.
        if (slot === undefined) client.write(raw)
        else slot.reply = raw
        flush()
      },
    })
    for (const [socket, other, parser] of [
      [client, real, requests],
      [real, client, replies],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('data', (chunk: Buffer) => parser.push(chunk))
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
  }
}
