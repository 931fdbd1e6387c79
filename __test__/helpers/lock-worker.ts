/**
 * A process of the lock history: takes a few locks in several ways until its time is over, and prints what it notices.
 *
 *   lock-worker.ts NAME SEED MILLISECONDS LOCK_URL RESOURCE_URL
 */
import { writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { type Lock, type LockContext, type LockError, RedisLockManager, connect } from '../../index.js'
import type { LockEvent } from './lock-history'
import { random } from './random'

const [name, seed, millis, lockUrl, resourceUrl] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
]
const KEYS = ['a', 'b', 'c']
const LOOPS = 3
/** Takes a write unless it took one with a higher fence before, and keeps what it took in order. */
const WRITE = `
  local highest = tonumber(redis.call('GET', KEYS[1]) or '0')
  if tonumber(ARGV[1]) < highest then return 0 end
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
  return 1`

const { below, pick } = random(Number(seed))
const locks = new RedisLockManager(connect(lockUrl, { commandTimeout: 2000, connectTimeout: 500 }), {
  warnings: false,
})
const resource = connect(resourceUrl)

function now(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

type Details<E> = E extends unknown ? Omit<E, 't' | 'op'> : never

function say(op: string, details: Details<LockEvent>): void {
  let line = Buffer.from(`${JSON.stringify({ t: now(), op: `${name}-${op}`, ...details })}\n`)
  while (line.length > 0)
    try {
      line = line.subarray(writeSync(1, line))
    } catch (error) {
      // A full pipe: the reader comes later.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
}

for (const event of ['uncaughtException', 'unhandledRejection'] as const)
  process.on(event, (error: unknown) => say('', { kind: 'uncaught', text: `${event}: ${String(error)}` }))
locks.on('lost', () => say('', { kind: 'lost' }))

function look(op: string, lock: LockContext | Lock): void {
  const from = now()
  const value = lock.held
  say(op, { kind: 'held', value, from })
}

async function work(op: string, key: string, asked: number, lock: LockContext | Lock): Promise<void> {
  const { token, fence, signal } = lock
  say(op, { kind: 'grant', key, token, fence, asked })
  if (signal.aborted) say(op, { kind: 'aborted' })
  else signal.addEventListener('abort', () => say(op, { kind: 'aborted' }))
  for (let step = below(8); step >= 0; step -= 1) {
    look(op, lock)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await resource.command('EVAL', WRITE, 2, `highest:${key}`, `writes:${key}`, fence, `${name}-${op}`)
    look(op, lock)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await delay(below(40))
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    if (below(6) === 0) await lock.extend(200 + below(600))
  }
  look(op, lock)
}

async function withLock(op: string, key: string): Promise<void> {
  const asked = now()
  const control = new AbortController()
  const giveUp = below(8) === 0 ? setTimeout(() => control.abort(), below(300)) : undefined
  const options = {
    ttl: 200 + below(400),
    waitMs: below(3000),
    fair: below(2) === 0,
    signal: control.signal,
  }
  try {
    // Whether the release was confirmed is not told: nothing about it replaces the result.
    await locks.withLock(key, (lock) => work(op, key, asked, lock), options)
  } finally {
    clearTimeout(giveUp)
  }
}

async function object(op: string, key: string): Promise<void> {
  const asked = now()
  const options = { ttl: 200 + below(400), waitMs: below(1500), renew: below(2) === 0, fair: below(2) === 0 }
  const lock = await locks.acquire(key, options)
  if (lock === null) return
  try {
    await work(op, key, asked, lock)
  } finally {
    const lost = lock.signal.aborted || !lock.held
    await lock.release()
    // Of one that is lost by our own clock the server says nothing any more.
    if (!lost && !lock.signal.aborted) say(op, { kind: 'released' })
  }
}

async function plain(op: string, key: string): Promise<void> {
  const asked = now()
  const acquired = await locks.acquire(key, 200 + below(400))
  if (acquired === null) return
  const fence = Number(acquired.slice(acquired.lastIndexOf(':') + 1))
  say(op, { kind: 'grant', key, token: acquired, fence, asked })
  await delay(below(250))
  if (below(3) === 0) await locks.extend(key, acquired, 300)
  // Whether it was still there or not, it is not any more.
  await locks.release(key, acquired)
  say(op, { kind: 'released' })
}

async function loop(number: number, end: number): Promise<void> {
  for (let round = 0; performance.now() < end; round += 1) {
    const op = `${number}.${round}`
    const key = pick(KEYS)
    say(op, { kind: 'begin', key })
    let code: string | undefined
    try {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await pick([withLock, withLock, object, plain])(op, key)
    } catch (error) {
      code = (error as LockError).code ?? String(error)
    }
    say(op, { kind: 'settled', ...(code !== undefined && { code }) })
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await delay(below(20))
  }
}

async function main(): Promise<void> {
  const end = performance.now() + Number(millis)
  await Promise.all(Array.from({ length: LOOPS }, (_, number) => loop(number, end)))
  await locks.close()
  await Promise.all([locks.connection.close(), resource.close()])
}

void main()
