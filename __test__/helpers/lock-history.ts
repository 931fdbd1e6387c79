/**
 * What several processes noticed of some locks, and whether it can be true of locks that exclude each other. Times are
 * microseconds of the machine's monotonic clock, which all its processes share.
 */

/** A line that a process printed. `op` names one acquisition and what followed, among all processes. */
export type LockEvent = { t: number; op: string } & (
  | { kind: 'begin'; key: string }
  /** Asked for at `asked`; known at `t`. */
  | { kind: 'grant'; key: string; token: string; fence: number; asked: number }
  /** What the holder's own clock said: asked at `from`, known at `t`. */
  | { kind: 'held'; value: boolean; from: number }
  /** The signal of the hold was aborted. */
  | { kind: 'aborted' }
  /** The server confirmed the release. */
  | { kind: 'released' }
  /** The call ended, with the code of its error. */
  | { kind: 'settled'; code?: string }
  /** An event `lost` of the manager; belongs to no operation. */
  | { kind: 'lost' }
  /** What nobody caught. */
  | { kind: 'uncaught'; text: string }
)

/** A token that was found under a key by somebody who looked, beginning at `t`. */
export interface Sighting {
  t: number
  key: string
  token: string
}

export interface LockHistory {
  events: LockEvent[]
  sightings: Sighting[]
  /** For each resource, fences in the order in which it accepted writes. */
  writes: Record<string, { fence: number; op: string }[]>
  /** When the server lost its data. */
  dataLosses: number[]
}

interface Hold {
  op: string
  key: string
  token: string
  fence: number
  asked: number
  granted: number
  /** Held for certain from, at the latest, and to, at the earliest. */
  from: number
  to: number
  events: LockEvent[]
}

/** The codes with which a call about a lock may end. */
const CODES = new Set([
  'ABORTED',
  'LOCK_HELD',
  'LOCK_LOST',
  'LOCK_TIMEOUT',
  'OUTCOME_UNKNOWN',
  'REDIS_UNAVAILABLE',
  'SERVER_NOT_READY',
  'TIMEOUT',
])

/** Everything in a history that must not happen, in words. */
export function violations(history: LockHistory): string[] {
  const operations = groupBy(history.events, ({ op }) => op)
  const holds = [...operations].flatMap(([op, events]) => toHold(op, events))
  const byKey = groupBy(holds, ({ key }) => key)
  return [
    ...[...byKey.values()].flatMap(fencesThatDoNotGrow),
    ...[...byKey.values()].flatMap((ofKey) => overlaps(ofKey, history.dataLosses)),
    ...Object.entries(history.writes).flatMap(([key, writes]) => staleWrites(key, writes)),
    ...resurrections(holds, history.sightings),
    ...[...operations].flatMap(([op, events]) => badEnds(op, events)),
    ...untoldLosses(history.events),
  ]
}

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

function toHold(op: string, events: LockEvent[]): Hold[] {
  const grant = events.find((event) => event.kind === 'grant')
  if (grant === undefined) return []
  const sure = events.filter((event) => event.kind === 'held' && event.value) as { t: number; from: number }[]
  const { key, token, fence, asked, t } = grant
  // The clock was read somewhere between the two times, so certain is what lies between two readings.
  return [
    { op, key, token, fence, asked, granted: t, from: sure[0]?.t ?? 0, to: sure.at(-1)?.from ?? -1, events },
  ]
}

/** Of two grants of which one was known before the other was asked for, the later has the greater fence. */
function fencesThatDoNotGrow(holds: Hold[]): string[] {
  const found: string[] = []
  const fences = new Map<number, string>()
  for (const { fence, op } of holds) {
    const before = fences.get(fence)
    if (before !== undefined) found.push(`${before} and ${op} have the same fence ${fence}`)
    fences.set(fence, op)
  }
  const byGrant = holds.toSorted((a, b) => a.granted - b.granted)
  const byAsking = holds.toSorted((a, b) => a.asked - b.asked)
  let highest: Hold | undefined
  let next = 0
  for (const later of byAsking) {
    for (
      let known = byGrant[next];
      known !== undefined && known.granted < later.asked;
      known = byGrant[next]
    ) {
      if (highest === undefined || known.fence > highest.fence) highest = known
      next += 1
    }
    if (highest !== undefined && highest.fence >= later.fence)
      found.push(`${later.op} got the fence ${later.fence} after ${highest.op} had ${highest.fence}`)
  }
  return found
}

