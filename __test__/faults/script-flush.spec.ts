/** A server that forgets its scripts all the time, as after restarts and failovers: nobody notices. */
/* oxlint-disable no-await-in-loop -- one after the other */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { it } from 'node:test'
import { inspect } from 'node:util'
import {
  RedisLockManager,
  RedisWakeSignaler,
  RedisWorkflowStateService,
  connect,
  createRedisStore,
} from '../../index.js'
import { faultRun, pick } from '../helpers/fault-run'
import { WRITES, openStores } from '../helpers/fenced'
import { RedisServer } from '../helpers/redis-server'
import { RelayingServer } from '../helpers/relaying-server'

const FLUSH_EVERY_MS = 10
/** Chains of calls that are under way at the same time. */
const CHAINS = 16

const run = faultRun('SCRIPT FLUSH', 4)

it(`SCRIPT FLUSH every ${FLUSH_EVERY_MS} ms shows in no call of any domain`, async () => {
  await using server = await RedisServer.start()
  using direct = await server.client()
  const connection = connect(server.url)
  const stores = await openStores(connection)
  const locks = new RedisLockManager(connection)
  const signaler = new RedisWakeSignaler(connection)
  const tasks = createRedisStore(connection)

  async function underLock(): Promise<void> {
    const key = randomUUID()
    const token = (await locks.acquire(key)) as string
    assert.equal(await locks.extend(key, token), true)
    assert.equal(await locks.release(key, token), true)
  }
  async function execution(): Promise<void> {
    const id = randomUUID()
    await tasks.beginExecution(id)
    await tasks.beginExecutionTask(id, 't')
    await tasks.commitExecutionTaskResult(id, 't', { a: 1 })
    await tasks.disposeExecution(id)
  }
  const traffic: Record<string, () => Promise<unknown>> = {
    lock: underLock,
    'task store': execution,
    signal: () => signaler.signal(randomUUID()),
    'withRunLock of a run': () => stores.runs.withRunLock(randomUUID(), () => 1),
    'run lock of @pikku/core': () => stores.service.withRunLock(randomUUID(), async () => 1),
  }
  for (const [name, prepare] of Object.entries(WRITES)) {
    traffic[name] = async () => (await prepare(stores)).write()
    traffic[`${name} under a fence`] = async () => (await prepare(stores)).write({ fence: 7 })
  }

  const names = Object.keys(traffic)
  const done = new Map<string, number>()
  const failures: string[] = []
  const end = performance.now() + run.seconds * 1000
  async function chain(number: number): Promise<void> {
    // Every kind at least once, and then as it comes.
    let turn = number
    while (performance.now() < end && failures.length === 0) {
      const name = turn < names.length ? (names[turn] as string) : pick(names, run.random)
      turn += CHAINS
      try {
        await traffic[name]?.()
        done.set(name, (done.get(name) ?? 0) + 1)
      } catch (error) {
        failures.push(`${name}: ${inspect(error)}`)
      }
    }
  }
  let flushes = 0
  async function flush(): Promise<void> {
    while (performance.now() < end && failures.length === 0) {
      await Promise.all([direct.command('SCRIPT', 'FLUSH'), delay(FLUSH_EVERY_MS)])
      flushes += 1
      // What was written is of no interest, and a long run would fill the memory.
      if (flushes % 500 === 0) await direct.command('CONFIG', 'RESETSTAT')
    }
  }
  await Promise.all([flush(), ...Array.from({ length: CHAINS }, (_, number) => chain(number))])

  const stats = await direct.commandStats()
  await connection.close()
  assert.deepEqual(failures, [])
  assert.deepEqual(
    names.filter((name) => !done.has(name)),
    [],
    'kinds of calls that did not run',
  )
  const calls = [...done.values()].reduce((sum, count) => sum + count, 0)
  console.log(`${calls} operations, ${flushes} flushes, ${stats['eval']?.calls} sources sent`)
  assert.ok(flushes >= run.seconds * 20, `${flushes} flushes`)
  // Otherwise scripts were not lost at all.
  assert.ok((stats['eval']?.calls ?? 0) > 50, 'sources of scripts were sent again')
})

it('a script that was run, forgotten, and then refused is not said to have done nothing', async () => {
  await using real = await RedisServer.start()
  let seen = 0
  let refuses = false
  await using relay = await RelayingServer.start(real, ([name]) => {
    if (!refuses || (name !== 'EVALSHA' && name !== 'EVAL')) return undefined
    if (name === 'EVAL') return '-OOM command not allowed\r\n'
    seen += 1
    return seen === 1 ? { part: 0 } : '-NOSCRIPT No matching script.\r\n'
  })
  const service = new RedisWorkflowStateService({ host: relay.host, port: relay.port, redialDelay: 50 })
  // Connected before the source is sent, so that the next call sends the digest.
  await service.init()
  await service.setStepResult('r', 'warm', 1)
  refuses = true
  await assert.rejects(service.setStepResult('r', 's', 1), { code: 'OUTCOME_UNKNOWN' })
  using direct = await real.client()
  assert.equal(await direct.command('HGET', 'workflows:step:r:s', 'status'), 'done')
  refuses = false
  await service.setStepResult('r', 's', 1)
  await service.close()
})
