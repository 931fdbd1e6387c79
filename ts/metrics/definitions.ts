import { binding } from '../native.js'

/** What the core says, as `src/metrics/snapshot.rs` writes it. */
export interface Snapshot {
  ready: boolean
  connections: {
    address: string
    commands: number
    bytesSent: number
    bytesReceived: number
    reconnects: number
    open: { ready: boolean; waiting: number; unanswered: number } | null
  }[]
  failures: Counts
  operations: { name: string; durations: Histogram; failures: number }[]
  locks: { wait: Histogram; hold: Histogram; acquisitions: Counts; losses: Counts }
  /** `null` in a process without workstations. */
  fallback: { active: number; operations: Counts; lateUpdates: number } | null
}

type Counts = [name: string, count: number][]

interface Histogram {
  bounds: number[]
  counts: number[]
  sum: number
}

/** One number of a metric. */
export interface Sample {
  /** Behind the name of the metric: of histograms alone. */
  suffix?: string
  labels: Record<string, string | number>
  value: number
}

/** One metric. */
export interface Definition {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram'
  /** How prom-client puts the numbers of several processes together. */
  aggregator: 'sum' | 'min' | 'max'
  /** Without `le` of histograms. */
  labels: readonly string[]
  samples(snapshot: Snapshot): Sample[]
}

let current: Snapshot | undefined

/** What the core says now; the same for all metrics that are collected in one go. */
export function readSnapshot(): Snapshot {
  if (current === undefined) {
    current = JSON.parse(binding.metricsSnapshot()) as Snapshot
    queueMicrotask(() => {
      current = undefined
    })
  }
  return current
}

type Connection = Snapshot['connections'][number]

/** Documented for the Redis of an application, so without labels. */
export const definitions: readonly Definition[] = [
  {
    name: 'redis_commands_total',
    help: 'Total Redis commands executed',
    ...counter(),
    samples: ({ connections }) => single(connections.reduce((sum, { commands }) => sum + commands, 0)),
  },
  {
    name: 'redis_commands_failed_total',
    help: 'Failed Redis commands',
    ...counter(),
    samples: ({ failures }) => single(failures.reduce((sum, [, count]) => sum + count, 0)),
  },
  {
    name: 'redis_connection_status',
    help: 'Connection status (1=up, 0=down)',
    ...gauge([], 'min'),
    samples: ({ ready }) => single(Number(ready)),
  },
  {
    name: 'ferroflow_commands_failed_total',
    help: 'Redis commands that failed for good, by the code of their error',
    ...counter('code'),
    samples: ({ failures }) => byName('code', failures),
  },
  {
    name: 'ferroflow_connection_status',
    help: 'Whether the open connections to an address are all ready (1) or not (0)',
    ...gauge(['address'], 'min'),
    samples: open(({ ready }) => Number(ready)),
  },
  {
    name: 'ferroflow_connection_commands_total',
    help: 'Redis commands that were sent',
    ...counter('address'),
    samples: byAddress(({ commands }) => commands),
  },
  {
    name: 'ferroflow_connection_sent_bytes_total',
    help: 'Bytes of the commands that were sent',
    ...counter('address'),
    samples: byAddress(({ bytesSent }) => bytesSent),
  },
  {
    name: 'ferroflow_connection_received_bytes_total',
    help: 'Bytes of the replies and messages that were received',
    ...counter('address'),
    samples: byAddress(({ bytesReceived }) => bytesReceived),
  },
  {
    name: 'ferroflow_connection_reconnects_total',
    help: 'Connections that were established in the place of a lost one',
    ...counter('address'),
    samples: byAddress(({ reconnects }) => reconnects),
  },
  {
    name: 'ferroflow_commands_waiting',
    help: 'Commands that wait to be sent',
    ...gauge(['address'], 'sum'),
    samples: open(({ waiting }) => waiting),
  },
  {
    name: 'ferroflow_commands_unanswered',
    help: 'Commands that were sent and wait for their reply',
    ...gauge(['address'], 'sum'),
    samples: open(({ unanswered }) => unanswered),
  },
  {
    name: 'ferroflow_operation_duration_seconds',
    help: 'How long operations of the core took, whatever came of them',
    ...histogram('operation'),
    samples: ({ operations }) =>
      operations.flatMap(({ name, durations }) => buckets({ operation: name }, durations)),
  },
  {
    name: 'ferroflow_operations_failed_total',
    help: 'Operations of the core that ended with an error',
    ...counter('operation'),
    samples: ({ operations }) =>
      operations.map(({ name, failures }) => ({ labels: { operation: name }, value: failures })),
  },
  {
    name: 'ferroflow_lock_wait_seconds',
    help: 'How long those who got a lock waited for it',
    ...histogram(),
    samples: ({ locks }) => buckets({}, locks.wait),
  },
  {
    name: 'ferroflow_lock_hold_seconds',
    help: 'How long locks were held that were released or lost',
    ...histogram(),
    samples: ({ locks }) => buckets({}, locks.hold),
  },
  {
    name: 'ferroflow_lock_acquisitions_total',
    help: 'Acquisitions of locks, by how they ended',
    ...counter('outcome'),
    samples: ({ locks }) => byName('outcome', locks.acquisitions),
  },
  {
    name: 'ferroflow_lock_lost_total',
    help: 'Locks that were lost while they were watched, by the reason',
    ...counter('reason'),
    samples: ({ locks }) => byName('reason', locks.losses),
  },
  {
    name: 'redis_fallback_active',
    help: 'Whether a workstation does without Redis at the moment (1) or none does (0)',
    ...gauge([], 'max'),
    samples: ofWorkstations(({ active }) => single(Number(active > 0))),
  },
  {
    name: 'ferroflow_fallback_ops_total',
    help: 'Operations of workstations that were answered without Redis, or refused',
    ...counter('class'),
    samples: ofWorkstations(({ operations }) => byName('class', operations)),
  },
  {
    name: 'ferroflow_late_updates_total',
    help: 'Changes of tracked executions that came after their end, and were ignored',
    ...counter(),
    samples: ofWorkstations(({ lateUpdates }) => single(lateUpdates)),
  },
]

