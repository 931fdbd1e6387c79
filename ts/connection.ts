import { EventEmitter } from 'node:events'
import { inspect, types } from 'node:util'

import { type Diagnosis, diagnose } from './doctor.js'
import { ArgumentError, ConfigError, ServerError } from './errors.js'
import { binding, guarded, listen, settled } from './native.js'
import type { ConnectionOptions, NativeAddress, NativeConfig, Target } from './options.js'
import { type LooseOptions, resolveTarget } from './target.js'
import { traced } from './tracing.js'
import { kindOf } from './validate.js'

/** `connecting` at first, `ready`, `reconnecting` after a loss or a refusal, `closed` by its owner. */
export type ConnectionStatus = 'connecting' | 'ready' | 'reconnecting' | 'closed'

/** What a word of a command may be. Numbers are sent in decimal. */
export type CommandArgument = string | number | bigint | Uint8Array

/**
 * A reply: strings for values, arrays for lists; maps and sets of RESP3 arrive as flat lists, as in RESP2. Integers
 * beyond ±(2^53 - 1) are bigints.
 */
export type CommandReply = string | number | bigint | null | CommandReply[]

/** Like {@link CommandReply}, with values as Buffers. */
export type BufferReply = string | Buffer | number | bigint | null | BufferReply[]

/** Events of a {@link Connection}. */
export interface ConnectionEvents {
  /** The status changed; `reason` says why if it is `reconnecting`. There is no `error` event. */
  status: [status: ConnectionStatus, reason: string | undefined]
}

/** On a connection that everybody shares, these would change or stop the calls of others. */
const REFUSED = new Map<string, string>()
for (const [reason, names] of [
  [
    'it would turn the shared connection into a subscriber',
    'SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE MONITOR SYNC PSYNC',
  ],
  [
    'it would change the shared connection for everybody',
    'AUTH HELLO SELECT RESET QUIT MULTI EXEC DISCARD WATCH UNWATCH ASKING READONLY READWRITE',
  ],
  [
    'it would hold up every other call on the shared connection',
    'BLPOP BRPOP BRPOPLPUSH BLMOVE BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF',
  ],
] as const) {
  for (const name of names.split(' ')) REFUSED.set(name, reason)
}

function toWord(value: unknown, index: number): string | Uint8Array {
  // By kind and not by class: in a context of its own (Jest, vm) a program has classes of its own.
  if (typeof value === 'string' || types.isUint8Array(value)) return value
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value))) return String(value)
  throw new ArgumentError(
    'INVALID_ARGUMENT',
    `Argument ${index + 1} of a command must be a string, a finite number, a bigint or a Uint8Array, not ${kindOf(value)}`,
  )
}

/** Why a command is not sent on a connection that others use too; `undefined` if it is. */
function refusal(name: string, args: readonly unknown[]): string | undefined {
  const command = name.toUpperCase()
  const has = (option: string): boolean => args.some((arg) => textOf(arg).toUpperCase() === option)
  if (command.startsWith('XREAD') && has('BLOCK')) return REFUSED.get('BLPOP')
  if (command === 'CLIENT' && has('REPLY')) return REFUSED.get('SELECT')
  return REFUSED.get(command)
}

/** A word as the server reads it. */
function textOf(word: unknown): string {
  return types.isUint8Array(word) ? Buffer.from(word).toString('latin1') : String(word)
}

/** Names that were looked at and need no second look. Few, as programs use few commands. */
const sent = new Set<string>()
const MAX_REMEMBERED = 1000

function toWords(name: unknown, args: readonly unknown[]): (string | Uint8Array)[] {
  if (typeof name !== 'string' || name === '') {
    throw new ArgumentError('INVALID_ARGUMENT', `The name of a command must be a string, not ${kindOf(name)}`)
  }
  if (!sent.has(name)) {
    const refused = refusal(name, args)
    if (refused !== undefined) {
      throw new ServerError('UNSUPPORTED', `${name.toUpperCase()} is not sent: ${refused}`)
    }
    // Of these, only some forms are refused.
    if (!/^(?:XREAD|CLIENT)/i.test(name) && sent.size < MAX_REMEMBERED) sent.add(name)
  }
  const words: (string | Uint8Array)[] = [name]
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]
    words.push(typeof arg === 'string' ? arg : toWord(arg, index))
  }
  return words
}

