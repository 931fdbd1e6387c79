/**
 * `npm run bench`: ferroflow beside the clients that people use today, on one server, in one run. Machines differ
 * and are noisy, so clients take turns and only ratios of the same run mean anything.
 */
import { cpus, totalmem } from 'node:os'

import { RedisServer } from '../__test__/helpers/redis-server.js'
import { measureIdle, measureMemory, measureStall } from './footprint.js'
import { measureJournal } from './journal.js'
import { measureLocks } from './locks.js'
import { measureRaw } from './raw.js'
import { measureSignal } from './signal.js'
import { measureTracing } from './tracing.js'

async function main(): Promise<void> {
  await using server = await RedisServer.start()
  const client = await server.client()
  const { redis_version: version = 'unknown' } = await client.info('server')
  client.close()
  console.log(
    `${cpus().length} x ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, Redis ${version}\n`,
  )
  const only = process.argv[2]
  if (only === undefined || only === 'raw') await measureRaw(server)
  if (only === undefined || only === 'signal') await measureSignal(server)
  if (only === undefined || only === 'locks') await measureLocks(server)
  if (only === undefined || only === 'stall') await measureStall(server)
  if (only === undefined || only === 'idle') await measureIdle(server)
  if (only === undefined || only === 'memory') await measureMemory(server)
  if (only === undefined || only === 'journal') await measureJournal(server)
  if (only === undefined || only === 'tracing') await measureTracing(server)
}

void main()
