import { type Connection, nativeOf } from './connection.js'
import { binding, guarded, listen, settled } from './native.js'

/** What a subscription passes on. */
export interface SignalHandlers {
  message(text: string): void
  /** The connection was interrupted: messages may have been missed. */
  gap(): void
  /** The connection was closed: nothing will be heard any more. */
  end(): void
}

/** Subscriptions that run. Held here, since events only reach what somebody holds. */
const running = new Set<SignalSubscription>()

/** One channel of a connection. */
export class SignalChannel {
  readonly #native: binding.NativeSignals

  /** @param own - nobody else uses the channel, so that it may be sharded in a cluster */
  constructor(connection: Connection, channel: string, { own = false } = {}) {
    this.#native = guarded(() => binding.NativeSignals.open(nativeOf(connection), channel, own))
  }

  /** Sends messages in one round trip. */
  async publish(messages: string[]): Promise<void> {
    await settled(this.#native.publish(messages))
  }

  /** Resolves when it listens. A running subscription keeps the process alive. */
  async subscribe(handlers: SignalHandlers): Promise<SignalSubscription> {
    const subscription = new SignalSubscription(handlers)
    running.add(subscription)
    try {
      await settled(subscription.native.start(this.#native))
    } catch (error) {
      subscription.stop()
      throw error
    }
    return subscription
  }
}

/** A listener to a channel. */
export class SignalSubscription {
  readonly native = new binding.NativeSubscription()
  readonly #handlers: SignalHandlers

  constructor(handlers: SignalHandlers) {
    this.#handlers = handlers
    listen(this.native.id, this)
  }

  onNativeEvent(name: string, detail: unknown): void {
    if (!running.has(this)) return
    if (name === 'message') this.#handlers.message(detail as string)
    else if (name === 'gap') this.#handlers.gap()
    else {
      this.stop()
      this.#handlers.end()
    }
  }

  /** Nothing is passed on from now on. Idempotent. */
  stop(): void {
    running.delete(this)
    this.native.stop()
  }
}
