/** A client of server-sent events, as the HTML standard reads them. */
import { once } from 'node:events'
import { type IncomingMessage, get } from 'node:http'
import { until } from './wait'

export interface StreamEvent {
  id: string | undefined
  event: string
  data: any
  /** `performance.now()` of its arrival. */
  at: number
}

export class EventStream implements Disposable {
  readonly events: StreamEvent[] = []
  readonly comments: string[] = []
  readonly response: IncomingMessage
  ended = false
  #rest = ''

  private constructor(response: IncomingMessage) {
    this.response = response
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => this.#read(chunk))
    response.on('error', () => undefined)
    response.on('close', () => (this.ended = true))
  }

  static async open(url: string, headers: Record<string, string> = {}): Promise<EventStream> {
    const outgoing = get(url, { headers, agent: false })
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    return new EventStream(response)
  }

  get status(): number | undefined {
    return this.response.statusCode
  }

  named(event: string): StreamEvent[] {
    return this.events.filter((one) => one.event === event)
  }

  /** Waits until so many events have come. */
  async received(count: number, timeoutMs?: number): Promise<StreamEvent[]> {
    await until(`${count} events`, () => this.events.length >= count, timeoutMs)
    return this.events
  }

  close(): void {
    this.response.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #read(chunk: string): void {
    const blocks = (this.#rest + chunk).split('\n\n')
    this.#rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const lines = block.split('\n')
      const field = (name: string): string | undefined =>
        lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
      this.comments.push(...lines.filter((line) => line.startsWith(':')))
      const data = field('data')
      if (data !== undefined)
        this.events.push({
          id: field('id'),
          event: field('event') ?? 'message',
          data: JSON.parse(data),
          at: performance.now(),
        })
    }
  }
}
