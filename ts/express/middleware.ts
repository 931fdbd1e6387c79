import type { ServerResponse } from 'node:http'

import { HttpError, type HttpRequest, type Next } from './http.js'

/** Middleware as Express 4 and 5 know it: calls `next()`, or `next(error)`, or answers by itself. */
// A method, so that handlers typed for Express are accepted too.
export type Middleware = {
  handle(request: HttpRequest, response: ServerResponse, next: Next): unknown
}['handle']

/**
 * Runs a middleware that authenticates. Resolves whether the request was let through; if not, it may have been
 * answered already.
 *
 * @throws HttpError 401 or 403 if the middleware says so by an error, as many do; anything else as it is
 */
export async function authenticated(
  middleware: Middleware,
  request: HttpRequest,
  response: ServerResponse,
): Promise<boolean> {
  await new Promise<void>((resolve, reject) => {
    const next: Next = (error) => {
      // `next('route')` and the like mean "not here", and here is nothing else.
      if (error === undefined || error === null) resolve()
      else
        reject(error instanceof Error ? toRefusal(error) : new HttpError(403, 'UNAUTHENTICATED', 'Forbidden'))
    }
    // One that answers by itself never calls `next`.
    response.once('finish', resolve)
    response.once('close', resolve)
    const run = async (): Promise<unknown> => middleware(request, response, next)
    run().catch((error: unknown) =>
      reject(
        error instanceof Error ? toRefusal(error) : new HttpError(500, 'INTERNAL', 'Something went wrong'),
      ),
    )
  })
  return !response.headersSent && !response.destroyed
}

function toRefusal(error: Error): Error {
  const {
    status,
    statusCode = status,
    headers,
  } = error as {
    status?: unknown
    statusCode?: unknown
    headers?: Record<string, string>
  }
  if (statusCode === 401) {
    const challenge = headers?.['WWW-Authenticate'] ?? headers?.['www-authenticate'] ?? 'Bearer'
    return new HttpError(401, 'UNAUTHENTICATED', 'Unauthorized', { 'WWW-Authenticate': challenge })
  }
  return statusCode === 403 ? new HttpError(403, 'UNAUTHENTICATED', 'Forbidden') : error
}
