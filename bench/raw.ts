import { Redis } from 'ioredis'
import { createClient } from 'redis'

import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { connect } from '../index.js'

const CONCURRENCIES = [1, 64, 1000]
const ROUNDS = 5
const ROUND_MS = 1000
const VALUE = 'x'.repeat(200)
const KEYS = 100

/** What must be reached, as a multiple of ioredis. */
const TARGETS: Record<number, number> = { 1: 1.2, 64: 2.5, 1000: 3.5 }

interface Client {
  name: string
  get(key: string): Promise<unknown>
  set(key: string, value: string): Promise<unknown>
  close(): unknown
}

async function clients(server: RedisServer): Promise<Client[]> {
  const own = connect(server.url)
  const ioredis = new Redis(server.port, server.host)
  const auto = new Redis(server.port, server.host, { enableAutoPipelining: true })
  const node = await createClient({ url: server.url }).connect()
  return [
    {
      name: 'ferroflow connection.command',
      get: (key) => own.command('GET', key),
      set: (key, value) => own.command('SET', key, value),
      close: () => own.close(),
    },
    {
      name: 'ioredis 6',
      get: (key) => ioredis.get(key),
      set: (key, value) => ioredis.set(key, value),
      close: () => ioredis.disconnect(),
    },
    {
      name: 'ioredis 6, autopipelining',
      get: (key) => auto.get(key),
      set: (key, value) => auto.set(key, value),
      close: () => auto.disconnect(),
    },
    {
      name: 'node-redis 6',
      get: (key) => node.get(key),
      set: (key, value) => node.set(key, value),
      close: () => node.destroy(),
    },
  ]
}

interface Round {
  /** Operations a second. */
  rate: number
  /** CPU time of this process, all threads, microseconds an operation. */
  cpu: number
}

async function round(client: Client, concurrency: number): Promise<Round> {
  let operations = 0
  const cpu = process.cpuUsage()
  const start = performance.now()
  const end = start + ROUND_MS
  const caller = async (): Promise<void> => {
    while (performance.now() < end) {
      const key = `k${operations % KEYS}`
      if (operations++ % 2 === 0) await client.set(key, VALUE)
      else await client.get(key)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, caller))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { rate: operations / seconds, cpu: (user + system) / operations }
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

/** GET and SET of 200 bytes over one connection. Clients take turns; medians of the rounds are compared. */
export async function measureRaw(server: RedisServer): Promise<void> {
  const all = await clients(server)
  console.log('GET and SET of 200 bytes over one connection, thousand operations a second (x ioredis 6)\n')
  console.log('| in flight | client | operations | x ioredis | CPU per operation |')
  console.log('|---|---|---|---|---|')
  for (const concurrency of CONCURRENCIES) {
    const rounds = new Map(all.map((client) => [client, [] as Round[]]))
    for (const client of all) await round(client, concurrency) // warm-up
    for (let turn = 0; turn < ROUNDS; turn++) {
      for (const client of all) rounds.get(client)!.push(await round(client, concurrency))
    }
    const medianOf = (client: Client, part: keyof Round): number =>
      median(rounds.get(client)!.map((measured) => measured[part]))
    const base = medianOf(all[1]!, 'rate')
    for (const client of all) {
      const rate = medianOf(client, 'rate')
      const micros = medianOf(client, 'cpu')
      const goal = client === all[0] ? ` (goal ${TARGETS[concurrency]})` : ''
      console.log(
        `| ${concurrency} | ${client.name} | ${(rate / 1000).toFixed(0)} k | ${(rate / base).toFixed(2)}${goal} | ${micros.toFixed(1)} µs |`,
      )
    }
  }
  for (const client of all) await client.close()
  console.log()
}
