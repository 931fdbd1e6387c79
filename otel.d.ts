/**
 * Spans of OpenTelemetry for the operations of ferroflow. Needs `@opentelemetry/api`.
 *
 * @packageDocumentation
 */
import { type Attributes, type TracerProvider } from '@opentelemetry/api'
import { type OperationContext } from './index.js'
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
/**
 * Makes a span of every operation: name and attribute `ferroflow.operation` are the operation's, its kind is `CLIENT`, and
 * an error is its status and its `error.type` (the stable code).
 *
 * @returns a function that ends this
 *
 * @example
 * const stop = traceOperations()
 */
export declare function traceOperations(options?: TraceOptions): () => void
