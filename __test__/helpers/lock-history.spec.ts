/** The checker must find what it is there for: histories that were doctored. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type LockEvent, type LockHistory, violations } from './lock-history'

type Details<E> = E extends unknown ? Omit<E, 't' | 'op'> : never

function event(t: number, op: string, details: Details<LockEvent>): LockEvent {
  return { t, op, ...details }
}

/** A hold in which nothing goes wrong, from 10 after `t` to 80 after it. */
function hold(op: string, t: number, fence: number): LockEvent[] {
  return [
    event(t, op, { kind: 'begin', key: 'k' }),
    event(t + 10, op, { kind: 'grant', key: 'k', token: `token:${op}:${fence}`, fence, asked: t }),
    event(t + 20, op, { kind: 'held', value: true, from: t + 15 }),
    event(t + 80, op, { kind: 'held', value: true, from: t + 75 }),
    event(t + 90, op, { kind: 'released' }),
    event(t + 95, op, { kind: 'settled' }),
  ]
}

function history(changes: Partial<LockHistory> = {}): LockHistory {
  return {
    events: [...hold('p0-1', 0, 1), ...hold('p1-1', 100, 2), ...hold('p0-2', 200, 3)],
    sightings: [
      { t: 50, key: 'k', token: 'token:p0-1:1' },
      { t: 150, key: 'k', token: 'token:p1-1:2' },
    ],
    writes: {
      k: [
        { fence: 1, op: 'p0-1' },
        { fence: 1, op: 'p0-1' },
        { fence: 3, op: 'p0-2' },
      ],
    },
    dataLosses: [],
    ...changes,
  }
}

/** The ordinary history with the events of one operation changed. */
function changed(op: string, change: (event: LockEvent) => LockEvent[]): LockHistory {
  return history({ events: history().events.flatMap((one) => (one.op === op ? change(one) : [one])) })
}

describe('the checker of lock histories', () => {
  it('has nothing against a history in which nothing is wrong', () => {
    assert.deepEqual(violations(history()), [])
  })

  const doctored: [what: string, history: LockHistory, expected: RegExp][] = [
    [
      'a fence that does not grow',
      history({ events: [...hold('p0-1', 0, 5), ...hold('p1-1', 100, 4)] }),
      /p1-1 got the fence 4 after p0-1 had 5/,
    ],
    [
      'a fence that comes twice',
      history({ events: [...hold('p0-1', 0, 5), ...hold('p1-1', 100, 5)] }),
      /p0-1 and p1-1 have the same fence 5/,
    ],
    [
      'a fence that does not grow, far behind',
      history({ events: [...hold('p0-1', 0, 9), ...hold('p1-1', 100, 10), ...hold('p0-2', 200, 8)] }),
      /p0-2 got the fence 8 after p1-1 had 10/,
    ],
    [
      'two holders at one time',
      history({ events: [...hold('p0-1', 0, 1), ...hold('p1-1', 40, 2)] }),
      /p0-1 and p1-1 both held k/,
    ],
    [
      'two holders, of whom one holds for very long',
      history({
        events: [...hold('p0-1', 0, 1), ...hold('p1-1', 300, 2)].map((one) =>
          one.op === 'p0-1' && one.t === 80 ? { ...one, t: 900, from: 899 } : one,
        ) as LockEvent[],
      }),
      /p0-1 and p1-1 both held k/,
    ],
    [
      'a write from an older fence',
      history({
        writes: {
          k: [
            { fence: 3, op: 'p0-2' },
            { fence: 2, op: 'p1-1' },
          ],
        },
      }),
      /k took a write of p1-1 under 2 after one of p0-2 under 3/,
    ],
    [
      'two writers under one fence',
      history({
        writes: {
          k: [
            { fence: 3, op: 'p0-2' },
            { fence: 3, op: 'p1-1' },
          ],
        },
      }),
      /both wrote k under the fence 3/,
    ],
    [
      'a lock that comes back after its release',
      history({ sightings: [{ t: 91, key: 'k', token: 'token:p0-1:1' }] }),
      /the lock k of p0-1 was there again/,
    ],
    [
      'a call that never ends',
      changed('p1-1', (one) => (one.kind === 'settled' ? [] : [one])),
      /p1-1 ended 0 times/,
    ],
    [
      'an end of no documented kind',
      changed('p1-1', (one) => [one.kind === 'settled' ? { ...one, code: 'TypeError: x' } : one]),
      /p1-1 ended with TypeError/,
    ],
    [
      'a loss that nobody was told of',
      changed('p1-1', (one) => [one.kind === 'settled' ? { ...one, code: 'LOCK_LOST' } : one]),
      /p1-1 ended with LOCK_LOST and was not told before/,
    ],
    [
      'a loss that was told twice',
      changed('p1-1', (one) =>
        one.kind === 'released'
          ? [event(180, one.op, { kind: 'aborted' }), event(181, one.op, { kind: 'aborted' })]
          : [one],
      ),
      /p1-1 was told 2 times/,
    ],
    [
      'a loss without its event',
      changed('p1-1', (one) => (one.kind === 'released' ? [event(180, one.op, { kind: 'aborted' })] : [one])),
      /p1 had 0 events for 1 lost locks/,
    ],
    [
      'a lock that is lost and held again',
      changed('p1-1', (one) =>
        one.kind === 'grant' ? [one, event(111, one.op, { kind: 'held', value: false, from: 111 })] : [one],
      ),
      /p1-1 lost its lock and got it back/,
    ],
    [
      'an error that nobody caught',
      history({ events: [event(1, 'p0-', { kind: 'uncaught', text: 'Error: x' })] }),
      /nobody caught: Error: x/,
    ],
  ]
  for (const [what, wrong, expected] of doctored)
    it(`reports ${what}`, () => {
      const found = violations(wrong)
      assert.ok(
        found.some((text) => expected.test(text)),
        JSON.stringify(found),
      )
    })

  it('excuses two holders whose server lost its data in between, and nobody else', () => {
    const events = [...hold('p0-1', 0, 1), ...hold('p1-1', 40, 2)]
    const sightings: never[] = []
    assert.deepEqual(violations(history({ events, sightings, dataLosses: [30] })), [])
    assert.equal(violations(history({ events, sightings, dataLosses: [200] })).length, 1)
    // Who waited longer is not who held it earlier.
    const patient = events.map((one) =>
      one.op === 'p1-1' && one.kind === 'grant' ? { ...one, asked: -5 } : one,
    )
    assert.deepEqual(violations(history({ events: patient, sightings, dataLosses: [30] })), [])
  })
})
