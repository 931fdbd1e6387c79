/** A server that lies, or is none: it costs a connection and never the process, its memory or its objects. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { type Connection, type FerroflowError, RedisLockManager, connect } from '../../index.js'
import { until } from '../helpers/wait'

const MIB = 1024 * 1024
/** Beside what is received; a build for tests needs some for itself. */
const MAX_GROWTH = 96 * MIB

/** Greets like a server, and answers everything else with what the test says. */
class Hostile {
  answer: (socket: Socket) => void = () => {}
  connections = 0
  readonly #server: Server = createServer((socket) => this.#serve(socket))
  readonly #sockets = new Set<Socket>()

  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  stop(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }

  #serve(socket: Socket): void {
    this.connections += 1
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1')
      if (text.includes('HELLO')) socket.write('%1\r\n$5\r\nproto\r\n:3\r\n')
      // The handshake's own.
      else if (text.includes('PING')) socket.write('+PONG\r\n')
      else this.answer(socket)
    })
  }
}

async function failure(connection: Connection, ...words: [string, ...string[]]): Promise<FerroflowError> {
  return connection.command(...words).then(
    (reply) => assert.fail(`it was answered: ${JSON.stringify(reply)?.slice(0, 100)}`),
    (error: FerroflowError) => error,
  )
}

