import type { ServerResponse } from 'node:http'

import { ConfigError } from '../errors.js'
import { checkInteger, checkName, checkObject, withDefaults } from '../validate.js'
import { type Access, grantOf } from './access.js'
import { readJsonObject } from './body.js'
import { defaultWorkstation } from '../workstation/default-instance.js'
import {
  HttpError,
  type HttpHandler,
  type HttpRequest,
  type Next,
  type Route,
  isOurs,
  isPath,
  routeOf,
  sendError,
  sendJson,
  toHttpError,
} from './http.js'
import { type Middleware, authenticated } from './middleware.js'
import { type Redact, redactSecrets, redacted, truncated } from './presentation.js'
import type { ErrorListener, ServedState, WorkflowStateSource } from './source.js'
import { type Present, ProgressStreams, type StreamOptions } from './stream.js'
import { TICKET_SECONDS, issueTicket, redeemTicket } from './ticket.js'

/** Options of {@link createWorkflowStateRouter}. */
export interface WorkflowStateRouterOptions {
  /**
   * Middleware that lets a request through or answers it, for instance {@link bearerAuth}. `false`: everybody may do
   * everything, so something else must stand in front.
   */
  authenticate: Middleware | false
  /**
   * Whether a request that was let through may do something. Default: what the scopes of {@link bearerAuth} say; with
   * another middleware `read` is granted and `admin` is not.
   */
  authorize?: (request: HttpRequest, access: Access) => boolean | Promise<boolean>
  /** Where the states are. Default: the instance that the environment configures. */
  workstation?: WorkflowStateSource
  /** Refuses everything but reading. Default: false. */
  readOnly?: boolean
  /**
   * What is shown of the members of `data`. Default: {@link redactSecrets}, which hides what goes by the name of a
   * password, a secret, a token or an authorization. `false`: everything.
   */
  redact?: Redact | false
  /** Of a state in a list, `data` with more bytes than this is truncated. Default: 4096. */
  listDataBytes?: number
  /** About `GET /:executionId/stream`. */
  stream?: StreamOptions
  /** Told of errors that are answered with 500 or more, or because what is stored cannot be read (409). Default: nobody. */
  onError?: ErrorListener
}

/** What {@link createWorkflowStateRouter} returns: a handler for `app.use`. */
export interface WorkflowStateRouter extends HttpHandler {
  /** How many clients listen to a stream. */
  readonly streams: number
  /** Ends all streams, which otherwise hold up the end of the server. */
  close(): void
}

/** Without paging, as documented; with it, more than this is asked for page by page. */
const DEFAULT_LIMIT = 1000
const MAX_LIMIT = 10_000

/** Answers a route. */
type Action = (request: HttpRequest, response: ServerResponse) => Promise<void>

/** How a route is answered, to whom; `undefined` if it is none of ours. A ticket stands for access that was granted. */
type Served = [access: Access | 'ticket', act: Action] | undefined

/**
 * The documented HTTP API, for Express 4 and 5: `app.use('/api/workflow-state', createWorkflowStateRouter({ … }))`.
 *
 * | Route                      | Answer                                                                    |
 * | -------------------------- | ------------------------------------------------------------------------- |
 * | `GET /:executionId`        | `{ success, state }`, 404 if there is none                                |
 * | `GET /active/list`         | `{ success, activeExecutions, count }`                                    |
 * | `GET /active/detailed`     | `{ success, workflows, count }`                                           |
 * | `GET /stats/overview`      | `{ success, statistics }`                                                 |
 * | `POST /cleanup`            | `{ success, message, cleaned, errors }`; needs `admin`                    |
 * | `GET /:executionId/stream` | server-sent events `progress`, then `end`; goes on after `Last-Event-ID`  |
 * | `POST /:executionId/stream-ticket` | `{ success, ticket, expiresIn }`, for one `GET …/stream?ticket=`  |
 *
 * Lists take `limit` (1 to 10,000, default 1,000) and `cursor`; where there is more, they have `total` and
 * `nextCursor` too. Errors are `{ success: false, error, code }`. What is none of these goes to the next handler.
 *
 * @throws {@link ConfigError} without `authenticate`
 */