/** Common to all copies of this module, so that a connection of one (under another package name) serves the other. */
const NATIVE = Symbol.for('ferroflow.native.connection.1')
const ADDRESS = Symbol.for('ferroflow.address.connection.1')
const BEFORE_CLOSE = Symbol.for('ferroflow.before-close.connection.1')

/** The native object of a connection. */
export function nativeOf(connection: Connection): binding.NativeConnection {
  return (connection as unknown as Record<symbol, binding.NativeConnection>)[NATIVE]!
}

/** A store's prefix as it is on the server: behind that of the connection. */
export function fullPrefix(connection: Connection, prefix: string): string {
  return nativeOf(connection).keyPrefix + prefix
}

/** Where a connection leads, for people; the same for all connections that lead there. */
export function addressOf(connection: Connection): string {
  return (connection as unknown as Record<symbol, string>)[ADDRESS]!
}

/** What is done before a connection closes, while it can still be used. Returns how to take that back. */
export function beforeClose(connection: Connection, work: () => Promise<void>): () => void {
  const works = (connection as unknown as Record<symbol, Set<() => Promise<void>>>)[BEFORE_CLOSE]!
  works.add(work)
  return () => works.delete(work)
}

/** Whether a target is a connection, of this copy of ferroflow or another. */
export function isConnection(target: unknown): target is Connection {
  return typeof target === 'object' && target !== null && NATIVE in target
}

/** An address for people, without credentials. */
function describe({ endpoint, db }: NativeConfig): string {
  const place = describePlace(endpoint)
  return db === 0 ? place : `${place}/${db}`
}

function topologyOf({ endpoint }: NativeConfig): Diagnosis['topology'] {
  if ('cluster' in endpoint) return 'cluster'
  return 'sentinel' in endpoint ? 'sentinel' : 'standalone'
}

function describePlace(endpoint: NativeConfig['endpoint']): string {
  if ('memory' in endpoint) return `memory://${endpoint.memory.name}`
  if ('unix' in endpoint) return endpoint.unix.path
  if ('tcp' in endpoint) return hostAndPort(endpoint.tcp)
  if ('cluster' in endpoint) return `cluster ${endpoint.cluster.nodes.map(hostAndPort).join(', ')}`
  const { name, sentinels } = endpoint.sentinel
  return `${name} of sentinels ${sentinels.map(hostAndPort).join(', ')}`
}

function hostAndPort({ host, port }: NativeAddress): string {
  return `${host}:${port}`
}

/**
 * A connection to Redis, or to the embedded engine. Connections of equal configuration share one native connection,
 * which redials for ever and closes with the last of them. It never keeps the process alive by itself; a pending
 * call does.
 *
 * Every call settles within `commandTimeout`: with its result, or with an error that says whether it happened. While
 * there is no connection, calls wait, up to `maxQueuedCommands` and `maxQueuedBytes`.
 */
export class Connection extends EventEmitter<ConnectionEvents> {
  readonly #native: binding.NativeConnection
  readonly #command: ReturnType<binding.NativeConnection['commands']>
  readonly #address: string
  readonly #place: { topology: Diagnosis['topology']; memory: boolean }
  readonly #beforeClose = new Set<() => Promise<void>>()
  #closed: Promise<void> | undefined

