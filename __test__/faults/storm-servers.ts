/**
 * Servers that do nothing but welcome their clients and write down when they came. Each is a process of its own, so
 * that the system closes all its connections at once when it is killed, and it has the time to look at the clock.
 */
import { Program } from '../helpers/program'

/**
 * Answers what clients ask at the beginning, in RESP2. Names the first of MASTERS as the master, as a Sentinel or as the
 * other node of a cluster; SIGUSR2 makes it the next. SIGUSR1 has it print when its clients came.
 */
const SERVER = `
  const { PORT, OTHER } = process.env
  const masters = process.env.MASTERS.split(' ')
  const listeners = new Set()
  const times = []
  const bulk = (text) => '$' + text.length + '\\r\\n' + text + '\\r\\n'
  const node = (port) => '*2\\r\\n' + bulk('127.0.0.1') + ':' + port + '\\r\\n'
  const range = (first, last, port) => '*3\\r\\n:' + first + '\\r\\n:' + last + '\\r\\n' + node(port)
  const replies = {
    HELLO: () => '-ERR unknown command\\r\\n',
    PING: () => '+PONG\\r\\n',
    SETNAME: () => '+OK\\r\\n',
    ROLE: () => '*1\\r\\n' + bulk('master'),
    SENTINELS: () => '*0\\r\\n',
    'GET-MASTER': () => '*2\\r\\n' + bulk('127.0.0.1') + bulk(masters[0]),
    SLOTS: () => '*2\\r\\n' + range(0, 8191, masters[0]) + range(8192, 16383, OTHER),
    SUBSCRIBE: (socket) => {
      listeners.add(socket)
      return '*3\\r\\n' + bulk('subscribe') + bulk('+switch-master') + ':1\\r\\n'
    },
  }
  let [last, lateMs] = [performance.now(), 0]
  setInterval(() => {
    const now = performance.now()
    lateMs = Math.max(lateMs, now - last - 5)
    last = now
  }, 5)
  process.on('SIGUSR1', () => {
    console.log('times ' + JSON.stringify({ times: times.splice(0), lateMs }))
    lateMs = 0
  })
  process.on('SIGUSR2', () => {
    const text = ['m', '127.0.0.1', masters.shift(), '127.0.0.1', masters[0]].join(' ')
    for (const socket of listeners) socket.write('*3\\r\\n' + bulk('message') + bulk('+switch-master') + bulk(text))
  })
  require('node:net').createServer((socket) => {
    times.push(Date.now())
    socket.on('error', () => {})
    socket.on('close', () => listeners.delete(socket))
    socket.on('data', (data) => {
      const words = String(data).match(/HELLO|PING|SETNAME|ROLE|SENTINELS|GET-MASTER|SLOTS|SUBSCRIBE/g) ?? []
      socket.write(words.map((word) => replies[word](socket)).join(''))
    })
  }).listen({ port: Number(PORT), host: '127.0.0.1', backlog: 4096 }, () => console.log('listening'))
`

export interface Arrivals {
  times: number[]
  lateMs: number
}

/** One of them, which may die and come back. */
export class StormServer implements AsyncDisposable {
  readonly #env: Record<string, string>
  #program: Program

  private constructor(env: Record<string, string>) {
    this.#env = env
    this.#program = this.#start()
  }

  /** `masters` are those that it names, one after the other; `other` has the second half of a cluster's slots. */
  static async start(port: number, masters: readonly number[] = [port], other = port): Promise<StormServer> {
    const env = { PORT: String(port), MASTERS: masters.join(' '), OTHER: String(other) }
    const server = new StormServer(env)
    await server.listening()
    return server
  }

  get port(): number {
    return Number(this.#env['PORT'])
  }

  async listening(): Promise<void> {
    await this.#program.printed(/^listening$/m)
  }

  async kill(): Promise<void> {
    await this.#program[Symbol.asyncDispose]()
  }

  async restart(): Promise<void> {
    this.#program = this.#start()
    await this.listening()
  }

  /** From now on, and to everybody who listens, it names the next master. */
  promote(): void {
    this.#program.kill('SIGUSR2')
  }

  /** When clients have come since this was asked before, in milliseconds since 1970, and how long it stood still. */
  async arrivals(): Promise<Arrivals> {
    const before = this.#program.output.length
    this.#program.kill('SIGUSR1')
    const [, json] = await this.#program.printed(new RegExp(`(?<=^[^]{${before}})times (.*)\\n`))
    return JSON.parse(json as string) as Arrivals
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill()
  }

  #start(): Program {
    return new Program(['--eval', SERVER], { env: this.#env })
  }
}