export function createWorkflowStateRouter(options: WorkflowStateRouterOptions): WorkflowStateRouter {
  const { authenticate, authorize, onError } = checkOptions(options)
  let source = options.workstation
  // The default instance connects when it is first used.
  const workstation = (): WorkflowStateSource => (source ??= defaultWorkstation())
  let streams: ProgressStreams | undefined
  const limits = withDefaults(
    'stream',
    { heartbeatMs: 15_000, maxEventsPerSecond: 10, maxBufferBytes: 1024 * 1024, maxClients: 10_000 },
    options.stream,
  )
  const { redact, listDataBytes } = withDefaults(
    'the options',
    { redact: redactSecrets as Redact | false, listDataBytes: 4096 },
    options,
  )
  const present = (state: ServedState): ServedState => redacted(state, redact)
  const listed = (state: ServedState): ServedState => truncated(present(state), listDataBytes)
  for (const [name, value] of Object.entries(limits)) checkInteger(`stream.${name}`, value, { min: 1 })

  const permit = async (request: HttpRequest, access: Access): Promise<void> => {
    if (options.readOnly === true && request.method === 'POST')
      throw new HttpError(403, 'READ_ONLY', 'Only reading is allowed here')
    if (authenticate === false && authorize === undefined) return
    const grant = grantOf(request)
    const allowed =
      authorize === undefined
        ? (grant?.allows(access) ?? access === 'read')
        : (await authorize(request, access)) === true
    if (allowed) return
    const headers = grant === undefined ? undefined : { 'WWW-Authenticate': grant.challenge(access) }
    throw new HttpError(403, 'INSUFFICIENT_SCOPE', `This needs ${access} access`, headers)
  }

  const open = (
    id: string,
    request: HttpRequest,
    response: ServerResponse,
    expiresAt: number | undefined,
  ): Promise<void> => {
    streams ??= new ProgressStreams(workstation(), limits, present)
    const asked = request.headers['last-event-id'] ?? routeOf(request).query.get('lastEventId')
    const lastEventId = typeof asked === 'string' ? asked : undefined
    return streams.open(id, request, response, { lastEventId, expiresAt })
  }

  const streamRoute = (id: string, ticket: string | null): Served => {
    if (ticket === null)
      return [
        'read',
        (request, response) => open(checkId(id), request, response, grantOf(request)?.identity.expiresAt),
      ]
    const store = workstation().streamTickets
    if (store === undefined) return undefined
    return [
      'ticket',
      async (request, response) => {
        const expiresAt = await redeemTicket(store, checkId(id), ticket)
        return open(id, request, response, expiresAt)
      },
    ]
  }

  const ticketRoute = (id: string): Served => {
    const store = workstation().streamTickets
    if (store === undefined) return undefined
    return [
      'read',
      async (request, response) => {
        const expiresAt = grantOf(request)?.identity.expiresAt
        const ticket = await issueTicket(store, checkId(id), expiresAt)
        sendJson(response, 201, { success: true, ticket, expiresIn: TICKET_SECONDS })
      },
    ]
  }

  const actionOf = ({ method, segments = [], query }: Route): Served => {
    const [id = '', last] = segments.map((segment, at) => (at === 0 ? segment : segment.toLowerCase()))
    if (method === 'POST') {
      if (isPath(segments, ['cleanup'])) return ['admin', cleanup(workstation())]
      return segments.length === 2 && id !== '' && last === 'stream-ticket' ? ticketRoute(id) : undefined
    }
    if (method !== 'GET') return undefined
    if (isPath(segments, ['active', 'list'])) return ['read', list(workstation(), query)]
    if (isPath(segments, ['active', 'detailed'])) return ['read', detail(workstation(), query, listed)]
    if (isPath(segments, ['stats', 'overview'])) return ['read', statistics(workstation())]
    if (id === '' || segments.length > 2) return undefined
    if (last === undefined) return ['read', one(workstation(), id, present)]
    return last === 'stream' ? streamRoute(id, query.get('ticket')) : undefined
  }

  const handle = async (request: HttpRequest, response: ServerResponse, next: Next): Promise<void> => {
    const route = routeOf(request)
    if (route.segments === undefined)
      throw new HttpError(400, 'BAD_REQUEST', 'The path is not properly encoded')
    const [access, act] = actionOf(route) ?? []
    if (access === undefined || act === undefined) return next()
    if (access !== 'ticket') {
      if (authenticate !== false && !(await authenticated(authenticate, request, response))) return
      await permit(request, access)
    }
    await act(request, response)
  }

  const router: HttpHandler = (request, response, next) => {
    const goOn = next ?? (() => sendError(response, new HttpError(404, 'NOT_FOUND', 'There is no such path')))
    handle(request, response, goOn).catch((error: unknown) => {
      if (isOurs(toHttpError(error))) onError?.(error, request)
      sendError(response, error)
    })
  }
  return Object.defineProperties(router as WorkflowStateRouter, {
    streams: { get: () => streams?.size ?? 0 },
    close: { value: () => streams?.close() },
  })
}

