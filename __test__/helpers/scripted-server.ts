/** A server that answers what a test tells it to: for what no real server says on demand. */
import { once } from 'node:events'
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net'
import { encodeCommand } from './resp-client'
import { RespParser, type RespValue } from './resp-parser'

/** A command as words. The name is in upper case. */
export type Answer = (words: string[]) => string | undefined

export class ScriptedServer {
  readonly host = '127.0.0.1'
  /** Commands in the order of their arrival. */
  readonly commands: string[][] = []
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #subscribers = new Set<Socket>()

  /** `answer` gives a reply in RESP2; without one, the usual of a connection that is being set up is said. */
  private constructor(answer: Answer) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket)
      const parser = new RespParser({ onMessage: (value) => this.#receive(socket, wordsOf(value), answer) })
      socket.on('data', (chunk: Buffer) => parser.push(chunk))
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        this.#sockets.delete(socket)
        this.#subscribers.delete(socket)
      })
    })
  }

  static async start(answer: Answer): Promise<ScriptedServer> {
    const server = new ScriptedServer(answer)
    server.#server.listen(0, server.host)
    await once(server.#server, 'listening')
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** How many connections have subscribed to something. */
  get subscribers(): number {
    return this.#subscribers.size
  }

  /** Sends a message to everyone who has subscribed to anything. */
  publish(channel: string, message: string): void {
    const bytes = encodeCommand(['message', channel, message])
    for (const socket of this.#subscribers) socket.write(bytes)
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #receive(socket: Socket, words: string[], answer: Answer): void {
    this.commands.push(words)
    const [name, channel = ''] = words
    if (name === 'SUBSCRIBE') this.#subscribers.add(socket)
    const usual: Record<string, string> = {
      HELLO: '-ERR unknown command\r\n',
      PING: '+PONG\r\n',
      SUBSCRIBE: `*3\r\n$9\r\nsubscribe\r\n${bulk(channel)}:1\r\n`,
    }
    socket.write(answer(words) ?? usual[name as string] ?? '+OK\r\n')
  }
}

/** Strings as a list of RESP. */
export function list(...items: string[]): string {
  return encodeCommand(items).toString()
}

function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`
}

export function wordsOf(value: RespValue): string[] {
  const items = value.type === 'array' ? value.items : []
  const words = items.map((item) => (item.type === 'bulk-string' ? item.bytes.toString() : ''))
  return words.map((word, index) => (index === 0 ? word.toUpperCase() : word))
}
