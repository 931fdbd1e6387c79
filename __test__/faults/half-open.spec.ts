/**
 * A connection through which nothing passes any more, where Sentinels or a cluster lead. One server is in `npm test`
 * (`__test__/contract/half-open.spec.ts`); this takes a minute, and runs in `npm run test:faults`.
 */
import { after, before, describe, it } from 'node:test'
import { faultRun } from '../helpers/fault-run'
import { DIRECTIONS, assertListenerNotices, assertNoticed } from '../helpers/half-open'
import { type Servers, TOPOLOGIES, throughProxies } from '../helpers/proxied-topology'

const { long } = faultRun('half-open connections', 0)

for (const [name, start] of Object.entries(TOPOLOGIES))
  describe(`a half-open connection with ${name}`, { skip: !long && 'in npm run test:faults' }, () => {
    let servers: Servers
    before(async () => {
      servers = await start()
    })
    after(() => servers.stop())

    for (const direction of DIRECTIONS)
      it(`that loses ${direction} is noticed, and the next call goes over a new one`, () =>
        throughProxies(servers, (target, proxies) => assertNoticed(target, proxies, direction)))

    it('that only listens is noticed', () => throughProxies(servers, assertListenerNotices))
  })
