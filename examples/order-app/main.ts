/**
 * An order service on ferroflow. `npm run demo` starts it.
 *
 *   npm run demo                                        without any server, on memory://
 *   REDIS_URL=redis://localhost:6379 npm run demo       on Redis
 *   npm run demo -- --once                              only the walk
 *   npm run demo -- --clean                             deletes what earlier demos left on that Redis
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { ConfigError, ConnectionError, connect, type Connection } from 'ferroflow'
import { createApp } from './app'
import { OrderError, Orders } from './order-workflow'
import { deleteUnder } from './print'
import { walk } from './walk'

const PREFIX = 'ferroflow-demo:orders:'
const ALL_DEMOS = 'ferroflow-demo:'
const HOST = '127.0.0.1'
const TARGET = process.env['REDIS_URL'] || 'memory://'
const IN_MEMORY = TARGET.startsWith('memory:')
/** Whoever tries a demo does not want to wait long for "there is no Redis". */
const TIMEOUTS = { connectTimeout: 2000, commandTimeout: 2000 }
/** How long work in progress may take to stop. */
const SHUTDOWN_MS = 1500

const log = console.log

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: { once: { type: 'boolean' }, clean: { type: 'boolean' } },
  })
  const connection = connect(TARGET, TIMEOUTS)
  try {
    await connection.command('PING')
    log(`The data is in ${IN_MEMORY ? 'this process (memory://); set REDIS_URL to use a Redis' : place()}.\n`)
    if (options.clean === true) {
      log(`Deleted: ${await deleteUnder(connection, ALL_DEMOS)} keys (${ALL_DEMOS}*)`)
      return
    }
    await walk(connection, log)
    if (options.once !== true) await serve(connection)
  } finally {
    await connection.close()
  }
}

async function serve(connection: Connection): Promise<void> {
  const stopping = new AbortController()
  const atWork = new Set<Promise<unknown>>()
  const orders = new Orders(connection, { prefix: PREFIX, stepMs: 500, signal: stopping.signal, log })
  const inBackground = (work: Promise<unknown>): void => {
    const settled = work
      .catch((error: unknown) => {
        // What an order itself did wrong was logged by its step.
        if (!stopping.signal.aborted && !(error instanceof OrderError)) log(`a run ended: ${String(error)}`)
      })
      .finally(() => atWork.delete(settled))
    atWork.add(settled)
  }
  connection.on('status', (status, reason) => log(`Redis: ${status}${reason ? ` (${reason})` : ''}`))

  const server = await listen(createServer(createApp({ orders, inBackground, log })))
  explain(`http://${HOST}:${(server.address() as AddressInfo).port}`)

  const signal = await Promise.race(
    ['SIGINT', 'SIGTERM'].map(async (name) => (await once(process, name), name)),
  )
  log(`\n${signal}: no new requests, work stops after the current step`)
  stopping.abort()
  const closed = once(server, 'close')
  server.close()
  const late = setTimeout(() => server.closeAllConnections(), SHUTDOWN_MS)
  await Promise.all([closed, ...atWork])
  clearTimeout(late)
  connection.removeAllListeners('status')
  if (!IN_MEMORY) log(`Orders stay in Redis as ${PREFIX}*; "npm run demo -- --clean" deletes them.`)
}

/** On PORT, or any free port if that one is taken. */
async function listen(server: Server): Promise<Server> {
  const wanted = Number(process.env['PORT'] || 3000)
  if (!Number.isInteger(wanted) || wanted < 0 || wanted > 65_535)
    throw new Error('PORT must be a whole number from 0 to 65535')
  try {
    server.listen(wanted, HOST)
    await once(server, 'listening')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    log(`\nPort ${wanted} is taken, so another one is used.`)
    server.listen(0, HOST)
    await once(server, 'listening')
  }
  return server
}

function explain(url: string): void {
  const json = `-H 'content-type: application/json'`
  log(`
Listening on ${url}   (Ctrl-C ends)

Place an order; it is worked on in the background, half a second a step:
  curl -s ${url}/orders ${json} -d '{"item":"keyboard","priceCents":7900}'
Look at it, with the id from the answer:
  curl -s ${url}/orders/ID
Cancel it: 409 while a worker has its lock, 409 once it is shipped. An order with "card":"declined" can be cancelled:
  curl -s ${url}/orders ${json} -d '{"item":"mouse","priceCents":2900,"card":"declined"}'
  curl -s -X POST ${url}/orders/ID/cancel
Write a note on the version that you saw; on an older one it is 409:
  curl -s -X PATCH ${url}/orders/ID ${json} -d '{"note":"gift wrap","version":1}'
Go on with an order that was interrupted (end the demo meanwhile, on a Redis); what is done is not done again:
  curl -s -X POST ${url}/orders/ID/run`)
}

/** The target for people. A URL may hold a password. */
function place(): string {
  return TARGET.replace(/\/\/.*@/, '//').replace(/\?.*/, '')
}

function advice(error: unknown): string {
  const text = String(error)
  if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')) return (error as Error).message
  if (error instanceof ConfigError) return `REDIS_URL cannot be used. ${text}`
  if (error instanceof ConnectionError)
    return `Redis at ${place()} cannot be reached. ${text}\nStart it, correct REDIS_URL, or unset REDIS_URL to run without a server.`
  return error instanceof Error && error.stack ? error.stack : text
}

main().catch((error: unknown) => {
  console.error(`\nThe demo failed: ${advice(error)}`)
  process.exitCode = 1
})
