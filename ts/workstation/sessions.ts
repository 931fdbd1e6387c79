import { randomBytes } from 'node:crypto'
import { type Connection, fullPrefix, nativeOf } from '../connection.js'
import { corrupt, fromJson, toJson } from '../json.js'
import { binding, guarded, settled } from '../native.js'
import { checkInteger, checkName, checkObject } from '../validate.js'
import type { RejectedWrite, Replay, SessionData, SessionEntry, SetSessionOptions } from './api.js'
import { BoundedMap } from './bounded-map.js'
import { DEFAULT_TTL, KEY_PREFIXES } from './constants.js'
import { type Gate, isUnreachable } from './gate.js'
import type { Sealing } from './sealing.js'
import { toTtl } from './seconds.js'
import { type JournalBudget, type Waiting, WriteJournal } from './write-journal.js'

/** A write that waits, in the order of `at`. */
interface WaitingWrite extends Waiting {
  kind: 'set' | 'delete' | 'touch'
  /** As it is stored; empty unless it is set. */
  stored: string
  /** Milliseconds from `at` on. */
  ttl: number
  /** When it was asked for, by `performance.now()`. */
  at: number
  /** The version that it must find in Redis; `undefined` for any that is not newer. */
  base: number | undefined
  /** Its own until it is written. Lower than any that Redis gives. */
  version: number
  /** Of all writes of these sessions; 0 for more time, which needs no name. */
  ordinal: number
  /** Whether it was sent, and may have been carried out. */
  sent: boolean
  /** Ordinals of those that were sent, and whose place it takes. */
  supersedes: readonly number[]
}

interface Copy {
  stored: string
  version: number
  /** When the session ends, by `performance.now()`. */
  until: number
  /** When it was written, or the read began that brought it. */
  since: number
}

const COPIES = { entries: 10_000, bytes: 16 * 1024 * 1024 }
/** As many of them are remembered. */
const SUPERSEDED = 4
const NONE: readonly number[] = []
/** Writes that are on their way at once when Redis returns. */
const AT_ONCE = 256

/** Moments of this process on the clock of the server. */
interface ServerClock {
  earliest(at: number): number
  latest(at: number): number
}

/** Sessions, in Redis or waiting for it. */
export class Sessions {
  readonly #native: binding.NativeSessions
  readonly #gate: () => Gate
  readonly #sealing: Sealing
  readonly #staleMs: number
  readonly #prefix: string
  readonly #copies = new BoundedMap<Copy>(COPIES.entries, COPIES.bytes)
  /** When a session was last deleted here: a read that began before must not bring a copy of it back. */
  readonly #deleted = new BoundedMap<number>(COPIES.entries, COPIES.bytes)
  readonly #journal: WriteJournal<WaitingWrite>
  readonly #rejected: (write: RejectedWrite) => void
  /** Before the ordinal of a write: Redis then knows each of its copies, however often it is sent. */
  readonly #origin = randomBytes(6).toString('hex')
  /** A version until there is one of Redis, where 0 and 1 mean something else. */
  #ordinal = 2

  constructor(
    connection: Connection,
    gate: () => Gate,
    budget: JournalBudget,
    options: { sealing: Sealing; staleMs: number; rejected: (write: RejectedWrite) => void },
  ) {
    this.#native = guarded(() => binding.NativeSessions.open(nativeOf(connection)))
    this.#prefix = fullPrefix(connection, KEY_PREFIXES.SESSION)
    this.#gate = gate
    this.#journal = new WriteJournal(budget)
    this.#sealing = options.sealing
    this.#staleMs = options.staleMs
    this.#rejected = options.rejected
  }

  get waiting(): number {
    return this.#journal.size
  }

  async set(userId: string, session: object, ttl?: number, options?: SetSessionOptions): Promise<boolean> {
    checkName('the user id', userId)
    checkObject('the session', session)
    const ttlMs = toTtl(ttl, DEFAULT_TTL.SESSION)
    const { version } =
      options === undefined ? {} : (checkObject('the options', options) as SetSessionOptions)
    if (version !== undefined) checkInteger('version', version, { max: Number.MAX_SAFE_INTEGER })
    const stored = this.#sealing.seal(toJson('The session', session), userId)
    const at = performance.now()
    const ordinal = this.#next()
    let sent = false
    if (this.#gate().ending !== undefined) await this.#gate().ending
    if (this.#gate().up) {
      try {
        const name = this.#name(ordinal)
        const write = { userId, json: stored, ttl: ttlMs, name, ...(version !== undefined && { version }) }
        const written = await this.#gate().run(() => settled(this.#native.write(write)))
        if (written > 0)
          this.#keep(userId, { stored, version: written, until: at + ttlMs, since: performance.now() }, at)
        return written > 0
      } catch (error) {
        if (!isUnreachable(error)) throw error
        sent = mayHaveHappened(error)
      }
    }
    return this.#setLater(userId, { kind: 'set', stored, ttl: ttlMs, at, ordinal, sent }, version)
  }

  #next(): number {
    this.#ordinal += 1
    return this.#ordinal
  }

