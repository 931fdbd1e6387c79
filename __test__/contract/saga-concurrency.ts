/** Many writers, one winner; and the time to live that comes with the write. */
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { ConcurrencyError, RedisSagaStore, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { type Counter, counter, indexKey, stateKey } from '../helpers/saga-states'

const DAY = 24 * 60 * 60

/** Which calls won; the others lost in the way that they should. */
async function winners(calls: Promise<unknown>[], code: string): Promise<number[]> {
  const outcomes = await Promise.allSettled(calls)
  return outcomes.flatMap((outcome, n) => {
    if (outcome.status === 'fulfilled') return [n]
    assert.ok(outcome.reason instanceof ConcurrencyError, String(outcome.reason))
    assert.equal(outcome.reason.code, code)
    return []
  })
}

export function sagaConcurrency(backend: Backend): void {
  let target: Target
  let store: RedisSagaStore<Counter>
  let data: Data

  before(async () => {
    target = await backend.freshTarget()
    store = new RedisSagaStore<Counter>({ redis: target })
    data = new Data(target)
  })
  after(async () => {
    await Promise.all([store.close(), data.close()])
  })

  it('of 1000 updates of one version exactly one wins', async () => {
    const other = new RedisSagaStore<Counter>({ redis: target })
    await store.insert('S', 'c1', counter('i1'))
    const updates = Array.from({ length: 1000 }, (_, n) =>
      (n % 2 ? store : other).update('S', counter('i1', n, { version: 1 }), 0),
    )
    const won = await winners(updates, 'CONCURRENCY_CONFLICT')
    assert.equal(won.length, 1)
    assert.equal((await store.getById('S', 'i1'))?.n, won[0])
    await other.close()
  })

  it('of 100 inserts exactly one wins, and only its index is there', async () => {
    const inserts = Array.from({ length: 100 }, (_, n) => store.insert('S', 'c2', counter(`i2-${n}`, n)))
    const won = await winners(inserts, 'SAGA_EXISTS')
    assert.equal(won.length, 1)
    assert.equal((await store.getByCorrelationId('S', 'c2'))?.n, won[0])
    const indexes = (await data.keys()).filter((key) => key.includes(':idx:id:i2-'))
    assert.deepEqual(indexes, [indexKey('S', `i2-${won[0]}`)])
  })

  it('of 100 inserts of one saga id under many correlation ids exactly one wins', async () => {
    const inserts = Array.from({ length: 100 }, (_, n) => store.insert('S', `c3-${n}`, counter('i3', n)))
    const won = await winners(inserts, 'SAGA_EXISTS')
    assert.equal(won.length, 1)
    assert.equal((await store.getById('S', 'i3'))?.n, won[0])
    const states = (await data.keys()).filter((key) => key.includes(':c3-'))
    assert.deepEqual(states, [stateKey('S', `c3-${won[0]}`)])
  })

  it('of 100 saves of a new saga exactly one wins', async () => {
    const loose = new RedisSagaStore({ redis: data.connection })
    const saves = Array.from({ length: 100 }, (_, n) => loose.save('S', { id: 'i4', correlationId: 'c4', n }))
    const won = await winners(saves, 'CONCURRENCY_CONFLICT')
    assert.equal(won.length, 1)
    const stored = await loose.findById('S', 'i4')
    assert.deepEqual([stored?.['n'], stored?.['metadata'].version], [won[0], 1])
  })

  it('loses no increment of writers that load, change, and try again', async () => {
    await store.insert('S', 'c5', counter('i5'))
    const increment = async (): Promise<void> => {
      for (;;) {
        const { n, metadata } = (await store.getByCorrelationId('S', 'c5')) as Counter
        const raised = counter('i5', n + 1, { version: metadata.version + 1 })
        const outcome = await store.update('S', raised, metadata.version).then(
          () => 'won',
          (error: Error) => error,
        )
        if (outcome === 'won') return
        assert.ok(outcome instanceof ConcurrencyError, String(outcome))
      }
    }
    await Promise.all(Array.from({ length: 40 }, increment))
    const { n, metadata } = (await store.getById('S', 'i5')) as Counter
    assert.deepEqual([n, metadata.version], [40, 40])
  })

  it('an update of one saga does not weaken that of another', async () => {
    const sagas = Array.from({ length: 50 }, (_, n) => n)
    await Promise.all(sagas.map((n) => store.insert('S', `c6-${n}`, counter(`i6-${n}`))))
    const updates = sagas.flatMap((n) =>
      [1, 2].map((value) => store.update('S', counter(`i6-${n}`, value, { version: 1 }), 0)),
    )
    assert.equal((await winners(updates, 'CONCURRENCY_CONFLICT')).length, 50)
  })

  async function ttls(n: number): Promise<[state: number, index: number]> {
    return Promise.all([data.pttl(stateKey('S', `t${n}`)), data.pttl(indexKey('S', `ti${n}`))])
  }

  async function assertTtl(n: number, seconds: number): Promise<void> {
    const [state, index] = await ttls(n)
    const wanted = seconds * 1000
    assert.ok(state > wanted - 5000 && state <= wanted, `${state} ms left of ${wanted}`)
    assert.ok(Math.abs(state - index) <= 50, `${state} and ${index} ms`)
  }

  it('every write sets the TTL of both keys, and one without clears it', async () => {
    const mortal = new RedisSagaStore<Counter>({
      redis: target,
      defaultTtlSeconds: DAY,
      completedTtlSeconds: 60,
    })
    await mortal.insert('S', 't1', counter('ti1'))
    await assertTtl(1, DAY)
    await data.command('PEXPIRE', stateKey('S', 't1'), 5000)
    await data.command('PEXPIRE', indexKey('S', 'ti1'), 9000)
    await mortal.update('S', counter('ti1', 1, { version: 1 }), 0)
    await assertTtl(1, DAY)
    await mortal.update('S', counter('ti1', 2, { version: 2, isCompleted: true }), 1)
    await assertTtl(1, 60)
    await store.update('S', counter('ti1', 3, { version: 3 }), 2)
    assert.deepEqual(await ttls(1), [-1, -1])
    await mortal.save('S', counter('ti1', 4, { version: 3 }))
    await assertTtl(1, DAY)
    await mortal.close()
  })

  it('takes the TTL that fits the state', async () => {
    for (const [options, isCompleted, seconds] of [
      [{ completedTtlSeconds: 60 }, false, 0],
      [{ completedTtlSeconds: 60 }, true, 60],
      [{ defaultTtlSeconds: 90 }, true, 90],
      [{ defaultTtlSeconds: 90, completedTtlSeconds: 0 }, true, 90],
      [{ defaultTtlSeconds: undefined, completedTtlSeconds: undefined }, true, 0],
    ] as const) {
      const mortal = new RedisSagaStore<Counter>({ redis: target, ...options })
      await mortal.insert('S', 't2', counter('ti2', 0, { isCompleted }))
      if (seconds === 0) assert.deepEqual(await ttls(2), [-1, -1])
      else await assertTtl(2, seconds)
      await mortal.delete('S', 'ti2')
      await mortal.close()
    }
  })

  it('a loser does not change the TTL', async () => {
    const mortal = new RedisSagaStore<Counter>({ redis: target, defaultTtlSeconds: DAY })
    await store.insert('S', 't3', counter('ti3'))
    await assert.rejects(mortal.insert('S', 't3', counter('ti3')))
    await assert.rejects(mortal.update('S', counter('ti3', 1, { version: 6 }), 5))
    assert.deepEqual(await ttls(3), [-1, -1])
    await mortal.close()
  })
}
