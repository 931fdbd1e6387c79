import type { IncomingMessage, ServerResponse } from 'node:http'

import { FerroflowError } from '../errors.js'
import type { ErrorCode } from '../errors.js'

/** A request as Node and Express 4 and 5 make it. */
export interface HttpRequest extends IncomingMessage {
  /** What a body parser made of the body, where one ran before. */
  body?: unknown
  /** The path under which Express mounted the handler. */
  baseUrl?: string
}

/** Goes on with the next handler, or with an error. */
export type Next = (error?: unknown) => void

/**
 * A handler for `app.use(path, handler)` of Express 4 and 5. It needs no Express: `http.createServer(handler)` works
 * too, and then a path that is not its own is answered with 404.
 */
export type HttpHandler = (request: HttpRequest, response: ServerResponse, next?: Next) => void

/** `code` of the error bodies, beside the codes of {@link FerroflowError}. */
export type HttpErrorCode =
  | 'BAD_REQUEST'
  | 'INVALID_JSON'
  | 'PAYLOAD_TOO_LARGE'
  | 'UNAUTHENTICATED'
  | 'INVALID_TOKEN'
  | 'INVALID_TICKET'
  | 'INSUFFICIENT_SCOPE'
  | 'READ_ONLY'
  | 'NOT_FOUND'
  | 'TOO_MANY_STREAMS'
  | 'AUTH_UNAVAILABLE'
  | 'INTERNAL'

/** Every error body: nothing of it shows a host, a key or a stack. */
export interface HttpErrorBody {
  success: false
  /** For people. */
  error: string
  /** For programs. */
  code: HttpErrorCode | ErrorCode
}

/** What a request gets instead of its answer. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: HttpErrorCode | ErrorCode,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message)
  }
}

const RETRY: Record<string, string> = { 'Retry-After': '1' }

/** What may be told of an error of the core. Its own text may name keys and hosts. */
function fromCore({ code, retryable }: FerroflowError): HttpError {
  if (code === 'INVALID_ARGUMENT' || code === 'NOT_SERIALIZABLE')
    return new HttpError(400, code, 'An argument is not valid')
  if (code === 'CORRUPT_ENTRY' || code === 'WRONG_TYPE')
    // Neither the request nor the server is at fault, and asking again does not help: somebody must mend what is stored.
    return new HttpError(409, code, 'What is stored cannot be read')
  if (code === 'OUTCOME_UNKNOWN')
    return new HttpError(503, code, 'It is not known whether this was done', RETRY)
  // A closed connection belongs to a process that is ending: another one may answer.
  if (retryable || code === 'CLOSED' || code === 'AUTH_FAILED')
    return new HttpError(503, code, 'The workflow state is not available now', RETRY)
  return new HttpError(500, code, 'Something went wrong')
}

/** By its code and not by its class, as each copy of ferroflow has classes of its own. */
function isFromCore(error: unknown): error is FerroflowError {
  if (error instanceof FerroflowError) return true
  const { code, retryable } = (error ?? {}) as { code?: unknown; retryable?: unknown }
  return error instanceof Error && typeof code === 'string' && typeof retryable === 'boolean'
}

/** The answer for whatever was thrown. */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error
  if (isFromCore(error)) return fromCore(error)
  return new HttpError(500, 'INTERNAL', 'Something went wrong')
}

/** Whether whoever runs this should hear of an error: it is none of the client's. */
export function isOurs({ status, code }: HttpError): boolean {
  return status >= 500 || code === 'CORRUPT_ENTRY' || code === 'WRONG_TYPE'
}

/** Answers with JSON that nobody may cache. */
export function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  if (response.headersSent || response.destroyed) return
  const text = Buffer.from(JSON.stringify(body))
  response.writeHead(status, {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': text.length,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    ...headers,
  })
  // Node leaves the body of an answer to HEAD away by itself.
  response.end(text)
}

/** Answers with an error, once. */
export function sendError(response: ServerResponse, error: unknown): void {
  const { status, code, message, headers } = toHttpError(error)
  const body: HttpErrorBody = { success: false, error: message, code }
  sendJson(response, status, body, headers)
}

/** What a request asks for, behind the path under which the handler is mounted. */
export interface Route {
  method: string
  /** Decoded; `undefined` if the path cannot be decoded. */
  segments: string[] | undefined
  query: URLSearchParams
}

/** A trailing slash does not matter, as in Express. */
export function routeOf({ method = 'GET', url = '/' }: HttpRequest): Route {
  const mark = url.indexOf('?')
  const path = mark === -1 ? url : url.slice(0, mark)
  const query = new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1))
  const raw = path.replace(/^\//, '').replace(/\/$/, '').split('/')
  return { method: method === 'HEAD' ? 'GET' : method, segments: decode(raw), query }
}

function decode(segments: string[]): string[] | undefined {
  try {
    return segments.map((segment) => decodeURIComponent(segment))
  } catch {
    return undefined
  }
}

/** Whether the path is this one, whatever its case, as in Express. */
export function isPath(segments: readonly string[], path: readonly string[]): boolean {
  return (
    segments.length === path.length && segments.every((segment, at) => segment.toLowerCase() === path[at])
  )
}
