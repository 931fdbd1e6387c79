/** The engine of the real @pikku/core on our store. */
import assert from 'node:assert/strict'
import { after, it } from 'node:test'
import type { Backend } from '../helpers/backends'
import type { PikkuApp } from './pikku-app.mjs' with { 'resolution-mode': 'import' }

export function runtime(backend: Backend): void {
  const apps: PikkuApp[] = []
  after(() => Promise.all(apps.map((app) => app.close())))

  async function open(deliveries: number): Promise<PikkuApp> {
    // The core is an ES module, and this file is none.
    const { PikkuApp: App } = await import('./pikku-app.mjs')
    const app = new App(await backend.freshTarget(), deliveries)
    apps.push(app)
    return app
  }

  it('an inline workflow: functions, inline steps, a repeated name, its output', async () => {
    const app = await open(0)
    app.addFunction('double', ({ n }) => ({ n: n * 2 }))
    app.addWorkflow('inline', async (workflow, input) => {
      const first: any = await workflow.do('double it', 'double', { n: input.n })
      const again: any = await workflow.do('double it', 'double', first)
      const inline = await workflow.do('a:step:*', async () => ({ sum: first.n + again.n, none: [] }))
      await workflow.sleep('nap', '5ms')
      return inline
    })
    const { run, steps } = await app.run('inline', { n: 2 })
    assert.equal(run.status, 'completed')
    assert.deepEqual(run.output, { sum: 12, none: [] })
    assert.equal(run.inline, true)
    const names = steps.map((step: any) => [step.stepName, step.status, step.attemptCount])
    assert.deepEqual(names, [
      ['double it', 'succeeded', 1],
      ['double it#1', 'succeeded', 1],
      ['a:step:*', 'succeeded', 1],
      ['nap', 'succeeded', 1],
    ])
    const timeline = (await app.service.getRunTimeline(run.id))!
    assert.deepEqual(
      timeline.filter(({ stepName }) => stepName === 'nap').map(({ type }) => type),
      ['pending', 'succeeded'],
    )
    assert.equal((await app.service.getRunStatus(run.id))!.steps.length, 4)
  })

  it('a run without input, and a step without result', async () => {
    const app = await open(0)
    app.addFunction('nothing', () => undefined)
    app.addWorkflow('void', async (workflow) => {
      assert.equal(await workflow.do('nothing', 'nothing', undefined), undefined)
    })
    const { run } = await app.run('void')
    assert.equal(run.status, 'completed')
    assert.equal(run.output, undefined)
  })

  it('a failing workflow: every attempt is in the history, and the error in the run', async () => {
    const app = await open(0)
    app.addFunction('refuse', () => {
      throw Object.assign(new Error('no stock'), { code: 'E_STOCK' })
    })
    app.addWorkflow('failing', async (workflow) => workflow.do('refuse', 'refuse', {}, { retries: 2 }))
    const { run, steps, error } = await app.run('failing', {})
    assert.match(String(error), /no stock/)
    assert.equal(run.status, 'failed')
    assert.equal(run.error!.message, 'no stock')
    assert.deepEqual(
      steps.map(({ status, attemptCount, error: of }) => [status, attemptCount, of?.message]),
      [
        ['failed', 1, 'no stock'],
        ['failed', 2, 'no stock'],
      ],
    )
  })

  it('a queued workflow of which every job is delivered twice runs each step once', async () => {
    const app = await open(2)
    app.addFunction('charge', ({ order }) => ({ paid: order }), true)
    app.addFunction('ship', ({ paid }) => ({ shipped: paid }), true)
    app.addWorkflow('queued', async (workflow, { order }) => {
      const paid = await workflow.do('charge', 'charge', { order })
      return workflow.do('ship', 'ship', paid)
    })
    const orders = Array.from({ length: 5 }, (_, order) => order)
    const results = await Promise.all(orders.map((order) => app.run('queued', { order })))
    for (const [order, { run, steps }] of results.entries()) {
      assert.equal(run.status, 'completed', JSON.stringify(run))
      assert.deepEqual(run.output, { shipped: order })
      assert.deepEqual(
        steps.map((step: any) => [step.stepName, step.status, step.attemptCount]),
        [
          ['charge', 'succeeded', 1],
          ['ship', 'succeeded', 1],
        ],
      )
    }
    assert.equal(app.callsOf('charge').length, 5)
    assert.equal(app.callsOf('ship').length, 5)
  })

  it('another process that cannot have the lock of a run leaves it alone', async () => {
    const app = await open(1)
    const { RedisWorkflowService } = await import('../../pikku.mjs')
    const other = new RedisWorkflowService(app.service.connection)
    let status: string | undefined
    app.addWorkflow('contended', async (workflow) =>
      workflow.do('long', async () => {
        const text = `Failed to acquire lock for run ${workflow.runId} after 10 retries`
        await assert.rejects(other.orchestrateWorkflow(workflow.runId, {} as never), {
          code: 'LOCK_TIMEOUT',
          message: text,
        })
        status = (await other.getRun(workflow.runId))?.status
        return 'done'
      }),
    )
    const { run } = await app.run('contended', {})
    assert.deepEqual([status, run.status, run.output], ['running', 'completed', 'done'])
  })

  it('a queued step that fails at first is tried again', async () => {
    const app = await open(1)
    let failures = 2
    app.addFunction(
      'flaky',
      () => {
        if (failures-- > 0) throw new Error('not yet')
        return 'done'
      },
      true,
    )
    app.addWorkflow('retried', async (workflow) => workflow.do('flaky', 'flaky', {}, { retries: 3 }))
    const { run, steps } = await app.run('retried', {})
    assert.equal(run.status, 'completed')
    assert.equal(run.output, 'done')
    assert.deepEqual(
      steps.map(({ status }) => status),
      ['failed', 'failed', 'succeeded'],
    )
  })

  for (const deliveries of [0, 1, 2]) {
    const how = ['inline', 'queued', 'queued, every job twice'][deliveries]
    it(`a graph with a branch, ${how}`, async () => {
      const app = await open(deliveries)
      app.addFunction('classify', ({ n }, { graph }) => {
        graph.branch(n > 10 ? 'big' : 'small')
        return { n }
      })
      app.addFunction('handle', ({ n, how: kind }) => `${kind} ${n}`)
      app.addFunction('report', ({ text }) => text)
      const input = { n: { $ref: 'outer:step:inner', path: 'n' } }
      app.addGraph('graph', ['outer:step:inner'], {
        'outer:step:inner': {
          rpcName: 'classify',
          input: { n: { $ref: 'trigger', path: 'n' } },
          next: { big: 'big', small: 'small' },
        },
        big: { rpcName: 'handle', input: { ...input, how: 'big' }, next: 'report' },
        small: { rpcName: 'handle', input: { ...input, how: 'small' }, next: 'report' },
        report: { rpcName: 'report', input: { text: 'end' } },
      })
      const { run, steps } = await app.run('graph', { n: 42 })
      assert.equal(run.status, 'completed', JSON.stringify(run))
      assert.deepEqual(
        steps.map((step: any) => [step.stepName, step.status, step.fromStepName]),
        [
          ['outer:step:inner', 'succeeded', undefined],
          ['big', 'succeeded', 'outer:step:inner'],
          ['report', 'succeeded', 'big'],
        ],
      )
      assert.deepEqual(app.callsOf('handle'), [{ n: 42, how: 'big' }])
      assert.equal(app.callsOf('report').length, 1)
      assert.deepEqual(app.failures, [])
    })
  }

  for (const deliveries of [0, 1, 2]) {
    it(`20 parallel branches, each job delivered ${deliveries} times`, async () => {
      const app = await open(deliveries)
      const branches = Array.from({ length: 20 }, (_, index) => index)
      app.addFunction('square', ({ n }) => n * n, deliveries > 0)
      app.addWorkflow('parallel', async (workflow) =>
        Promise.all(branches.map((n) => workflow.do(`branch ${n}`, 'square', { n }))),
      )
      const { run, steps } = await app.run('parallel', {})
      assert.equal(run.status, 'completed', JSON.stringify(run))
      assert.deepEqual(
        run.output,
        branches.map((n) => n * n),
      )
      assert.equal(steps.length, 20)
      assert.ok(steps.every(({ status, attemptCount }) => status === 'succeeded' && attemptCount === 1))
      assert.equal(app.callsOf('square').length, 20)
    })
  }
}
