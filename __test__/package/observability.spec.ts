/** The subpaths for metrics and traces, in a project that has what they need, and in one that has not. */
import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { PackedProject } from '../helpers/packed-project'
import { repository } from '../types/compile'

describe('ferroflow/metrics and ferroflow/otel, packed', () => {
  let project: PackedProject
  before(async () => {
    project = await PackedProject.create()
  })
  after(() => project.remove())

  const install = (name: string): void => {
    const place = join(project.root, 'node_modules', name)
    mkdirSync(dirname(place), { recursive: true })
    symlinkSync(join(repository, 'node_modules', name), place, 'junction')
  }

  it('do not stand in the way of a project without prom-client and OpenTelemetry', async () => {
    const script = `
      import { connect, ConfigError } from 'ferroflow'
      import { metricsText, registerMetrics } from 'ferroflow/metrics'
      const text = await metricsText()
      let error
      try { registerMetrics() } catch (caught) { error = caught }
      const otel = await import('ferroflow/otel').then(() => 'loaded', ({ code }) => code)
      console.log(JSON.stringify(
        [text.includes('redis_commands_total 0'), error instanceof ConfigError, error.message, otel]))`
    const [hasText, isConfigError, message, otel] = await project.evaluate<unknown[]>('without.mjs', script)
    assert.deepEqual([hasText, isConfigError, otel], [true, true, 'MODULE_NOT_FOUND'])
    assert.match(String(message), /^prom-client is not installed/)
  })

  it('find them where they are installed, from both kinds of modules', async () => {
    for (const name of ['prom-client', '@opentelemetry/api', 'tdigest', 'bintrees']) install(name)
    const use = `
      registerMetrics()
      traceOperations()()
      const text = await register.metrics()
      console.log(JSON.stringify(text.includes('redis_connection_status 0')))`
    const imported = `
      import { register } from 'prom-client'
      import { registerMetrics } from 'ferroflow/metrics'
      import { traceOperations } from 'ferroflow/otel'
      ${use}`
    const required = `
      const { register } = require('prom-client')
      const { registerMetrics } = require('ferroflow/metrics')
      const { traceOperations } = require('ferroflow/otel')
      void (async () => {${use}})()`
    assert.equal(await project.evaluate('with.mjs', imported), true)
    assert.equal(await project.evaluate('with.cjs', required), true)
  })
})
