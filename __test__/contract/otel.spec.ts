/** Operations as spans. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { traceOperations } from 'ferroflow/otel'
import { RedisLockManager, RedisSagaStore } from '../../index.js'

describe('traceOperations', () => {
  const exporter = new InMemorySpanExporter()
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  const tracer = tracerProvider.getTracer('application')
  const target = 'memory://otel'
  const locks = new RedisLockManager(target, { warnings: false })
  const sagas = new RedisSagaStore({ redis: target })
  let stop: () => void

  const spans = (): ReadableSpan[] => exporter.getFinishedSpans()
  const span = (name: string): ReadableSpan => {
    const found = spans().filter((candidate) => candidate.name === name)
    assert.equal(found.length, 1, `${found.length} spans ${name}`)
    return found[0]!
  }
  const idOf = (name: string): string => span(name).spanContext().spanId
  const parent = (name: string): string | undefined => span(name).parentSpanContext?.spanId

  before(() => {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
    stop = traceOperations({ tracerProvider })
  })
  beforeEach(() => exporter.reset())
  after(async () => {
    stop()
    context.disable()
    await Promise.all([locks.close(), sagas.close()])
  })

  it('makes a span of an operation, with nothing of its arguments', async () => {
    await sagas.insert('Saga-x', 'correlation-x', { id: 'saga-x' })
    const made = span('RedisSagaStore.insert')
    assert.equal(made.kind, SpanKind.CLIENT)
    assert.deepEqual(made.attributes, {
      'db.system.name': 'redis',
      'ferroflow.operation': 'RedisSagaStore.insert',
    })
    assert.equal(made.status.code, SpanStatusCode.UNSET)
    assert.deepEqual(made.events, [])
  })

  it('marks an error by its code, without its text', async () => {
    await assert.rejects(sagas.insert('Saga-x', 'correlation-x', { id: 'saga-x' }), { code: 'SAGA_EXISTS' })
    const made = span('RedisSagaStore.insert')
    assert.deepEqual(made.status, { code: SpanStatusCode.ERROR })
    assert.equal(made.attributes['error.type'], 'SAGA_EXISTS')
    assert.deepEqual(made.events, [])
    assert.ok(made.ended)
  })

  it('puts a span below what was active, be that of the program or of another operation', async () => {
    await tracer.startActiveSpan('request', async (request) => {
      await locks.withLock('a', async () => {
        await sagas.getById('S', 's1')
        await tracer.startActiveSpan('inner', async (inner) => {
          await sagas.getByCorrelationId('S', 'c1')
          inner.end()
        })
      })
      await locks.isLocked('a')
      request.end()
    })
    assert.equal(parent('RedisLockManager.withLock'), idOf('request'))
    assert.equal(parent('RedisSagaStore.getById'), idOf('RedisLockManager.withLock'))
    assert.equal(parent('RedisSagaStore.getByCorrelationId'), idOf('inner'))
    assert.equal(parent('RedisLockManager.isLocked'), idOf('request'))
  })

  it('does as its options say', async () => {
    const [first] = [stop]
    first()
    const end = traceOperations({
      tracerProvider,
      recordErrors: true,
      attributes: ({ operation }) => ({ peer: `of ${operation}` }),
    })
    await assert.rejects(sagas.getById('', 's1'))
    end()
    const made = span('RedisSagaStore.getById')
    assert.equal(made.attributes['peer'], 'of RedisSagaStore.getById')
    assert.equal(made.events[0]?.name, 'exception')
    await sagas.getById('S', 's1')
    assert.equal(spans().length, 1, 'nothing once it is ended')
    stop = traceOperations({ tracerProvider })
  })

  it('uses the global provider, whenever it comes', async () => {
    stop()
    stop = traceOperations()
    await sagas.getById('S', 's1')
    assert.equal(spans().length, 0)
    trace.setGlobalTracerProvider(tracerProvider)
    await sagas.getById('S', 's1')
    assert.equal(spans().length, 1)
    trace.disable()
  })
})
