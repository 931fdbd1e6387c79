/** Whether a process stood still: then what it does in time piles up, and nothing can be said of when it is done. */
const TICK_MS = 5

/** For how many milliseconds the process stood still at most, since this was asked before. */
export function watchStandstill(): () => number {
  let last = performance.now()
  let most = 0
  const look = (): void => {
    const now = performance.now()
    most = Math.max(most, now - last - TICK_MS)
    last = now
  }
  setInterval(look, TICK_MS).unref()
  return () => {
    look()
    const found = Math.round(most)
    most = 0
    return found
  }
}
