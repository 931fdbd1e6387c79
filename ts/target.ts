import { createPrivateKey } from 'node:crypto'
import { types } from 'node:util'

import { ConfigError } from './errors.js'
import { type NatMapFunction, NatMapper } from './nat-map.js'
import type { NativeAddress, NativeCluster, NativeConfig } from './options.js'
import { parseTarget } from './redis-url.js'
import { kindOf } from './validate.js'

/** Options as they come, from whatever source: nothing about them is certain. */
export type LooseOptions = Record<string, unknown>

const DEFAULT_PORT = 6379
const DEFAULT_SENTINEL_PORT = 26_379

const ACCEPTED =
  "a URL ('redis://…', 'rediss://…', 'unix:/path', 'memory://'), host:port, connection options (also with sentinels " +
  'and name, or with cluster), an ioredis or node-redis client, or a ferroflow Connection'

export function refuse(message: string): never {
  throw new ConfigError('CONFIG', message)
}

/** The configuration of a target that is not a Connection. */
export function resolveTarget(target: unknown, options: LooseOptions = {}): NativeConfig {
  if (typeof target === 'string') return fromString(target, options)
  if (typeof target !== 'object' || target === null || Array.isArray(target)) {
    return refuse(`A connection target must be ${ACCEPTED}, not ${kindOf(target)}`)
  }
  return fromOptions(fill(readObject(target as LooseOptions), options))
}

function fromString(target: string, options: LooseOptions): NativeConfig {
  const parsed = parseTarget(target)
  if (parsed === undefined) {
    return refuse(
      `A connection string must be a URL, a path of a socket or host:port; accepted are ${ACCEPTED}`,
    )
  }
  // A URL can only say that there is TLS; options say how.
  if ((parsed['tls'] === true || parsed['tls'] === 'true') && typeof options['tls'] === 'object')
    delete parsed['tls']
  return fromOptions(fill(parsed, options))
}

/** ioredis' rule: what comes first wins, and `undefined` says nothing. */
function fill(first: LooseOptions, second: LooseOptions): LooseOptions {
  const filled = { ...first }
  for (const [name, value] of Object.entries(second)) filled[name] ??= value
  return filled
}

function readObject(target: LooseOptions): LooseOptions {
  if (isIoredis(target)) {
    if (target['isCluster'] === true) return fromIoredisCluster(target)
    return target['options'] as LooseOptions
  }
  if (isNodeRedis(target)) return fromNodeRedis(target['options'] as LooseOptions)
  if (!isPlain(target) || CLIENT_METHODS.some((method) => typeof target[method] === 'function')) {
    return refuse(`An unknown client object cannot be used as a connection target; accepted are ${ACCEPTED}`)
  }
  return target
}

/** What a client has and options have not; options may well hold functions (`retryStrategy`). */
const CLIENT_METHODS = [
  'get',
  'set',
  'hget',
  'hgetall',
  'hGetAll',
  'call',
  'sendCommand',
  'publish',
  'duplicate',
]

