/** The nodes of a cluster as they are started, each on two ports that are free. */
import type { Certificates } from './certificates'
import { RedisServer, findFreePort, serverVersion } from './redis-server'

/** Servers before 7 do not know the option, but no master has so many replicas that it could spare one. */
const REPLICAS_STAY =
  serverVersion()[0] < 7 ? '--cluster-migration-barrier 1000' : '--cluster-allow-replica-migration no'

/** The bus of a node listens so far above its port, which must leave room for it. */
export const BUS_OFFSET = 10_000

export interface RedisClusterOptions {
  /** Default: 3 */
  masters?: number
  /** Replicas of each master. Default: 1 */
  replicas?: number
  /** After so many milliseconds of silence a node is held for failed. Default: 1500 */
  nodeTimeoutMs?: number
  /** `requirepass` of every node. */
  password?: string
  /** Lines of access control for every node. */
  users?: string[]
  /** Nodes also listen with TLS, and speak it with each other. */
  certificates?: Certificates
  /** More arguments for every node. */
  args?: string[]
  /** More arguments for the node of this number, in the order of `servers`. */
  argsOf?: (node: number) => string[]
}

export function withArgsOf(options: RedisClusterOptions, node: number): RedisClusterOptions {
  return { ...options, args: [...(options.args ?? []), ...(options.argsOf?.(node) ?? [])] }
}

/** Somebody else may take one of its two ports before it does; then on others. */
export async function startNode(options: RedisClusterOptions, attempts = 4): Promise<StartedNode> {
  try {
    return await startNodeOnce(options)
  } catch (error) {
    if (attempts === 1) throw error
    return startNode(options, attempts - 1)
  }
}

interface StartedNode {
  server: RedisServer
  tlsPort: number | undefined
}

async function startNodeOnce(options: RedisClusterOptions): Promise<StartedNode> {
  const { nodeTimeoutMs = 1500, password, users, certificates, args = [] } = options
  const tlsPort = certificates === undefined ? undefined : await findClusterPort()
  const server = await RedisServer.start({
    port: await findClusterPort(),
    ...(password === undefined ? {} : { password }),
    ...(users === undefined ? {} : { users }),
    args: [
      ...words('--cluster-enabled yes --cluster-config-file nodes.conf --cluster-replica-validity-factor 0'),
      ...words(`--cluster-node-timeout ${nodeTimeoutMs} ${REPLICAS_STAY}`),
      ...words('--repl-diskless-sync-delay 0'),
      ...(password === undefined ? [] : ['--masterauth', password]),
      ...(tlsPort === undefined ? [] : ['--tls-cluster', 'yes', '--tls-replication', 'yes']),
      ...(tlsPort === undefined ? [] : (certificates?.serverArguments(tlsPort) ?? [])),
      ...args,
    ],
  })
  return { server, tlsPort }
}

function words(text: string): string[] {
  return text.split(' ')
}

async function findClusterPort(): Promise<number> {
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- until one fits
    const port = await findFreePort()
    if (port + BUS_OFFSET < 65_536) return port
  }
}
