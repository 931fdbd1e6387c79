/** A process that was stopped for long, and whose connection has died meanwhile without a word. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, it } from 'node:test'
import { CountingProxy } from '../helpers/counting-proxy'
import { faultRun } from '../helpers/fault-run'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'

const FIRST_CALL_MS = 1000
const DEADLINE_MS = 5000
const MARGIN_MS = 250
/** How long a connection is idle before the stop, where that matters: its deadlines are over then. */
const IDLE_MS = 2500
/** So long after the stop the I/O thread has noticed it. */
const NOTICED_MS = 200
/** Long beside the pause of the short form. */
const REDIAL_MS = 60_000

const run = faultRun('frozen client', 3)

/** Calls when it is told to, and prints how that ended and how long it took. */
const PROGRAM = `
  const { connect } = require('./index.js')
  const connection = connect(process.env.TARGET, {
    commandTimeout: ${DEADLINE_MS}, redialDelay: ${REDIAL_MS}, ...JSON.parse(process.env.OPTIONS),
  })
  connection.command('PING').then(() => console.log('up'))
  setInterval(() => {}, 60_000)
  let calls = 0
  process.on('SIGUSR2', async () => {
    const begin = performance.now()
    // Not safe to repeat, so it succeeds only if it is sent where somebody answers.
    const code = await connection.command('INCR', 'k').then(() => 'done', (error) => error.code)
    console.log('call ' + (calls += 1) + ' ' + code + ' ' + Math.round(performance.now() - begin))
  })
`

/** Forwards bytes, until the connections that are open are forgotten: nobody hears of their end. */
class Forgetful implements AsyncDisposable {
  readonly #server = createServer()
  readonly #open = new Set<Socket>()

  constructor(target: number) {
    this.#server.on('connection', (client) => {
      const server = connect(target, '127.0.0.1')
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#open.add(from)
        from.on('data', (chunk) => this.#open.has(from) && to.write(chunk))
        from.on('error', () => to.destroy())
        from.on('close', () => to.destroy())
      }
    })
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  forget(): void {
    this.#open.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
  }
}

/** Stops the program, lets something happen meanwhile, and has it call so long after it goes on. */
async function callAfterStop(
  program: Program,
  meanwhile: () => void,
  afterMs = 0,
): Promise<{ code: string; ms: number }> {
  await program.printed(/^up$/m)
  program.kill('SIGSTOP')
  meanwhile()
  // How long it is stopped is what is tested.
  await delay(run.seconds * 1000)
  program.kill('SIGCONT')
  // That the I/O thread has noticed the pause is part of what is tested.
  if (afterMs > 0) await delay(afterMs)
  program.kill('SIGUSR2')
  const [, code = '', ms] = await program.printed(/^call 1 (\w+) (\d+)$/m, DEADLINE_MS + 5000)
  console.log(`${code} after ${ms} ms`)
  return { code, ms: Number(ms) }
}

function start(target: string, options: object = {}): Program {
  return new Program(['--eval', PROGRAM], { env: { TARGET: target, OPTIONS: JSON.stringify(options) } })
}

// They mostly sleep.
describe('a process that was stopped', { concurrency: true }, () => {
  for (const [what, meanwhile] of [
    ['is alive', () => {}],
    ['was reset', (proxy: CountingProxy) => proxy.cut('reset')],
    ['was closed', (proxy: CountingProxy) => proxy.cut('end')],
  ] as const)
    it(`whose connection ${what}: its first call succeeds at once`, async () => {
      await using server = await RedisServer.start()
      await using proxy = await CountingProxy.start(server)
      await using program = start(proxy.url)
      const { code, ms } = await callAfterStop(program, () => meanwhile(proxy))
      assert.equal(code, 'done')
      assert.ok(ms <= FIRST_CALL_MS, `${ms} ms`)
    })

  it('whose connection is half open: nothing is sent before the server has answered', async () => {
    await using server = await RedisServer.start()
    await using proxy = new Forgetful(server.port)
    // What is long is what TCP keepalive says, 30 s unless it is given.
    await using program = start(await proxy.listen(), run.seconds > 30 ? {} : { keepAlive: 1000 })
    const { code, ms } = await callAfterStop(program, () => proxy.forget())
    assert.equal(code, 'done')
    assert.ok(ms <= FIRST_CALL_MS, `${ms} ms`)
  })

  // Then nothing of the connection is due during the stop or after it, whose end might notice it.
  it('whose half-open connection had long been idle: nothing is sent before the server has answered', async () => {
    await using server = await RedisServer.start()
    await using proxy = new Forgetful(server.port)
    const keepAlive = run.seconds > 30 ? {} : { keepAlive: 1000 }
    await using program = start(await proxy.listen(), { ...keepAlive, commandTimeout: IDLE_MS / 2 })
    await program.printed(/^up$/m)
    await delay(IDLE_MS)
    const { code, ms } = await callAfterStop(program, () => proxy.forget(), NOTICED_MS)
    assert.equal(code, 'done')
    assert.ok(ms <= FIRST_CALL_MS, `${ms} ms`)
  })

  it('and no server can be reached: its first call ends in time', async () => {
    await using server = await RedisServer.start()
    await using proxy = await CountingProxy.start(server)
    await using program = start(proxy.url)
    const { code, ms } = await callAfterStop(program, () => proxy.blackhole())
    assert.ok(['OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'].includes(code), code)
    assert.ok(ms <= DEADLINE_MS + MARGIN_MS, `${ms} ms`)
  })
})
