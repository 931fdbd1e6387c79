import { beforeClose, type Connection, connectStore, type StoreConnection } from '../connection.js'
import type { Target } from '../options.js'
import { ApiCache } from './api-cache.js'
import type {
  Degradation,
  RejectedWrite,
  Replay,
  StreamTickets,
  Transition,
  WorkstationOptions,
} from './api.js'
import { ExecutionLocks } from './execution-locks.js'
import { Gate } from './gate.js'
import { Health } from './health.js'
import type { Sealing } from './sealing.js'
import { LocalInstances } from './local-instances.js'
import { Sessions } from './sessions.js'
import { streamTicketsOn } from './stream-tickets.js'
import { Tracking } from './tracking.js'
import { JournalBudget } from './write-journal.js'

/** Options with everything decided, as far as it is the same for every connection. */
export interface Settings {
  sealing: Sealing
  staleSessionMs: number
  cacheMemory: NonNullable<WorkstationOptions['cache']>['memory'] | undefined
  stuckMs: number
  coalesceMs: number
  journalBytes: number
  minOpenMs: number
  unsafeLocks: boolean
}

/** Who hears what happens. */
export interface Listeners {
  transition(transition: Transition): void
  rejected(write: RejectedWrite): void
  replayed(replay: Replay): void
  warned(text: string): void
}

/** How long `close` waits for what is journaled, in milliseconds. */
const LAST_CHANCE = 1000

/** Everything that a workstation has on one connection. */
export class Core {
  readonly connection: Connection
  readonly gate: Gate
  readonly sessions: Sessions
  readonly tracking: Tracking
  readonly locks: ExecutionLocks
  readonly cache: ApiCache
  readonly health: Health
  readonly tickets: StreamTickets
  readonly disabled: boolean
  readonly #store: StoreConnection
  readonly #budget: JournalBudget
  readonly #instances: LocalInstances | undefined
  readonly #forget: () => void

  constructor(target: Target | false, settings: Settings, listeners: Listeners) {
    this.disabled = target === false
    this.#store = connectStore(target === false ? 'memory://ferroflow-workstation' : target)
    this.connection = this.#store.connection
    this.#budget = new JournalBudget(settings.journalBytes)
    this.gate = new Gate(this.connection, settings.minOpenMs, {
      drain: () => this.#drain(),
      waiting: () => this.#budget.entries + this.locks.waiting,
      forget: () => this.sessions.forget(),
      changed: listeners.transition,
      replayed: listeners.replayed,
    })
    const gate = (): Gate => this.gate
    const { rejected } = listeners
    const { sealing, staleSessionMs: staleMs, coalesceMs, stuckMs } = settings
    this.sessions = new Sessions(this.connection, gate, this.#budget, { sealing, staleMs, rejected })
    this.tracking = new Tracking(this.connection, gate, this.#budget, {
      coalesceMs,
      staleMs: stuckMs,
      rejected,
    })
    this.locks = new ExecutionLocks(this.connection, gate, {
      unsafe: settings.unsafeLocks,
      refresh: (id) => this.tracking.refresh(id),
    })
    this.cache = new ApiCache(this.connection, gate, settings.cacheMemory)
    this.health = new Health(
      this.connection,
      () => this.tracking.proveWritable(),
      () => this.degradation,
    )
    this.tickets = streamTicketsOn(this.connection, gate)
    this.#instances =
      settings.unsafeLocks && !this.disabled
        ? new LocalInstances(this.connection, listeners.warned)
        : undefined
    // Of a connection that somebody else closes, nothing can be expected any more.
    this.#forget = beforeClose(this.connection, async () => {
      this.gate.close()
      this.#instances?.close()
    })
  }

  get degradation(): Degradation {
    const { state, since, reason, fallbackOps } = this.gate
    const { entries, bytes, maxBytes } = this.#budget
    const journal = { entries, bytes, maxBytes }
    return {
      state,
      since,
      ...(reason !== undefined && { reason }),
      disabled: this.disabled,
      journal,
      fallbackOps,
    }
  }

  /** Deletions first: between recovery and the end of a session lies nothing else. */
  async #drain(): Promise<Replay> {
    const sessions = await this.sessions.drain()
    await this.locks.drain()
    const executions = await this.tracking.executions.drain()
    return {
      applied: sessions.applied + executions.applied,
      rejected: sessions.rejected + executions.rejected,
    }
  }

  async close(): Promise<void> {
    if (this.#budget.entries > 0) await this.gate.settled(LAST_CHANCE)
    this.#forget()
    this.gate.close()
    this.#instances?.close()
    this.tracking.close()
    await Promise.allSettled([this.locks.close(), this.cache.close()])
    if (this.#store.owned) await this.connection.close()
  }
}