describe('a hostile server', () => {
  const hostile = new Hostile()
  let url: string
  before(async () => {
    url = await hostile.start()
  })
  after(() => hostile.stop())

  /** What is written is uncertain then, and a read is tried again until its time is over. */
  async function assertDropped(answer: (socket: Socket) => void, why: RegExp): Promise<void> {
    hostile.answer = answer
    const connection = connect(url, { commandTimeout: 500, redialDelay: 50 })
    const reasons: (string | undefined)[] = []
    connection.on('status', (_status, reason) => reasons.push(reason))
    const memory = process.memoryUsage.rss()
    try {
      const began = performance.now()
      const write = await failure(connection, 'INCR', 'k')
      assert.equal(write.code, 'OUTCOME_UNKNOWN', write.message)
      assert.match(write.message, why)
      assert.ok(performance.now() - began < 450, 'before its deadline')
      await until('it is told', () => reasons.some((reason) => reason !== undefined && why.test(reason)))
      const dialled = hostile.connections
      const read = await failure(connection, 'GET', 'k')
      assert.ok(['TIMEOUT', 'REDIS_UNAVAILABLE'].includes(read.code), read.code)
      assert.ok(hostile.connections > dialled, 'it is dialled again')
      const grown = process.memoryUsage.rss() - memory
      assert.ok(grown < MAX_GROWTH, `${Math.round(grown / MIB)} MiB more`)
      // The same connection works as soon as the server does.
      hostile.answer = (socket) => socket.write('$2\r\nok\r\n')
      await until('it works', async () => (await connection.command('GET', 'k').catch(() => '')) === 'ok')
    } finally {
      await connection.close()
    }
  }

  const texts: Record<string, [answer: string | (() => Buffer), why: RegExp]> = {
    'a list of two billion': ['*2147483647\r\n', /16 million values/],
    'a map of nine billion billion': ['%999999999999999999\r\n', /16 million values/],
    'a set beyond any number': [`~${'9'.repeat(25)}\r\n`, /length that is no number/],
    'a push of two billion': ['>2147483647\r\n+message\r\n', /16 million values/],
    'attributes of two billion': ['|2147483647\r\n', /16 million values/],
    'a value of a petabyte': ['$1125899906842624\r\n', /512 MiB/],
    'a text of a petabyte': ['=1125899906842624\r\ntxt:', /512 MiB/],
    'a negative length': ['$-7\r\n', /length that is no number/],
    'lists in lists, 100,000 deep': [() => Buffer.from('*1\r\n'.repeat(100_000)), /64 lists/],
    'maps in maps': [() => Buffer.from('%1\r\n+k\r\n'.repeat(1000)), /64 lists/],
    'attributes of attributes': [() => Buffer.from('|1\r\n+k\r\n'.repeat(1000)), /64 lists/],
    'lists of large lists': ['*9000000\r\n*9000000\r\n', /16 million values/],
    'a line without an end': [
      () => Buffer.concat([Buffer.from('+'), Buffer.alloc(3 * MIB, 'a')]),
      /line of more/,
    ],
    'a length without an end': [() => Buffer.from(`*${'1'.repeat(100)}`), /length that is no number/],
    'a push of no kind': ['>2\r\n:5\r\n:6\r\n', /malformed reply/],
    'a number that is none': [':12a\r\n', /malformed reply/],
    'a value that is longer than it says': ['$2\r\nabcd\r\n', /malformed reply/],
    'another protocol': ['HTTP/1.1 400 Bad Request\r\n\r\n', /unknown kind/],
    zeros: [() => Buffer.alloc(1000), /unknown kind/],
  }
  for (const [what, [answer, why]] of Object.entries(texts))
    it(`sends ${what}`, () =>
      assertDropped((socket) => socket.write(typeof answer === 'string' ? answer : answer()), why))

  it('declares much and sends it one byte at a time: memory follows the bytes', async () => {
    const senders = new Set<NodeJS.Timeout>()
    hostile.answer = (socket) => {
      socket.write('*16000000\r\n$500000000\r\n')
      const sender = setInterval(() => socket.write('a'), 5)
      senders.add(sender)
      socket.on('close', () => clearInterval(sender))
    }
    const connections = Array.from({ length: 20 }, (_, index) =>
      connect(url, { commandTimeout: 600, keepAlive: 1000 + index, redialDelay: 50 }),
    )
    const memory = process.memoryUsage.rss()
    const codes = await Promise.all(connections.map(async (own) => (await failure(own, 'GET', 'k')).code))
    assert.deepEqual(new Set(codes), new Set(['TIMEOUT']))
    assert.ok(process.memoryUsage.rss() - memory < MAX_GROWTH)
    await Promise.all(connections.map((own) => own.close()))
    for (const sender of senders) clearInterval(sender)
  })

  it('names prototypes in redirections and errors: they are texts', async () => {
    const connection = connect(url, { redialDelay: 50 })
    for (const text of [
      'MOVED 1 __proto__:6379',
      'MOVED __proto__ constructor:1',
      'ASK -1 :::::',
      'MOVED',
      '__proto__ polluted',
      'constructor',
      "ERR unknown command '\xFF\xFE'",
    ]) {
      hostile.answer = (socket) => socket.write(Buffer.from(`-${text}\r\n`, 'latin1'))
      // oxlint-disable-next-line no-await-in-loop -- the server has one answer at a time
      const error = await failure(connection, 'GET', 'k')
      assert.ok(['SERVER_ERROR', 'SERVER_NOT_READY'].includes(error.code), error.code)
      assert.ok(error.message.startsWith(text.split(' ')[0] as string), error.message)
    }
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
    assert.deepEqual(
      Object.getOwnPropertyNames(Object.prototype).filter((name) => /\d|:/.test(name)),
      [],
    )
    hostile.answer = (socket) => socket.write('%1\r\n$9\r\n__proto__\r\n$1\r\nx\r\n')
    assert.deepEqual(await connection.command('HGETALL', 'k'), ['__proto__', 'x'])
    await connection.close()
  })

  it('answers a lock with anything: it is refused, and never taken for held', async () => {
    for (const reply of [
      '*1\r\n*1\r\n+x\r\n',
      '_\r\n',
      '$3\r\nabc\r\n',
      '%1\r\n+a\r\n+b\r\n',
      ':1\r\n',
      '#t\r\n',
    ]) {
      hostile.answer = (socket) => socket.write(reply)
      const locks = new RedisLockManager(connect(url, { commandTimeout: 500, redialDelay: 50 }))
      // oxlint-disable-next-line no-await-in-loop -- the server has one answer at a time
      const outcome = await locks.tryAcquire('k').catch((error: FerroflowError) => error)
      assert.ok(outcome === null || outcome instanceof Error, `${reply}: ${String(outcome)}`)
    }
  })
})
