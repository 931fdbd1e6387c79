/** Live progress by server-sent events, over real HTTP. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  bearerAuth,
  createWorkflowStateRouter,
  type StreamOptions,
  type WorkflowStateRouter,
} from '../../express.js'
import { EventStream } from '../helpers/event-stream'
import { FakeWorkstation } from '../helpers/fake-workstation'
import { FRAMEWORKS, HttpServer, request } from '../helpers/http'
import { until } from '../helpers/wait'

for (const [name, framework] of Object.entries(FRAMEWORKS))
  describe(`the stream in ${name}`, () => {
    let workstation: FakeWorkstation
    let router: WorkflowStateRouter
    let server: HttpServer
    const serve = async (stream: StreamOptions = {}): Promise<void> => {
      router = createWorkflowStateRouter({ authenticate: false, workstation, stream })
      server = await HttpServer.start(framework('/flows', router))
    }
    const open = (id: string, headers?: Record<string, string>): Promise<EventStream> =>
      EventStream.open(`${server.url}/flows/${id}/stream`, headers)
    beforeEach(() => {
      workstation = new FakeWorkstation()
    })
    afterEach(() => server.stop())

    it('begins with the present state, passes changes on, and ends with the execution', async () => {
      await serve()
      const first = workstation.start('exec-123')
      using stream = await open('exec-123')
      assert.equal(stream.status, 200)
      const { headers } = stream.response
      assert.equal(headers['content-type'], 'text/event-stream; charset=utf-8')
      assert.equal(headers['cache-control'], 'no-cache, no-transform')
      assert.equal(headers['x-accel-buffering'], 'no')
      await stream.received(1)
      const second = workstation.change('exec-123', { progress: 60 })
      await stream.received(2)
      const third = workstation.change('exec-123', { progress: 100, status: 'completed' })
      await until('the end', () => stream.ended)
      assert.deepEqual(
        stream.named('progress').map(({ id, data }) => [id, data]),
        [first, second, third].map((state) => [String(state.updatedAt), state]),
      )
      assert.deepEqual(
        stream.named('end').map(({ data }) => data),
        [{ reason: 'completed' }],
      )
    })

    it('goes on after the event that a client has', async () => {
      await serve()
      const { updatedAt } = workstation.start('exec-123')
      using same = await open('exec-123', { 'last-event-id': String(updatedAt) })
      const changed = workstation.change('exec-123', { progress: 60 })
      await same.received(1)
      assert.deepEqual(same.events[0]?.data, changed)
      using behind = await open('exec-123', { 'last-event-id': String(updatedAt) })
      await behind.received(1)
      assert.deepEqual(behind.events[0]?.data, changed)
    })

    it('tells a client that has the end not to come back', async () => {
      await serve()
      const { updatedAt } = workstation.start('exec-123', { status: 'failed' })
      using again = await open('exec-123', { 'last-event-id': String(updatedAt) })
      assert.equal(again.status, 204)
      using late = await open('exec-123', { 'last-event-id': String(updatedAt - 1) })
      await until('the end', () => late.ended)
      assert.deepEqual(
        late.events.map(({ event }) => event),
        ['progress', 'end'],
      )
      await until('nobody listens', () => workstation.watchers.size === 0)
    })

    it('answers 404 for an execution that is not known, and listens for nobody', async () => {
      await serve()
      const { status, body } = await request(`${server.url}/flows/nobody/stream`)
      assert.deepEqual([status, body.code], [404, 'NOT_FOUND'])
      assert.equal(workstation.watchers.size, 0)
    })

    it('says at most ten things a second, the first and the last among them', async () => {
      await serve()
      workstation.start('exec-123')
      using stream = await open('exec-123')
      await stream.received(1)
      const begin = performance.now()
      let changes = 0
      while (performance.now() - begin < 1500) {
        workstation.change('exec-123', { completedSteps: (changes += 1) })
        // oxlint-disable-next-line no-await-in-loop -- a flood
        await new Promise((resolve) => setImmediate(resolve))
      }
      const last = workstation.change('exec-123', { status: 'completed' })
      await until('the end', () => stream.ended)
      assert.ok(changes > 100, `${changes} changes`)
      const events = stream.named('progress')
      assert.deepEqual(events.at(-1)?.data, last)
      const times = events.map(({ at }) => at)
      // The arrival is less even than the departure, so a window of a second may see one more.
      for (const [at, time] of times.entries())
        assert.ok(times.slice(at).filter((other) => other < time + 990).length <= 11)
      assert.ok(events.length >= 5 && events.length <= 18, `${events.length} events`)
      const steps = events.slice(1).map(({ data }) => data.completedSteps)
      assert.deepEqual(
        steps,
        steps.toSorted((a, b) => a - b),
      )
    })

    it('gives a sign of life, and finds what nobody announced', async () => {
      await serve({ heartbeatMs: 30 })
      workstation.start('exec-123')
      using stream = await open('exec-123')
      await until('heartbeats', () => stream.comments.length >= 2)
      assert.deepEqual(new Set(stream.comments), new Set([': heartbeat']))
      workstation.change('exec-123', { progress: 50 }, { announce: false })
      await stream.received(2)
      workstation.states.delete('exec-123')
      await until('the end', () => stream.ended)
      assert.deepEqual(stream.events.at(-1)?.data, { reason: 'cleared' })
    })

    it('keeps its clients while Redis is out of reach', async () => {
      await serve({ heartbeatMs: 20 })
      const state = workstation.start('exec-123')
      using stream = await open('exec-123')
      await stream.received(1)
      workstation.degradation = { state: 'degraded' }
      workstation.states.delete('exec-123')
      const seen = stream.comments.length
      await until('signs of life', () => stream.comments.length > seen + 2)
      workstation.failure = new Error('down')
      await until('signs of life', () => stream.comments.length > seen + 4)
      assert.deepEqual([stream.ended, stream.events.length], [false, 1])
      workstation.failure = undefined
      workstation.states.set('exec-123', { ...state, updatedAt: state.updatedAt + 1 })
      workstation.degradation = { state: 'up' }
      await stream.received(2)
    })

    it('looks again after an interruption of the subscription', async () => {
      await serve()
      workstation.start('exec-123')
      using stream = await open('exec-123')
      await stream.received(1)
      workstation.change('exec-123', { progress: 50 }, { announce: false })
      for (const watcher of workstation.watchers) watcher.gap?.()
      await stream.received(2)
      assert.equal(stream.events[1]?.data.progress, 50)
    })

    it('ends for an execution that was cleared', async () => {
      await serve()
      workstation.start('exec-123')
      using stream = await open('exec-123')
      await stream.received(1)
      workstation.clear('exec-123')
      await until('the end', () => stream.ended)
      assert.deepEqual(stream.events.at(-1)?.data, { reason: 'cleared' })
    })

    it('drops a client that does not read', async () => {
      await serve({ maxBufferBytes: 64 * 1024, maxEventsPerSecond: 20 })
      workstation.start('exec-123')
      const socket = connect(server.port, '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write('GET /flows/exec-123/stream HTTP/1.1\r\nHost: x\r\n\r\n')
      await once(socket, 'readable')
      // From here on it takes nothing. What it does not take, the other one would hardly read in time in this process.
      workstation.start('other')
      using healthy = await open('other')
      await until('both listen', () => router.streams === 2)
      const data = { text: 'x'.repeat(2 * 1024 * 1024) }
      await until(
        'the slow one is dropped',
        () => {
          workstation.change('exec-123', { data })
          return router.streams === 1
        },
        20_000,
      )
      assert.equal(healthy.ended, false)
      const before = healthy.events.length
      workstation.change('other', { progress: 50 })
      await until('the other one goes on', () => healthy.events.length > before)
      workstation.change('exec-123', { data: {} })
      using again = await open('exec-123')
      await again.received(1)
      socket.destroy()
    })

    it('serves 1,000 clients by one subscription, and stops with the last one', async () => {
      await serve()
      workstation.start('exec-123')
      const streams = await Promise.all(Array.from({ length: 1000 }, () => open('exec-123')))
      await until('all have begun', () => streams.every(({ events }) => events.length === 1), 30_000)
      assert.deepEqual([router.streams, workstation.count('watchProgress')], [1000, 1])
      assert.ok(workstation.count('fetchWorkflowState') < 10, 'the state is read once for all')
      workstation.change('exec-123', { progress: 50 })
      await until('all have heard', () => streams.every(({ events }) => events.length === 2), 30_000)
      assert.equal(workstation.watchers.size, 1)
      for (const stream of streams) stream.close()
      await until('nobody listens', () => workstation.watchers.size === 0, 30_000)
      assert.equal(router.streams, 0)
    })

    it('lets no more clients in than it may', async () => {
      await serve({ maxClients: 2 })
      workstation.start('exec-123')
      using first = await open('exec-123')
      using second = await open('exec-123')
      const { status, body, headers } = await request(`${server.url}/flows/exec-123/stream`)
      assert.deepEqual([status, body.code, headers.get('retry-after')], [503, 'TOO_MANY_STREAMS', '5'])
      assert.equal(second.status, 200)
      first.close()
      await until('a place is free', () => router.streams === 1)
      using third = await open('exec-123')
      assert.equal(third.status, 200)
    })

    it('ends all streams when it is closed', async () => {
      await serve()
      workstation.start('exec-123')
      using stream = await open('exec-123')
      router.close()
      await until('the end', () => stream.ended)
      assert.deepEqual(stream.named('end'), [], 'the client is to come back')
      assert.equal(workstation.watchers.size, 0)
      assert.equal((await request(`${server.url}/flows/exec-123/stream`)).status, 503)
    })

    it('answers HEAD without a stream', async () => {
      await serve()
      workstation.start('exec-123')
      const { status } = await request(`${server.url}/flows/exec-123/stream`, { method: 'HEAD' })
      assert.deepEqual([status, router.streams, workstation.watchers.size], [200, 0, 0])
    })
  })

describe('a stream with a token', () => {
  it('ends when the token does', async () => {
    const workstation = new FakeWorkstation()
    workstation.start('exec-123')
    const exp = Date.now() / 1000 + 0.3
    const router = createWorkflowStateRouter({
      authenticate: bearerAuth({ verify: () => ({ scope: 'workflow:read', exp }) }),
      workstation,
      stream: { heartbeatMs: 20 },
    })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
    using stream = await EventStream.open(`${server.url}/exec-123/stream`, { authorization: 'Bearer x' })
    await stream.received(1)
    await until('the end', () => stream.ended)
    assert.ok(Date.now() / 1000 >= exp)
    assert.deepEqual(stream.named('end'), [])
  })
})