/** An object literal, also one of another context (Jest, vm), whose `Object` is another. */
function isPlain(target: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(target)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** Startup nodes may be URLs, ports or options; what only a node says, such as a password, holds for all. */
function fromIoredisCluster(target: LooseOptions): LooseOptions {
  const options = target['options'] as LooseOptions
  const startupNodes = target['startupNodes']
  if (!Array.isArray(startupNodes) || startupNodes.length === 0) {
    return refuse('The startup nodes of an ioredis Cluster cannot be read; give { cluster: [nodes] }')
  }
  const redisOptions = (options['redisOptions'] ?? {}) as LooseOptions
  const { natMap, keyPrefix, scaleReads } = options
  return fill({ cluster: startupNodes, natMap, keyPrefix, scaleReads }, { ...redisOptions, db: undefined })
}

/** Whether a client's options can be read, so that a connection of our own goes where it goes. */
export function isDerivable(target: unknown): boolean {
  if (typeof target !== 'object' || target === null) return false
  return isIoredis(target as LooseOptions) || isNodeRedis(target)
}

/** By shape, since an application may hold several copies of ioredis. A mock has no connector. */
function isIoredis(target: LooseOptions): boolean {
  const isClient = typeof target['hgetall'] === 'function' && typeof target['status'] === 'string'
  const connects = typeof target['connector'] === 'object' || target['isCluster'] === true
  return isClient && connects && typeof target['options'] === 'object' && target['options'] !== null
}

/** By shape, as with ioredis. */
export function isNodeRedis(target: unknown): boolean {
  if (typeof target !== 'object' || target === null) return false
  const { sendCommand, isOpen, options } = target as LooseOptions
  // Its clusters, pools and sentinels have no options to read.
  const isClient = typeof sendCommand === 'function' && typeof isOpen === 'boolean'
  return isClient && typeof options === 'object' && options !== null
}

function fromNodeRedis(options: LooseOptions): LooseOptions {
  if (options['credentialsProvider'] !== undefined && options['password'] === undefined) {
    return refuse('The credentialsProvider of a node-redis client cannot be read; give connection options')
  }
  const socket = (options['socket'] ?? {}) as LooseOptions
  const tlsOptions = socket['tls'] === true ? socket : undefined
  return {
    host: socket['host'] ?? 'localhost',
    port: socket['port'],
    path: socket['path'],
    family: socket['family'],
    connectTimeout: socket['connectTimeout'],
    tls: tlsOptions,
    username: options['username'],
    password: options['password'],
    db: options['database'],
    connectionName: options['name'],
  }
}

function fromOptions(given: LooseOptions): NativeConfig {
  if (isGiven(given['cluster']) && isGiven(given['sentinels'])) {
    return refuse('A target has either cluster or sentinels, not both')
  }
  const options = isGiven(given['cluster']) ? withNodeOptions(given) : given
  const secured = tls(options['tls'], 'tls')
  const place = endpoint(options)
  // Not silently in clear text.
  if (secured !== undefined && 'unix' in place) {
    return refuse('TLS cannot be used on a Unix domain socket: leave out tls, or path')
  }
  return {
    endpoint: place,
    natMapper: 'cluster' in place || 'sentinel' in place ? natMapperOf(options['natMap']) : undefined,
    username: text(options, 'username'),
    password: text(options, 'password'),
    db: integer(options, 'db', { fallback: 0, min: 0, max: 2 ** 31 - 1 }),
    tls: secured,
    keyPrefix: text(options, 'keyPrefix') ?? '',
    family: integer(options, 'family', { fallback: 0, min: 0, max: 6 }),
    connectionName: text(options, 'connectionName'),
    protocol: integer(options, 'protocol', { fallback: 3, min: 2, max: 3 }),
    connectTimeout: integer(options, 'connectTimeout', { fallback: 5000, min: 1, max: 2 ** 31 - 1 }),
    callTimeout: integer(options, 'commandTimeout', { fallback: 5000, min: 1, max: 2 ** 31 - 1 }),
    keepAlive: integer(options, 'keepAlive', { fallback: 30_000, min: 0, max: 2 ** 31 - 1 }),
    redialDelay: integer(options, 'redialDelay', { fallback: 900, min: 1, max: 60_000 }),
    maxQueuedCommands: integer(options, 'maxQueuedCommands', { fallback: 10_000, min: 0, max: 2 ** 31 - 1 }),
    maxQueuedBytes: integer(options, 'maxQueuedBytes', { fallback: 64 * 1024 * 1024, min: 0, max: 2 ** 40 }),
  }
}

function endpoint(options: LooseOptions): NativeConfig['endpoint'] {
  if (typeof options['memory'] === 'string') return { memory: { name: options['memory'] } }
  const path = text(options, 'path')
  if (isGiven(options['cluster'])) return { cluster: cluster(options) }
  if (isGiven(options['sentinels'])) return { sentinel: sentinel(options) }
  if (path !== undefined) return { unix: { path } }
  const host = text(options, 'host') ?? '127.0.0.1'
  return { tcp: { host, port: integer(options, 'port', { fallback: DEFAULT_PORT, min: 1, max: 65_535 }) } }
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null
}

/** What ioredis takes from the first startup node for all of them: credentials and TLS that no option names. */
function withNodeOptions(options: LooseOptions): LooseOptions {
  const [first] = nodeOptions(options['cluster'], 'cluster')
  const { username, password, tls: nodeTls } = first as LooseOptions
  return fill(options, { username, password, tls: nodeTls })
}

function cluster(options: LooseOptions): NativeCluster {
  if (integer(options, 'db', { fallback: 0, min: 0, max: 2 ** 31 - 1 }) !== 0) {
    return refuse('A Redis Cluster has only database 0; leave out the option db')
  }
  const nodes = nodeOptions(options['cluster'], 'cluster').map((node) =>
    address(node, 'cluster', DEFAULT_PORT),
  )
  const scaleReads = options['scaleReads'] ?? 'master'
  if (scaleReads !== 'master' && scaleReads !== 'slave' && scaleReads !== 'all') {
    return refuse(
      "The connection option scaleReads must be 'master', 'slave' or 'all'; a function cannot be used",
    )
  }
  return { nodes, natMap: natMapOf(options['natMap']), scaleReads }
}

function sentinel(
  options: LooseOptions,
): Extract<NativeConfig['endpoint'], { sentinel: unknown }>['sentinel'] {
  const name = text(options, 'name')
  if (name === undefined) {
    return refuse('The connection option name must say which master of the sentinels is meant')
  }
  if (options['role'] === 'slave') {
    return refuse("The connection option role: 'slave' is not supported: ferroflow reads from the master")
  }
  // ioredis would leave TLS out without a word.
  if (isGiven(options['tls']) && options['tls'] !== false && options['enableTLSForSentinelMode'] !== true) {
    return refuse(
      'With sentinels, tls takes enableTLSForSentinelMode: true (and sentinelTLS for the Sentinels)',
    )
  }
  const nodes = nodeOptions(options['sentinels'], 'sentinels')
  return {
    sentinels: nodes.map((node) => address(node, 'sentinels', DEFAULT_SENTINEL_PORT)),
    name,
    username: text(options, 'sentinelUsername'),
    password: text(options, 'sentinelPassword'),
    tls: tls(options['sentinelTLS'], 'sentinelTLS'),
    natMap: natMapOf(options['natMap']),
    updateSentinels: options['updateSentinels'] !== false,
  }
}

/** Nodes as options, whatever form they came in. */
function nodeOptions(value: unknown, name: string): LooseOptions[] {
  if (!Array.isArray(value) || value.length === 0) {
    return refuse(`The connection option ${name} must be a list of at least one { host, port }`)
  }
  return value.map((node: unknown) => {
    if (typeof node === 'number') return { port: node }
    const options = typeof node === 'string' ? parseTarget(node) : node
    if (typeof options !== 'object' || options === null || 'memory' in options || 'path' in options) {
      return refuse(`The connection option ${name} must be a list of { host, port }`)
    }
    return options as LooseOptions
  })
}

function address(node: LooseOptions, what: string, fallback: number): NativeAddress {
  const port = node['port']
  if (!isGiven(port) || typeof port === 'number' || typeof port === 'string') {
    const host = text(node, 'host') ?? '127.0.0.1'
    return { host, port: integer(node, 'port', { fallback, min: 1, max: 65_535 }) }
  }
  return refuse(`The connection option ${what} must be a list of { host, port }`)
}

/** Where the addresses that the servers know are reached: `{ 'host:port': { host, port } }`, as in ioredis. */
function natMapOf(value: unknown): Record<string, NativeAddress> {
  if (!isGiven(value) || typeof value === 'function') return {}
  if (typeof value !== 'object' || Array.isArray(value)) {
    return refuse(
      'The connection option natMap must be an object { "host:port": { host, port } }, or a function that returns { host, port } for host:port',
    )
  }
  const entries = Object.entries(value as LooseOptions).map(([from, to]): [string, NativeAddress] => {
    if (typeof to !== 'object' || to === null) {
      return refuse('The connection option natMap must map host:port to { host, port }')
    }
    return [from, address(to as LooseOptions, 'natMap', DEFAULT_PORT)]
  })
  return Object.fromEntries(entries)
}

/** The other form, a function of `host:port`. */
function natMapperOf(value: unknown): NatMapper | undefined {
  return typeof value === 'function' ? NatMapper.of(value as NatMapFunction) : undefined
}

/** A text option; absent if empty. Its value is never shown. */
function text(options: LooseOptions, name: string): string | undefined {
  const value = options[name]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') return refuse(`The connection option ${name} must be a string`)
  return value
}

/** A whole number; digits in a string count, since URLs and environment variables hold strings. */
function integer(
  options: LooseOptions,
  name: string,
  { fallback, min, max }: { fallback: number; min: number; max: number },
): number {
  const value = options[name]
  if (value === undefined || value === null) return fallback
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < min || number > max) {
    return refuse(`The connection option ${name} must be a whole number from ${min} to ${max}`)
  }
  return number
}

