import { createRequire } from 'node:module'
import { join } from 'node:path'

import { ConcurrencyError, FerroflowError } from '../../errors.js'

/** The constructor of @saga-bus/core's `ConcurrencyError`. */
export type CoreConcurrencyError = new (
  sagaId: string,
  expectedVersion: number,
  actualVersion: number,
) => Error

const CORE = '@saga-bus/core'

/** What the runtime takes for transient, and retries; anything else goes to its dead letter queue. */
const TRANSIENT =
  /ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTFOUND|timeout|connection.*refused|connection.*reset|network|socket hang up|EPIPE|EHOSTUNREACH/

const SUFFIX = ' (transient, retry as for a network conflict)'

/** Makes sure that the runtime retries what is worth a retry. */
export function asTransient(error: unknown): unknown {
  if (!(error instanceof FerroflowError)) return error
  const worthwhile = error.retryable || error.code === 'OUTCOME_UNKNOWN'
  if (worthwhile && !TRANSIENT.test(error.message)) error.message += SUFFIX
  return error
}

/**
 * The error of a conflict as the runtime knows it: it tests `instanceof` with its own class, so that class is used
 * where it can be found. Otherwise it is ours, with a message that the runtime takes for transient.
 */
export async function asCoreError(
  error: ConcurrencyError,
  given: CoreConcurrencyError | undefined,
): Promise<Error> {
  const Class = given ?? (await coreClass())
  if (Class === undefined) {
    error.message += SUFFIX
    return error
  }
  const { sagaId, expectedVersion, actualVersion, message, stack } = error
  try {
    const own = new Class(sagaId, expectedVersion, actualVersion)
    // The fields are those of both classes, whatever the constructor makes of its arguments.
    return Object.assign(own, { ...error, message, stack })
  } catch {
    // A class that cannot be made or written to must not hide the conflict.
    error.message += SUFFIX
    return error
  }
}

let found: Promise<CoreConcurrencyError | undefined> | undefined

/** The class of the application's own copy of the core, looked for once. */
function coreClass(): Promise<CoreConcurrencyError | undefined> {
  found ??= findCoreClass()
  return found
}

async function findCoreClass(): Promise<CoreConcurrencyError | undefined> {
  const roots = [__filename, join(process.cwd(), 'package.json')].map((from) => createRequire(from))
  const required = roots.filter((require) => isLoaded(require))
  // The core exists twice in a process that loads it both ways. If it was required, that copy is in use.
  const places = [
    ...required.map((require) => () => require(CORE) as unknown),
    () => import(CORE) as Promise<unknown>,
    ...roots.map((require) => () => require(CORE) as unknown),
  ]
  for (const load of places) {
    try {
      const { ConcurrencyError: Class } = (await load()) as { ConcurrencyError?: unknown }
      if (typeof Class === 'function') return Class as CoreConcurrencyError
    } catch {
      // Not installed there.
    }
  }
  return undefined
}

function isLoaded(require: NodeJS.Require): boolean {
  try {
    return require.resolve(CORE) in require.cache
  } catch {
    return false
  }
}
