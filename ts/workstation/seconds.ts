import { checkInteger } from '../validate.js'

/** A hundred years. */
const MAX_SECONDS = 100 * 366 * 24 * 60 * 60

/** Milliseconds of a TTL in seconds; absent or 0 stands for the default, as documented. */
export function toTtl(seconds: number | undefined, fallback: number): number {
  if (seconds === undefined || seconds === 0) return fallback * 1000
  return checkInteger('ttl', seconds, { min: 1, max: MAX_SECONDS, unit: 'seconds' }) * 1000
}
