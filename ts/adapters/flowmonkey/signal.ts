import { EventEmitter } from 'node:events'

import { Connection, connectStore, type StoreConnection } from '../../connection.js'
import { ArgumentError } from '../../errors.js'
import { toJson } from '../../json.js'
import type { Target } from '../../options.js'
import { SignalChannel, type SignalSubscription } from '../../signal.js'
import { traced } from '../../tracing.js'
import { checkFunction, checkName, kindOf } from '../../validate.js'

/** Options of {@link RedisWakeSignaler} (contract of @flowmonkey/redis). */
export interface RedisWakeSignalerOptions {
  /** Pub/sub channel. Default: `fm:wake`. */
  channel?: string
}

/** Called with each signal: the execution's id, and what `publish` was given beside it. */
export type WakeHandler = (executionId: string, metadata?: any) => unknown

/** Events of a {@link RedisWakeSignaler}. */
export interface RedisWakeSignalerEvents {
  /** The connection was interrupted: signals may have been missed, so look for waiting executions. */
  gap: []
  /** A handler threw or rejected. Without a listener, it is a warning of the process. */
  handlerError: [error: unknown, executionId: string]
}

/** Iterators end when their queue is taken away. */
interface Queue {
  ids: string[]
  wake: (() => void) | undefined
  ended: boolean
}

/**
 * Wake signals between processes, through pub/sub (contract of @flowmonkey/redis). Every subscriber hears every
 * signal that is sent while it listens; after an interruption it listens again and emits `gap`.
 */
export class RedisWakeSignaler extends EventEmitter<RedisWakeSignalerEvents> {
  readonly #store: StoreConnection
  readonly #channel: SignalChannel
  readonly #handlers = new Set<WakeHandler>()
  readonly #queues = new Set<Queue>()
  #subscription: Promise<SignalSubscription> | undefined

  /**
   * @param redis - where the signals go
   * @param options - or a client for publishing, as the original's code took: it is not needed and not used
   */
  constructor(redis: Target, options?: RedisWakeSignalerOptions | object) {
    super()
    const channel = (options as RedisWakeSignalerOptions | undefined)?.channel
    const isClient = typeof (options as { publish?: unknown } | undefined)?.publish === 'function'
    const name = checkName('channel', isClient ? 'fm:wake' : (channel ?? 'fm:wake'))
    this.#store = connectStore(redis)
    this.#channel = new SignalChannel(this.#store.connection, name)
  }

  /** Signals that an execution may go on. */
  async signal(executionId: string): Promise<void> {
    await this.#channel.publish([toMessage(executionId)])
  }

  /** Signals several executions in one round trip. */
  async signalMany(executionIds: readonly string[]): Promise<void> {
    if (!Array.isArray(executionIds)) {
      throw new ArgumentError(
        'INVALID_ARGUMENT',
        `executionIds must be an array, not ${kindOf(executionIds)}`,
      )
    }
    const messages = executionIds.map((id) => toMessage(id))
    if (messages.length > 0) await this.#channel.publish(messages)
  }

  /** Like {@link RedisWakeSignaler.signal}, with something that JSON holds for the handlers. */
  async publish(executionId: string, metadata?: any): Promise<void> {
    await this.#channel.publish([toMessage(executionId, metadata)])
  }

  /** The ids of signals, from the first `next()` on until `unsubscribe()` or the end of the loop. */
  subscribe(): AsyncIterableIterator<string>
  /**
   * Has `handler` called with every signal. Resolves when it listens. Several handlers may be given; one that
   * throws or rejects does not disturb the others.
   */
  subscribe(handler: WakeHandler): Promise<void>
  subscribe(handler?: WakeHandler): AsyncIterableIterator<string> | Promise<void> {
    return handler === undefined ? this.#iterate() : this.#addHandler(handler)
  }

  async #addHandler(handler: WakeHandler): Promise<void> {
    checkFunction('handler', handler)
    this.#handlers.add(handler)
    try {
      await this.#listen()
    } catch (error) {
      this.#handlers.delete(handler)
      throw error
    }
  }

  async *#iterate(): AsyncIterableIterator<string> {
    const queue: Queue = { ids: [], wake: undefined, ended: false }
    this.#queues.add(queue)
    try {
      await this.#listen()
      while (!queue.ended) {
        const id = queue.ids.shift()
        if (id === undefined) {
          await new Promise<void>((resolve) => {
            queue.wake = resolve
          })
        } else {
          yield id
        }
      }
    } finally {
      this.#queues.delete(queue)
      if (this.#queues.size === 0 && this.#handlers.size === 0) await this.#stop()
    }
  }

  /** One subscription serves all handlers and iterators. */
  async #listen(): Promise<void> {
    this.#subscription ??= this.#channel.subscribe({
      message: (text) => this.#onMessage(text),
      gap: () => this.emit('gap'),
      end: () => void this.unsubscribe(),
    })
    try {
      await this.#subscription
    } catch (error) {
      this.#subscription = undefined
      throw error
    }
  }

  #onMessage(text: string): void {
    const { executionId, metadata } = fromMessage(text)
    for (const queue of this.#queues) {
      queue.ids.push(executionId)
      queue.wake?.()
    }
    for (const handler of this.#handlers) void this.#call(handler, executionId, metadata)
  }

  async #call(handler: WakeHandler, executionId: string, metadata: unknown): Promise<void> {
    try {
      await handler(executionId, metadata)
    } catch (error) {
      if (this.listenerCount('handlerError') > 0) {
        this.emit('handlerError', error, executionId)
      } else {
        process.emitWarning(`A wake handler failed for ${JSON.stringify(executionId)}: ${String(error)}`, {
          type: 'FerroflowWarning',
          code: 'FERROFLOW_HANDLER',
        })
      }
    }
  }

  /** Stops listening, for all handlers and iterators. May be followed by `subscribe`. */
  async unsubscribe(): Promise<void> {
    this.#handlers.clear()
    for (const queue of this.#queues) {
      queue.ended = true
      queue.wake?.()
    }
    await this.#stop()
  }

  async #stop(): Promise<void> {
    const subscription = this.#subscription
    this.#subscription = undefined
    // One that could not be started has told its caller.
    const started = await subscription?.catch(() => undefined)
    started?.stop()
  }

  /** Stops listening, and closes the connection unless it was given as a {@link Connection}. */
  async disconnect(): Promise<void> {
    await this.unsubscribe()
    if (this.#store.owned) await this.#store.connection.close()
  }

  /** The connection in use. */
  get connection(): Connection {
    return this.#store.connection
  }
}

traced('RedisWakeSignaler', RedisWakeSignaler.prototype)

function toMessage(executionId: unknown, metadata?: unknown): string {
  const id = checkName('the execution id', executionId)
  return toJson('The metadata', { executionId: id, timestamp: Date.now(), metadata })
}

/** The original's JSON, or a bare id, as other programs may publish it. */
function fromMessage(text: string): { executionId: string; metadata?: unknown } {
  try {
    const message = JSON.parse(text) as { executionId?: unknown; metadata?: unknown } | null
    if (typeof message?.executionId === 'string') {
      return { executionId: message.executionId, metadata: message.metadata }
    }
  } catch {
    // Not JSON, so an id.
  }
  return { executionId: text }
}
