/** The HTTP side: the documented API, health, metrics, a route that starts work, and a page that shows it. */
/* oxlint-disable oxc/no-async-endpoint-handlers -- Express 5 waits for promises, and sends their errors to onError */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import express, { type ErrorRequestHandler, type Express, type RequestHandler } from 'express'
import {
  bearerAuth,
  createWorkflowStateRouter,
  healthRouter,
  type HealthSource,
  type WorkflowStateRouter,
  type WorkflowStateSource,
} from 'ferroflow/express'
import { type Tracker, Worker } from './worker'

export interface AppOptions {
  workstation: WorkflowStateSource & HealthSource & Tracker
  /** Key of the tokens, at least 32 bytes. */
  secret: string
  /** Who does the work, how fast, and until when. */
  worker: { workerId: string; stepMs: number; signal: AbortSignal }
  /** Takes work that goes on after the response. */
  inBackground: (work: Promise<unknown>) => void
  log: (line: string) => void
  /** Answers `GET /metrics`. Default: there are none. */
  metrics?: RequestHandler
}

const MAX_PHOTOS = 1000

/** @returns the application, and the router whose streams must be ended before the server can be */
export function createApp(options: AppOptions): { app: Express; router: WorkflowStateRouter } {
  const { workstation, log, inBackground } = options
  const worker = new Worker(workstation, options.worker)
  const authenticate = bearerAuth({ secret: options.secret, audience: 'express-app' })
  const onError = (error: unknown): void => log(String(error))
  const router = createWorkflowStateRouter({ authenticate, workstation, onError })

  const app = express()
  app.disable('x-powered-by')
  app.use(healthRouter({ workstation }))
  if (options.metrics !== undefined) app.get('/metrics', options.metrics)
  app.use('/api/workflow-state', router)

  app.post('/api/albums', authenticate, express.json({ limit: '1kb' }), async (request, response) => {
    const photos: unknown = (request.body as { photos?: unknown } | undefined)?.photos ?? 1
    if (!Number.isInteger(photos) || (photos as number) < 1 || (photos as number) > MAX_PHOTOS) {
      const error = `photos must be a whole number from 1 to ${MAX_PHOTOS}`
      response.status(400).json({ success: false, error, code: 'INVALID_ARGUMENT' })
      return
    }
    const executionId = `album-${randomUUID()}`
    // Before the answer, so that whoever gets the id can look at once.
    await worker.accept(executionId, photos as number)
    inBackground(worker.run(executionId, photos as number))
    // Relative, as a proxy may have stripped a prefix.
    response.status(202).location(`workflow-state/${executionId}`).json({ success: true, executionId })
  })

  app.use((_request, response, next) => {
    response.set('Content-Security-Policy', "default-src 'self'; img-src data:")
    next()
  })
  app.use(express.static(join(__dirname, 'public')))
  app.use((_request, response) => {
    response.status(404).json({ success: false, error: 'There is no such path', code: 'NOT_FOUND' })
  })

  const onFailure: ErrorRequestHandler = (error: unknown, _request, response, next) => {
    if (response.headersSent) return next(error)
    const { status } = error as { status?: unknown }
    // Express and its body parser say by themselves what is wrong with a request.
    const known = typeof status === 'number' && status >= 400 && status < 500
    if (!known) onError(error)
    response.status(known ? status : 500).json({
      success: false,
      error: known ? 'The request is not valid' : 'Something went wrong',
      code: known ? 'BAD_REQUEST' : 'INTERNAL',
    })
  }
  app.use(onFailure)
  return { app, router }
}
