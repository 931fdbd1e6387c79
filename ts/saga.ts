import { types } from 'node:util'

import { type Connection, nativeOf } from './connection.js'
import { ArgumentError } from './errors.js'
import { corrupt, fromJson, toJson } from './json.js'
import { binding, guarded } from './native.js'
import { kindOf } from './validate.js'

/** The native sagas of a connection. */
export function openSagas(connection: Connection, prefix: string): binding.NativeSagas {
  return guarded(() => binding.NativeSagas.open(nativeOf(connection), prefix))
}

/** Metadata of a saga. Dates may be given as `Date`, ISO string or milliseconds; loaded ones are `Date`s. */
export interface SagaMetadata {
  /** Default: the state's `id`. */
  sagaId?: string
  /** Counts the writes; absent counts as 0. */
  version?: number
  /** Default: now. */
  createdAt?: Date | string | number
  /** Default: now. */
  updatedAt?: Date | string | number
  /** Default: false. */
  isCompleted?: boolean
  archivedAt?: Date | string | number | null
  traceParent?: string | null
  traceState?: string | null
  timeoutMs?: number | null
  timeoutExpiresAt?: Date | string | number | null
}

/** What any state may have, whatever else it holds. */
export interface LooseState {
  id?: unknown
  correlationId?: unknown
  metadata?: SagaMetadata | null
}

/** Metadata as it is stored. */
interface CompleteMetadata extends SagaMetadata {
  sagaId: string
  version: number
  createdAt: Date
  updatedAt: Date
  isCompleted: boolean
  archivedAt: Date | null
  timeoutExpiresAt: Date | null
}

/** Checks a state and the parts of it that the store needs. */
export function checkState(state: unknown): LooseState {
  if (typeof state !== 'object' || state === null || Array.isArray(state)) {
    throw new ArgumentError('INVALID_ARGUMENT', `the state must be an object, not ${kindOf(state)}`)
  }
  const { metadata } = state as LooseState
  if (
    metadata !== undefined &&
    metadata !== null &&
    (typeof metadata !== 'object' || Array.isArray(metadata))
  ) {
    throw new ArgumentError(
      'INVALID_ARGUMENT',
      `the state's metadata must be an object, not ${kindOf(metadata)}`,
    )
  }
  return state as LooseState
}

/** The saga's id: `metadata.sagaId`, otherwise `id`. */
export function sagaIdOf(state: LooseState): unknown {
  return state.metadata?.sagaId ?? state.id
}

function toDate(name: string, value: unknown): Date {
  const isDate = typeof value === 'string' || typeof value === 'number' || types.isDate(value)
  const date = new Date(isDate ? value : Number.NaN)
  if (Number.isNaN(date.getTime()) || value === '') {
    throw new ArgumentError('INVALID_ARGUMENT', `metadata.${name} must be a date`)
  }
  return date
}

function optionalDate(name: string, value: Date | string | number | null | undefined): Date | null {
  return value === undefined || value === null || value === '' ? null : toDate(name, value)
}

function checkBoolean(name: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value
  throw new ArgumentError('INVALID_ARGUMENT', `metadata.${name} must be a boolean, not ${kindOf(value)}`)
}

/** The metadata to store: the state's, with what is absent filled in. */
export function completeMetadata(state: LooseState, sagaId: string, version: number): CompleteMetadata {
  const metadata = state.metadata ?? {}
  const now = new Date()
  const { createdAt, updatedAt, archivedAt, timeoutExpiresAt } = metadata
  // The spread keeps the caller's order of fields, and with it the bytes that the original would write.
  return {
    ...metadata,
    sagaId,
    version,
    createdAt: createdAt === undefined || createdAt === null ? now : toDate('createdAt', createdAt),
    updatedAt: updatedAt === undefined || updatedAt === null ? now : toDate('updatedAt', updatedAt),
    isCompleted: checkBoolean('isCompleted', metadata.isCompleted ?? false),
    archivedAt: optionalDate('archivedAt', archivedAt),
    timeoutExpiresAt: optionalDate('timeoutExpiresAt', timeoutExpiresAt),
  }
}

/** The bytes to store: the state as it is, dates of its metadata in ISO form. */
export function stateToJson(state: LooseState, metadata: CompleteMetadata): string {
  return toJson('The state', { ...state, metadata })
}

const REQUIRED_DATES = ['createdAt', 'updatedAt'] as const
const OPTIONAL_DATES = ['archivedAt', 'timeoutExpiresAt'] as const

/** The state of stored bytes, with `Date`s in its metadata. */
export function stateFromJson<TState>(json: string, key: string): TState {
  const state = fromJson('the state', json, key) as LooseState
  if (typeof state !== 'object' || state === null || Array.isArray(state)) {
    throw corrupt('the state is not an object', key)
  }
  const { metadata } = state
  if (typeof metadata === 'object' && metadata !== null) {
    for (const name of REQUIRED_DATES) {
      if (metadata[name] !== undefined) metadata[name] = revive(name, metadata[name], key)
    }
    for (const name of OPTIONAL_DATES) {
      const value = metadata[name]
      metadata[name] = value === undefined || value === null || value === '' ? null : revive(name, value, key)
    }
  }
  return state as TState
}

function revive(name: string, value: unknown, key: string): Date {
  const date = new Date(value as string)
  const isText = typeof value === 'string' && value.trim() !== ''
  if (Number.isNaN(date.getTime()) || !(isText || typeof value === 'number'))
    throw corrupt(`metadata.${name} is not a date`, key)
  return date
}
