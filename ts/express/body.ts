import { type HttpRequest, HttpError } from './http.js'

/** A body holds a few options at most. */
const MAX_BYTES = 16 * 1024

const tooLarge = (): HttpError =>
  // The rest of the body is not read, so the connection cannot be used again.
  new HttpError(413, 'PAYLOAD_TOO_LARGE', `The body must be at most ${MAX_BYTES} bytes long`, {
    Connection: 'close',
  })

/**
 * The JSON object in the body of a request, empty if there is no body. What a body parser of the application has read
 * is taken as it is.
 *
 * @throws HttpError 413 for more than 16 KiB, 400 for anything else that is not a JSON object
 */
export async function readJsonObject(request: HttpRequest): Promise<Record<string, unknown>> {
  // A parser of the application has been there.
  if (request.body !== undefined || request.readableEnded) return asObject(request.body ?? {})
  const text = await readText(request)
  if (text.trim() === '') return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new HttpError(400, 'INVALID_JSON', 'The body is not valid JSON')
  }
  return asObject(value)
}

function asObject(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  throw new HttpError(400, 'INVALID_JSON', 'The body must be a JSON object')
}

async function readText(request: HttpRequest): Promise<string> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BYTES) throw tooLarge()
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw new HttpError(400, 'BAD_REQUEST', 'The body must not be compressed')
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > MAX_BYTES) throw tooLarge()
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof HttpError) throw error
    throw new HttpError(400, 'BAD_REQUEST', 'The body is cut')
  }
  return Buffer.concat(chunks).toString('utf8')
}
