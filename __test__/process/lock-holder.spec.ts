/** A process that holds a lock and hangs, stops, dies or ends, seen from another one. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { RedisLockManager } from '../../index.js'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { timed, until } from '../helpers/wait'

/** Holds the lock `k` and prints a line of JSON for everything that it notices. */
function holder(url: string, options: string, body: string, managerOptions = '{}'): Program {
  return new Program([
    '--eval',
    `
    const { RedisLockManager } = require('ferroflow')
    const say = (what) => require('node:fs').writeSync(1, JSON.stringify(what) + '\\n')
    const block = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
    for (const event of ['uncaughtException', 'unhandledRejection'])
      process.on(event, (error) => say({ [event]: String(error) }))
    const locks = new RedisLockManager(${JSON.stringify(url)}, ${managerOptions})
    locks.on('lost', ({ code }) => say({ lostEvent: code }))
    const fn = async (context) => {
      context.signal.addEventListener('abort', () => say({ aborted: context.signal.reason.code }))
      ${body}
    }
    locks.withLock('k', fn, ${options})
      .then((result) => say({ result }), (error) => say({ error: error.code, message: error.message }))
      .finally(() => locks.close())
    `,
  ])
}

function lines(program: Program): Record<string, unknown>[] {
  return program.output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

describe('a lock of a process', () => {
  let server: RedisServer
  let client: RespClient
  let locks: RedisLockManager
  let folder: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ferroflow-holder-'))
    server = await RedisServer.start()
    client = await server.client()
    locks = new RedisLockManager(server.url)
  })
  after(async () => {
    await locks.close()
    client.close()
    await server.stop()
    await rm(folder, { recursive: true })
  })
  afterEach(() => client.command('FLUSHALL'))

  it('whose event loop is blocked for five TTLs is not lost', async () => {
    await using program = holder(
      server.url,
      '{ ttl: 600 }',
      `say('in'); block(3000); say({ held: context.held, aborted: context.signal.aborted }); return 'kept'`,
    )
    await program.printed(/"in"/)
    let attempts = 0
    while (!program.output.includes('held')) {
      // oxlint-disable-next-line no-await-in-loop -- as often as possible
      const token = await locks.tryAcquire('k', 1000)
      // Its last line may still be on its way here.
      if (token !== null) await program.printed(/held/, 250)
      attempts += 1
    }
    await program.printed(/result/)
    const [, seen, result] = lines(program)
    assert.deepEqual([seen, result], [{ held: true, aborted: false }, { result: 'kept' }])
    assert.ok(attempts > 100, `${attempts} attempts`)
    assert.deepEqual(await program.ended(), { code: 0, signal: null })
  })

  it('whose event loop is blocked for longer than jsLivenessMs goes to the next', async () => {
    await using program = holder(
      server.url,
      '{ ttl: 200, jsLivenessMs: 300 }',
      `say('in'); block(2500); say({ held: context.held }); await sleep(1)`,
    )
    await program.printed(/"in"/)
    const { ms, outcome } = await timed(() => locks.acquire('k', 5000))
    assert.ok(outcome.status === 'fulfilled' && outcome.value !== null)
    assert.ok(ms > 190 && ms < 1500, `${ms} ms`)
    assert.doesNotMatch(program.output, /held/, 'it is still blocked')
    await program.printed(/"error"/)
    const [, held, ...rest] = lines(program)
    assert.deepEqual(held, { held: false })
    assert.deepEqual(
      rest.map((line) => Object.values(line)[0]),
      ['LOCK_LOST', 'LOCK_LOST', 'LOCK_LOST'],
    )
    assert.equal(await client.command('GET', 'fm:lock:k'), outcome.value)
    assert.deepEqual(await program.ended(), { code: 0, signal: null })
  })

  it('that is stopped for three TTLs is lost, and it knows at once', async () => {
    for (let round = 0; round < 3; round += 1) {
      // Written while it is stopped: what it looks at first when it goes on.
      const resumed = join(folder, `resumed-${round}`)
      await using program = holder(
        server.url,
        '{ ttl: 300 }',
        `say('in')
         for (;;) {
           if (require('node:fs').existsSync(${JSON.stringify(resumed)})) {
             let thrown
             const { held } = context
             try { context.assertHeld() } catch (error) { thrown = error.code }
             say({ held, thrown })
             break
           }
           if (${round} !== 0) await (${round} === 1 ? sleep(1) : new Promise(setImmediate))
         }
         await sleep(50)
         return 'not kept'`,
      )
      await program.printed(/"in"/)
      program.kill('SIGSTOP')
      const token = await locks.acquire('k', 60_000)
      assert.notEqual(token, null)
      await delay(900 - 300)
      await writeFile(resumed, '')
      program.kill('SIGCONT')
      await program.printed(/"error"/)
      // In the process that never yields, nobody can be told before it asks.
      const [first, ...said] = lines(program)
      assert.equal(first, 'in')
      assert.deepEqual(
        said.find((line) => 'held' in line),
        { held: false, thrown: 'LOCK_LOST' },
      )
      const rest = said.filter((line) => !('held' in line))
      assert.deepEqual(
        rest.map((line) => Object.entries(line)[0]),
        [
          ['aborted', 'LOCK_LOST'],
          ['lostEvent', 'LOCK_LOST'],
          ['error', 'LOCK_LOST'],
        ],
      )
      assert.equal(await client.command('GET', 'fm:lock:k'), token, 'the next holder is left alone')
      assert.deepEqual(await program.ended(), { code: 0, signal: null })
      await locks.release('k', token as string)
    }
  })

  it('that is killed is free within its TTL', async () => {
    await using program = holder(server.url, '{ ttl: 600 }', `say('in'); await sleep(60_000)`)
    await program.printed(/"in"/)
    await delay(400)
    program.kill('SIGKILL')
    const { ms, outcome } = await timed(() => locks.acquire('k'))
    assert.ok(outcome.status === 'fulfilled' && outcome.value !== null)
    assert.ok(ms > 200 && ms < 1200, `${ms} ms`)
  })

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGUSR2'] as const)
    it(`is free before the process dies of ${signal}, with releaseOnSignal`, async () => {
      const option = signal === 'SIGUSR2' ? `['SIGUSR2']` : 'true'
      await using program = holder(
        server.url,
        '{ ttl: 60_000 }',
        `await locks.acquire('plain', 60_000); say('in'); await sleep(60_000)`,
        `{ releaseOnSignal: ${option} }`,
      )
      await program.printed(/"in"/)
      assert.equal((await client.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow')).length, 2)
      program.kill(signal)
      assert.deepEqual(await program.ended(), { code: null, signal })
      assert.deepEqual(
        (await client.keys('fm:lock:*')).filter((key) => !key.includes('ferroflow')),
        [],
      )
    })

  it('stays until it expires if the process dies of SIGTERM without', async () => {
    await using program = holder(server.url, '{ ttl: 1500 }', `say('in'); await sleep(60_000)`)
    await program.printed(/"in"/)
    program.kill('SIGTERM')
    assert.deepEqual(await program.ended(), { code: null, signal: 'SIGTERM' })
    assert.equal(await client.command('EXISTS', 'fm:lock:k'), 1)
    await until('it is free', async () => (await client.command('EXISTS', 'fm:lock:k')) === 0, 2500)
  })

  it('of a process that dies vanishes from the list', async () => {
    await using program = holder(
      server.url,
      '{ ttl: 500 }',
      `await locks.acquire('plain', 500); say('in'); await sleep(60_000)`,
    )
    await program.printed(/"in"/)
    await locks.acquire('stays', 60_000)
    const keys = async (): Promise<string> =>
      (await locks.list()).locks
        .map(({ key }) => key)
        .toSorted()
        .join()
    await until('the renewed one is listed', async () => /k.*stays/.test(await keys()))
    program.kill('SIGKILL')
    await until('only the living one is listed', async () => (await keys()) === 'stays')
    await until(
      'the index forgets as well',
      async () => (await client.command('ZCARD', 'fm:lock:ferroflow:held')) === 1,
    )
  })

  it('whose function waits for nothing that Node knows of is released at maxHoldMs', async () => {
    await using program = holder(
      server.url,
      '{ ttl: 5000, maxHoldMs: 300 }',
      `say('in'); await new Promise(() => {})`,
    )
    await program.printed(/"error"/)
    assert.equal(lines(program).at(-1)?.['error'], 'LOCK_LOST')
    assert.deepEqual(await program.ended(), { code: 0, signal: null })
    assert.equal(await client.command('EXISTS', 'fm:lock:k'), 0)
  })

  it('does not mind a wall clock that is set', async () => {
    for (const hours of [1, -1]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await using program = holder(
        server.url,
        '{ ttl: 200 }',
        `const { now } = Date
         Date.now = () => now() + ${hours} * 3_600_000
         await sleep(700)
         return [context.held, context.ttlLeft <= 200, context.signal.aborted]`,
      )
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await program.printed(/"result"|"error"/)
      assert.deepEqual(lines(program), [{ result: [true, true, false] }])
    }
  })
})
