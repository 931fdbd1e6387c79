import { types } from 'node:util'

import { type Connection, nativeOf } from './connection.js'
import { ArgumentError } from './errors.js'
import { corrupt, fromJson } from './json.js'
import { binding, guarded } from './native.js'

/** Fields of a stored hash. Without a prototype: their names are whatever is stored. */
export type Fields = Record<string, string | undefined>

/** The native runs and steps of a connection. */
export function openWorkflows(connection: Connection, prefix: string): binding.NativeWorkflows {
  return guarded(() => binding.NativeWorkflows.open(nativeOf(connection), prefix))
}

/** Alternating fields and values as an object. */
export function toFields(alternating: readonly string[]): Fields {
  const fields = Object.create(null) as Fields
  for (let index = 0; index + 1 < alternating.length; index += 2) {
    fields[alternating[index]!] = alternating[index + 1]
  }
  return fields
}

/** A stored JSON field; `undefined` if it is absent or, as the original wrote it for `undefined`, empty. */
export function jsonField(fields: Fields, name: string, key: string): unknown {
  const json = fields[name]
  return json === undefined || json === '' ? undefined : fromJson(`its field ${name}`, json, key)
}

/** A stored time: milliseconds since 1970. */
export function timeField(fields: Fields, name: string, key: string): number {
  const time = Number(fields[name] ?? Number.NaN)
  if (!Number.isFinite(time)) throw corrupt(`its field ${name} is not a time`, key)
  return time
}

/** An error in the shape in which it is stored and loaded. */
export interface StoredError {
  message: string
  stack?: string
  code?: string
}

/** Whether a value is an `Error`, of this context or another (Jest, vm). */
export function isError(value: unknown): boolean {
  return value instanceof Error || types.isNativeError(value)
}

/** What of a thrown value is stored. */
export function toStoredError(error: unknown): StoredError {
  if (typeof error !== 'object' || error === null) return { message: String(error) }
  const { message, stack, code } = error as { message?: unknown; stack?: string; code?: string }
  return { message: String(message), stack, code }
}

/** Status of a run. The documented ones are the first three; the others belong to later versions of the core. */
export type WorkflowStatus = 'running' | 'completed' | 'failed' | 'suspended' | 'cancelled'

const STATUSES: readonly string[] = ['running', 'completed', 'failed', 'suspended', 'cancelled']

export function checkStatus(status: unknown): string {
  if (typeof status !== 'string' || !STATUSES.includes(status)) {
    throw new ArgumentError('INVALID_ARGUMENT', `the status must be one of ${STATUSES.join(', ')}`)
  }
  return status
}
