import { CorruptEntryError } from '../../errors.js'

/** Parses a stored result. The error has the original's words. */
export function parseResult(key: string, task: string, raw: string): unknown {
  // The original stores this for `undefined`, and cannot read it.
  if (raw === '') return null
  try {
    return JSON.parse(raw)
  } catch (cause) {
    throw new CorruptEntryError(
      'CORRUPT_ENTRY',
      `Failed to parse JSON for Redis key "${key}" field "${task}": ${(cause as Error).message}. Raw value: "${raw}"`,
      { key, cause },
    )
  }
}
