/** A connection that is lost again and again, in a program that listens to nothing. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { CountingProxy } from '../helpers/counting-proxy'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const DISCONNECTS = 100

/** Calls all the time, and listens to no event of anything. */
const PROGRAM = `
  const { connect } = require('./index.js')
  const connection = connect(process.env.TARGET, { redialDelay: 5 })
  const codes = {}
  let ended = false
  async function call() {
    while (!ended) {
      const code = await connection.command('INCR', 'n').then(() => 'done', (error) => error.code)
      codes[code] = (codes[code] ?? 0) + 1
      if (code === 'done' && codes.done === 1) console.log('calling')
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
  process.stdin.resume()
  process.once('SIGTERM', async () => {
    ended = true
    await calling
    await connection.command('PING')
    await connection.close()
    process.stdin.pause()
    console.log('codes ' + JSON.stringify(codes))
  })
  const calling = call()
`

it(`a process without a listener survives ${DISCONNECTS} disconnects`, async () => {
  await using server = await RedisServer.start()
  await using proxy = await CountingProxy.start(server)
  await using program = new Program(['--unhandled-rejections=strict', '--eval', PROGRAM], {
    env: { TARGET: proxy.url },
  })
  await program.printed(/^calling$/m)
  for (let n = 0; n < DISCONNECTS; n += 1) {
    const { connections } = proxy.traffic
    proxy.cut(n % 2 === 0 ? 'end' : 'reset')
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await until(`it is back, ${n}`, () => proxy.traffic.connections > connections, 20_000)
  }
  program.kill('SIGTERM')
  const { code, signal } = await program.ended(20_000)
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, program.output)
  const codes = JSON.parse(/codes (.*)/.exec(program.output)?.[1] ?? '{}')
  assert.ok(codes.done > 0, program.output)
  assert.deepEqual(
    Object.keys(codes).filter((key) => key !== 'done' && key !== 'OUTCOME_UNKNOWN'),
    [],
  )
})
