import { constants } from 'node:os'

import { ArgumentError } from '../errors.js'

const DEFAULT_SIGNALS: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT']

/** What is to be done before a signal ends the process, by signal. */
const work = new Map<NodeJS.Signals, Set<() => Promise<void>>>()

/** Does something when one of these signals comes, and raises the signal again. Returns how to take that back. */
export function releaseOnExit(
  signals: boolean | readonly NodeJS.Signals[],
  release: () => Promise<void>,
): () => void {
  if (typeof signals !== 'boolean' && !(Array.isArray(signals) && signals.every(isSignal))) {
    throw new ArgumentError(
      'INVALID_ARGUMENT',
      'releaseOnSignal must be a boolean or an array of signal names',
    )
  }
  const chosen = signals === true ? DEFAULT_SIGNALS : signals || []
  for (const signal of chosen) {
    let all = work.get(signal)
    if (all === undefined) {
      all = new Set()
      work.set(signal, all)
      process.once(signal, onSignal)
    }
    all.add(release)
  }
  return () => chosen.forEach((signal) => forget(signal, release))
}

/** One that a process may hear. */
function isSignal(name: unknown): boolean {
  return (
    typeof name === 'string' &&
    Object.hasOwn(constants.signals, name) &&
    name !== 'SIGKILL' &&
    name !== 'SIGSTOP'
  )
}

function forget(signal: NodeJS.Signals, release: () => Promise<void>): void {
  const all = work.get(signal)
  if (all?.delete(release) === true && all.size === 0) {
    work.delete(signal)
    process.removeListener(signal, onSignal)
  }
}

/** Whatever fails, the process must get its signal: locks expire. */
async function onSignal(signal: NodeJS.Signals): Promise<void> {
  const all = work.get(signal) ?? new Set()
  work.delete(signal)
  await Promise.allSettled([...all].map((release) => release()))
  // A program that listens for the signal itself has heard it, and decides when it ends.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
}
