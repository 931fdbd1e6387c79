/** What `RedisWorkflowStateService` promises, whatever it runs on. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { ConfigError, ConnectionError, RedisWorkflowStateService, connect, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'
import { runs } from './workflow-runs'
import { runLock } from './workflow-run-lock'
import { steps } from './workflow-steps'

export function workflow(backend: Backend): void {
  describe('service', () => construction(backend))
  describe('runs', () => runs(backend))
  describe('steps', () => steps(backend))
  describe('withRunLock', () => runLock(backend))
}

function construction(backend: Backend): void {
  let target: Target
  let data: Data

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
  })
  after(() => data.close())

  it('takes target, queue and prefix, or the prefix second', async () => {
    const forms: [service: RedisWorkflowStateService, prefix: string][] = [
      [new RedisWorkflowStateService(target), 'workflows'],
      [new RedisWorkflowStateService(target, undefined, undefined), 'workflows'],
      [new RedisWorkflowStateService(target, null, 'third'), 'third'],
      [new RedisWorkflowStateService(target, 'second'), 'second'],
    ]
    for (const [service, prefix] of forms) {
      const runId = await service.createRun('w', 1)
      assert.ok(await data.exists(`${prefix}:run:${runId}`), prefix)
      await service.close()
    }
  })

  it('init resolves once the backend answers', async () => {
    const service = new RedisWorkflowStateService(target)
    assert.equal(await service.init(), undefined)
    assert.equal(await service.init(), undefined)
    await service.close()
  })

  it('closes a connection of its own, and only that', async () => {
    const shared = connect(target)
    const guest = new RedisWorkflowStateService(shared)
    assert.equal(guest.connection, shared)
    await guest.close()
    assert.equal(await guest.getRun('none'), null)
    assert.equal(await shared.command('PING'), 'PONG')

    const owner = new RedisWorkflowStateService(target)
    await owner.init()
    await owner.close()
    await owner.close()
    await assert.rejects(
      owner.getRun('none'),
      like({ type: ConnectionError, code: 'CLOSED', message: /closed/ }),
    )
    assert.equal(await shared.command('PING'), 'PONG')
    await shared.close()
  })

  it('addToQueue hands the run to the queue', async () => {
    const added: unknown[][] = []
    const queue = { add: (...args: unknown[]) => Promise.resolve(added.push(args)) }
    const service = new RedisWorkflowStateService(target, queue)
    assert.equal(await service.addToQueue('order', 'r1'), undefined)
    assert.deepEqual(added, [['pikku-workflow-orchestrator', { runId: 'r1' }]])
    await service.close()
  })

  it('addToQueue without a queue says so, in the words of the original', async () => {
    for (const service of [
      new RedisWorkflowStateService(target),
      new RedisWorkflowStateService(target, 'prefix'),
      new RedisWorkflowStateService(target, null),
    ]) {
      await assert.rejects(
        service.addToQueue('order', 'r1'),
        like({
          type: ConfigError,
          code: 'CONFIG',
          message: 'QueueService not configured. Remote workflows require a queue service.',
        }),
      )
      await service.close()
    }
  })

  it('gives a subclass its queue', async () => {
    class Mine extends RedisWorkflowStateService {
      get myQueue(): unknown {
        return this.queue
      }
    }
    const queue = { add: () => Promise.resolve() }
    const service = new Mine(target, queue)
    assert.equal(service.myQueue, queue)
    await service.close()
  })
}
