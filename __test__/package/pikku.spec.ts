/** The subpath for @pikku/core, in a project that has the core, and in one that has not. */
import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { PackedProject } from '../helpers/packed-project'
import { repository } from '../types/compile'

describe('ferroflow/pikku, packed', () => {
  let project: PackedProject
  before(async () => {
    project = await PackedProject.create()
  })
  after(() => project.remove())

  it('does not stand in the way of a project without the core', async () => {
    const script = `
      const root = await import('ferroflow')
      const code = await import('ferroflow/pikku').then(() => 'loaded', (error) => error.code)
      console.log(JSON.stringify([typeof root.defineRedisWorkflowService, code]))`
    assert.deepEqual(await project.evaluate('without.mjs', script), ['function', 'ERR_MODULE_NOT_FOUND'])
  })

  it('extends the class of the core that is installed', async () => {
    mkdirSync(join(project.root, 'node_modules/@pikku'))
    symlinkSync(
      join(repository, 'node_modules/@pikku/core'),
      join(project.root, 'node_modules/@pikku/core'),
      'junction',
    )
    const script = `
      import { PikkuWorkflowService } from '@pikku/core/workflow'
      import { RedisWorkflowRunService, RedisWorkflowService } from 'ferroflow/pikku'
      const service = new RedisWorkflowService('memory://')
      await service.init()
      const id = await service.createRun('w', { a: 1 }, false, 'hash', { type: 'unknown' })
      const runs = await new RedisWorkflowRunService('memory://').listRuns()
      await service.close()
      console.log(JSON.stringify([service instanceof PikkuWorkflowService, runs.length, runs[0].id === id]))`
    assert.deepEqual(await project.evaluate('with.mjs', script), [true, 1, true])
  })
})
