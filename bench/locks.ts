import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { Child } from '../__test__/helpers/child.js'
import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { median } from '../__test__/helpers/wait.js'
import { RedisLockManager } from '../index.js'
import { type LockClient, lockClients, PAIR_CLIENTS, TTL } from './lock-clients.js'
import { IN_FLIGHT, type Round } from './lock-pairs.js'

export async function measureLocks(server: RedisServer): Promise<void> {
  await measureHandOver(server)
  await measurePairs(server)
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

/** Many short turns: the speed of a machine changes within seconds, and each turn is compared with its neighbours. */
const ROUNDS = 25
const WARM_UP = 3
/** What the first must reach, as a multiple of redlock. */
const PAIRS_GOAL = 3

/** Locks that nobody else wants. Each client has a process of its own, as in real life, and they take turns. */
async function measurePairs({ url }: RedisServer): Promise<void> {
  const processes = PAIR_CLIENTS.map((_, index) =>
    fork(join(__dirname, 'lock-pairs.ts'), [url, String(index)], { execArgv: ['--import', 'tsx'] }),
  )
  const rounds = processes.map((): Round[] => [])
  for (let turn = -WARM_UP; turn < ROUNDS; turn++) {
    for (const [index, child] of processes.entries()) {
      const measured = once(child, 'message')
      child.send('round')
      const [round] = (await measured) as [Round]
      if (turn >= 0) rounds[index]!.push(round)
    }
  }
  const base = rounds.at(-1)!
  console.log(
    `Acquire and release, ${IN_FLIGHT} in flight, nobody waits, a process each: medians of the turns\n`,
  )
  console.log('| client | pairs | x redlock | CPU per pair |')
  console.log('|---|---|---|---|')
  for (const [index, own] of rounds.entries()) {
    const rate = median(own.map((round) => round.rate))
    const ratio = median(own.map((round, turn) => round.rate / base[turn]!.rate))
    const cpu = median(own.map((round) => round.cpu))
    const goal = index === 0 ? ` (goal ${PAIRS_GOAL})` : ''
    console.log(
      `| ${own[0]!.name} | ${(rate / 1000).toFixed(1)} k/s | ${ratio.toFixed(2)}${goal} | ${cpu.toFixed(1)} µs |`,
    )
  }
  console.log()
  for (const child of processes) child.disconnect()
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
