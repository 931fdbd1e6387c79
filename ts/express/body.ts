import { type HttpRequest, HttpError } from './http.js'

/** A body holds a few options at most. */
const MAX_BYTES = 16 * 1024

/** Of a body that is refused, Node reads so much and forgets it: a client that is still sending may not see the answer. */
const MAX_FORGOTTEN_BYTES = 1024 * 1024

/** @param declared - how long the body is to be, as far as its sender says */
function tooLarge(declared: number): HttpError {
  const forgotten = declared <= MAX_FORGOTTEN_BYTES
  const headers: Record<string, string> = forgotten ? {} : { Connection: 'close' }
  return new HttpError(413, 'PAYLOAD_TOO_LARGE', `The body must be at most ${MAX_BYTES} bytes long`, headers)
}

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
  const declared = Number(request.headers['content-length'] ?? 0)
  if (declared > MAX_BYTES) throw tooLarge(declared)
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw new HttpError(400, 'BAD_REQUEST', 'The body must not be compressed')
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > MAX_BYTES) throw tooLarge(Infinity)
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof HttpError) throw error
    throw new HttpError(400, 'BAD_REQUEST', 'The body is cut')
  }
  return Buffer.concat(chunks).toString('utf8')
}
