/**
 * An Express 5 application with tracked work, live progress, health and metrics.
 *
 *   node --import tsx examples/express-app/main.ts                       without any server
 *   REDIS_ENABLED=true node --import tsx examples/express-app/main.ts    on Redis
 *
 * REDIS_HOST (default: localhost), REDIS_PORT, REDIS_PASSWORD and REDIS_DB say where Redis is. Without JWT_SECRET, a new one is made at every
 * start, so that nobody runs this with a secret that everybody knows.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { createWorkstation } from 'ferroflow'
import { metricsText } from 'ferroflow/metrics'
import type { RequestHandler } from 'express'
import { createApp } from './app'
import { demoToken } from './token'

const HOST = process.env['HOST'] || '127.0.0.1'
const PORT = Number(process.env['PORT'] || 3000)
const STEP_MS = Number(process.env['STEP_MS'] || 1000)
/** How long work in progress may take to stop. */
const SHUTDOWN_MS = 2000

const log = console.log

const metrics: RequestHandler = (_request, response, next) => {
  metricsText().then((text) => response.type('text/plain; version=0.0.4').send(text), next)
}

async function main(): Promise<void> {
  const workstation = createWorkstation({ log })
  const secret = process.env['JWT_SECRET'] || randomBytes(32).toString('base64url')
  const stopping = new AbortController()
  const atWork = new Set<Promise<unknown>>()
  const inBackground = (work: Promise<unknown>): void => {
    const settled = work
      .catch((error: unknown) => log(`Work ended: ${String(error)}`))
      .finally(() => atWork.delete(settled))
    atWork.add(settled)
  }
  const worker = { workerId: `${hostname()}:${process.pid}`, stepMs: STEP_MS, signal: stopping.signal }
  const { app, router } = createApp({ workstation, secret, worker, inBackground, log, metrics })

  const server = createServer(app)
  server.listen(PORT, HOST)
  await once(server, 'listening')
  const url = `http://${HOST === '0.0.0.0' ? 'localhost' : HOST}:${(server.address() as AddressInfo).port}`
  log(`Listening on ${url}   (Ctrl-C ends)`)
  if (process.env['JWT_SECRET'] === undefined || process.env['JWT_SECRET'] === '')
    log(`For one hour: ${url}/#token=${demoToken(secret)}`)

  await Promise.race(['SIGINT', 'SIGTERM'].map((name) => once(process, name)))
  log('No new requests; work stops after the current step')
  stopping.abort()
  const closed = once(server, 'close')
  server.close()
  router.close()
  const late = setTimeout(() => server.closeAllConnections(), SHUTDOWN_MS)
  await Promise.all([closed, ...atWork])
  clearTimeout(late)
  await workstation.close()
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
