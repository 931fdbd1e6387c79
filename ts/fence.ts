import { checkInteger, checkObject } from './validate.js'

/** Options of a write under a lock. */
export interface FenceOptions {
  /**
   * The number of the acquisition of the lock, higher than that of every earlier one: a whole number from 1 to
   * 2^53 - 1. The highest number that came to write is kept beside the record, for 7 days from the last such write or as
   * long as the record lives; a lower one is refused with `STALE_FENCE`, and nothing is written. So a holder whose lock
   * expired while it was paused does not overwrite what its successor wrote. Default: none, and nothing is checked.
   */
  fence?: number
}

/** The fence of the options, if there is one. */
export function fenceOf(options: FenceOptions | undefined): number | undefined {
  if (options === undefined) return undefined
  const { fence } = checkObject('The options', options) as FenceOptions
  return fence === undefined
    ? undefined
    : checkInteger('the fence', fence, { min: 1, max: Number.MAX_SAFE_INTEGER })
}
