import { ArgumentError, CorruptEntryError } from './errors.js'

/**
 * `JSON.stringify`, byte for byte. What JSON cannot hold at the top (`undefined`, a function) becomes `null`; what
 * it refuses (a BigInt, a cycle) is an error that names the place.
 */
export function toJson(what: string, value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null'
  } catch (cause) {
    throw new ArgumentError(
      'NOT_SERIALIZABLE',
      `${what} cannot be stored as JSON: ${explain(value, cause)}`,
      {
        cause,
      },
    )
  }
}

interface Culprit {
  path: string
  reason: string
}

/** Deeper than this, the place is of no use to anybody. */
const MAX_DEPTH = 1000

function explain(value: unknown, cause: unknown): string {
  const place = findCulprit(value, '$', [])
  if (place !== undefined) return `${place.reason} at ${place.path}`
  const isRangeError = (cause as { name?: unknown } | null)?.name === 'RangeError'
  return isRangeError ? 'it is nested too deeply' : describe(cause)
}

/** What was thrown, whatever it is. */
function describe(thrown: unknown): string {
  try {
    return String((thrown as { message?: unknown } | null)?.message ?? thrown)
  } catch {
    return 'something that has no text was thrown'
  }
}

function findCulprit(value: unknown, path: string, ancestors: object[]): Culprit | undefined {
  if (typeof value === 'bigint') return { path, reason: 'a BigInt' }
  if (typeof value !== 'object' || value === null) return undefined
  if (ancestors.includes(value)) return { path, reason: 'a reference to one of its own parents' }
  if (ancestors.length >= MAX_DEPTH) return undefined
  const within = [...ancestors, value]
  try {
    const { toJSON } = value as { toJSON?: unknown }
    if (typeof toJSON === 'function') {
      return findCulprit((value as { toJSON(): unknown }).toJSON(), path, within)
    }
    for (const key of Object.keys(value)) {
      const step = Array.isArray(value) ? `[${key}]` : memberPath(key)
      const found = findMember(value, key, path + step, within)
      if (found !== undefined) return found
    }
  } catch (thrown) {
    return { path, reason: `reading threw ${describe(thrown)}` }
  }
  return undefined
}

function findMember(parent: object, key: string, path: string, ancestors: object[]): Culprit | undefined {
  let member: unknown
  try {
    member = (parent as Record<string, unknown>)[key]
  } catch (thrown) {
    return { path, reason: `reading threw ${describe(thrown)}` }
  }
  return findCulprit(member, path, ancestors)
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
