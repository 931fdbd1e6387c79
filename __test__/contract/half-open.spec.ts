/** A connection through which nothing passes any more, while nobody closes it: on one server, all cases at once. */
import { after, before, describe, it } from 'node:test'
import { CountingProxy } from '../helpers/counting-proxy'
import { DIRECTIONS, assertListenerNotices, assertNoticed } from '../helpers/half-open'
import { RedisServer } from '../helpers/redis-server'

describe('a half-open connection', { concurrency: true }, () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.stop())

  for (const direction of DIRECTIONS)
    it(`that loses ${direction} is noticed, and the next call goes over a new one`, async () => {
      await using proxy = await CountingProxy.start(server)
      await assertNoticed(proxy.url, [proxy], direction)
    })

  for (const protocol of [2, 3] as const)
    it(`that only listens is noticed in RESP${protocol}`, async () => {
      await using proxy = await CountingProxy.start(server)
      await assertListenerNotices({ host: proxy.host, port: proxy.port, protocol }, [proxy])
    })
})
