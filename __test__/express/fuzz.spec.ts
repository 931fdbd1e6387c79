/**
 * Random requests: whatever comes in, and whatever is stored, nothing is answered with 500 or more. ROUTER_REQUESTS sets how many, and
 * ROUTER_SEED repeats a run.
 */
import assert from 'node:assert/strict'
import { Agent, type IncomingHttpHeaders, request as open } from 'node:http'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import {
  bearerAuth,
  createWorkflowStateRouter,
  healthRouter,
  type HealthSource,
  type WorkflowStateSource,
} from '../../express.js'
import { createWorkstation } from '../../index.js'
import { FakeWorkstation } from '../helpers/fake-workstation'
import { FRAMEWORKS, type Framework, HttpServer } from '../helpers/http'
import { RedisServer } from '../helpers/redis-server'

const REQUESTS = Number(process.env['ROUTER_REQUESTS'] || 5000)
const SEED = process.env['ROUTER_SEED'] === undefined ? undefined : Number(process.env['ROUTER_SEED'])
const CODES = /^[A-Z][A-Z_]+$/

interface Sent {
  method: string
  path: string
  headers: Record<string, string>
  body: string | undefined
}

/** What Node itself lets out; what it does not, no server of Node lets in either. */
const pathText = fc
  .string({ unit: 'binary', maxLength: 40 })
  .map((text) => encodeURIComponent(text).replaceAll('%2F', '/'))
const rawPathText = fc.stringMatching(/^[!-~]{0,30}$/).map((text) => text.replaceAll(/[?#]/g, '%'))
const segment = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'exec-123',
      'active',
      'list',
      'detailed',
      'stats',
      'overview',
      'cleanup',
      'stream',
      'stream-ticket',
      'health',
      'ready',
    ),
  },
  { weight: 2, arbitrary: pathText },
  { weight: 2, arbitrary: rawPathText },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '',
      '.',
      '..',
      '%',
      '%00',
      '%0d%0a',
      '%ff',
      '%F0%9F%92%A5',
      '__proto__',
      'constructor',
      '*',
      ':executionId',
      '%2e%2e',
      '%ED%A0%80',
    ),
  },
  { weight: 1, arbitrary: fc.nat(600).map((length) => 'x'.repeat(length)) },
)
const value = fc.oneof(
  fc.stringMatching(/^[!-~]{0,30}$/).map(encodeURIComponent),
  fc.constantFrom('1', '0', '-1', '1e9', '10000', 'NaN', '%00', '%'),
)
const query = fc.oneof(
  fc.constant(''),
  fc
    .array(
      fc.tuple(
        fc.constantFrom('limit', 'cursor', 'lastEventId', 'ticket', 'x', '__proto__', 'limit[]'),
        value,
      ),
      {
        maxLength: 4,
      },
    )
    .map((pairs) => `?${pairs.map((pair) => pair.join('=')).join('&')}`),
)
const headerValue = fc.stringMatching(/^[ -~]{0,40}$/)
const headers = fc.record(
  {
    authorization: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom('Bearer good', 'Bearer reader') },
      { weight: 1, arbitrary: headerValue },
      { weight: 1, arbitrary: headerValue.map((text) => `Bearer ${text}`) },
    ),
    'content-type': fc.oneof(
      fc.constantFrom('application/json', 'text/plain', 'application/json; charset=utf-16'),
      headerValue,
    ),
    'content-encoding': fc.constantFrom('gzip', 'identity', 'br, br'),
    'last-event-id': fc.oneof(headerValue, fc.constantFrom('1700000030000', 'NaN', '-1')),
    'transfer-encoding': fc.constant('chunked'),
    accept: headerValue,
    'x-http-method-override': fc.constantFrom('DELETE', 'POST'),
  },
  { requiredKeys: [] },
)
const body = fc.oneof(
  fc.constant(undefined),
  fc.json({ maxDepth: 3 }),
  fc.json().map((text) => text.slice(0, -1)),
  fc.string({ unit: 'binary', maxLength: 100 }),
  fc.nat(40_000).map((length) => `{"a":"${'x'.repeat(length)}"}`),
)
const sent: fc.Arbitrary<Sent> = fc.record({
  method: fc.constantFrom(
    'GET',
    'GET',
    'GET',
    'HEAD',
    'POST',
    'POST',
    'PUT',
    'PATCH',
    'DELETE',
    'OPTIONS',
    'PROPFIND',
  ),
  path: fc
    .tuple(
      fc.oneof(
        {
          weight: 1,
          arbitrary: fc.constantFrom(
            '/cleanup',
            '/exec-123/stream',
            '/exec-123/stream-ticket',
            '/active/list',
            '/exec-123',
          ),
        },
        {
          weight: 3,
          arbitrary: fc.array(segment, { maxLength: 4 }).map((segments) => `/${segments.join('/')}`),
        },
      ),
      query,
    )
    .map((parts) => parts.join('')),
  headers: headers as fc.Arbitrary<Record<string, string>>,
  body,
})

/** Each of these has an answer that chance may not find. */
const EXAMPLES: [Sent][] = [
  ['POST', '/cleanup', 'Bearer reader'],
  ['GET', '/exec-123', 'Bearer good'],
  ['GET', '/exec-123', 'Bearer bad'],
  ['GET', '/nobody', 'Bearer good'],
  ['GET', '/active/list?limit=x', 'Bearer good'],
  ['GET', '/x', 'Bearer good'],
].map(([method, path, authorization]) => [
  { method: method!, path: path!, headers: { authorization: authorization! }, body: undefined },
])

