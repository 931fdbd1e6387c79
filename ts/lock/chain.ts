import { AsyncLocalStorage } from 'node:async_hooks'

import type { HeldLock } from './hold.js'

/** A lock that an asynchronous chain holds. */
export interface Frame {
  /** The lock, unique among all servers. */
  readonly id: string
  readonly lock: HeldLock
  readonly outer: Frame | undefined
  /** The function has not ended yet. */
  active: boolean
  /** When everyone who entered again so far has left. */
  left: Promise<unknown>
}

/** The longest time that a timer of Node counts, in milliseconds. */
export const MAX_TIMER = 2 ** 31 - 1

const chain = new AsyncLocalStorage<Frame>()

/** The lock `id` as this asynchronous chain holds it. */
export function heldByChain(id: string): Frame | undefined {
  for (let frame = chain.getStore(); frame !== undefined; frame = frame.outer) {
    if (frame.active && frame.id === id) return frame
  }
  return undefined
}

/** Runs `fn` as a chain that holds a lock. Ends when everyone has left who entered again from within. */
export async function holding<T>(id: string, lock: HeldLock, fn: () => T | Promise<T>): Promise<T> {
  const frame: Frame = { id, lock, outer: chain.getStore(), active: true, left: Promise.resolve() }
  try {
    return await chain.run(frame, fn)
  } finally {
    await lastLeft(frame)
    frame.active = false
  }
}

async function lastLeft(frame: Frame): Promise<void> {
  const { left } = frame
  await left
  // Whoever left last may have let others in.
  if (left !== frame.left) await lastLeft(frame)
}

/**
 * Enters a lock again that the chain holds already. Those who do so side by side take turns, since each believes to be
 * alone. `false` if it was not our turn within `waitMs`.
 */
export async function enterAgain<T>(
  frame: Frame,
  waitMs: number,
  fn: () => T | Promise<T>,
): Promise<{ value: T } | false> {
  const before = frame.left
  let leave: (() => void) | undefined
  const mine = new Promise<void>((resolve) => {
    leave = resolve
  })
  frame.left = Promise.all([before, mine])
  try {
    return (await endsWithin(waitMs, before)) && { value: await holding(frame.id, frame.lock, fn) }
  } finally {
    leave?.()
  }
}

/** Whether some work ends, well or not, within so many milliseconds. */
export async function endsWithin(millis: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((done) => {
    timer = setTimeout(done, Math.min(Math.max(0, millis), MAX_TIMER), false)
  })
  const ended = work.then(
    () => true,
    () => true,
  )
  try {
    return await Promise.race([ended, late])
  } finally {
    clearTimeout(timer)
  }
}
