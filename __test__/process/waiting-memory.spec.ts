/** What a call costs while it waits for a connection. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Program } from '../helpers/program'

const CALLS = 5000

/** Has calls wait for a server that is not there. Prints how many bytes of the heap each keeps. */
const PROGRAM = `
  const ferroflow = require('./index.js')
  const { setTimeout: delay } = require('node:timers/promises')
  const connection = ferroflow.connect({ port: 1, commandTimeout: 60_000 })
  const runs = new ferroflow.RedisWorkflowStateService(connection)
  const locks = new ferroflow.RedisLockManager(connection)
  const sagas = new ferroflow.RedisSagaStore({ redis: connection })
  const tasks = ferroflow.createRedisStore(connection)
  const text = 'x'.repeat(1000)
  const calls = {
    command: () => connection.command('SET', 'k', text),
    getRun: () => runs.getRun('r'),
    setStepResult: () => runs.setStepResult('r', 's', { text }),
    isLocked: () => locks.isLocked('l'),
    getById: () => sagas.getById('S', 'i'),
    save: () => sagas.save('S', { id: 'i', text }),
    commitExecutionTaskResult: () => tasks.commitExecutionTaskResult('e', 't', { text }),
  }
  const call = calls[process.env.CALL]
  const nothing = () => {}
  const used = () => {
    gc()
    return process.memoryUsage().heapUsed
  }
  async function main() {
    for (let n = 0; n < 200; n += 1) call().catch(nothing)
    await delay(100)
    const before = used()
    for (let n = 0; n < ${CALLS}; n += 1) call().catch(nothing)
    await delay(100)
    console.log('each ' + (used() - before) / ${CALLS})
    process.exit(0)
  }
  void main()
`

describe('a call that waits for a connection', () => {
  // Two promises and what follows each. A save has to complete the state of the caller, so it keeps that as well.
  for (const [call, bytes] of Object.entries({
    command: 320,
    getRun: 450,
    setStepResult: 320,
    isLocked: 320,
    getById: 450,
    save: 1200,
    commitExecutionTaskResult: 320,
  }))
    it(`${call} keeps at most ${bytes} bytes of the heap`, async () => {
      await using program = new Program(['--expose-gc', '--eval', PROGRAM], { env: { CALL: call } })
      const [, each = ''] = await program.printed(/^each (.*)$/m, 60_000)
      console.log(`${call}: ${each}`)
      assert.ok(Number(each) <= bytes, each)
    })
})
