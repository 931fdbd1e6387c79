/** Many clients that lose their server in the same moment do not all come back in the same moment. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { faultRun } from '../helpers/fault-run'
import { Program } from '../helpers/program'
import { findFreePort } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const PROCESSES = 4
const CLIENTS = 1000
const WINDOW_MS = 100
const MOST_IN_WINDOW = 200
/** How soon everybody is back after a short loss. */
const RECOVERY_MS = 2000

const run = faultRun('reconnect storm', 0)
const skip = run.long ? false : 'takes a minute and the whole machine: npm run test:faults'

/**
 * A server that does nothing but welcome its clients and write down when they came. A process of its own, so that
 * the system closes all connections at once when it is killed, and it has the time to look at the clock. For the first
 * AWAY ms it resets every connection, as a load balancer without a server behind it does.
 */
const SERVER = `
  const replies = { HELLO: '-ERR unknown command\\r\\n', PING: '+PONG\\r\\n', SETNAME: '+OK\\r\\n' }
  const times = []
  let welcomed = 0
  let writable
  require('node:net').createServer((socket) => {
    times.push(performance.now())
    socket.on('error', () => {})
    if (performance.now() < writable) return socket.resetAndDestroy()
    socket.on('data', (data) => {
      const words = String(data).match(/HELLO|PING|SETNAME/g) ?? []
      socket.write(words.map((word) => replies[word]).join(''))
      if (words.includes('SETNAME') && ++welcomed === ${CLIENTS})
        console.log('all ' + JSON.stringify({ times, recoveryMs: performance.now() - writable }))
    })
  }).listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 }, () => {
    writable = performance.now() + Number(process.env.AWAY)
  })
`

/** The most that lie within one window, of ascending times. */
function mostInWindow(times: readonly number[]): number {
  let first = 0
  let most = 0
  for (const [index, time] of times.entries()) {
    while (time - (times[first] as number) >= WINDOW_MS) first += 1
    most = Math.max(most, index - first + 1)
  }
  return most
}

describe(`${CLIENTS} clients`, { skip }, () => {
  let port: number
  let server: Program
  let clients: Program[]

  function start(awayMs: number): Program {
    return new Program(['--eval', SERVER], { env: { PORT: String(port), AWAY: String(awayMs) } })
  }

  before(async () => {
    port = await findFreePort()
    server = start(0)
    clients = Array.from({ length: PROCESSES }, (_, number) =>
      Program.typescript('__test__/faults/many-clients.ts', [
        `redis://127.0.0.1:${port}`,
        String(CLIENTS / PROCESSES),
        `p${number}`,
      ]),
    )
    await server.printed(/^all/m, 60_000)
  })
  after(async () => {
    await Promise.all([server, ...clients].map((program) => program[Symbol.asyncDispose]()))
  })

  for (const awayMs of [0, 300, 1500])
    it(`make at most ${MOST_IN_WINDOW} attempts in ${WINDOW_MS} ms after a loss of ${awayMs} ms, and are back in time`, async () => {
      // A connection that lasted so long counts as a success, after which delays begin anew.
      await delay(1500)
      server.kill('SIGKILL')
      await until('the server is gone', () =>
        server.ended(1).then(
          () => true,
          () => false,
        ),
      )
      server = start(awayMs)
      const [, json] = await server.printed(/^all (.*)$/m, 30_000)
      const { times, recoveryMs } = JSON.parse(json as string) as { times: number[]; recoveryMs: number }
      const most = mostInWindow(times)
      console.log(
        `${awayMs} ms away: ${most} in ${WINDOW_MS} ms, all back after ${Math.round(recoveryMs)} ms`,
      )
      assert.ok(most <= MOST_IN_WINDOW, `${most} attempts in ${WINDOW_MS} ms`)
      assert.ok(recoveryMs <= RECOVERY_MS, `back after ${recoveryMs} ms`)
    })
})