/** What the core cannot do; to leave one of these out silently could trust more than the caller does. */
const UNSUPPORTED_TLS: Record<string, string> = {
  pfx: 'give ca, cert and key as PEM',
  secureContext: 'give ca, cert and key as PEM',
  checkServerIdentity: 'the name is verified always, and servername says which one',
  pskCallback: 'give ca, cert and key as PEM',
  crl: 'give a ca that has signed no revoked certificate',
}

function tls(value: unknown, of: string): NativeConfig['tls'] {
  if (value === undefined || value === null || value === false) return undefined
  // As a URL says it: `?tls=true`.
  const plain = value === true || value === 'true'
  if (!plain && typeof value !== 'object') {
    return refuse(`The connection option ${of} must be an object or true`)
  }
  const options = (plain ? {} : value) as LooseOptions
  for (const [name, instead] of Object.entries(UNSUPPORTED_TLS)) {
    if (options[name] !== undefined) {
      return refuse(`The connection option ${of}.${name} is not supported; ${instead}`)
    }
  }
  return {
    ca: pem(options, 'ca'),
    cert: pem(options, 'cert'),
    key: privateKey(options),
    servername: text(options, 'servername'),
    rejectUnauthorized: options['rejectUnauthorized'] !== false,
  }
}

/** The client key, decrypted if there is a passphrase. */
function privateKey(options: LooseOptions): string | undefined {
  const key = pem(options, 'key')
  const passphrase = options['passphrase']
  if (passphrase === undefined || passphrase === null || passphrase === '') return key
  if (typeof passphrase !== 'string') return refuse('The connection option tls.passphrase must be a string')
  if (key === undefined) {
    return refuse(
      'The connection option tls.passphrase is not supported without tls.key; give ca, cert and key as PEM',
    )
  }
  try {
    return createPrivateKey({ key, passphrase }).export({ type: 'pkcs8', format: 'pem' }).toString()
  } catch {
    return refuse('The connection option tls.key cannot be read with tls.passphrase')
  }
}

function pem(options: LooseOptions, name: string): string | undefined {
  const value = options[name]
  if (value === undefined || value === null) return undefined
  const parts = Array.isArray(value) ? value : [value]
  const texts = parts.map((part: unknown) => {
    if (typeof part === 'string') return part
    if (types.isUint8Array(part)) return Buffer.from(part).toString('utf8')
    return refuse(`The connection option tls.${name} must be PEM, in a string or a Buffer`)
  })
  return texts.join('\n')
}