interface Got {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** A stream that stays open counts as answered. */
function send(port: number, agent: Agent, { method, path, headers: extra, body: text }: Sent): Promise<Got> {
  return new Promise((resolve, reject) => {
    const outgoing = open({ port, host: '127.0.0.1', agent, method, path, headers: extra }, (response) => {
      let received = ''
      const done = (): void =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: received })
      response.on('data', (chunk: Buffer) => (received += chunk.toString()))
      response.on('end', done)
      response.on('error', done)
      if (response.headers['content-type']?.startsWith('text/event-stream') === true) response.destroy()
      response.on('close', done)
    })
    // Node announces no body of a GET, say, and the server would take it for the next request.
    if (
      text !== undefined &&
      !outgoing.hasHeader('content-length') &&
      !outgoing.hasHeader('transfer-encoding')
    )
      outgoing.setHeader('content-length', Buffer.byteLength(text))
    let answered = false
    outgoing.on('response', () => (answered = true))
    // A server that refuses a body closes before it has all of it.
    outgoing.on('error', (error) => (answered ? undefined : reject(error)))
    outgoing.end(text)
  })
}

type Source = WorkflowStateSource & HealthSource

const IDS = ['exec-123', 'x', '__proto__']
const COMMON = [200, 400, 401, 403, 404]

async function onFake(run: (source: Source) => Promise<void>): Promise<void> {
  const workstation = new FakeWorkstation()
  for (const id of IDS) workstation.start(id)
  await run(workstation)
}

/** A server on which others have stored what is no state. */
async function onRedis(run: (source: Source) => Promise<void>): Promise<void> {
  await using redis = await RedisServer.start()
  const workstation = createWorkstation({ redis: redis.url, log: false })
  using client = await redis.client()
  const active = ['x', '__proto__', 'list', 'stats', 'ghost', Buffer.from([0xff, 0])]
  await client.command('SADD', 'wks:executions:active', ...active)
  await client.command('SET', 'wks:workflow:x', '{"status":')
  await client.command('SET', 'wks:workflow:__proto__', '[]')
  await client.command('SET', 'wks:workflow:stats', '{"status":"constructor","updatedAt":null}')
  await client.command('RPUSH', 'wks:workflow:list', 'x')
  await workstation.startWorkflowTracking('exec-123', 'wf', 4, { token: 'x', deep: { list: [1, {}] } })
  try {
    await run(workstation)
    assert.equal((await workstation.fetchWorkflowState('exec-123'))?.status, 'running')
  } finally {
    await workstation.close()
  }
}

const CASES: [name: string, framework: Framework, on: typeof onFake, statuses: number[]][] = [
  ...Object.entries(FRAMEWORKS).map(([name, framework]): (typeof CASES)[number] => [
    name,
    framework,
    onFake,
    COMMON,
  ]),
  ['Express 5, on a Redis', FRAMEWORKS['Express 5']!, onRedis, [...COMMON, 409]],
]

for (const [name, framework, on, expected] of CASES)
  describe(`random requests in ${name}`, () => {
    it('are never answered with 500 or more', { timeout: 550_000 }, () =>
      on(async (workstation) => {
        const failures: { code: string }[] = []
        const router = createWorkflowStateRouter({
          authenticate: bearerAuth({
            verify: (token) =>
              ({ good: { scope: 'workflow:read workflow:admin' }, reader: { scope: 'workflow:read' } })[
                token
              ],
          }),
          workstation,
          onError: (error) => failures.push(error as { code: string }),
        })
        await using server = await HttpServer.start(framework('/', healthRouter({ workstation }), router))
        const agent = new Agent({ keepAlive: true, maxSockets: 8 })
        const statuses = new Map<number, number>()
        let lost = 0
        const property = fc.asyncProperty(sent, async (one) => {
          const got = await send(server.port, agent, one).catch((error: NodeJS.ErrnoException) => {
            // The server closes the connection of a body that it does not want, at times before the answer is read.
            if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return void (lost += 1)
            throw error
          })
          if (got === undefined) return
          statuses.set(got.status, (statuses.get(got.status) ?? 0) + 1)
          assert.ok(got.status < 500, `${got.status} ${got.body}`)
          if (got.status === 401) assert.match(got.headers['www-authenticate'] ?? '', /^Bearer realm=/)
          if (got.headers['content-type']?.startsWith('application/json') !== true || got.body === '') return
          const answer = JSON.parse(got.body)
          if (got.status >= 400) {
            assert.deepEqual(Object.keys(answer), ['success', 'error', 'code'])
            assert.match(answer.code, CODES)
          }
        })
        const numRuns = Math.ceil(REQUESTS / CASES.length)
        const seed = SEED === undefined ? {} : { seed: SEED }
        try {
          await fc.assert(property, { numRuns, examples: EXAMPLES, ...seed })
        } finally {
          router.close()
          agent.destroy()
        }
        // What cannot be read is reported, and nothing else is ours.
        const unreadable = statuses.get(409) ?? 0
        // More than that: what follows a body that nobody announced is refused by Node, together with the request.
        assert.ok(failures.length >= unreadable, `${failures.length} of ${unreadable}`)
        for (const { code } of failures) assert.ok(code === 'CORRUPT_ENTRY' || code === 'WRONG_TYPE', code)
        assert.ok(lost <= numRuns / 100, `${lost} answers were lost`)
        for (const status of expected) assert.ok((statuses.get(status) ?? 0) > 0, `${status}`)
      }),
    )
  })