  #name(ordinal: number): string {
    return this.#origin + ordinal.toString(36)
  }

  #setLater(
    userId: string,
    write: Pick<WaitingWrite, 'kind' | 'stored' | 'ttl' | 'at' | 'ordinal' | 'sent'>,
    expected: number | undefined,
  ): boolean {
    this.#gate().fallback('session')
    const pending = this.#journal.get(userId)
    let base = expected
    if (pending !== undefined) {
      if (pending.at > write.at) {
        if (write.sent) pending.supersedes = withLatest(pending.supersedes, write.ordinal)
        return true
      }
      const version = pending.kind === 'delete' ? 0 : pending.version
      if (expected !== undefined && expected !== version && pending.kind !== 'touch') return false
      // What the first one required of Redis is still required.
      base = pending.kind === 'touch' ? expected : pending.base
    }
    const { kind, stored, ttl, at, ordinal, sent } = write
    // Each by its name: what is spread has a hidden class of its own, which takes more memory than the write.
    this.#journal.put(userId, {
      kind,
      stored,
      ttl,
      at,
      base,
      version: ordinal,
      ordinal,
      sent,
      supersedes: supersededBy(pending),
      length: stored.length,
    })
    this.#gate().hold('a session waits to be written')
    return true
  }

  async entry(userId: string): Promise<SessionEntry | null> {
    checkName('the user id', userId)
    if (this.#gate().up) {
      const began = performance.now()
      try {
        const found = await this.#gate().run(() => settled(this.#native.get(userId)))
        if (found === null) {
          this.#copies.delete(userId)
          return null
        }
        const [stored, version, left] = found
        const until = left === null ? Infinity : began + left
        // A read may come back late: what was written since it began stays.
        if ((this.#copies.get(userId)?.since ?? 0) <= began)
          this.#keep(userId, { stored, version, until, since: began }, began)
        return { session: this.#read(userId, stored), version, stale: false }
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('session')
    const local = this.#local(userId)
    return local && { session: this.#read(userId, local.stored), version: local.version, stale: true }
  }

  #local(userId: string): Pick<Copy, 'stored' | 'version'> | null {
    const pending = this.#journal.get(userId)
    if (pending?.kind === 'delete') return null
    if (pending?.kind === 'set') return performance.now() - pending.at < pending.ttl ? pending : null
    const copy = this.#copies.get(userId, this.#staleMs)
    return copy !== undefined && performance.now() < copy.until ? copy : null
  }

  #read(userId: string, stored: string): SessionData {
    const key = this.#prefix + userId
    const session = fromJson('the session', this.#sealing.open(stored, userId, key), key)
    if (typeof session === 'object' && session !== null) return session
    throw corrupt('the session is not an object', key)
  }

  #keep(userId: string, copy: Copy, began: number): void {
    if (this.#staleMs === 0 || (this.#deleted.get(userId) ?? -1) >= began) return
    this.#copies.set(userId, copy, copy.stored.length)
  }

  #prolong(userId: string, until: number): void {
    const copy = this.#copies.get(userId)
    if (copy !== undefined) copy.until = until
  }

  async delete(userId: string): Promise<boolean> {
    checkName('the user id', userId)
    const at = performance.now()
    const ordinal = this.#next()
    let sent = false
    this.#copies.delete(userId)
    this.#deleted.set(userId, at, 0)
    if (this.#gate().ending !== undefined) await this.#gate().ending
    if (this.#gate().up) {
      try {
        const write = { userId, ttl: DEFAULT_TTL.SESSION * 1000, name: this.#name(ordinal) }
        await this.#gate().run(() => settled(this.#native.write(write)))
        // A read that began before may have come back meanwhile.
        this.#deleted.set(userId, performance.now(), 0)
        this.#copies.delete(userId)
        return true
      } catch (error) {
        if (!isUnreachable(error)) throw error
        sent = mayHaveHappened(error)
      }
    }
    this.#gate().fallback('delete')
    const ttl = DEFAULT_TTL.SESSION * 1000
    const pending = this.#journal.get(userId)
    this.#journal.put(userId, {
      kind: 'delete',
      stored: '',
      ttl,
      at: Math.max(at, pending?.at ?? at),
      base: undefined,
      version: 0,
      ordinal,
      sent,
      supersedes: supersededBy(pending),
      length: 0,
    })
    this.#gate().hold('a session waits to be deleted')
    return false
  }

  async touch(userId: string, ttl?: number): Promise<boolean> {
    checkName('the user id', userId)
    const ttlMs = toTtl(ttl, DEFAULT_TTL.SESSION)
    const at = performance.now()
    if (this.#gate().ending !== undefined) await this.#gate().ending
    if (this.#gate().up) {
      try {
        const touched = await this.#gate().run(() => settled(this.#native.touch(userId, ttlMs)))
        if (touched) this.#prolong(userId, at + ttlMs)
        return touched
      } catch (error) {
        if (!isUnreachable(error)) throw error
      }
    }
    this.#gate().fallback('session')
    if (this.#local(userId) === null) return false
    this.#prolong(userId, at + ttlMs)
    const pending = this.#journal.get(userId)
    if (pending?.kind === 'set') this.#journal.put(userId, { ...pending, ttl: at - pending.at + ttlMs })
    else {
      const write = { kind: 'touch', stored: '', ttl: ttlMs, at, base: undefined, version: 0 } as const
      this.#journal.put(userId, { ...write, ordinal: 0, sent: false, supersedes: NONE, length: 0 })
    }
    this.#gate().hold('a session waits for more time')
    return true
  }

  /** Writes what waits. Fails if Redis is away again; what is left waits on. */
  async drain(): Promise<Replay> {
    const replay = { applied: 0, rejected: 0 }
    if (this.#journal.size === 0) return replay
    const clock = await this.#clock()
    await this.#journal.drain(AT_ONCE, async (userId, write) => {
      const applied = await this.#replay(userId, write, clock)
      replay[applied ? 'applied' : 'rejected'] += 1
    })
    return replay
  }

  async #replay(userId: string, write: WaitingWrite, clock: ServerClock): Promise<boolean> {
    const ttl = Math.ceil(write.ttl - (performance.now() - write.at))
    // Its time is over, or the session's.
    if (ttl <= 0) return true
    const kind = write.kind === 'delete' ? 'delete' : 'session'
    try {
      if (write.kind === 'touch') return await settled(this.#native.touch(userId, ttl))
      const { stored, base } = write
      const written = await settled(
        this.#native.write({
          userId,
          ttl,
          name: this.#name(write.ordinal),
          supersedes: write.supersedes.map((ordinal) => this.#name(ordinal)),
          ...(write.kind === 'set' && { json: stored }),
          ...(base !== undefined && { version: base }),
          moment: write.kind === 'set' ? clock.earliest(write.at) : clock.latest(write.at),
        }),
      )
      // Until everything is written, reads come from here, where the journal has it no longer.
      const copy = { stored, version: written, until: performance.now() + ttl, since: performance.now() }
      if (written > 0 && write.kind === 'set') this.#keep(userId, copy, write.at)
      else this.#copies.delete(userId)
      if (written === 0) this.#rejected({ kind, id: userId, reason: 'newer' })
      return written > 0
    } catch (error) {
      if (isUnreachable(error)) {
        write.sent ||= mayHaveHappened(error)
        throw error
      }
      this.#rejected({ kind, id: userId, reason: 'error', error })
      return false
    }
  }

  /**
   * What the server's clock said at moments of this process: asked once, it may have answered at any time before its
   * answer came. A write counts as early as it can have been, a deletion as late, so that in doubt a session is dead.
   */
  async #clock(): Promise<ServerClock> {
    const before = performance.now()
    const micros = await settled(this.#native.time())
    const after = performance.now()
    return {
      earliest: (at) => Math.floor(micros + (at - after) * 1000),
      latest: (at) => Math.ceil(micros + (at - before) * 1000),
    }
  }

  /** Drops the copies: from now on Redis is asked again. */
  forget(): void {
    this.#copies.clear()
  }
}

function mayHaveHappened(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'OUTCOME_UNKNOWN'
}

/** What was sent of the write that another takes the place of, and of those before it. */
function supersededBy(pending: WaitingWrite | undefined): readonly number[] {
  if (pending === undefined || pending.kind === 'touch') return NONE
  return pending.sent ? withLatest(pending.supersedes, pending.ordinal) : pending.supersedes
}

function withLatest(ordinals: readonly number[], ordinal: number): readonly number[] {
  return [...ordinals, ordinal].slice(-SUPERSEDED)
}
