/** Metrics in registries of prom-client. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { metricsText, registerMetrics } from 'ferroflow/metrics'
import { Counter, Registry, register as common } from 'prom-client'
import { connect } from '../../index.js'
import { parse } from '../helpers/metrics'

const DOCUMENTED = ['redis_commands_total', 'redis_commands_failed_total', 'redis_connection_status']

function names(registry: Registry): string[] {
  return registry.getMetricsAsArray().map(({ name }) => name)
}

describe('registerMetrics', () => {
  it('shows in a registry what metricsText shows', async () => {
    const connection = connect('memory://registry')
    await connection.command('SET', 'k', 'v')
    const registry = registerMetrics({ register: new Registry() })
    const text = await registry.metrics()
    assert.equal(text, await metricsText())
    assert.ok(DOCUMENTED.every((name) => parse(text).has(name)))
    assert.match(
      text,
      /# HELP redis_commands_total Total Redis commands executed\n# TYPE redis_commands_total counter/,
    )
    assert.match(
      text,
      /ferroflow_operation_duration_seconds_bucket\{operation="connection.command",le="\+Inf"\} \d+/,
    )
    await connection.close()
  })

  it('uses the common registry by default', () => {
    assert.equal(registerMetrics(), common)
    assert.ok(names(common).includes('redis_commands_total'))
    common.clear()
  })

  it('may be called again and again', () => {
    const registry = new Registry()
    registerMetrics({ register: registry })
    const first = names(registry)
    const metric = registry.getSingleMetric('redis_commands_total')
    for (let i = 0; i < 100; i++) registerMetrics({ register: registry })
    assert.deepEqual(names(registry), first)
    assert.equal(new Set(first).size, first.length)
    assert.equal(registry.getSingleMetric('redis_commands_total'), metric)
    registry.clear()
    registerMetrics({ register: registry })
    assert.deepEqual(names(registry), first)
  })

  it('serves several registries, and several prefixes in one', async () => {
    const [one, two] = [new Registry(), new Registry()]
    registerMetrics({ register: one, prefix: 'a_' })
    registerMetrics({ register: two })
    const count = names(two).length
    assert.deepEqual(
      names(one),
      names(two).map((name) => `a_${name}`),
    )
    registerMetrics({ register: one, prefix: 'b_' })
    assert.equal(names(one).length, 2 * count)
    const [a, b] = ['a_', 'b_'].map((prefix) => `${prefix}redis_commands_total`)
    const text = parse(await one.metrics())
    assert.ok(text.has(a!) && text.get(a!) === text.get(b!))
  })

  it('leaves the metrics of others alone', () => {
    const registry = new Registry()
    const theirs = new Counter({ name: 'redis_connection_status', help: 'theirs', registers: [registry] })
    assert.throws(() => registerMetrics({ register: registry }), {
      name: 'ConfigError',
      code: 'CONFIG',
      message: /another metric redis_connection_status already: give registerMetrics a prefix/,
    })
    assert.deepEqual(registry.getMetricsAsArray(), [theirs])
    registerMetrics({ register: registry, prefix: 'ferroflow_' })
    assert.ok(names(registry).includes('ferroflow_redis_connection_status'))
  })

  it('speaks OpenMetrics', async () => {
    const registry = new Registry()
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never)
    registerMetrics({ register: registry as unknown as Registry })
    const text = await registry.metrics()
    assert.match(text, /# TYPE redis_commands counter\nredis_commands_total \d+\n/)
    assert.ok(!text.includes('total_total'))
    assert.ok(text.endsWith('# EOF\n'))
    assert.equal(await registry.metrics(), text, 'also the second time')
  })

  it('goes on counting where a registry is reset', async () => {
    const connection = connect('memory://registry')
    await connection.command('PING')
    const registry = registerMetrics({ register: new Registry() })
    const before = parse(await registry.metrics())
    registry.resetMetrics()
    const series = 'ferroflow_operation_duration_seconds_count{operation="connection.command"}'
    assert.ok(before.get(series)! > 0)
    assert.equal(parse(await registry.metrics()).get(series), before.get(series))
    await connection.close()
  })

  it('refuses what cannot be used', async () => {
    for (const prefix of ['1a', 'a-b', 'ü', 7, null] as unknown as string[]) {
      assert.throws(() => registerMetrics({ register: new Registry(), prefix }), { code: 'INVALID_ARGUMENT' })
      // oxlint-disable-next-line no-await-in-loop -- one by one
      await assert.rejects(metricsText({ prefix }), { code: 'INVALID_ARGUMENT' })
    }
    for (const register of [{}, 'x', 7] as unknown as Registry[])
      assert.throws(() => registerMetrics({ register }), { code: 'INVALID_ARGUMENT' })
    assert.throws(() => registerMetrics('a_' as never), { code: 'INVALID_ARGUMENT' })
  })
})
