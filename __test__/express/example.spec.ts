/** The example application, as users run it: a process of its own, spoken to over HTTP. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { createWorkstation, type Workstation } from '../../index.js'
import { EventStream } from '../helpers/event-stream'
import { ExpressApp } from '../helpers/express-app'
import { request } from '../helpers/http'
import { parse } from '../helpers/metrics'
import { RedisServer } from '../helpers/redis-server'
import { readSpecBlocks, specPath, specSkipReason } from '../helpers/spec'
import { until } from '../helpers/wait'

for (const where of ['memory', 'redis'] as const)
  describe(`the example application on ${where}`, () => {
    let redis: RedisServer
    let app: ExpressApp
    before(async () => {
      redis = await RedisServer.start()
      app = await ExpressApp.start(where === 'redis' ? redis : undefined)
    })
    after(async () => {
      await app[Symbol.asyncDispose]()
      await redis.stop()
    })

    const start = (body: unknown = { photos: 3 }) =>
      request(`${app.url}/api/albums`, {
        method: 'POST',
        headers: { ...app.headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })

    it('works on an album, and reports progress', async () => {
      const { status, headers, body } = await start()
      assert.equal(status, 202)
      assert.equal(headers.get('location'), `workflow-state/${body.executionId}`)
      const location = new URL(headers.get('location')!, `${app.url}/api/albums`).href
      using stream = await EventStream.open(`${location}/stream`, app.headers)
      await until('the end', () => stream.ended, 15_000)
      const progress = stream.named('progress').map(({ data }) => data.progress)
      // A stream begins with what is so by then, and states that follow at once are one event.
      const seen = [...new Set(progress)]
      assert.ok(seen.length > 1 && seen.at(-1) === 100, `${seen}`)
      assert.deepEqual(
        seen,
        [0, 20, 40, 60, 80, 100].filter((each) => seen.includes(each)),
      )
      const { state } = (await request(location, { headers: app.headers })).body
      assert.deepEqual([state.status, state.data], ['completed', { photos: 3, thumbnails: 3 }])
    })

    it('is healthy, alive and ready, without a token', async () => {
      const { status, body } = await request(`${app.url}/health`)
      assert.deepEqual([status, body.status], [200, 'healthy'])
      assert.equal(body.checks.redis.status, where === 'redis' ? 'up' : 'disabled')
      for (const path of ['/live', '/ready'])
        // oxlint-disable-next-line no-await-in-loop -- two routes
        assert.equal((await request(app.url + path)).status, 200, path)
    })

    it('shows its metrics, and names nothing in them that is only its own', async () => {
      const { body: started } = await start()
      const { status, headers, body } = await request(`${app.url}/metrics`)
      assert.equal(status, 200)
      assert.match(headers.get('content-type') ?? '', /^text\/plain; ?version=0\.0\.4/)
      const series = parse(body as string)
      assert.equal(series.get('redis_connection_status'), where === 'redis' ? 1 : 0)
      assert.equal(series.get('redis_fallback_active'), 0)
      assert.equal(series.get('redis_commands_total')! > 0, where === 'redis')
      assert.ok(series.get('ferroflow_operation_duration_seconds_count{operation="tracking.replace"}')! > 0)
      assert.ok(!body.includes(started.executionId) && !body.includes(app.token))
      assert.ok(series.size <= 200, `${series.size} series`)
    })

    it('refuses what it cannot use', async () => {
      for (const body of [{ photos: 0 }, { photos: 'x' }, { photos: 1001 }])
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assert.equal((await start(body)).status, 400)
      assert.equal((await start({ text: 'x'.repeat(2000) })).status, 413)
      const cut = await request(`${app.url}/api/albums`, {
        method: 'POST',
        headers: { ...app.headers, 'content-type': 'application/json' },
        body: '{"photos":',
      })
      assert.deepEqual([cut.status, cut.body.code], [400, 'BAD_REQUEST'])
      for (const [path, method] of [
        ['/api/albums', 'POST'],
        ['/api/workflow-state/active/list', 'GET'],
        ['/api/workflow-state/cleanup', 'POST'],
      ] as const)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assert.equal((await request(app.url + path, { method })).status, 401, path)
      assert.equal((await request(`${app.url}/nothing`)).status, 404)
    })

    it('prints a token where there is no secret', async () => {
      await using other = await ExpressApp.start(undefined, { JWT_SECRET: '' })
      const [, token] = await other.program.printed(/#token=(\S+)/)
      const list = (authorization: string) =>
        request(`${other.url}/api/workflow-state/active/list`, { headers: { authorization } })
      assert.equal((await list(`Bearer ${token}`)).status, 200)
      assert.equal((await list(`Bearer ${app.token}`)).status, 401)
    })

    it('ends in order, with streams open', async () => {
      await using other = await ExpressApp.start(where === 'redis' ? redis : undefined, { STEP_MS: '60000' })
      const { body } = await request(`${other.url}/api/albums`, { method: 'POST', headers: other.headers })
      using stream = await EventStream.open(
        `${other.url}/api/workflow-state/${body.executionId}/stream`,
        other.headers,
      )
      await stream.received(1)
      other.program.kill('SIGTERM')
      assert.deepEqual(await other.program.ended(), { code: 0, signal: null }, other.program.output)
    })
  })

describe('the documented calls', { skip: specSkipReason() }, () => {
  let redis: RedisServer
  let app: ExpressApp
  let workstation: Workstation
  const now = 1_700_000_000_000
  before(async () => {
    redis = await RedisServer.start()
    app = await ExpressApp.start(redis)
    workstation = createWorkstation({ redis: redis.url, log: false })
  })
  after(async () => {
    await workstation.close()
    await app[Symbol.asyncDispose]()
    await redis.stop()
  })

  const document = 'workstation-redis.md'
  const calls = specSkipReason() === false ? documentedCalls(specPath(document)) : []

  it('are all found', () => {
    assert.deepEqual(
      calls.map(({ method, path }) => `${method} ${path}`),
      [
        'GET /api/workflow-state/:executionId',
        'GET /api/workflow-state/active/list',
        'GET /api/workflow-state/active/detailed',
        'GET /api/workflow-state/stats/overview',
        'POST /api/workflow-state/cleanup',
        'GET /health',
      ],
    )
  })

  for (const { method, path, answer } of calls)
    it(`${method} ${path} has the documented answer`, async () => {
      await redis.client().then(async (client) => {
        await client.command('FLUSHALL')
        client.close()
      })
      const ids = answer.activeExecutions ?? ['exec-123', 'exec-456', 'exec-789'].slice(0, answer.count ?? 3)
      for (const executionId of ids) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await workstation.startWorkflowTracking(executionId, 'workflow-456', 5)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await workstation.updateWorkflowProgress(executionId, 2, 'Processing data')
      }
      if (path.endsWith('/cleanup'))
        for (const executionId of ['stuck-1', 'stuck-2'])
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          await workstation
            .setWorkflowState(executionId, stuck(executionId))
            .then(() => workstation.addActiveExecution(executionId))
      const url = app.url + path.replace(':executionId', 'exec-123')
      const { status, body } = await request(url, { method, headers: app.headers })
      assert.equal(status, 200)
      // The example has no database to look at.
      const { database: _, ...checks } = answer.checks ?? {}
      const expected = answer.checks === undefined ? answer : { ...answer, checks }
      assertAlike(body, expected, method)
      if (answer.state !== undefined)
        for (const name of [
          'executionId',
          'workflowId',
          'status',
          'progress',
          'currentStep',
          'totalSteps',
          'completedSteps',
        ])
          assert.equal(body.state[name], answer.state[name], name)
      else if (answer.statistics !== undefined) {
        const { averageProgress } = body.statistics
        assert.deepEqual(body, { ...answer, statistics: { ...answer.statistics, averageProgress } })
        assert.equal(averageProgress, 40)
      } else if (answer.workflows !== undefined) assert.equal(body.count, answer.count)
      else if (answer.checks === undefined) assert.deepEqual(body, answer)
    })

  it('clean up by the documented curl', async () => {
    const [curl] = readSpecBlocks(specPath(document), 'bash').filter(({ code }) => code.includes('curl '))
    assert.match(
      curl?.code ?? '',
      /curl -X POST http:\/\/localhost:3000(\/\S+) \\\s+-H "Authorization: Bearer YOUR_TOKEN"/,
    )
    const { status } = await request(`${app.url}/api/workflow-state/cleanup`, {
      method: 'POST',
      headers: app.headers,
    })
    assert.equal(status, 200)
  })

  /** What nobody has touched for hours. */
  function stuck(executionId: string): object {
    const state = { executionId, workflowId: 'w', status: 'running', progress: 0, currentStep: 'x', data: {} }
    return { ...state, totalSteps: 1, completedSteps: 0, startedAt: now, updatedAt: now }
  }
})

/** A documented answer and ours must have the same names, and values of the same kinds. */
function assertAlike(actual: any, documented: any, path: string): void {
  assert.equal(Array.isArray(actual), Array.isArray(documented), path)
  assert.equal(typeof actual, typeof documented, path)
  if (typeof documented !== 'object' || documented === null) return
  for (const [name, value] of Object.entries(documented)) {
    assert.ok(name in actual, `${path}.${name}`)
    assertAlike(actual[name], value, `${path}.${name}`)
  }
}

interface DocumentedCall {
  method: string
  path: string
  answer: any
}

/** `GET /path` in a bash block, and the JSON block behind it under the same heading. */
function documentedCalls(path: string): DocumentedCall[] {
  const answers = readSpecBlocks(path, 'json')
  return readSpecBlocks(path, 'bash').flatMap(({ code, headings, line }) => {
    const [, method, route] = /^(GET|POST) (\/\S*)/.exec(code) ?? []
    const answer = answers.find((one) => one.line > line && String(one.headings) === String(headings))
    if (method === undefined || route === undefined || answer === undefined) return []
    return [{ method, path: route, answer: JSON.parse(answer.code) }]
  })
}
