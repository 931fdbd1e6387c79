/**
 * A thousand clients that lose their server in the same moment do not all come back in the same moment.
 *
 * A thousand clients are a thousand machines. On one, their timers wait for each other, and what is counted is how it
 * lets them run. Since clients know nothing of each other, what some do in several rounds, counted from the loss, is
 * what so many more would do in one.
 */
/* oxlint-disable no-await-in-loop -- one after the other */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { faultRun } from '../helpers/fault-run'
import { Program } from '../helpers/program'
import { findFreePort } from '../helpers/redis-server'
import { until } from '../helpers/wait'
import { type Arrivals, StormServer } from './storm-servers'

const PROCESSES = 2
const CLIENTS = 200
const ROUNDS = 5
/** A round in which some process stood still for longer than this says nothing, and is repeated. */
const STILL_MS = 60
const MOST_ROUNDS = 25
const FAILOVER_MS = 500
const WINDOW_MS = 100
const MOST_IN_WINDOW = 200
/** How soon everybody is back once there is a server. */
const RECOVERY_MS = 2000
/** A connection that lasted so long counts as a success, after which delays begin anew. */
const STABLE_MS = 1200

const run = faultRun('reconnect storm', 0)
const skip = run.long ? false : 'takes minutes: npm run test:faults'

/** The most that lie within one window. */
function mostInWindow(unsorted: readonly number[]): number {
  const times = unsorted.toSorted((a, b) => a - b)
  let first = 0
  let most = 0
  for (const [index, time] of times.entries()) {
    while (time - (times[first] as number) >= WINDOW_MS) first += 1
    most = Math.max(most, index - first + 1)
  }
  return most
}

class Clients implements AsyncDisposable {
  readonly #programs: Program[]
  #rounds = 0

  constructor(target: object) {
    this.#programs = Array.from({ length: PROCESSES }, (_, number) =>
      Program.typescript('__test__/faults/many-clients.ts', [
        JSON.stringify(target),
        String(CLIENTS / PROCESSES),
        `p${number}`,
      ]),
    )
  }

  /** Waits until all of them are connected, once more than before. Returns for how long some stood still at most. */
  async back(): Promise<number> {
    this.#rounds += 1
    await until(
      'everybody is back',
      () => this.#programs.every(({ output }) => output.split('ready').length > this.#rounds),
      30_000,
    )
    const late = this.#programs.map(({ output }) => Number(/ready (\d+)\n$/.exec(output)?.[1] ?? Infinity))
    return Math.max(...late)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.map((program) => program[Symbol.asyncDispose]()))
  }
}

/** Servers that come one after the other. */
class Masters implements AsyncDisposable {
  readonly #servers: StormServer[] = []

  add(server: StormServer): StormServer {
    this.#servers.push(server)
    return server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.kill()))
  }
}

interface Round {
  /** From when on arrivals are counted, in milliseconds since 1970. */
  since: number
  arrivals: Record<string, Arrivals>
  lateMs: number
  recoveryMs: number
}

/** Takes the server away so many times, and looks at who came when. */
async function storm(clients: Clients, lose: (round: number) => Promise<Round>): Promise<void> {
  const all: Record<string, number[]> = {}
  let slowest = 0
  await clients.back()
  let counted = 0
  for (let round = 0; counted < ROUNDS; round += 1) {
    assert.ok(round < MOST_ROUNDS, 'the machine has too much else to do')
    await delay(STABLE_MS)
    const { since, arrivals, lateMs, recoveryMs } = await lose(round)
    if (Math.max(lateMs, ...Object.values(arrivals).map((found) => found.lateMs)) > STILL_MS) continue
    counted += 1
    slowest = Math.max(slowest, recoveryMs)
    for (const [name, { times }] of Object.entries(arrivals))
      (all[name] ??= []).push(...times.map((time) => time - since))
  }
  for (const [name, times] of Object.entries(all)) {
    const most = mostInWindow(times)
    console.log(`${name}: ${times.length} attempts, at most ${most} in ${WINDOW_MS} ms`)
    assert.ok(most <= MOST_IN_WINDOW, `${name}: ${most} attempts in ${WINDOW_MS} ms`)
  }
  console.log(`all back after ${Math.round(slowest)} ms`)
  assert.ok(slowest <= RECOVERY_MS, `back after ${slowest} ms`)
}

describe(
  `${CLIENTS * ROUNDS} clients make at most ${MOST_IN_WINDOW} attempts in ${WINDOW_MS} ms, and are back in time`,
  { skip },
  () => {
    for (const awayMs of [0, 300, 1500])
      it(`after the restart of a server that took ${awayMs} ms`, async () => {
        await using server = await StormServer.start(await findFreePort())
        await using clients = new Clients({ port: server.port })
        await storm(clients, async () => {
          await server.kill()
          const lost = Date.now()
          await delay(awayMs)
          await server.restart()
          const restarted = Date.now()
          const lateMs = await clients.back()
          const recoveryMs = Date.now() - restarted
          return { since: lost, arrivals: { server: await server.arrivals() }, lateMs, recoveryMs }
        })
      })

    for (const [topology, targetOf, alone] of [
      ['a master that Sentinels watch', (port: number) => ({ sentinels: [{ port }], name: 'm' }), true],
      ['a node of a cluster', (port: number) => ({ cluster: [{ port }] }), false],
      ['the only master that was known of a cluster', (port: number) => ({ cluster: [{ port }] }), true],
    ] as const) {
      it(`after the failover of ${topology}`, async () => {
        const ports = await Promise.all(Array.from({ length: MOST_ROUNDS + 1 }, () => findFreePort()))
        await using directory = await StormServer.start(await findFreePort(), ports)
        const start = (round: number): Promise<StormServer> => {
          const port = ports[round] as number
          return StormServer.start(port, [port], alone ? port : directory.port)
        }
        await using masters = new Masters()
        let master = masters.add(await start(0))
        await using clients = new Clients(targetOf(directory.port))
        await storm(clients, async (round) => {
          const next = masters.add(await start(round + 1))
          await Promise.all([directory.arrivals(), next.arrivals()])
          await master.kill()
          master = next
          const lost = Date.now()
          await delay(FAILOVER_MS)
          directory.promote()
          const lateMs = await clients.back()
          const recoveryMs = Date.now() - lost - FAILOVER_MS
          const [there, elsewhere] = [await next.arrivals(), await directory.arrivals()]
          const arrivals = { 'the new master': there, 'who knows it': elsewhere }
          return { since: lost, arrivals, lateMs, recoveryMs }
        })
      })
    }

    it('after the restart of a whole cluster', async () => {
      const ports = [await findFreePort(), await findFreePort()] as const
      await using one = await StormServer.start(ports[0], [ports[0]], ports[1])
      await using two = await StormServer.start(ports[1], [ports[0]], ports[1])
      await using clients = new Clients({ cluster: [{ port: two.port }] })
      await storm(clients, async () => {
        await Promise.all([one.kill(), two.kill()])
        const lost = Date.now()
        await delay(300)
        await Promise.all([one.restart(), two.restart()])
        const restarted = Date.now()
        const lateMs = await clients.back()
        const recoveryMs = Date.now() - restarted
        const arrivals = { one: await one.arrivals(), two: await two.arrivals() }
        return { since: lost, arrivals, lateMs, recoveryMs }
      })
    })
  },
)