function checkOptions(options: WorkflowStateRouterOptions): WorkflowStateRouterOptions {
  checkObject('The options of createWorkflowStateRouter', options)
  if (options.authenticate !== false && typeof options.authenticate !== 'function')
    throw new ConfigError(
      'CONFIG',
      'createWorkflowStateRouter needs authenticate: a middleware such as bearerAuth({ … }), or false to let everybody in',
    )
  if (options.authorize !== undefined && typeof options.authorize !== 'function')
    throw new ConfigError('CONFIG', 'authorize must be a function')
  const { redact, listDataBytes } = options
  if (redact !== undefined && redact !== false && typeof redact !== 'function')
    throw new ConfigError('CONFIG', 'redact must be a function, or false')
  if (listDataBytes !== undefined) checkInteger('listDataBytes', listDataBytes, { unit: 'bytes' })
  return options
}

function one(source: WorkflowStateSource, id: string, present: Present): Action {
  return async (_request, response) => {
    const state = await source.fetchWorkflowState(checkId(id))
    if (state === null) throw new HttpError(404, 'NOT_FOUND', 'Workflow state not found')
    sendJson(response, 200, { success: true, state: present(state) })
  }
}

function list(source: WorkflowStateSource, query: URLSearchParams): Action {
  return async (_request, response) => {
    const { limit, cursor } = pageOf(query)
    const all = (await source.listActiveWorkflows()).toSorted()
    const rest = cursor === undefined ? all : all.filter((id) => id > cursor)
    const activeExecutions = rest.slice(0, limit)
    const more = rest.length > limit ? { total: all.length, nextCursor: activeExecutions.at(-1) } : {}
    const count = activeExecutions.length
    sendJson(response, 200, { success: true, activeExecutions, count, ...more, ...degradedOf(source) })
  }
}

function detail(source: WorkflowStateSource, query: URLSearchParams, present: Present): Action {
  return async (_request, response) => {
    const page = await source.pageActiveWorkflows(pageOf(query))
    const workflows = page.workflows.map(present)
    sendJson(response, 200, {
      success: true,
      workflows,
      count: workflows.length,
      ...(page.corrupt.length > 0 ? { corrupt: page.corrupt.length } : {}),
      ...(page.nextCursor === null ? {} : { total: page.total, nextCursor: page.nextCursor }),
      ...(page.degraded === true ? { degraded: true } : {}),
    })
  }
}

/** Whether what was just read is the last known state. */
function degradedOf({ degradation }: WorkflowStateSource): { degraded?: true } {
  return (degradation?.state ?? 'up') === 'up' ? {} : { degraded: true }
}

function statistics(source: WorkflowStateSource): Action {
  return async (_request, response) => {
    const { corrupt = 0, ...documented } = await source.getWorkflowStatistics()
    sendJson(response, 200, {
      success: true,
      statistics: corrupt > 0 ? { ...documented, corrupt } : documented,
      ...degradedOf(source),
    })
  }
}

function cleanup(source: WorkflowStateSource): Action {
  return async (request, response) => {
    await readJsonObject(request)
    const { cleaned, errors } = await source.cleanupStaleWorkflows()
    sendJson(response, 200, { success: true, message: 'Cleanup completed', cleaned, errors })
  }
}

/** What is wrong with an id may be told: it came from the client. */
function checkId(id: string): string {
  try {
    return checkName('The execution id', id)
  } catch (error) {
    throw new HttpError(400, 'INVALID_ARGUMENT', (error as Error).message)
  }
}

function pageOf(query: URLSearchParams): { limit: number; cursor?: string } {
  const text = query.get('limit') ?? String(DEFAULT_LIMIT)
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (limit < 1 || limit > MAX_LIMIT)
    throw new HttpError(400, 'INVALID_ARGUMENT', `limit must be a whole number from 1 to ${MAX_LIMIT}`)
  const cursor = query.get('cursor') ?? ''
  return cursor === '' ? { limit } : { limit, cursor: checkId(cursor) }
}