type Kind = Pick<Definition, 'type' | 'aggregator' | 'labels'>

function counter(...labels: string[]): Kind {
  return { type: 'counter', aggregator: 'sum', labels }
}

function gauge(labels: string[], aggregator: 'sum' | 'min' | 'max'): Kind {
  return { type: 'gauge', aggregator, labels }
}

function histogram(...labels: string[]): Kind {
  return { type: 'histogram', aggregator: 'sum', labels }
}

function single(value: number): Sample[] {
  return [{ labels: {}, value }]
}

function byName(label: string, counts: Counts): Sample[] {
  return counts.map(([name, value]) => ({ labels: { [label]: name }, value }))
}

function byAddress(value: (connection: Connection) => number): Definition['samples'] {
  return ({ connections }) =>
    connections.map((connection) => ({
      labels: { address: connection.address },
      value: value(connection),
    }))
}

/** Of connections that are open: what is closed is neither up nor down. */
function open(value: (open: NonNullable<Connection['open']>) => number): Definition['samples'] {
  return ({ connections }) =>
    connections.flatMap(({ address, open: state }) =>
      state === null ? [] : [{ labels: { address }, value: value(state) }],
    )
}

function ofWorkstations(
  samples: (fallback: NonNullable<Snapshot['fallback']>) => Sample[],
): Definition['samples'] {
  return ({ fallback }) => (fallback === null ? [] : samples(fallback))
}

function buckets(labels: Record<string, string>, { bounds, counts, sum }: Histogram): Sample[] {
  let below = 0
  const samples: Sample[] = counts.map((count, index) => {
    below += count
    return { suffix: '_bucket', labels: { ...labels, le: bounds[index] ?? '+Inf' }, value: below }
  })
  return [...samples, { suffix: '_sum', labels, value: sum }, { suffix: '_count', labels, value: below }]
}
