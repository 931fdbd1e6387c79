import { Child } from '../__test__/helpers/child.js'
import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { type Connection, connect } from '../index.js'

const IDLE_MS = 10_000

/** CPU of an open connection that nobody uses, in a process that does nothing else. */
export async function measureIdle(server: RedisServer): Promise<void> {
  const { stdout } = await Child.start(
    `
    const { connect } = require('ferroflow')
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
    const connection = connect('${server.url}')
    connection.command('PING').then(async () => {
      // V8 tidies up its heap some seconds after a program was loaded.
      await pause(12_000)
      const before = process.cpuUsage()
      await pause(${IDLE_MS})
      const { user, system } = process.cpuUsage(before)
      console.log((user + system) / 1000 / ${IDLE_MS})
    })`,
  ).ended()
  console.log(
    `Idle for ${IDLE_MS / 1000} s: ${(Number(stdout) * 100).toFixed(3)} % CPU (goal: below 0.1 %)\n`,
  )
}

const STALL_MS = 3000

/** The longest turn of the event loop while a thousand calls are in flight all the time. */
export async function measureStall(server: RedisServer): Promise<void> {
  const connection = connect(server.url)
  await connection.command('SET', 'stall', 'x'.repeat(200))
  const end = performance.now() + STALL_MS
  const caller = async (): Promise<void> => {
    while (performance.now() < end) await connection.command('GET', 'stall')
  }
  const turns: number[] = []
  let last = performance.now()
  const turn = (): void => {
    const now = performance.now()
    turns.push(now - last)
    last = now
    if (now < end) setImmediate(turn)
  }
  setImmediate(turn)
  await Promise.all(Array.from({ length: 1000 }, caller))
  // The first turn starts all the calls; what follows is ours.
  const sorted = turns.slice(1).toSorted((a, b) => a - b)
  const p999 = sorted[Math.floor(sorted.length * 0.999)]!
  console.log(
    `Turns of the event loop with 1000 calls in flight: p99.9 ${p999.toFixed(2)} ms, longest ${sorted.at(-1)!.toFixed(2)} ms, of ${sorted.length} (goal: 1 ms)\n`,
  )
  await connection.close()
}

const WARM_UP = 500_000
const CALLS = 1_000_000
const IN_FLIGHT = 500

/** Growth of the process over a million calls. Run with --expose-gc, so that garbage does not count. */
export async function measureMemory(server: RedisServer): Promise<void> {
  const connection = connect(server.url)
  await calls(connection, WARM_UP)
  const before = await residentMiB()
  await calls(connection, CALLS)
  const growth = (await residentMiB()) - before
  console.log(
    `RSS over ${CALLS} calls: ${growth >= 0 ? '+' : ''}${growth.toFixed(1)} MiB (goal: below 5 MiB)\n`,
  )
  await connection.close()
}

async function calls(connection: Connection, count: number): Promise<void> {
  const value = 'x'.repeat(200)
  let started = 0
  const caller = async (): Promise<void> => {
    while (started < count) {
      const key = `m${started++ % 100}`
      await (started % 2 === 0 ? connection.command('GET', key) : connection.command('SET', key, value))
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller))
}

async function residentMiB(): Promise<number> {
  for (let turn = 0; turn < 5; turn++) {
    globalThis.gc?.()
    await pause(50)
  }
  return process.memoryUsage.rss() / 2 ** 20
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
