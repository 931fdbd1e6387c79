/** The router on a workstation, over real HTTP: what is tracked anywhere is seen here. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { createWorkstation, startWorkflowTracking, type Workstation } from '../../index.js'
import {
  bearerAuth,
  createWorkflowStateRouter,
  healthRouter,
  type WorkflowStateRouter,
} from '../../express.js'
import { onEveryBackend } from '../helpers/backends'
import { EventStream } from '../helpers/event-stream'
import { FRAMEWORKS, HttpServer, request } from '../helpers/http'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

interface Served {
  workstation: Workstation
  router: WorkflowStateRouter
  server: HttpServer
  stop(): Promise<void>
}

async function serve(workstation: Workstation): Promise<Served> {
  const router = createWorkflowStateRouter({
    authenticate: false,
    workstation,
    stream: { heartbeatMs: 100 },
  })
  const health = healthRouter({ workstation, disk: false })
  const server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', health, router))
  const stop = async (): Promise<void> => {
    router.close()
    await server.stop()
    await workstation.close()
  }
  return { workstation, router, server, stop }
}

onEveryBackend('the router on a workstation', (backend) => {
  let here: Served
  let elsewhere: Workstation
  before(async () => {
    const target = await backend.freshTarget()
    here = await serve(createWorkstation({ redis: target, log: false }))
    elsewhere = createWorkstation({ redis: target, log: false })
  })
  after(async () => {
    await here.stop()
    await elsewhere.close()
  })

  it('shows what another one tracks', async () => {
    await elsewhere.startWorkflowTracking('exec-123', 'workflow-456', 5, { userId: 'user123' })
    await elsewhere.updateWorkflowProgress('exec-123', 2, 'Processing data', { recordsProcessed: 100 })
    const { status, body } = await request(`${here.server.url}/exec-123`)
    assert.equal(status, 200)
    assert.deepEqual(body, { success: true, state: await elsewhere.fetchWorkflowState('exec-123') })
    const list = await request(`${here.server.url}/active/list`)
    assert.deepEqual(list.body, { success: true, activeExecutions: ['exec-123'], count: 1 })
    const detail = await request(`${here.server.url}/active/detailed`)
    assert.deepEqual(detail.body, { success: true, workflows: [body.state], count: 1 })
    const { statistics } = (await request(`${here.server.url}/stats/overview`)).body
    assert.deepEqual(statistics, {
      activeExecutions: 1,
      executionsByStatus: { pending: 0, running: 1, completed: 0, failed: 0, cancelled: 0 },
      averageProgress: 40,
    })
    const cleanup = await request(`${here.server.url}/cleanup`, { method: 'POST' })
    assert.deepEqual(cleanup.body, { success: true, message: 'Cleanup completed', cleaned: 0, errors: 0 })
    await elsewhere.completeWorkflowTracking('exec-123', 'completed')
  })

  it('streams what another one tracks, to its end', async () => {
    await elsewhere.startWorkflowTracking('live', 'w', 4)
    using stream = await EventStream.open(`${here.server.url}/live/stream`)
    await stream.received(1)
    await elsewhere.updateWorkflowProgress('live', 1, 'first')
    await stream.received(2)
    await elsewhere.completeWorkflowTracking('live', 'failed', 'too late')
    await until('the end', () => stream.ended)
    assert.deepEqual(
      stream.events.map(({ event, data }) => [event, data.status ?? data.reason, data.progress]),
      [
        ['progress', 'running', 0],
        ['progress', 'running', 25],
        ['progress', 'failed', 25],
        ['end', 'failed', undefined],
      ],
    )
    assert.equal(
      (
        await request(`${here.server.url}/live/stream`, {
          headers: { 'last-event-id': stream.events[2]?.id ?? '' },
        })
      ).status,
      204,
    )
  })

  it('opens one stream for a ticket', async () => {
    await elsewhere.startWorkflowTracking('ticketed', 'w', 4)
    await elsewhere.startWorkflowTracking('other', 'w', 4)
    const exp = Date.now() / 1000 + 3600
    const router = createWorkflowStateRouter({
      authenticate: bearerAuth({
        verify: (token) => (token === 'good' ? { scope: 'workflow:read', exp } : { exp }),
      }),
      workstation: here.workstation,
    })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
    const issue = (token: string) =>
      request(`${server.url}/ticketed/stream-ticket`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}` },
      })
    const { status, body } = await issue('good')
    assert.deepEqual(
      [status, body.expiresIn, Object.keys(body)],
      [201, 30, ['success', 'ticket', 'expiresIn']],
    )
    assert.equal((await issue('bad')).status, 403)
    assert.equal((await request(`${server.url}/ticketed/stream-ticket`, { method: 'POST' })).status, 401)

    const opened = (id: string, ticket: string) =>
      EventStream.open(`${server.url}/${id}/stream?ticket=${ticket}`)
    for (const [id, ticket] of [
      ['other', body.ticket],
      ['ticketed', body.ticket.toLowerCase()],
      ['ticketed', ''],
      ['ticketed', 'x'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      using refused = await opened(id, ticket)
      assert.equal(refused.status, 401, ticket)
    }
    const streams = await Promise.all([1, 2, 3, 4].map(() => opened('ticketed', body.ticket)))
    assert.deepEqual(streams.map((stream) => stream.status).toSorted(), [200, 401, 401, 401])
    const good = streams.find((stream) => stream.status === 200)
    await good?.received(1)
    for (const stream of streams) stream.close()
    assert.equal(
      (await request(`${server.url}/ticketed?ticket=${(await issue('good')).body.ticket}`)).status,
      401,
    )
  })

  it('is ready, and has the documented health', async () => {
    assert.equal((await request(`${here.server.url}/ready`)).status, 200)
    const { body } = await request(`${here.server.url}/health`)
    assert.equal(body.status, 'healthy')
    assert.deepEqual(Object.keys(body.checks.redis), ['status', 'latency'])
  })
})

describe('the router on the default workstation', () => {
  before(() => void (process.env['REDIS_ENABLED'] = 'false'))

  it('shows what the documented functions track', async () => {
    const router = createWorkflowStateRouter({ authenticate: false })
    const health = healthRouter({ disk: false })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', health, router))
    await startWorkflowTracking('exec-123', 'workflow-456', 5)
    const { body } = await request(`${server.url}/exec-123`)
    assert.equal(body.state.workflowId, 'workflow-456')
    assert.equal((await request(`${server.url}/health`)).body.checks.redis.status, 'disabled')
  })
})

describe('the router on a server', () => {
  it('stores no ticket, and nothing of one that was used', async () => {
    await using redis = await RedisServer.start()
    using client = await redis.client()
    const here = await serve(createWorkstation({ redis: redis.url, log: false }))
    try {
      await here.workstation.startWorkflowTracking('a', 'w', 2)
      const { body } = await request(`${here.server.url}/a/stream-ticket`, { method: 'POST' })
      const [key = '', ...others] = (await client.command('KEYS', 'wks:stream-ticket:*')) as string[]
      assert.deepEqual(others, [])
      assert.ok(key !== '' && !key.includes(body.ticket))
      const ttl = Number(await client.command('TTL', key))
      assert.ok(ttl > 0 && ttl <= 30, `${ttl} s`)
      using stream = await EventStream.open(`${here.server.url}/a/stream?ticket=${body.ticket}`)
      assert.equal(stream.status, 200)
      assert.deepEqual(await client.command('KEYS', 'wks:stream-ticket:*'), [])
    } finally {
      await here.stop()
    }
  })

  it('has one subscription for all clients, and none without a client', async () => {
    await using redis = await RedisServer.start()
    using client = await redis.client()
    const here = await serve(createWorkstation({ redis: redis.url, log: false }))
    const channels = async (): Promise<number[]> => {
      const names = (await client.command('PUBSUB', 'CHANNELS')) as string[]
      const counts = (await client.command('PUBSUB', 'NUMSUB', ...names)) as (string | number)[]
      return counts.filter((count) => typeof count === 'number')
    }
    try {
      for (const id of ['a', 'b']) await here.workstation.startWorkflowTracking(id, 'w', 2)
      const streams = await Promise.all(
        Array.from({ length: 1000 }, (_, at) =>
          EventStream.open(`${here.server.url}/${at % 2 ? 'a' : 'b'}/stream`),
        ),
      )
      await until('all have begun', () => streams.every(({ events }) => events.length === 1), 30_000)
      assert.deepEqual(await channels(), [1])
      await here.workstation.updateWorkflowProgress('a', 1, 'half')
      const heard = (): number => streams.filter(({ events }) => events.length === 2).length
      await until('those of one have heard', () => heard() === 500, 30_000)
      for (const stream of streams) stream.close()
      await until('nobody listens', async () => (await channels()).length === 0, 30_000)
    } finally {
      await here.stop()
    }
  })

  it('keeps its streams over an outage, and says what it cannot do meanwhile', async () => {
    await using redis = await RedisServer.start()
    const here = await serve(
      createWorkstation({ redis: redis.url, log: false, degraded: { minOpenMs: 100 } }),
    )
    try {
      await here.workstation.startWorkflowTracking('exec-123', 'w', 4)
      using stream = await EventStream.open(`${here.server.url}/exec-123/stream`)
      await stream.received(1)
      await redis.kill()
      await until(
        'it is not ready',
        async () => (await request(`${here.server.url}/ready`)).status === 503,
        20_000,
      )
      assert.equal((await request(`${here.server.url}/live`)).status, 200)
      const health = await request(`${here.server.url}/health`)
      assert.deepEqual([health.status, health.body.status], [200, 'degraded'])
      assert.ok(['down', 'error'].includes(health.body.checks.redis.status), health.body.checks.redis.status)
      for (const path of ['/active/list', '/active/detailed', '/stats/overview']) {
        // oxlint-disable-next-line no-await-in-loop -- three routes
        const { status, body } = await request(here.server.url + path)
        const count = body.count ?? body.statistics.activeExecutions
        assert.deepEqual([status, body.degraded, count], [200, true, 1], path)
      }
      const { state } = (await request(`${here.server.url}/exec-123`)).body
      assert.deepEqual([state.degraded, state.status], [true, 'running'])
      const cleanup = await request(`${here.server.url}/cleanup`, { method: 'POST' })
      assert.equal(cleanup.status, 503)
      assert.deepEqual(Object.keys(cleanup.body), ['success', 'error', 'code'])
      assert.doesNotMatch(JSON.stringify(cleanup.body), new RegExp(`${redis.port}|127\\.0\\.0\\.1`))
      assert.equal(stream.ended, false)
      // It comes back without its data.
      await redis.restart()
      await until(
        'it is ready',
        async () => (await request(`${here.server.url}/ready`)).status === 200,
        20_000,
      )
      await here.workstation.startWorkflowTracking('exec-123', 'w', 4)
      await here.workstation.updateWorkflowProgress('exec-123', 3, 'after')
      using later = await EventStream.open(`${here.server.url}/exec-123/stream`)
      await until('progress goes on', () => later.events.at(-1)?.data.progress === 75, 20_000)
    } finally {
      await here.stop()
    }
  })
})
