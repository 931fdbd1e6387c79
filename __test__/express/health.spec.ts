/** The health routes, over real HTTP. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { healthRouter, type HealthRouterOptions } from '../../express.js'
import { FakeWorkstation } from '../helpers/fake-workstation'
import { type Answer, FRAMEWORKS, HttpServer, request } from '../helpers/http'
import { until } from '../helpers/wait'

async function asking(options: HealthRouterOptions, path: string): Promise<Answer> {
  await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', healthRouter(options)))
  return await request(server.url + path)
}

for (const [name, framework] of Object.entries(FRAMEWORKS))
  describe(`the health routes in ${name}`, () => {
    const workstation = new FakeWorkstation()
    let server: HttpServer
    before(async () => {
      const checks = { database: () => ({ status: 'up' as const, latency: 5 }) }
      server = await HttpServer.start(framework('/', healthRouter({ workstation, checks })))
    })
    after(() => server.stop())

    it('have the documented body', async () => {
      const { status, body } = await request(`${server.url}/health`)
      assert.equal(status, 200)
      assert.match(body.checks.diskSpace.available, /^\d+\.\dGB$/)
      body.checks.diskSpace.available = '50.5GB'
      assert.deepEqual(body, {
        status: 'healthy',
        checks: {
          database: { status: 'up', latency: 5 },
          redis: { status: 'up', latency: 2 },
          diskSpace: { status: 'up', available: '50.5GB' },
        },
      })
    })

    it('say that the process lives and is ready', async () => {
      const live = await request(`${server.url}/live`)
      assert.deepEqual([live.status, live.body], [200, { status: 'alive' }])
      const { status, body } = await request(`${server.url}/ready`)
      assert.deepEqual([status, body.status], [200, 'ready'])
    })

    it('leave everything else to the next handler', async () => {
      for (const [method, path] of [
        ['GET', '/'],
        ['GET', '/healthy'],
        ['POST', '/health'],
        ['GET', '/health/x'],
      ] as const)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assert.equal((await request(server.url + path, { method })).status, 404, path)
    })
  })

describe('the health routes', () => {
  let workstation: FakeWorkstation
  beforeEach(() => {
    workstation = new FakeWorkstation()
  })

  for (const [state, status, overall] of [
    ['up', 200, 'healthy'],
    ['disabled', 200, 'healthy'],
    ['down', 200, 'degraded'],
    ['error', 200, 'degraded'],
  ] as const)
    it(`report Redis as ${state}`, async () => {
      workstation.health = { status: state }
      const { status: got, body } = await asking({ workstation }, '/health')
      assert.deepEqual([got, body.status, body.checks.redis], [status, overall, { status: state }])
    })

  it('report an error where the check of Redis fails, without a word about it', async () => {
    workstation.failure = new Error('redis://:hunter2@10.0.0.7')
    const { status, body } = await asking({ workstation }, '/health')
    assert.deepEqual([status, body.status, body.checks.redis], [200, 'degraded', { status: 'error' }])
  })

  it('are unhealthy where another check fails', async () => {
    const failing: Record<string, HealthRouterOptions['checks']> = {
      down: { database: () => ({ status: 'down' }) },
      error: { database: () => assert.fail('hunter2') },
    }
    for (const [state, checks] of Object.entries(failing)) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const { status, body } = await asking({ workstation, checks, disk: false }, '/health')
      assert.equal(status, 503)
      assert.deepEqual(body, {
        status: 'unhealthy',
        checks: { database: { status: state }, redis: { status: 'up', latency: 2 } },
      })
    }
    const { body } = await asking({ workstation, minFreeBytes: Number.MAX_SAFE_INTEGER }, '/health')
    assert.deepEqual([body.status, body.checks.diskSpace.status], ['unhealthy', 'down'])
  })

  it('wait for no check longer than allowed', async () => {
    const checks = { database: () => new Promise<never>(() => undefined) }
    const begin = performance.now()
    const { status, body } = await asking({ workstation, checks, timeoutMs: 50 }, '/health')
    assert.deepEqual([status, body.checks.database], [503, { status: 'down' }])
    assert.ok(performance.now() - begin < 1000)
  })

  it('are not ready where Redis takes no writes, fails, or is too slow', async () => {
    const never = new Promise<boolean>(() => undefined)
    for (const ready of [() => Promise.resolve(false), () => Promise.reject(new Error('x')), () => never]) {
      workstation.ready = ready
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const { status, body } = await asking({ workstation, timeoutMs: 50 }, '/ready')
      assert.deepEqual([status, body.status], [503, 'not ready'])
    }
  })

  it('never touch Redis to say that the process lives', async () => {
    workstation.failure = new Error('down')
    assert.equal((await asking({ workstation }, '/live')).status, 200)
    assert.deepEqual(workstation.calls, [])
  })

  it('look once a second, however many ask', async () => {
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', healthRouter({ workstation })))
    const all = Array.from({ length: 200 }, (_, at) => request(server.url + (at % 2 ? '/ready' : '/health')))
    await Promise.all(all)
    const seconds = 3
    assert.ok(workstation.count('checkReadiness') <= seconds, `${workstation.count('checkReadiness')} times`)
    assert.ok(workstation.count('redisHealthCheck') <= seconds)
    const looks = workstation.count('checkReadiness')
    await until('it looks again', async () => {
      await request(`${server.url}/ready`)
      return workstation.count('checkReadiness') > looks
    })
  })

  it('refuse options that cannot be used', () => {
    for (const options of [
      { timeoutMs: 0 },
      { checks: { redis: () => ({ status: 'up' }) } },
      { checks: { a: 1 } },
      null,
    ])
      assert.throws(() => healthRouter(options as unknown as HealthRouterOptions))
  })
})