/** Two that both were certain to hold the lock at one moment, without the server having lost its data. */
function overlaps(holds: Hold[], dataLosses: number[]): string[] {
  const certain = holds.filter(({ from, to }) => to > from).toSorted((a, b) => a.from - b.from)
  return certain.flatMap((hold, index) => {
    const next = certain.slice(index + 1).filter(({ from }) => from < hold.to)
    return next
      .filter((other) => {
        // By fence: who asked first may have waited.
        const [earlier, later] = hold.fence < other.fence ? [hold, other] : [other, hold]
        return !dataLosses.some((moment) => moment > earlier.asked && moment < later.granted)
      })
      .map((other) => `${hold.op} and ${other.op} both held ${hold.key} at ${other.from}`)
  })
}

/** What is protected by fences takes nothing from an older one. */
function staleWrites(key: string, writes: { fence: number; op: string }[]): string[] {
  const writers = new Map<number, string>()
  return writes.flatMap(({ fence, op }, index) => {
    const found: string[] = []
    const writer = writers.get(fence) ?? op
    writers.set(fence, writer)
    if (writer !== op) found.push(`${op} and ${writer} both wrote ${key} under the fence ${fence}`)
    const before = writes[index - 1]
    if (before !== undefined && before.fence > fence)
      found.push(
        `${key} took a write of ${op} under ${fence} after one of ${before.op} under ${before.fence}`,
      )
    return found
  })
}

/** A token that was seen after its release was confirmed. */
function resurrections(holds: Hold[], sightings: Sighting[]): string[] {
  const seen = groupBy(sightings, ({ token }) => token)
  return holds.flatMap(({ op, token, events }) => {
    const released = events.find(({ kind }) => kind === 'released')
    const back = released && seen.get(token)?.find(({ t }) => t > released.t)
    return back === undefined ? [] : [`the lock ${back.key} of ${op} was there again after its release`]
  })
}

/** How one operation may not go. */
function badEnds(op: string, events: LockEvent[]): string[] {
  const found: string[] = []
  const kinds = (kind: LockEvent['kind']): LockEvent[] => events.filter((event) => event.kind === kind)
  found.push(...(kinds('uncaught') as { text: string }[]).map(({ text }) => `nobody caught: ${text}`))
  if (kinds('begin').length === 0) return found
  const ends = kinds('settled') as { code?: string }[]
  if (ends.length !== 1) found.push(`${op} ended ${ends.length} times`)
  const code = ends[0]?.code
  if (code !== undefined && !CODES.has(code)) found.push(`${op} ended with ${code}`)
  const aborted = kinds('aborted').length
  if (aborted > 1) found.push(`${op} was told ${aborted} times that its lock was lost`)
  if (code === 'LOCK_LOST' && aborted === 0) found.push(`${op} ended with LOCK_LOST and was not told before`)
  const held = kinds('held') as { value: boolean; t: number }[]
  const lost = held.findIndex(({ value }) => !value)
  if (lost !== -1 && held.slice(lost).some(({ value }) => value))
    found.push(`${op} lost its lock and got it back`)
  return found
}

/** Every loss is one event of the manager and one aborted signal. */
function untoldLosses(events: LockEvent[]): string[] {
  const process = ({ op }: LockEvent): string => op.slice(0, op.indexOf('-'))
  const count = (kind: string): Map<string, number> => {
    const of = groupBy(
      events.filter((event) => event.kind === kind),
      process,
    )
    return new Map([...of].map(([name, all]) => [name, all.length]))
  }
  const [lost, aborted] = [count('lost'), count('aborted')]
  return [...new Set([...lost.keys(), ...aborted.keys()])]
    .filter((name) => lost.get(name) !== aborted.get(name))
    .map((name) => `${name} had ${lost.get(name) ?? 0} events for ${aborted.get(name) ?? 0} lost locks`)
}
