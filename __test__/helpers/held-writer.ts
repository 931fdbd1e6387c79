/** Writes to a socket, in order, with pauses on demand. */
import type { Socket } from 'node:net'

export class HeldWriter {
  readonly #socket: Socket
  readonly #held: (Buffer | 'end')[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(socket: Socket) {
    this.#socket = socket
  }

  write(bytes: Buffer): void {
    this.#put(bytes)
  }

  /** Closes the socket after everything before. */
  end(): void {
    this.#put('end')
  }

  /** Everything from now on leaves so many milliseconds later, in order. */
  hold(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#release(), ms)
    // What is still held when a test ends need not be delivered.
    this.#timer.unref()
  }

  /** Forgets what was not written yet. */
  drop(): void {
    clearTimeout(this.#timer)
    this.#held.length = 0
  }

  #put(item: Buffer | 'end'): void {
    if (this.#timer !== undefined) this.#held.push(item)
    else if (item === 'end') this.#socket.destroySoon()
    else this.#socket.write(item)
  }

  #release(): void {
    this.#timer = undefined
    for (const item of this.#held.splice(0)) this.#put(item)
  }
}
