/** What of a state is shown, and under which paths, over real HTTP. */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import express from 'express'
import {
  createWorkflowStateRouter,
  redactSecrets,
  type WorkflowStateRouter,
  type WorkflowStateRouterOptions,
} from '../../express.js'
import { EventStream } from '../helpers/event-stream'
import { FakeWorkstation } from '../helpers/fake-workstation'
import { FRAMEWORKS, HttpServer, request, stripping } from '../helpers/http'
import { until } from '../helpers/wait'

const HIDDEN = '[redacted]'
const SECRETS = {
  password: 'hunter2',
  dbPassword: 7,
  api_token: 'x',
  accessToken: { value: 'x' },
  SECRET: ['x'],
  Authorization: 'Bearer x',
}
const HARMLESS = {
  userId: 'u',
  tokensUsed: 5,
  tokenCount: 5,
  tokenizer: 'bpe',
  author: 'a',
  list: ['x', 1, null],
}

describe('what is shown of a state', () => {
  const workstation = new FakeWorkstation()
  let router: WorkflowStateRouter
  let server: HttpServer
  const serve = async (options: Partial<WorkflowStateRouterOptions> = {}): Promise<void> => {
    router = createWorkflowStateRouter({ authenticate: false, workstation, ...options })
    server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
  }
  beforeEach(() => workstation.states.clear())
  afterEach(async () => {
    router.close()
    await server.stop()
  })

  /** `data` of an execution in each answer that has it. */
  async function shown(): Promise<unknown[]> {
    const { state } = (await request(`${server.url}/e`)).body
    const { workflows } = (await request(`${server.url}/active/detailed`)).body
    using stream = await EventStream.open(`${server.url}/e/stream`)
    await stream.received(1)
    workstation.change('e', { progress: 50 })
    await stream.received(2)
    return [state, ...workflows, ...stream.events.map(({ data }) => data)].map(({ data }) => data)
  }

  it('is nothing that goes by the name of a secret, at any depth', async () => {
    await serve()
    workstation.start('e', { data: { ...HARMLESS, ...SECRETS, deep: [{ ...HARMLESS, ...SECRETS }] } })
    const hidden = Object.fromEntries(Object.keys(SECRETS).map((name) => [name, HIDDEN]))
    const expected = { ...HARMLESS, ...hidden, deep: [{ ...HARMLESS, ...hidden }] }
    const all = await shown()
    assert.equal(all.length, 4)
    for (const data of all) assert.deepEqual(data, expected)
  })

  it('is what redact says, or everything', async () => {
    const data = { ...SECRETS, email: 'a@b.c', '': 1 }
    await serve({
      redact: (name, value) => (name === 'email' ? undefined : name === '' ? 2 : redactSecrets(name, value)),
    })
    workstation.start('e', { data })
    for (const each of await shown()) {
      assert.deepEqual(Object.keys(each as object), [...Object.keys(SECRETS), ''])
      assert.equal((each as { '': number })[''], 2)
    }
    await server.stop()
    await serve({ redact: false })
    workstation.start('e', { data })
    for (const each of await shown()) assert.deepEqual(each, data)
    for (const redact of [true, 'x', null] as never[])
      assert.throws(() => createWorkflowStateRouter({ authenticate: false, redact }), /redact must be/)
  })

  it('is 4 KiB of data in a list, and all of it otherwise', async () => {
    await serve()
    const data = { first: 1, text: 'é'.repeat(1500), more: 'x'.repeat(1000), huge: 'x'.repeat(100_000) }
    workstation.start('e', { data })
    workstation.start('fits', { data: { text: 'x'.repeat(4000) } })
    const [cut, fits] = (await request(`${server.url}/active/detailed`)).body.workflows
    assert.deepEqual(Object.keys(cut.data), ['first', 'text', 'more'])
    assert.equal(cut.dataTruncated, true)
    assert.deepEqual([fits.data.text.length, 'dataTruncated' in fits], [4000, false])
    const { state } = (await request(`${server.url}/e`)).body
    assert.deepEqual([state.data, 'dataTruncated' in state], [data, false])
    await server.stop()
    await serve({ listDataBytes: 0 })
    const [none] = (await request(`${server.url}/active/detailed`)).body.workflows
    assert.deepEqual([none.data, none.dataTruncated], [{}, true])
    assert.throws(
      () => createWorkflowStateRouter({ authenticate: false, listDataBytes: -1 }),
      /listDataBytes/,
    )
  })

  it('is what others stored for data as well', async () => {
    await serve()
    for (const [id, data] of [
      ['a', undefined],
      ['b', null],
      ['c', 'text'],
      ['d', [{ token: 'x' }]],
    ] as const)
      workstation.start(id, { data: data as never })
    const { workflows } = (await request(`${server.url}/active/detailed`)).body
    assert.deepEqual(
      workflows.map((state: { data: unknown }) => state.data),
      [undefined, null, 'text', [{ token: HIDDEN }]],
    )
  })
})

for (const [name, framework] of Object.entries(FRAMEWORKS))
  describe(`the router in ${name}`, () => {
    const workstation = new FakeWorkstation()
    beforeEach(() => {
      workstation.states.clear()
      workstation.start('exec-123')
    })

    for (const mount of ['/', '/api', '/a/b/c', '/with%20space'])
      for (const behind of [false, true])
        it(`works at ${mount}${behind ? ' behind a proxy that strips a prefix' : ''}`, async () => {
          const router = createWorkflowStateRouter({ authenticate: false, workstation })
          await using server = await HttpServer.start(framework(mount, router))
          await using proxy = await stripping(server.port)
          const base = `${behind ? `${proxy.url}/public` : server.url}${mount === '/' ? '' : mount}`
          const list = await request(`${base}/active/list?limit=5`)
          assert.deepEqual([list.status, list.body.activeExecutions], [200, ['exec-123']])
          assert.equal((await request(`${base}/exec-123/`)).body.state.executionId, 'exec-123')
          assert.equal((await request(`${base}/cleanup`, { method: 'POST', body: '{}' })).status, 200)
          const { ticket } = (await request(`${base}/exec-123/stream-ticket`, { method: 'POST' })).body
          using stream = await EventStream.open(`${base}/exec-123/stream?ticket=${ticket}`)
          await stream.received(1)
          workstation.change('exec-123', { status: 'completed' })
          await until('the end', () => stream.ended)
          assert.equal(stream.events.at(-1)?.event, 'end')
          router.close()
        })
  })

describe('the router in a router', () => {
  it('works below parameters and other routers', async () => {
    const workstation = new FakeWorkstation()
    workstation.start('exec-123')
    const router = createWorkflowStateRouter({ authenticate: false, workstation })
    const app = express().use('/:tenant', express.Router().use('/v1', express.Router().use('/flows', router)))
    await using server = await HttpServer.start(app)
    assert.equal((await request(`${server.url}/acme/v1/flows/exec-123`)).status, 200)
    assert.equal((await request(`${server.url}/acme/v1/flows`)).status, 404)
  })
})
