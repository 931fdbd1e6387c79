/** A connection that is lost again and again, in a program that listens to nothing. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { CountingProxy } from '../helpers/counting-proxy'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const CONNECTIONS = 10
const ROUNDS = 10

/** Calls all the time on every connection, and listens to no event of any. */
const PROGRAM = `
  const { connect } = require('./index.js')
  const codes = {}
  let ended = false
  async function call(connection) {
    while (!ended) {
      const code = await connection.command('INCR', 'n').then(() => 'done', (error) => error.code)
      codes[code] = (codes[code] ?? 0) + 1
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await connection.command('PING')
    await connection.close()
  }
  const connections = Array.from({ length: ${CONNECTIONS} }, (_, n) =>
    connect(process.env.TARGET, { redialDelay: 5, connectionName: 'c' + n }))
  process.once('SIGTERM', () => (ended = true))
  Promise.all(connections.map(call)).then(() => console.log('codes ' + JSON.stringify(codes)))
`

it(`a process without a listener survives ${CONNECTIONS * ROUNDS} disconnects`, async () => {
  await using server = await RedisServer.start()
  await using proxy = await CountingProxy.start(server)
  await using program = new Program(['--unhandled-rejections=strict', '--eval', PROGRAM], {
    env: { TARGET: proxy.url },
  })
  for (let round = 0; round < ROUNDS; round += 1) {
    const everyone = (round + 1) * CONNECTIONS
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await until(`all are there in round ${round}`, () => proxy.traffic.connections === everyone, 20_000)
    proxy.cut(round % 2 === 0 ? 'end' : 'reset')
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
