/** A process that was stopped for long, and whose connection has died meanwhile without a word. */
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { it } from 'node:test'
import { CountingProxy } from '../helpers/counting-proxy'
import { faultRun } from '../helpers/fault-run'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'

const FIRST_CALL_MS = 1000
const DEADLINE_MS = 5000
const MARGIN_MS = 250

const run = faultRun('frozen client', 2)

/** Calls when it is told to, and prints how that ended and how long it took. */
const PROGRAM = `
  const { connect } = require('./index.js')
  const connection = connect(process.env.TARGET, { commandTimeout: ${DEADLINE_MS} })
  connection.command('PING').then(() => console.log('up'))
  setInterval(() => {}, 60_000)
  let calls = 0
  process.on('SIGUSR2', async () => {
    const begin = performance.now()
    const code = await connection.command('GET', 'k').then(() => 'done', (error) => error.code)
    console.log('call ' + (calls += 1) + ' ' + code + ' ' + Math.round(performance.now() - begin))
  })
`

for (const [what, half] of [
  ['finds its connection alive', 'open'],
  ['finds its connection reset', 'reset'],
  ['finds its connection half open', 'black hole'],
] as const)
  it(`a process that was stopped ${what}: its first call ends in time`, async () => {
    await using server = await RedisServer.start()
    await using proxy = await CountingProxy.start(server)
    await using program = new Program(['--eval', PROGRAM], { env: { TARGET: proxy.url } })
    await program.printed(/^up$/m)
    program.kill('SIGSTOP')
    if (half === 'black hole') proxy.blackhole()
    else if (half === 'reset') proxy.cut('reset')
    // How long it is stopped is what is tested.
    await delay(run.seconds * 1000)
    program.kill('SIGCONT')
    program.kill('SIGUSR2')
    const [, code, ms] = await program.printed(/^call 1 (\w+) (\d+)$/m, DEADLINE_MS + 5000)
    console.log(`${half}: ${code} after ${ms} ms`)
    if (half === 'black hole') {
      assert.ok(Number(ms) <= DEADLINE_MS + MARGIN_MS, `${ms} ms`)
      assert.equal(code, 'TIMEOUT')
    } else {
      assert.equal(code, 'done')
      // A connection that was lost is redialled after a random part of 1.2 s.
      assert.ok(Number(ms) <= (half === 'open' ? FIRST_CALL_MS : 1200 + MARGIN_MS), `${ms} ms`)
    }
  })
