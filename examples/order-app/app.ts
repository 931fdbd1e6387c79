/** The HTTP side: routes, checks of what comes in, and a status for every error. */
/* oxlint-disable oxc/no-async-endpoint-handlers -- Express 5 waits for promises, and sends their errors to onError */
import express, { type ErrorRequestHandler, type Express, type Request } from 'express'
import {
  ArgumentError,
  ConcurrencyError,
  ConnectionError,
  FerroflowError,
  LockError,
  TimeoutError,
  WorkflowError,
} from 'ferroflow'
import { OrderError, type OrderInput, type Orders, type OrderState } from './order-workflow'

/** What a client sent and should not have. */
class BadRequest extends Error {}

export interface AppOptions {
  orders: Orders
  /** Takes work that goes on after the response. */
  inBackground: (work: Promise<unknown>) => void
  log: (line: string) => void
}

export function createApp({ orders, inBackground, log }: AppOptions): Express {
  const app = express()
  app.disable('x-powered-by')
  // Stored errors have stacks. They are for us, not for clients.
  app.set('json replacer', (name: string, value: unknown) => (name === 'stack' ? undefined : value))
  app.use(express.json({ limit: '16kb' }))

  app.post('/orders', async (request, response) => {
    const order = await orders.place(readOrder(request.body))
    inBackground(orders.run(order.correlationId))
    response.status(202).location(`/orders/${order.correlationId}`).json(view(order))
  })

  app.get('/orders/:id', async (request, response) => {
    const order = await orders.find(request.params.id)
    response.json({ ...view(order), ...(await orders.progress(order)) })
  })

  app.patch('/orders/:id', async (request, response) => {
    const { note, version } = readObject(request.body)
    if (typeof note !== 'string') throw new BadRequest('note must be a text')
    const seen = readInteger('version', version, { min: 1, max: Number.MAX_SAFE_INTEGER })
    response.json(view(await orders.writeNote(request.params.id, note, seen)))
  })

  /** Goes on with an order that failed or was interrupted; steps that are done are not done again. */
  app.post('/orders/:id/run', async (request: Request<{ id: string }>, response) => {
    response.json(view(await orders.run(request.params.id)))
  })

  app.post('/orders/:id/cancel', async (request: Request<{ id: string }>, response) => {
    response.json(view(await orders.cancel(request.params.id)))
  })

  app.use((request, response) => {
    response.status(404).json({ error: `There is no ${request.method} ${request.path}`, code: 'NO_ROUTE' })
  })

  const onError: ErrorRequestHandler = (error: unknown, _request, response, next) => {
    if (response.headersSent) return next(error)
    const status = statusOf(error)
    if (status === 503) response.set('Retry-After', '1')
    if (status >= 500) log(String(error))
    response.status(status).json({
      error: status === 500 ? 'Something went wrong' : (error as Error).message,
      code: codeOf(error, status),
    })
  }
  app.use(onError)
  return app
}

function statusOf(error: unknown): number {
  if (error instanceof BadRequest || error instanceof ArgumentError) return 400
  if (error instanceof OrderError) {
    return { ORDER_NOT_FOUND: 404, ORDER_ENDED: 409, CARD_DECLINED: 402 }[error.code]
  }
  // Somebody else has the order, was faster, or it has ended: the client must look again.
  if (error instanceof LockError || error instanceof ConcurrencyError) return 409
  if (error instanceof WorkflowError) return error.code === 'RUN_NOT_FOUND' ? 404 : 409
  if (error instanceof ConnectionError || error instanceof TimeoutError) return 503
  if (error instanceof FerroflowError) return error.retryable ? 503 : 500
  if (isAbort(error)) return 503
  // Express and its body parser say by themselves what is wrong with a request.
  const { status } = error as { status?: unknown }
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500
}

function codeOf(error: unknown, status: number): string {
  if (error instanceof FerroflowError || error instanceof OrderError) return error.code
  if (isAbort(error)) return 'SHUTTING_DOWN'
  return status === 500 ? 'INTERNAL' : 'BAD_REQUEST'
}

/** Work that was stopped because the process ends. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** An order as customers see it. */
function view({ correlationId, metadata, id: _sagaId, card: _card, runId: _runId, ...order }: OrderState) {
  return { id: correlationId, version: metadata?.version, ...order }
}

function readObject(body: unknown): Record<string, unknown> {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new BadRequest('Send a JSON object, with Content-Type: application/json')
  return body as Record<string, unknown>
}

function readOrder(body: unknown): OrderInput {
  const { item, quantity = 1, priceCents, card = 'visa' } = readObject(body)
  if (typeof item !== 'string' || item === '' || item.length > 200)
    throw new BadRequest('item must be a text of 1 to 200 characters')
  if (typeof card !== 'string') throw new BadRequest('card must be a text')
  return {
    item,
    quantity: readInteger('quantity', quantity, { min: 1, max: 1000 }),
    priceCents: readInteger('priceCents', priceCents, { min: 0, max: 100_000_000 }),
    card,
  }
}

function readInteger(name: string, value: unknown, { min, max }: { min: number; max: number }): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
    throw new BadRequest(`${name} must be a whole number from ${min} to ${max}`)
  return value
}
