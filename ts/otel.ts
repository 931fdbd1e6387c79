/**
 * Spans of OpenTelemetry for the operations of ferroflow. Needs `@opentelemetry/api`.
 *
 * @packageDocumentation
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'

import {
  type Attributes,
  type Context,
  context as contexts,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type TracerProvider,
} from '@opentelemetry/api'

import { type OperationContext, tracedOperations } from './index.js'

/** Options of {@link traceOperations}. */
export interface TraceOptions {
  /** Default: the one that is registered globally, as it is when an operation begins. */
  tracerProvider?: TracerProvider
  /**
   * Further attributes of a span, when its operation begins. Default: none. Arguments, keys and ids are in no attribute
   * unless you put them there.
   */
  attributes?: (operation: OperationContext) => Attributes
  /** Whether the errors of operations are recorded with message and stack, which name keys and ids. Default: false. */
  recordErrors?: boolean
}

/** A span, and where it began. */
interface Frame {
  span: Span
  outside: Context
}

/**
 * Makes a span of every operation: name and attribute `ferroflow.operation` are the operation's, its kind is `CLIENT`, and
 * an error is its status and its `error.type` (the stable code).
 *
 * @returns a function that ends this
 *
 * @example
 * const stop = traceOperations()
 */
export function traceOperations(options: TraceOptions = {}): () => void {
  const frames = new WeakMap<OperationContext, Frame>()
  const current = new AsyncLocalStorage<Frame | undefined>()

  const begin = (operation: OperationContext): Frame => {
    const frame = startSpan(operation, current.getStore(), options)
    frames.set(operation, frame)
    return frame
  }
  const handlers = {
    asyncEnd: (operation: OperationContext) => frames.get(operation)?.span.end(),
    error: (operation: OperationContext) => {
      const span = frames.get(operation)?.span
      if (span !== undefined) fail(span, operation.error, options.recordErrors ?? false)
    },
  }
  for (const name of tracedOperations) {
    const channel = tracingChannel<Frame | undefined, OperationContext>(`ferroflow:${name}`)
    channel.start.bindStore(current, begin)
    channel.asyncEnd.subscribe(handlers.asyncEnd as (message: unknown) => void)
    channel.error.subscribe(handlers.error as (message: unknown) => void)
  }
  return () => {
    for (const name of tracedOperations) {
      const channel = tracingChannel<Frame | undefined, OperationContext>(`ferroflow:${name}`)
      channel.start.unbindStore(current)
      channel.asyncEnd.unsubscribe(handlers.asyncEnd as (message: unknown) => void)
      channel.error.unsubscribe(handlers.error as (message: unknown) => void)
    }
  }
}

function startSpan(operation: OperationContext, outer: Frame | undefined, options: TraceOptions): Frame {
  const outside = contexts.active()
  // What the program began within the outer operation is nearer than that operation.
  const parent = outer?.outside === outside ? trace.setSpan(outside, outer.span) : outside
  const attributes: Attributes = {
    'db.system.name': 'redis',
    'ferroflow.operation': operation.operation,
    ...(operation.command !== undefined && { 'db.operation.name': operation.command }),
    ...options.attributes?.(operation),
  }
  const tracer = (options.tracerProvider ?? trace.getTracerProvider()).getTracer('ferroflow')
  const span = tracer.startSpan(operation.operation, { kind: SpanKind.CLIENT, attributes }, parent)
  return { span, outside }
}

function fail(span: Span, error: unknown, recorded: boolean): void {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown }
  span.setAttribute('error.type', String(code ?? name ?? typeof error))
  span.setStatus({ code: SpanStatusCode.ERROR })
  if (recorded) span.recordException(error as Error)
}
