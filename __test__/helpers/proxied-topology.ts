/** Sentinels or a cluster, with a proxy before each server that holds data. */
import type { ConnectionOptions } from '../../index.js'
import { CountingProxy } from './counting-proxy'
import { RedisCluster } from './redis-cluster'
import { SentinelTrio } from './redis-sentinel'
import type { RedisServer } from './redis-server'

export interface Servers {
  /** Past the proxies. */
  target: ConnectionOptions
  servers: readonly RedisServer[]
  stop: () => Promise<void>
}

export const TOPOLOGIES: Record<string, () => Promise<Servers>> = {
  Sentinels: async () => {
    const trio = await SentinelTrio.start()
    return { target: trio.target, servers: trio.data, stop: () => trio.stop() }
  },
  'a cluster': async () => {
    const cluster = await RedisCluster.start({ replicas: 0 })
    return { target: { cluster: cluster.addresses }, servers: cluster.servers, stop: () => cluster.stop() }
  },
}

/** Runs something with a target that leads to every server through a proxy of its own. */
export async function throughProxies(
  { target, servers }: Servers,
  run: (target: ConnectionOptions, proxies: CountingProxy[]) => Promise<void>,
): Promise<void> {
  const proxies = await Promise.all(servers.map((server) => CountingProxy.start(server)))
  const natMap = Object.fromEntries(
    servers.map(({ host, port }, index) => {
      const { host: proxyHost, port: proxyPort } = proxies[index] as CountingProxy
      return [`${host}:${port}`, { host: proxyHost, port: proxyPort }]
    }),
  )
  try {
    await run({ ...target, natMap }, proxies)
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.close()))
  }
}
