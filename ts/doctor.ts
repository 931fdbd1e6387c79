import type { Connection } from './connection.js'
import { ServerError } from './errors.js'

/** What a finding of {@link Connection.doctor} is about. */
export type FindingCode =
  | 'EVICTION'
  | 'VERSION'
  | 'PERSISTENCE'
  | 'REPLICATION'
  | 'MISSING_RIGHT'
  | 'LAYOUT'
  | 'CLOCK_DRIFT'
  | 'LOCAL_LOCKS'

/** Something about a server that may cost data, locks or speed. */
export interface Finding {
  code: FindingCode
  /** For people; never contains a secret. */
  message: string
}

/** What {@link Connection.doctor} found. */
export interface Diagnosis {
  /** `redis`, `valkey`, `memory`, or `unknown` if the user may not ask. */
  server: string
  /** For instance `7.0.15`; empty if the user may not ask. */
  version: string
  /** `standalone`, `sentinel` or `cluster`. */
  topology: 'standalone' | 'sentinel' | 'cluster'
  /** By how much the server's clock is ahead of this machine's, in milliseconds; `null` if the user may not ask. */
  clockAheadMs: number | null
  /** What may cost data, locks or speed; empty if nothing is known to. */
  warnings: Finding[]
}

/** Older servers lack commands that ferroflow needs. */
const OLDEST = [6, 0] as const
/** TTLs and fences do not depend on the clocks of clients; times of records do. */
const MAX_DRIFT_MS = 1000

/** A right, a harmless way to try it, and what is lost without it. */
type Probe = readonly [right: string, command: readonly string[], loss: string]

function probes(key: string): readonly Probe[] {
  return [
    ['+eval', ['EVAL', 'return 1', '0'], 'most calls fail'],
    ['+exists', ['EXISTS', key], 'locks cannot be looked at'],
    ['+get', ['GET', key], 'sagas, locks and caches cannot be read'],
    ['+hgetall', ['HGETALL', key], 'runs and steps cannot be read'],
    ['+publish', ['PUBLISH', `ferroflow:released:${key}`, ''], 'whoever waits for a lock is not woken'],
    ['+time', ['TIME'], 'fences come from the clocks of clients if their counter is lost'],
  ]
}

const localLocks = finding(
  'LOCAL_LOCKS',
  'Several workstations were here at once within the last 30 days whose localLocks is "unsafe": while Redis is out of reach, each of them grants the same lock',
)

/** Looks at the server behind a connection. Without CONFIG, which managed servers do not allow; writes nothing. */
export async function diagnose(
  connection: Connection,
  place: {
    topology: Diagnosis['topology']
    memory: boolean
    keyPrefix: string
    /** Whether several instances were seen that grant locks by themselves. */
    severalLocal(): Promise<boolean>
  },
): Promise<Diagnosis> {
  const { topology, memory, keyPrefix } = place
  if (memory) return { server: 'memory', version: '', topology, clockAheadMs: 0, warnings: [] }
  const key = `${keyPrefix}ferroflow:doctor`
  const asked = performance.now()
  const [info, time, several, ...tried] = await Promise.all([
    ask(() => connection.command('INFO', 'default')),
    ask(() => connection.command('TIME')),
    ask(() => place.severalLocal()),
    ...probes(key).map(([, [name = '', ...args]]) => attempt(connection, name, args)),
  ])
  const roundTrip = performance.now() - asked
  const text = typeof info === 'string' ? info : ''
  const { server, version } = serverOf(text)
  const clockAheadMs = Array.isArray(time) ? aheadBy(time as string[], roundTrip) : null
  const warnings = [
    ...evictionOf(text),
    ...versionOf(server, version),
    ...persistenceOf(text),
    ...layoutOf(topology, keyPrefix),
    ...driftOf(clockAheadMs, roundTrip),
    ...(several === true ? [localLocks] : []),
    ...probes(key).flatMap(([right, , loss], index) =>
      tried[index] === 'NO_PERMISSION'
        ? [finding('MISSING_RIGHT', `The user lacks ${right}, or the key or channel for it: ${loss}`)]
        : [],
    ),
  ]
  return { server, version, topology, clockAheadMs, warnings }
}

