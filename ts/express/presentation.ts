import type { ServedState } from './source.js'

/**
 * Decides what is shown of a member of a state's `data`, at any depth: the value, or another one in its place.
 * `undefined` leaves the member out.
 */
export type Redact = (name: string, value: unknown) => unknown

const SECRET = /password|passwd|secret|authorization/i
/** A number under such a name counts tokens. */
const TOKEN = /token(?!s|iz)/i

/** Hides what goes by the name of a password, a secret, an authorization or a token (that is no number). */
export function redactSecrets(name: string, value: unknown): unknown {
  const hidden = SECRET.test(name) || (TOKEN.test(name) && typeof value !== 'number')
  return hidden ? '[redacted]' : value
}

/** A state without what must not be shown. */
export function redacted(state: ServedState, redact: Redact | false): ServedState {
  const { data } = state as { data?: unknown }
  if (redact === false || typeof data !== 'object' || data === null) return state
  let root = true
  const json = JSON.stringify(data, function replace(this: unknown, name: string, value: unknown) {
    // Neither the whole nor an element of a list has a name.
    const named = !root && !Array.isArray(this)
    root = false
    return named ? redact(name, value) : value
  })
  return { ...state, data: JSON.parse(json) as unknown } as ServedState
}

/**
 * A state for a list: of `data` that takes more bytes than allowed as JSON, the first members that fit, and
 * `dataTruncated: true`.
 */
export function truncated(state: ServedState, maxBytes: number): ServedState {
  const { data } = state as { data?: unknown }
  if (typeof data !== 'object' || data === null) return state
  if (Buffer.byteLength(JSON.stringify(data)) <= maxBytes) return state
  const kept: [name: string, value: unknown][] = []
  // The braces.
  let bytes = 2
  for (const [name, value] of Object.entries(data)) {
    bytes += Buffer.byteLength(`${JSON.stringify(name)}:${JSON.stringify(value)},`)
    if (bytes > maxBytes) break
    kept.push([name, value])
  }
  return { ...state, data: Object.fromEntries(kept), dataTruncated: true } as ServedState
}
