/** The documented routes, over real HTTP, in every framework. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { ConfigError, ConnectionError, CorruptEntryError, ServerError, TimeoutError } from '../../index.js'
import { createWorkflowStateRouter, type WorkflowStateRouterOptions } from '../../express.js'
import { FakeWorkstation } from '../helpers/fake-workstation'
import { type Answer, FRAMEWORKS, HttpServer, request } from '../helpers/http'

const PATH = '/api/workflow-state'

for (const [name, framework] of Object.entries(FRAMEWORKS))
  describe(`the router in ${name}`, () => {
    let workstation: FakeWorkstation
    let server: HttpServer
    const seen: unknown[] = []
    const call = (path: string, init?: RequestInit): Promise<Answer> =>
      request(`${server.url}${PATH}${path}`, init)
    before(async () => {
      workstation = new FakeWorkstation()
      const router = createWorkflowStateRouter({
        authenticate: false,
        workstation,
        onError: (error) => seen.push(error),
      })
      server = await HttpServer.start(framework(PATH, router))
    })
    after(() => server.stop())
    beforeEach(() => {
      workstation.states.clear()
      workstation.calls.length = 0
      workstation.failure = undefined
      seen.length = 0
    })

    it('answers with a state', async () => {
      const state = workstation.start('exec-123')
      const answer = await call('/exec-123')
      assert.equal(answer.status, 200)
      assert.deepEqual(answer.body, { success: true, state })
      assert.equal(answer.headers.get('cache-control'), 'no-store')
    })

    it('answers 404 for an execution that is not known', async () => {
      const { status, body } = await call('/nobody')
      assert.equal(status, 404)
      assert.deepEqual(body, { success: false, error: 'Workflow state not found', code: 'NOT_FOUND' })
    })

    it('lists the ids of active executions', async () => {
      for (const id of ['exec-123', 'exec-456', 'exec-789']) workstation.start(id)
      workstation.start('ended', { status: 'completed' })
      const { status, body } = await call('/active/list')
      assert.equal(status, 200)
      assert.deepEqual(body, {
        success: true,
        activeExecutions: ['exec-123', 'exec-456', 'exec-789'],
        count: 3,
      })
    })

    it('lists active executions in detail', async () => {
      const state = workstation.start('exec-123')
      const { status, body } = await call('/active/detailed/')
      assert.equal(status, 200)
      assert.deepEqual(body, { success: true, workflows: [state], count: 1 })
    })

    it('pages through lists, and says what is left', async () => {
      for (const id of ['a', 'b', 'c']) workstation.start(id)
      for (const [path, member] of [
        ['/active/list', 'activeExecutions'],
        ['/active/detailed', 'workflows'],
      ] as const) {
        // oxlint-disable-next-line no-await-in-loop -- two routes
        const first = (await call(`${path}?limit=2`)).body
        assert.deepEqual([first.count, first.total, first.nextCursor], [2, 3, 'b'])
        // oxlint-disable-next-line no-await-in-loop -- two routes
        const second = (await call(`${path}?limit=2&cursor=${first.nextCursor}`)).body
        assert.deepEqual(Object.keys(second), ['success', member, 'count'])
        assert.equal(second.count, 1)
      }
    })

    it('answers with statistics', async () => {
      for (const id of ['a', 'b', 'c']) workstation.start(id, { progress: 35 })
      const { status, body } = await call('/stats/overview')
      assert.equal(status, 200)
      assert.deepEqual(body, {
        success: true,
        statistics: {
          activeExecutions: 3,
          executionsByStatus: { pending: 0, running: 3, completed: 0, failed: 0, cancelled: 0 },
          averageProgress: 35,
        },
      })
    })

    it('cleans up', async () => {
      const { status, body } = await call('/cleanup', { method: 'POST' })
      assert.equal(status, 200)
      assert.deepEqual(body, { success: true, message: 'Cleanup completed', cleaned: 2, errors: 0 })
    })

    it('answers HEAD like GET, without a body', async () => {
      workstation.start('exec-123')
      const { status, body } = await call('/exec-123', { method: 'HEAD' })
      assert.deepEqual([status, body], [200, ''])
    })

    it('refuses ids that cannot be one', async () => {
      const ids = [
        'x'.repeat(513),
        '%00',
        'a%0Ab',
        '%C2%9F',
        '%7F',
        'é'.repeat(257),
        '%',
        '%zz',
        '%ff',
        '%C3%28',
      ]
      for (const id of ids)
        for (const path of [`/${id}`, `/${id}/stream`]) {
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          const { status, body } = await call(path)
          assert.equal(status, 400, path)
          assert.equal(body.success, false)
        }
      assert.equal(workstation.count('fetchWorkflowState'), 0)
    })

    it('takes ids of 512 bytes, and whatever is no control character', async () => {
      for (const id of ['x'.repeat(512), 'é'.repeat(256), 'a b', 'a/b', '..', '__proto__', '💥', '%']) {
        workstation.start(id)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { status, body } = await call(`/${encodeURIComponent(id).replaceAll('.', '%2E')}`)
        // A URL cannot hold two dots, however they are written.
        if (id === '..') continue
        assert.deepEqual([status, body.state?.executionId], [200, id])
      }
    })

    it('refuses limits and cursors that cannot be one', async () => {
      for (const query of [
        'limit=0',
        'limit=-1',
        'limit=1e3',
        'limit=10001',
        'limit=x',
        'limit=',
        'cursor=%00',
      ]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { status, body } = await call(`/active/detailed?${query}`)
        assert.deepEqual([status, body.code], [400, 'INVALID_ARGUMENT'], query)
      }
    })

    it('refuses bodies that are too large, or not a JSON object', async () => {
      const json = { 'content-type': 'application/json' }
      const cases: [body: string, status: number, code: string][] = [
        [`{"a":"${'x'.repeat(20_000)}"}`, 413, 'PAYLOAD_TOO_LARGE'],
        ['{"a":', 400, 'INVALID_JSON'],
        ['not json', 400, 'INVALID_JSON'],
        ['[]', 400, 'INVALID_JSON'],
        ['null', 400, 'INVALID_JSON'],
        ['"text"', 400, 'INVALID_JSON'],
      ]
      for (const [body, status, code] of cases) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const answer = await call('/cleanup', { method: 'POST', body, headers: json })
        assert.deepEqual([answer.status, answer.body.code], [status, code], body.slice(0, 20))
      }
      assert.equal(workstation.count('cleanupStaleWorkflows'), 0)
      for (const body of ['', '{}', ' {"dryRun":false} '])
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assert.equal((await call('/cleanup', { method: 'POST', body, headers: json })).status, 200)
    })

    it('refuses a body of chunks that is too large before it has ended', async () => {
      const chunk = `1000\r\n${'x'.repeat(0x1000)}\r\n`
      const head = `POST ${PATH}/cleanup HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`
      assert.match(await server.raw(head + chunk.repeat(8)), /^HTTP\/1\.1 413 /)
    })

    it('cleans up nothing for a body that is cut', async () => {
      const head = `POST ${PATH}/cleanup HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n`
      assert.doesNotMatch(await server.raw(`${head}{"a":`), /^HTTP\/1\.1 (?:2|5)/)
      assert.equal(workstation.count('cleanupStaleWorkflows'), 0)
    })

    it('shows nothing of what went wrong inside', async () => {
      const secret = 'redis://user:hunter2@10.0.0.7:6379'
      const failures: [error: Error, status: number, code: string][] = [
        [
          new ConnectionError('REDIS_UNAVAILABLE', secret, { retryable: true, key: 'wks:workflow:x' }),
          503,
          'REDIS_UNAVAILABLE',
        ],
        [new TimeoutError('OUTCOME_UNKNOWN', secret), 503, 'OUTCOME_UNKNOWN'],
        [new ConnectionError('CLOSED', secret), 503, 'CLOSED'],
        [new CorruptEntryError('CORRUPT_ENTRY', secret, { key: 'wks:workflow:x' }), 409, 'CORRUPT_ENTRY'],
        [new ServerError('WRONG_TYPE', secret), 409, 'WRONG_TYPE'],
        [new Error(secret), 500, 'INTERNAL'],
      ]
      for (const [failure, status, code] of failures) {
        workstation.failure = failure
        for (const path of [
          '/exec-123',
          '/active/list',
          '/active/detailed',
          '/stats/overview',
          '/x/stream',
        ]) {
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          const answer = await call(path)
          assert.deepEqual([answer.status, answer.body.code], [status, code])
          assert.deepEqual(Object.keys(answer.body), ['success', 'error', 'code'])
          assert.doesNotMatch(JSON.stringify(answer.body), /hunter2|10\.0\.0\.7|wks:|\.ts/)
          if (status === 503) assert.equal(answer.headers.get('retry-after'), '1')
          assert.equal(seen.at(-1), failure)
        }
      }
    })

    it('leaves what is none of its routes to the next handler', async () => {
      const routes = [
        ['GET', '/'],
        ['GET', '/a/b'],
        ['GET', '/a/stream/c'],
        ['POST', '/exec-123'],
        ['DELETE', '/exec-123'],
        ['PUT', '/cleanup'],
        ['OPTIONS', '/active/list'],
      ] as const
      for (const [method, path] of routes) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { status } = await call(path, { method })
        assert.equal(status, 404, `${method} ${path}`)
      }
      assert.deepEqual(workstation.calls, [])
    })
  })

describe('the router', () => {
  const workstation = new FakeWorkstation()

  it('refuses to be made without authenticate', () => {
    for (const options of [
      undefined,
      {},
      { authenticate: undefined },
      { authenticate: true },
      { authenticate: 'x' },
    ])
      assert.throws(
        () => createWorkflowStateRouter(options as unknown as WorkflowStateRouterOptions),
        (error: Error) => /authenticate|options/.test(error.message),
      )
    assert.throws(
      () => createWorkflowStateRouter({ workstation } as unknown as WorkflowStateRouterOptions),
      ConfigError,
    )
  })

  it('changes nothing where it is only to read', async () => {
    const router = createWorkflowStateRouter({ authenticate: false, workstation, readOnly: true })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
    workstation.calls.length = 0
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
      for (const path of [
        '/cleanup',
        '/x',
        '/active/list',
        '/active/detailed',
        '/stats/overview',
        '/x/stream',
        '/x/stream-ticket',
      ]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { status } = await request(`${server.url}${path}`, { method })
        const known = method === 'POST' && ['/cleanup', '/x/stream-ticket'].includes(path)
        assert.equal(status, known ? 403 : 404, `${method} ${path}`)
      }
    assert.deepEqual(workstation.calls, [])
  })

  it('takes the body that a parser of the application has read', async () => {
    const { default: express } = await import('express')
    const router = createWorkflowStateRouter({ authenticate: false, workstation })
    const app = express().use(express.json()).use(router)
    await using server = await HttpServer.start(app)
    const headers = { 'content-type': 'application/json' }
    const good = await request(`${server.url}/cleanup`, { method: 'POST', body: '{"a":1}', headers })
    assert.equal(good.status, 200)
    const bad = await request(`${server.url}/cleanup`, { method: 'POST', body: '[1]', headers })
    assert.deepEqual([bad.status, bad.body.code], [400, 'INVALID_JSON'])
  })

  it('asks authorize, and nobody else, where it is given', async () => {
    const asked: string[] = []
    const router = createWorkflowStateRouter({
      authenticate: (_request, _response, next) => next(),
      authorize: (request_, access) => {
        asked.push(`${request_.method} ${access}`)
        return access === 'admin'
      },
      workstation,
    })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
    assert.equal((await request(`${server.url}/cleanup`, { method: 'POST' })).status, 200)
    const refused = await request(`${server.url}/active/list`)
    assert.deepEqual([refused.status, refused.body.code], [403, 'INSUFFICIENT_SCOPE'])
    assert.deepEqual(asked, ['POST admin', 'GET read'])
  })

  it('grants reading alone to whom another middleware let through', async () => {
    const router = createWorkflowStateRouter({
      authenticate: (_request, _response, next) => next(),
      workstation,
    })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
    assert.equal((await request(`${server.url}/active/list`)).status, 200)
    assert.equal((await request(`${server.url}/cleanup`, { method: 'POST' })).status, 403)
  })

  for (const [what, authenticate, status] of [
    ['answers by itself', (_q, response) => void response.writeHead(418).end(), 418],
    ['calls next with a 401', (_q, _s, next) => next(Object.assign(new Error('x'), { status: 401 })), 401],
    [
      'calls next with a 403',
      (_q, _s, next) => next(Object.assign(new Error('x'), { statusCode: 403 })),
      403,
    ],
    ["calls next('route')", (_q, _s, next) => next('route'), 403],
    ['throws', () => assert.fail('hunter2'), 500],
    ['rejects', () => Promise.reject(new Error('hunter2')), 500],
  ] as [string, WorkflowStateRouterOptions['authenticate'], number][])
    it(`lets nobody in if authenticate ${what}`, async () => {
      const router = createWorkflowStateRouter({ authenticate, workstation })
      await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
      workstation.calls.length = 0
      const answer = await request(`${server.url}/active/list`)
      assert.equal(answer.status, status)
      assert.doesNotMatch(JSON.stringify(answer.body), /hunter2/)
      assert.deepEqual(workstation.calls, [])
    })
})