  private constructor({ natMapper, ...config }: NativeConfig) {
    super()
    this.#address = describe(config)
    this.#place = { topology: topologyOf(config), memory: 'memory' in config.endpoint }
    this.#native = guarded(() => binding.NativeConnection.open(JSON.stringify(config), natMapper?.native))
    natMapper?.serve()
    this.#command = this.#native.commands()
    Object.defineProperties(this, {
      [NATIVE]: { value: this.#native },
      [ADDRESS]: { value: this.#address },
      [BEFORE_CLOSE]: { value: this.#beforeClose },
    })
    listen(this.#native.id, this)
  }

  /** @internal */
  static open(config: NativeConfig): Connection {
    return new Connection(config)
  }

  /** The current status. */
  get status(): ConnectionStatus {
    return this.#native.status as ConnectionStatus
  }

  /**
   * Sends any command, as it is: `keyPrefix` is not applied. Commands that would change or block the shared
   * connection are refused (`UNSUPPORTED`). On `memory://`, the common string, hash, sorted set and key commands
   * work.
   *
   * On a cluster, a command goes to the master of its first key, and its keys must lie in one slot (`UNSUPPORTED`).
   * `KEYS`, `DBSIZE`, `FLUSHDB`, `FLUSHALL`, `SCRIPT` and `FUNCTION` go to every master; `SCAN` goes to one after the
   * other, with cursors of its own. Other commands without a key go to any one master.
   *
   * @throws {@link ServerError}, {@link ConnectionError}, {@link TimeoutError}
   */
  command(name: string, ...args: CommandArgument[]): Promise<CommandReply> {
    return settled(this.#command(toWords(name, args), false) as Promise<CommandReply>)
  }

  /** Like {@link Connection.command}, with values as Buffers. */
  commandBuffer(name: string, ...args: CommandArgument[]): Promise<BufferReply> {
    return settled(this.#command(toWords(name, args), true) as Promise<BufferReply>)
  }

  /**
   * Looks at the server: its version, topology and clock, and what may cost data, locks or speed (eviction policy,
   * persistence, missing rights, keys that lie apart in a cluster). Asks for nothing that managed servers refuse, and
   * writes nothing. What the user may not ask for is left out.
   *
   * @throws {@link ConnectionError}, {@link TimeoutError}
   */
  async doctor(): Promise<Diagnosis> {
    const keyPrefix = this.#native.keyPrefix
    const severalLocal = async (): Promise<boolean> =>
      settled(guarded(() => binding.NativeTracking.open(this.#native)).meetInstances())
    return diagnose(this, { ...this.#place, keyPrefix, severalLocal })
  }

  /**
   * Closes this connection for everyone who was given it; others that only share its configuration go on. Calls in
   * flight have one second to finish, later ones fail with `CLOSED`. Idempotent.
   */
  async close(): Promise<void> {
    if (this.#closed === undefined) {
      this.#closed = this.#close()
      this.emit('status', 'closed', undefined)
    }
    return this.#closed
  }

  #close(): Promise<void> {
    // All in one turn: what is called afterwards fails.
    const before = [...this.#beforeClose].map((work) => work())
    const closed = settled(this.#native.close())
    return Promise.allSettled(before).then(() => closed)
  }

  /** @internal */
  onNativeEvent(name: string, detail: unknown): void {
    // Once it is closed here, the fate of the shared connection is the business of others.
    if (name !== 'status' || this.#closed !== undefined) return
    const [status, reason] = detail as [ConnectionStatus, string | null]
    this.emit('status', status, reason ?? undefined)
  }

  /** @internal */
  [inspect.custom](): string {
    return `Connection { address: '${this.#address}', status: '${this.status}' }`
  }
}

traced('Connection', Connection.prototype, ([name]) =>
  typeof name === 'string' && /^[a-z.]{1,20}$/i.test(name) ? { command: name.toUpperCase() } : {},
)

/**
 * Connects to a target. Returns at once; calls wait until the connection is up.
 *
 * @param target - where the data is
 * @param options - further options; what the target itself says wins, as in ioredis
 * @throws {@link ConfigError} if the target or an option cannot be used
 */
export function connect(target: Target, options?: ConnectionOptions): Connection {
  if (isConnection(target)) {
    if (options === undefined) return target
    throw new ConfigError('CONFIG', 'Options cannot be given to a Connection that is already open')
  }
  if (options !== undefined && (typeof options !== 'object' || options === null || Array.isArray(options))) {
    throw new ConfigError('CONFIG', `The connection options must be an object, not ${kindOf(options)}`)
  }
  return Connection.open(resolveTarget(target, options as LooseOptions | undefined))
}

/** A connection for a store, and whether the store must close it. */
export interface StoreConnection {
  connection: Connection
  owned: boolean
}

/** The connection of a store: that of the caller if the target is one, otherwise its own. */
export function connectStore(target: Target): StoreConnection {
  return { connection: connect(target), owned: !isConnection(target) }
}
