import type { Connection } from './connection.js'
import type { NatMapper } from './nat-map.js'

/**
 * TLS 1.2 or 1.3, in the terms of Node's `tls.connect` (as in ioredis' option `tls`). The core verifies certificates
 * and runs no JavaScript meanwhile: `pfx`, `secureContext`, `crl`, `pskCallback` and `checkServerIdentity` are refused
 * (`CONFIG`), other options have no effect.
 */
export interface TlsOptions {
  /** Certificates to trust, PEM. Default: those of the system. */
  ca?: string | Buffer | (string | Buffer)[]
  /** Client certificate chain, PEM. */
  cert?: string | Buffer | (string | Buffer)[]
  /** Client key, PEM. */
  key?: string | Buffer
  /** Of the key, if it is encrypted. */
  passphrase?: string
  /** Name to verify and to send as SNI. Default: the host. */
  servername?: string
  /** Whether a certificate that cannot be verified ends the connection. Default: true. */
  rejectUnauthorized?: boolean
}

/** Options of a connection: ioredis' names and meanings, except where a default is given here. */
export interface ConnectionOptions {
  /** Default: `127.0.0.1`. */
  host?: string
  /** Default: 6379. */
  port?: number
  /** Path of a Unix domain socket, instead of host and port. */
  path?: string | null
  /** ACL user. Default: the server's default user. */
  username?: string | null
  password?: string | null
  /** Database number. Default: 0. */
  db?: number
  /** `true` or `{}` for TLS with the system's certificates. */
  tls?: TlsOptions | object | boolean
  /** Put before every key that a store reads or writes. Default: none. */
  keyPrefix?: string
  /** 4 or 6 to use only addresses of that family. Default: 0, any. */
  family?: number
  /** Name shown in `CLIENT LIST`. Default: none. */
  connectionName?: string | null
  /**
   * TCP keepalive interval in milliseconds, 0 for none. After the process was stopped, frozen or asleep for longer than
   * this (0: than 30 s), the server is asked for a sign of life before anything else is sent. Default: 30,000.
   */
  keepAlive?: number
  /** Time to establish a connection, in milliseconds. Default: 5,000. */
  connectTimeout?: number
  /** Time for one call to settle, in milliseconds. Default: 5,000. */
  commandTimeout?: number
  /** RESP version; 3 falls back to 2 where the server does not know it. Default: 3. */
  protocol?: 2 | 3
  /**
   * The first redial of a lost connection follows after a random part of this, in milliseconds; later ones are two
   * thirds to the whole of it apart, or of a fifth of the outage if that is longer, up to 5 seconds. With the default,
   * 1,000 clients of a server that restarts make at most 200 attempts in 100 ms. Give less where clients are few.
   * Default: 900.
   */
  redialDelay?: number
  /** Calls that may wait while there is no connection. More fail at once with `QUEUE_FULL`. Default: 10,000. */
  maxQueuedCommands?: number
  /** Bytes of commands that may wait while there is no connection. Default: 64 MiB. */
  maxQueuedBytes?: number
  /** Sentinels that know where the master {@link ConnectionOptions.name} is; port 26379 by default. */
  sentinels?: readonly NodeAddress[]
  /** Name of the master that the {@link ConnectionOptions.sentinels} watch. */
  name?: string
  /** ACL user on the Sentinels. Default: their default user. */
  sentinelUsername?: string | null
  sentinelPassword?: string | null
  /** TLS to the Sentinels. Default: none. */
  sentinelTLS?: TlsOptions | object | boolean
  /** Whether `tls` is used with `sentinels`. Without it, `tls` is refused there. */
  enableTLSForSentinelMode?: boolean
  /** Whether to ask the Sentinels for further ones. Default: true. */
  updateSentinels?: boolean
  /**
   * Nodes of a Redis Cluster, of which one must be reachable. All other options hold for every node. An array of
   * `{ host, port }`, of URLs or of ports; a node's own `username`, `password` and `tls` count where the options name
   * none, those of the first node.
   */
  cluster?: readonly (NodeAddress | string | number)[]
  /**
   * Who answers reads in a cluster: the `master` of a key, a replica of it (`slave`; the master while there is none), or
   * `all` of them. A replica may be behind: a read may miss a write that was answered before. Default: `master`.
   */
  scaleReads?: 'master' | 'slave' | 'all'
  /**
   * Where the addresses that a cluster or the Sentinels name are reached: `{ 'host:port': { host, port } }`, or a
   * function that is given `host:port` and returns `{ host, port }`, or `null` for an address that is reached where it
   * is. Default: all are.
   *
   * The function is called for all addresses whenever the nodes, or the master, are looked for, and must answer at once,
   * without a promise. As long as the event loop is blocked, its last answers hold. If it fails (it throws, or returns
   * something else), its last answer holds as well; an address without one counts as not reachable, so calls that need
   * it end with `REDIS_UNAVAILABLE`, and a process warning (`FERROFLOW_NAT_MAP`) says why. Connections are shared only
   * by those that give the same function.
   */
  natMap?:
    | Record<string, { host: string; port: number }>
    | ((key: string) => { host: string; port: number } | null | undefined)
    | object
    | null
}

