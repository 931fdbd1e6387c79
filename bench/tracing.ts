import { tracingChannel } from 'node:diagnostics_channel'

import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { connect } from '../index.js'
import { traced } from '../ts/tracing.js'

const ROUNDS = 21
const IN_FLIGHT = 64

type Call = () => Promise<unknown>

/** The same method three times: as it is, traced without a subscriber, and traced with one. */
interface Contenders {
  plain: Call
  unheard: Call
  heard: Call
}

function contenders(work: Call): Contenders {
  const methods = { signal: () => work(), signalMany: () => work(), publish: () => work() }
  const { signal, publish } = traced('RedisWakeSignaler', { ...methods })
  return { plain: () => methods.signal(), unheard: () => signal(), heard: () => publish() }
}

async function nanosEach(call: Call, calls: number, inFlight: number): Promise<number> {
  let left = calls
  const begin = process.hrtime.bigint()
  const caller = async (): Promise<void> => {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    while (left-- > 0) await call()
  }
  await Promise.all(Array.from({ length: inFlight }, caller))
  return Number(process.hrtime.bigint() - begin) / calls
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

async function compare(title: string, work: Call, calls: number, inFlight: number): Promise<void> {
  const entries = Object.entries(contenders(work)) as [keyof Contenders, Call][]
  const rounds = { plain: [] as number[], unheard: [] as number[], heard: [] as number[] }
  for (let round = -1; round < ROUNDS; round++) {
    // In another order each time, as the first after a pause is not always the same.
    const order = round % 2 === 0 ? entries : entries.toReversed()
    for (const [name, call] of order) {
      // oxlint-disable-next-line no-await-in-loop -- they take turns
      const nanos = await nanosEach(call, calls, inFlight)
      if (round >= 0) rounds[name].push(nanos)
    }
  }
  for (const [name, label] of [
    ['plain', 'not traced'],
    ['unheard', 'traced, no subscriber'],
    ['heard', 'traced, one subscriber'],
  ] as const) {
    const goal = name === 'unheard' && inFlight > 1 ? ' (goal 1.01)' : ''
    // Ratios within a round, so that what slows a whole round down does not count.
    const ratio = median(rounds[name].map((nanos, round) => nanos / rounds.plain[round]!))
    console.log(
      `| ${title} | ${label} | ${median(rounds[name]).toFixed(0)} ns | ${ratio.toFixed(3)}${goal} |`,
    )
  }
}

/** What it costs that a method can be traced: nothing worth measuring, as long as nobody listens. */
export async function measureTracing(server: RedisServer): Promise<void> {
  const channel = tracingChannel('ferroflow:RedisWakeSignaler.publish')
  const subscriber = { asyncEnd() {} }
  channel.subscribe(subscriber as never)
  const connection = connect(server.url)
  const value = Promise.resolve('v')
  console.log('A method that can be traced, beside the same that cannot\n')
  console.log('| work | method | each | x not traced |')
  console.log('|---|---|---|---|')
  await compare('none', () => value, 200_000, 1)
  await compare(`GET, ${IN_FLIGHT} in flight`, () => connection.command('GET', 'k'), 50_000, IN_FLIGHT)
  await compare('GET, one by one', () => connection.command('GET', 'k'), 3000, 1)
  channel.unsubscribe(subscriber as never)
  await connection.close()
  console.log()
}
