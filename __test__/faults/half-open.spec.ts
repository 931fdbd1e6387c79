/**
 * A connection through which nothing passes any more, where Sentinels or a cluster lead. One server is in `npm test`
 * (`__test__/contract/half-open.spec.ts`); this takes a minute, and runs in `npm run test:faults`.
 */
import { after, before, describe, it } from 'node:test'
import type { ConnectionOptions } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { faultRun } from '../helpers/fault-run'
import { DIRECTIONS, assertListenerNotices, assertNoticed } from '../helpers/half-open'
import { RedisCluster } from '../helpers/redis-cluster'
import { SentinelTrio } from '../helpers/redis-sentinel'
import type { RedisServer } from '../helpers/redis-server'

const { long } = faultRun('half-open connections', 0)

interface Servers {
  target: Record<string, unknown>
  servers: readonly RedisServer[]
  stop: () => Promise<void>
}

const TOPOLOGIES: Record<string, () => Promise<Servers>> = {
  Sentinels: async () => {
    const trio = await SentinelTrio.start()
    return { target: trio.target, servers: trio.data, stop: () => trio.stop() }
  },
  'a cluster': async () => {
    const cluster = await RedisCluster.start({ replicas: 0 })
    return { target: { cluster: cluster.addresses }, servers: cluster.servers, stop: () => cluster.stop() }
  },
}

for (const [name, start] of Object.entries(TOPOLOGIES))
  describe(`a half-open connection with ${name}`, { skip: !long && 'in npm run test:faults' }, () => {
    let found: Servers
    before(async () => {
      found = await start()
    })
    after(() => found.stop())

    /** Every server is reached through a proxy of its own. */
    async function through(
      run: (target: ConnectionOptions, proxies: CountingProxy[]) => Promise<void>,
    ): Promise<void> {
      const proxies = await Promise.all(found.servers.map((server) => CountingProxy.start(server)))
      const natMap = Object.fromEntries(
        found.servers.map(({ host, port }, index) => {
          const { host: proxyHost, port: proxyPort } = proxies[index] as CountingProxy
          return [`${host}:${port}`, { host: proxyHost, port: proxyPort }]
        }),
      )
      try {
        await run({ ...found.target, natMap } as ConnectionOptions, proxies)
      } finally {
        await Promise.all(proxies.map((proxy) => proxy.close()))
      }
    }

    for (const direction of DIRECTIONS)
      it(`that loses ${direction} is noticed, and the next call goes over a new one`, () =>
        through((target, proxies) => assertNoticed(target, proxies, direction)))

    it('that only listens is noticed', () => through(assertListenerNotices))
  })
