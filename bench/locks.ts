import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { Child } from '../__test__/helpers/child.js'
import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { median } from '../__test__/helpers/wait.js'
import { RedisLockManager } from '../index.js'
import { ferroflow, type LockClient, lockClients, redlock, semaphore, TTL } from './lock-clients.js'

export async function measureLocks(server: RedisServer): Promise<void> {
  await measureHandOver(server)
  await measurePairs([ferroflow(server.url), redlock(server.url), semaphore(server.url)])
  // By itself: the AsyncLocalStorage that it needs makes every promise of a process dearer on Node 20.
  await measurePairs([withLock(server.url), redlock(server.url)])
  await measureChecks(server)
  await measureHolding(server)
}

const HAND_OVERS = 300

/** From the release in this process to the entry of the next holder in another, which has waited for some time. */
async function measureHandOver(server: RedisServer): Promise<void> {
  const clients = lockClients(server.url)
  const times = new Map(clients.map((client) => [client, [] as number[]]))
  const waiter = fork(join(__dirname, 'lock-waiter.ts'), [server.url], { execArgv: ['--import', 'tsx'] })
  for (let turn = -3; turn < HAND_OVERS; turn++) {
    for (const [index, client] of clients.entries()) {
      const millis = await handOver(client, waiter, index, `hand-over ${index}`)
      // The first rounds are for the compilers.
      if (turn >= 0) times.get(client)!.push(millis)
    }
  }
  console.log(`From release to the entry of the next holder, two processes, ${HAND_OVERS} times\n`)
  console.log('| client | p50 | p99 |')
  console.log('|---|---|---|')
  for (const client of clients) {
    const sorted = times.get(client)!.toSorted((a, b) => a - b)
    const at = (part: number): string => sorted[Math.floor(sorted.length * part)]!.toFixed(2)
    const [half, most] = client === clients[0] ? [' (goal 1)', ' (goal 5)'] : ['', '']
    console.log(`| ${client.name} | ${at(0.5)} ms${half} | ${at(0.99)} ms${most} |`)
  }
  console.log()
  waiter.kill()
  for (const client of clients) await client.close()
}

/** Milliseconds. Both processes read the same clock. */
async function handOver(
  client: LockClient,
  waiter: ChildProcess,
  index: number,
  key: string,
): Promise<number> {
  const release = await client.acquire(key)
  const waiting = once(waiter, 'message')
  waiter.send({ client: index, key })
  await waiting
  // At no fixed moment between two attempts of who polls.
  await delay(10 + Math.random() * 100)
  const entered = once(waiter, 'message')
  const released = process.hrtime.bigint()
  await release()
  const [moment] = (await entered) as [string]
  return Number(BigInt(moment) - released) / 1e6
}

const IN_FLIGHT = 64
/** Many short turns: the speed of a machine changes within seconds, and each turn is compared with its neighbour. */
const ROUNDS = 25
const ROUND_MS = 200
const WARM_UP = 3
/** What must be reached, as a multiple of redlock. */
const PAIRS_GOAL = { client: 'ferroflow acquire, release', ratio: 3 }

/** The same with a function that runs under the lock. */
function withLock(url: string): LockClient {
  const locks = new RedisLockManager(url, { defaultTTL: TTL })
  return {
    name: 'ferroflow withLock',
    acquire: (key) => locks.withLock(key, () => () => Promise.resolve()),
    close: () => locks.close(),
  }
}

interface Round {
  /** Pairs a second. */
  rate: number
  /** CPU time of this process, all threads, microseconds a pair. */
  cpu: number
}

async function round(client: LockClient): Promise<Round> {
  let pairs = 0
  const cpu = process.cpuUsage()
  const start = performance.now()
  const end = start + ROUND_MS
  const caller = async (_: unknown, index: number): Promise<void> => {
    while (performance.now() < end) {
      const release = await client.acquire(`pair ${index}`)
      await release()
      pairs++
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { rate: pairs / seconds, cpu: (user + system) / pairs }
}

/** Locks that nobody else wants. Clients take turns, the second being redlock; what is said is the median of all turns. */
async function measurePairs(clients: readonly LockClient[]): Promise<void> {
  const rounds = new Map(clients.map((client) => [client, [] as Round[]]))
  for (let turn = -WARM_UP; turn < ROUNDS; turn++) {
    for (const client of clients) {
      const measured = await round(client)
      if (turn >= 0) rounds.get(client)!.push(measured)
    }
  }
  const medianOf = (client: LockClient, figure: (round: Round, turn: number) => number): number =>
    median(rounds.get(client)!.map(figure))
  const baseRate = (turn: number): number => rounds.get(clients[1]!)![turn]!.rate
  console.log(`Acquire and release, ${IN_FLIGHT} in flight, nobody waits (x redlock)\n`)
  console.log('| client | pairs | x redlock | CPU per pair |')
  console.log('|---|---|---|---|')
  for (const client of clients) {
    const rate = medianOf(client, (measured) => measured.rate)
    const ratio = medianOf(client, (measured, turn) => measured.rate / baseRate(turn))
    const cpu = medianOf(client, (measured) => measured.cpu)
    const goal = client.name === PAIRS_GOAL.client ? ` (goal ${PAIRS_GOAL.ratio})` : ''
    console.log(
      `| ${client.name} | ${(rate / 1000).toFixed(1)} k/s | ${ratio.toFixed(2)}${goal} | ${cpu.toFixed(1)} µs |`,
    )
  }
  console.log()
  for (const client of clients) await client.close()
}

const CHECKS = 1_000_000

/** What it costs to ask whether the lock is still held. */
async function measureChecks({ url }: RedisServer): Promise<void> {
  const locks = new RedisLockManager(url)
  await locks.withLock('checks', (lock) => {
    const checks = { assertHeld: () => lock.assertHeld(), held: () => lock.held, ttlLeft: () => lock.ttlLeft }
    const costs = Object.entries(checks).map(([name, check]) => {
      for (let index = 0; index < CHECKS / 10; index++) check()
      const start = process.hrtime.bigint()
      for (let index = 0; index < CHECKS; index++) check()
      return `${name} ${(Number(process.hrtime.bigint() - start) / CHECKS).toFixed(0)} ns`
    })
    console.log(`Asking the lock itself: ${costs.join(', ')} (goal: below 1000 ns)\n`)
  })
  await locks.close()
}

const HELD = 1000
const HOLDING_MS = 10_000

/** CPU of a process that holds locks and does nothing else. Each is renewed three times in its TTL. */
async function measureHolding({ url }: RedisServer): Promise<void> {
  const { stdout, stderr } = await Child.start(
    `
    const { RedisLockManager } = require('ferroflow')
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
    const locks = new RedisLockManager('${url}')
    const hold = (_, index) => locks.acquire('held ' + index, { ttl: ${TTL}, renew: true })
    Promise.all(Array.from({ length: ${HELD} }, hold)).then(async (held) => {
      // V8 tidies up its heap some seconds after a program was loaded.
      await pause(12_000)
      const before = process.cpuUsage()
      await pause(${HOLDING_MS})
      const { user, system } = process.cpuUsage(before)
      held.forEach((lock) => lock.assertHeld())
      console.log((user + system) / 1000 / ${HOLDING_MS})
      await locks.close()
    })`,
  ).ended(40_000)
  if (stdout === '') throw new Error(stderr)
  console.log(
    `Holding ${HELD} renewed locks with a TTL of ${TTL / 1000} s: ${(Number(stdout) * 100).toFixed(2)} % CPU\n`,
  )
}