/** A host and its port. */
export interface NodeAddress {
  /** Default: `127.0.0.1`. */
  host?: string
  port?: number
}

/**
 * An ioredis 5 or 6 instance. Its options are read and ferroflow opens a connection of its own; the instance is
 * never used, changed or closed.
 */
export interface IoredisClient {
  readonly options: object
  readonly status: string
  hgetall: unknown
  duplicate: unknown
}

/** An ioredis 5 or 6 `Cluster`. Its startup nodes and options are read, as with {@link IoredisClient}. */
export interface IoredisCluster {
  readonly options: object
  readonly status: string
  readonly isCluster: true
  hgetall: unknown
}

/** A node-redis 4, 5 or 6 client. Its options are read, as with {@link IoredisClient}. */
export interface NodeRedisClient {
  readonly options?: object
  readonly isOpen: boolean
  sendCommand: unknown
  duplicate: unknown
}

/**
 * Where the data is:
 *
 * - `'redis://…'`, `'rediss://…'`, `'host:port'`, `'unix:/path'` or `'/path'`
 * - {@link ConnectionOptions}
 * - `{ sentinels: [{ host, port }, …], name }`: the master that Sentinels watch
 * - `{ cluster: [{ host, port }, …] }`: a Redis Cluster
 * - an ioredis client or `Cluster`, or a node-redis client, whose options are read
 * - a {@link Connection}, which is shared
 * - `'memory://'` or `'memory://name'`: the embedded engine, shared by name within the process
 */
export type Target =
  string | ConnectionOptions | IoredisClient | IoredisCluster | NodeRedisClient | Connection

export interface NativeAddress {
  host: string
  port: number
}

interface NativeTls {
  ca?: string
  cert?: string
  key?: string
  servername?: string
  rejectUnauthorized: boolean
}

export interface NativeCluster {
  nodes: NativeAddress[]
  natMap: Record<string, NativeAddress>
  scaleReads: 'master' | 'slave' | 'all'
}

interface NativeSentinels {
  sentinels: NativeAddress[]
  name: string
  username?: string
  password?: string
  tls?: NativeTls
  natMap: Record<string, NativeAddress>
  updateSentinels: boolean
}

/** The configuration that the native core takes: every field resolved. */
export interface NativeConfig {
  endpoint:
    | { tcp: NativeAddress }
    | { unix: { path: string } }
    | { memory: { name: string } }
    | { sentinel: NativeSentinels }
    | { cluster: NativeCluster }
  /** Says where addresses are reached, instead of the endpoint's `natMap`. Not a part of the JSON. */
  natMapper?: NatMapper
  username?: string
  password?: string
  db: number
  tls?: NativeTls
  keyPrefix: string
  family: number
  connectionName?: string
  protocol: number
  connectTimeout: number
  callTimeout: number
  keepAlive: number
  redialDelay: number
  maxQueuedCommands: number
  maxQueuedBytes: number
}
