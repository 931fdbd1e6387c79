import { randomUUID } from 'node:crypto'

import { type Connection, type ConnectionStatus, nativeOf } from '../connection.js'
import { binding, guarded, settled } from '../native.js'

/** How often an instance says that it is there, in milliseconds. */
const INTERVAL = 10_000

const WARNING =
  'localLocks is "unsafe", and there is more than one instance: while Redis is out of reach, each of them grants the same lock'

/**
 * Makes an instance that grants locks by itself known to the others, of which there must be none. It hears within one
 * interval if there are.
 */
export class LocalInstances {
  readonly #connection: Connection
  readonly #native: binding.NativeTracking
  readonly #instance = randomUUID()
  readonly #warn: (text: string) => void
  readonly #timer: NodeJS.Timeout
  readonly #onStatus = (status: ConnectionStatus): void => {
    if (status === 'ready') void this.#meet()
  }
  #warned = false

  constructor(connection: Connection, warn: (text: string) => void) {
    this.#connection = connection
    this.#native = guarded(() => binding.NativeTracking.open(nativeOf(connection)))
    this.#warn = warn
    this.#timer = setInterval(() => void this.#meet(), INTERVAL)
    this.#timer.unref()
    connection.on('status', this.#onStatus)
    void this.#meet()
  }

  async #meet(): Promise<void> {
    // A call that waits for a connection would keep the process alive for nothing.
    if (this.#connection.status !== 'ready') return
    try {
      const several = await settled(this.#native.meetInstances(this.#instance))
      if (several && !this.#warned) this.#warn(WARNING)
      this.#warned ||= several
    } catch {
      // Asked again soon; whoever uses the connection hears what is wrong with it.
    }
  }

  close(): void {
    clearInterval(this.#timer)
    this.#connection.off('status', this.#onStatus)
  }
}
