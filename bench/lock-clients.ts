/** What people use for locks today, and ferroflow, behind one interface. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import { Redlock } from '@sesamecare-oss/redlock'
import { Redis } from 'ioredis'
import { Mutex } from 'redis-semaphore'

import { RedisLockManager } from '../index.js'

export const TTL = 10_000

export interface LockClient {
  name: string
  /** Waits if need be; returns how to release. */
  acquire(key: string): Promise<() => Promise<unknown>>
  close(): unknown
}

export function ferroflow(url: string): LockClient {
  const locks = new RedisLockManager(url)
  return {
    name: 'ferroflow acquire, release',
    acquire: async (key) => {
      const token = await locks.acquire(key, TTL)
      if (token === null) throw new Error(`Somebody else holds ${key}`)
      return () => locks.release(key, token)
    },
    close: () => locks.close(),
  }
}

/** The same with a function that runs under the lock. */
function withLock(url: string): LockClient {
  const locks = new RedisLockManager(url, { defaultTTL: TTL })
  return {
    name: 'ferroflow withLock',
    acquire: (key) => locks.withLock(key, () => () => Promise.resolve()),
    close: () => locks.close(),
  }
}

const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

/** As the replaced packages document it: another attempt every 100 ms, 50 times. */
export function poller(url: string): LockClient {
  const redis = new Redis(url)
  return {
    name: 'SET NX every 100 ms (ioredis 6)',
    acquire: async (key) => {
      const token = randomUUID()
      for (let attempt = 0; attempt <= 50; attempt++) {
        // oxlint-disable-next-line no-await-in-loop -- polling
        if ((await redis.set(key, token, 'PX', TTL, 'NX')) === 'OK')
          return () => redis.eval(RELEASE, 1, key, token)
        // oxlint-disable-next-line no-await-in-loop -- polling
        await delay(100)
      }
      throw new Error(`Somebody else holds ${key}`)
    },
    close: () => redis.disconnect(),
  }
}

export function redlock(url: string): LockClient {
  const redis = new Redis(url)
  const locks = new Redlock([redis])
  return {
    name: '@sesamecare-oss/redlock',
    acquire: async (key) => {
      const lock = await locks.acquire([key], TTL)
      return () => lock.release()
    },
    close: () => redis.disconnect(),
  }
}

/** The same with a function that runs under the lock. */
function redlockUsing(url: string): LockClient {
  const redis = new Redis(url)
  const locks = new Redlock([redis])
  return {
    name: '@sesamecare-oss/redlock using',
    acquire: (key) => locks.using([key], TTL, async () => () => Promise.resolve()),
    close: () => redis.disconnect(),
  }
}

export function semaphore(url: string): LockClient {
  const redis = new Redis(url)
  return {
    name: 'redis-semaphore, 10 ms poll',
    acquire: async (key) => {
      const mutex = new Mutex(redis, key, { lockTimeout: TTL, retryInterval: 10 })
      await mutex.acquire()
      return () => mutex.release()
    },
    close: () => redis.disconnect(),
  }
}

/** All of them, in the order in which they take turns. */
export function lockClients(url: string): LockClient[] {
  return [ferroflow(url), poller(url), redlock(url), semaphore(url)]
}

/** Those whose uncontended pairs are compared, the one that the others are measured by last. */
export const PAIR_CLIENTS: readonly ((url: string) => LockClient)[] = [
  ferroflow,
  withLock,
  redlockUsing,
  semaphore,
  redlock,
]
