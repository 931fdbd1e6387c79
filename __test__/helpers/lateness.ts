/** How late a busy machine lets this process be, so that a test of deadlines blames nobody for it. */
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from '../../index.js'

/** Pauses between two looks, in milliseconds, and what each takes beside on a machine that is not busy. */
const PAUSE_MS = 5
const USUAL_MS = 5

/**
 * Runs something, and says by how many milliseconds this process was late meanwhile, all delays together. A call
 * passes through the event loop and the I/O thread, so what is measured is a call that does: it waits for no server.
 */
export async function whileLate<T>(run: () => Promise<T>): Promise<{ late: number; result: T }> {
  const nothing = connect('memory://lateness')
  let late = 0
  const work = { ended: false }
  let last = performance.now()
  const look = (): void => {
    const now = performance.now()
    late += Math.max(0, now - last - PAUSE_MS - USUAL_MS)
    last = now
  }
  const watching = (async () => {
    while (!work.ended) {
      // oxlint-disable no-await-in-loop -- one look after the other
      await delay(PAUSE_MS)
      await nothing.command('PING')
      // oxlint-enable no-await-in-loop
      look()
    }
  })()
  try {
    const result = await run()
    look()
    return { late, result }
  } finally {
    work.ended = true
    await watching
    await nothing.close()
  }
}
