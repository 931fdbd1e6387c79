/** A connection through which nothing passes any more, while nobody closes it. */
import assert from 'node:assert/strict'
import {
  type Connection,
  type ConnectionOptions,
  RedisWakeSignaler,
  type Target,
  connect,
} from '../../index.js'
import type { CountingProxy } from './counting-proxy'
import { whileLate } from './lateness'
import type { Direction } from './proxied-connection'
import { timed, until } from './wait'

/** How long it may take until it is noticed. */
const NOTICED_MS = 10_000

export const DIRECTIONS: Direction[] = ['requests', 'replies', 'both']

/**
 * The call that meets it fails as it does without an answer, and the first call that goes through does so on a new
 * connection, in time.
 */
export async function assertNoticed(
  target: Target,
  proxies: readonly CountingProxy[],
  direction: Direction,
): Promise<void> {
  const connection = connect(target)
  try {
    await connection.command('SET', 'k', 'v')
    const before = accepted(proxies)
    for (const proxy of proxies) proxy.silence(direction)
    const { late, result } = await whileLate(() => timed(() => works(connection)))
    assert.equal(result.outcome.status, 'fulfilled')
    assert.ok(result.ms <= NOTICED_MS + late, `${direction}: ${result.ms} ms, of which ${late} were lost`)
    assert.ok(accepted(proxies) > before, 'there was no new connection')
  } finally {
    await connection.close()
  }
}

/** Who only listens has nothing to miss, and notices nevertheless. */
export async function assertListenerNotices(
  target: ConnectionOptions,
  proxies: readonly CountingProxy[],
): Promise<void> {
  const signaler = new RedisWakeSignaler(target)
  try {
    const heard: string[] = []
    let gaps = 0
    signaler.on('gap', () => (gaps += 1))
    await signaler.subscribe((id) => void heard.push(id))
    for (const proxy of proxies) proxy.silence('both')
    const { late, result } = await whileLate(() =>
      timed(() => until('the listener is told of the gap', () => gaps > 0, 3 * NOTICED_MS)),
    )
    assert.equal(result.outcome.status, 'fulfilled')
    assert.ok(result.ms <= NOTICED_MS + late, `${result.ms} ms, of which ${late} were lost`)
    // One that has seen none of it.
    const other = connect({ ...target, connectionName: 'other' })
    await new RedisWakeSignaler(other).signal('x')
    await other.close()
    await until('it hears again', () => heard.includes('x'))
  } finally {
    await signaler.disconnect()
  }
}

function accepted(proxies: readonly CountingProxy[]): number {
  return proxies.reduce((sum, { traffic }) => sum + traffic.connections, 0)
}

/** Calls until one succeeds. */
async function works(connection: Connection): Promise<void> {
  await until(
    'a call goes through',
    () =>
      connection.command('SET', 'k', 'w').then(
        () => true,
        () => false,
      ),
    3 * NOTICED_MS,
  )
}
