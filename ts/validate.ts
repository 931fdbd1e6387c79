import { ArgumentError } from './errors.js'

/** Names become parts of keys; longer ones are mistakes. */
const MAX_NAME_BYTES = 512

function refuse(message: string): never {
  throw new ArgumentError('INVALID_ARGUMENT', message)
}

/** What a value is, without showing it: it may be a secret. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'number') return String(value)
  if (typeof value === 'object') return 'an object'
  return value === undefined ? 'undefined' : `a ${typeof value}`
}

/** What most names are, so that one look is enough. */
const PLAIN_NAME = /^[ -~]{1,512}$/

/** A part of a key: a string of 1 to 512 bytes without control characters. */
export function checkName(what: string, value: unknown): string {
  if (typeof value === 'string' && PLAIN_NAME.test(value)) return value
  if (typeof value !== 'string') return refuse(`${what} must be a string, not ${kindOf(value)}`)
  if (value === '') return refuse(`${what} must not be empty`)
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f]/.test(value)) return refuse(`${what} must not contain control characters`)
  if (/\p{Surrogate}/u.test(value)) return refuse(`${what} must be well-formed Unicode`)
  const bytes = value.length <= MAX_NAME_BYTES / 3 ? 0 : Buffer.byteLength(value)
  if (bytes > MAX_NAME_BYTES)
    return refuse(`${what} must be at most ${MAX_NAME_BYTES} bytes long, not ${bytes}`)
  return value
}

/** A name that the core is about to look at: it refuses the same, but may name another of several problems. */
export function checkText(what: string, value: unknown): string {
  const isShort = typeof value === 'string' && value.length <= MAX_NAME_BYTES
  return isShort && value.isWellFormed() ? value : checkName(what, value)
}

/** A prefix of keys, which may be empty. */
export function checkPrefix(what: string, value: unknown): string {
  return value === '' ? '' : checkName(what, value)
}

/** The largest duration that Redis and the core accept: a hundred years, in milliseconds. */
const MAX_MILLIS = 100 * 366 * 24 * 60 * 60 * 1000

/** A whole number within bounds. */
export function checkInteger(
  what: string,
  value: unknown,
  { min = 0, max = MAX_MILLIS, unit = '' }: { min?: number; max?: number; unit?: string } = {},
): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    const of = unit === '' ? '' : ` of ${unit}`
    return refuse(`${what} must be a whole number${of} from ${min} to ${max}, not ${kindOf(value)}`)
  }
  return value
}

/** A duration in milliseconds, at least 1. */
export function checkMillis(what: string, value: unknown): number {
  return checkInteger(what, value, { min: 1, unit: 'milliseconds' })
}

/** A function. */
export function checkFunction(what: string, value: unknown): void {
  if (typeof value !== 'function') refuse(`${what} must be a function, not ${kindOf(value)}`)
}

/** An object that is not an array. */
export function checkObject(what: string, value: unknown): object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse(`${what} must be an object, not ${kindOf(value)}`)
  }
  return value
}

/** Options with their defaults. An option that is `undefined` counts as absent. */
export function withDefaults<T extends object>(
  what: string,
  defaults: T,
  options: Partial<T> | undefined,
): T {
  if (options === undefined) return defaults
  checkObject(what, options)
  const merged = { ...defaults }
  for (const name of Object.keys(defaults) as (keyof T)[]) {
    const value = options[name]
    if (value !== undefined) merged[name] = value as T[keyof T]
  }
  return merged
}