function finding(code: FindingCode, message: string): Finding {
  return { code, message }
}

/** The answer, or `undefined` if the server refuses. */
async function ask(question: () => Promise<unknown>): Promise<unknown> {
  try {
    return await question()
  } catch (error) {
    if (error instanceof ServerError) return undefined
    throw error
  }
}

/** The code of a refusal; `undefined` for an answer. */
async function attempt(
  connection: Connection,
  name: string,
  args: readonly string[],
): Promise<string | undefined> {
  try {
    await connection.command(name, ...args)
    return undefined
  } catch (error) {
    if (error instanceof ServerError) return error.code
    throw error
  }
}

function field(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:([^\\r\\n]*)`, 'm').exec(info)?.[1]
}

function serverOf(info: string): { server: string; version: string } {
  const valkey = field(info, 'valkey_version')
  if (valkey !== undefined) return { server: 'valkey', version: valkey }
  const version = field(info, 'redis_version')
  return version === undefined ? { server: 'unknown', version: '' } : { server: 'redis', version }
}

/** The policies that remove keys which are still needed. */
export function evictionOf(info: string): Finding[] {
  const policy = field(info, 'maxmemory_policy') ?? 'noeviction'
  const limit = Number(field(info, 'maxmemory') ?? 0)
  if (policy === 'noeviction' || limit === 0) return []
  return [
    finding(
      'EVICTION',
      `Its eviction policy is ${policy} at ${limit} bytes: when memory runs out, locks are removed while they are held, and state with them. Use noeviction`,
    ),
  ]
}

function versionOf(server: string, version: string): Finding[] {
  if (version === '') return []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return []
  return [
    finding('VERSION', `${server} ${version} is older than ${OLDEST.join('.')}, the oldest that is tested`),
  ]
}

function persistenceOf(info: string): Finding[] {
  const findings: Finding[] = []
  const appends = field(info, 'aof_enabled')
  if (appends === '0') {
    const message =
      'It has no append-only file: after a crash, what was written since the last snapshot is gone, acknowledged or not'
    findings.push(finding('PERSISTENCE', message))
  }
  if (appends === '1' && field(info, 'aof_last_write_status') === 'err') {
    findings.push(finding('PERSISTENCE', 'Its last write to the append-only file failed'))
  }
  if (field(info, 'rdb_last_bgsave_status') === 'err') {
    findings.push(finding('PERSISTENCE', 'Its last snapshot failed'))
  }
  if (field(info, 'role') === 'slave') {
    findings.push(finding('REPLICATION', 'It is a replica: it refuses writes'))
  }
  return findings
}

function layoutOf(topology: Diagnosis['topology'], keyPrefix: string): Finding[] {
  if (topology !== 'cluster' || /\{[^}]+\}/.test(keyPrefix)) return []
  const message =
    'The keys of a record lie in several slots of the cluster: some calls take several steps instead of one. A keyPrefix with a hash tag, such as {app}:, keeps them together, on one master'
  return [finding('LAYOUT', message)]
}

function aheadBy([seconds = '0', micros = '0']: string[], roundTrip: number): number {
  const there = Number(seconds) * 1000 + Number(micros) / 1000
  return Math.round(there - (Date.now() - roundTrip / 2))
}

function driftOf(ahead: number | null, roundTrip: number): Finding[] {
  if (ahead === null || Math.abs(ahead) <= MAX_DRIFT_MS + roundTrip) return []
  const message = `Its clock is ${Math.abs(ahead)} ms ${ahead > 0 ? 'ahead of' : 'behind'} this machine's: the times in records disagree, and fences fall if a failover loses their counter`
  return [finding('CLOCK_DRIFT', message)]
}
