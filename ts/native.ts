import * as binding from '../js-binding.js'
import { fromNative } from './errors.js'

/**
 * Waits for the native core, makes its errors public ones, and has `read` make of its answer what the caller gets. Not
 * an `async` function: one that waits takes some 400 bytes more, ten thousand may wait in an outage, and V8 lets several
 * times as much pile up before it collects. So functions that programs call in masses return this, and are not `async`
 * either: see `traced`.
 */
export function settled<T>(promise: Promise<T>): Promise<T>
export function settled<T, R>(promise: Promise<T>, read: (answer: T) => R): Promise<Awaited<R>>
export function settled<T>(promise: Promise<T>, read?: (answer: T) => unknown): Promise<unknown> {
  return promise.then(read, rethrow)
}

function rethrow(error: unknown): never {
  throw fromNative(error)
}

/** Runs something that calls into the native core synchronously, and makes its errors public ones. */
export function guarded<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Gets the events of one native object. */
export type EventListener = (name: string, detail: unknown) => void

const listeners = new Map<number, WeakRef<{ onNativeEvent: EventListener }>>()
const collected = new FinalizationRegistry<number>((source) => listeners.delete(source))

/** Sends the events of the native object `source` to `listener`, as long as somebody else holds it. */
export function listen(source: number, listener: { onNativeEvent: EventListener }): void {
  listeners.set(source, new WeakRef(listener))
  collected.register(listener, source)
}

const watchers = new Map<number, EventListener>()

/** Calls `listener` with the events of the native object `source`, until the function that is returned is called. */
export function watchEvents(source: number, listener: EventListener): () => void {
  watchers.set(source, listener)
  return () => watchers.delete(source)
}

binding.addEventSink((source, name, detail) => {
  try {
    listeners.get(source)?.deref()?.onNativeEvent(name, detail)
    watchers.get(source)?.(name, detail)
  } catch (error) {
    // A listener's error belongs to its owner, as an uncaught exception, and must not disturb the calls that are
    // settled in the same turn.
    queueMicrotask(() => {
      throw error
    })
  }
})

export { binding }
