import { ArgumentError, CorruptEntryError } from './errors.js'

/**
 * `JSON.stringify`, byte for byte. What JSON cannot hold at the top (`undefined`, a function) becomes `null`; what
 * it refuses (a BigInt, a cycle) is an error that names the place.
 */
export function toJson(what: string, value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null'
  } catch (cause) {
    const place = findCulprit(value, '$', [])
    const reason = place === undefined ? (cause as Error).message : `${place.reason} at ${place.path}`
    throw new ArgumentError('NOT_SERIALIZABLE', `${what} cannot be stored as JSON: ${reason}`, { cause })
  }
}

interface Culprit {
  path: string
  reason: string
}

function findCulprit(value: unknown, path: string, ancestors: object[]): Culprit | undefined {
  if (typeof value === 'bigint') return { path, reason: 'a BigInt' }
  if (typeof value !== 'object' || value === null) return undefined
  if (ancestors.includes(value)) return { path, reason: 'a reference to one of its own parents' }
  const within = [...ancestors, value]
  const { toJSON } = value as { toJSON?: unknown }
  if (typeof toJSON === 'function') {
    try {
      return findCulprit((value as { toJSON(): unknown }).toJSON(), path, within)
    } catch (error) {
      return { path, reason: `toJSON() threw ${String(error)}` }
    }
  }
  for (const key of Object.keys(value)) {
    const step = Array.isArray(value) ? `[${key}]` : memberPath(key)
    const found = findCulprit((value as Record<string, unknown>)[key], path + step, within)
    if (found !== undefined) return found
  }
  return undefined
}

function memberPath(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`
}

const SHOWN_CHARACTERS = 64

/** Parses stored JSON; what is not JSON is an error that names the key and shows the beginning. */
export function fromJson(what: string, json: string, key: string): unknown {
  try {
    return JSON.parse(json)
  } catch (cause) {
    throw corrupt(`${what} is not valid JSON: ${JSON.stringify(json.slice(0, SHOWN_CHARACTERS))}`, key, cause)
  }
}

/** The error for stored data that makes no sense. */
export function corrupt(problem: string, key: string, cause?: unknown): CorruptEntryError {
  return new CorruptEntryError('CORRUPT_ENTRY', `The entry ${JSON.stringify(key)} is corrupt: ${problem}`, {
    key,
    cause,
  })
}
