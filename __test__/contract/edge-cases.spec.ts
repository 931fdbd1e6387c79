/** Cases that no suite of a domain would think of; each was wrong once. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  ArgumentError,
  type CommandArgument,
  ConfigError,
  LockError,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  ServerError,
  WorkflowError,
  connect,
} from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { like } from '../helpers/errors'
import { RedisServer } from '../helpers/redis-server'

function isScript({ name }: { name: string }): boolean {
  return /^EVAL/i.test(name)
}

describe('edge cases', () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start({
      users: ['limited on >pw ~* &* +@read +@write +@scripting +subscribe -@admin -@dangerous'],
    })
  })
  after(() => server.stop())

  it('a repeated setStepScheduled does not overwrite the error of a worker that was faster', async () => {
    await using proxy = await CountingProxy.start({ port: server.port })
    const orchestrator = new RedisWorkflowStateService({ host: '127.0.0.1', port: proxy.port })
    const worker = new RedisWorkflowStateService(server.url)
    await orchestrator.init()
    await worker.init()
    await proxy.refuse()
    const cut = proxy.cutOn('before-reply', isScript, { times: 1 })
    const scheduled = orchestrator.setStepScheduled('r', 's')
    await cut.done
    await worker.setStepError('r', 's', new Error('failed meanwhile'))
    await proxy.resume()
    await scheduled
    const state = await worker.getStepState('r', 's')
    assert.equal(state.status, 'error')
    assert.equal(state.error?.message, 'failed meanwhile')
    await Promise.all([orchestrator.close(), worker.close()])
  })

  it('a command that would harm the shared connection is refused in whatever form', async () => {
    const connection = connect(server.url)
    const expected = like({ type: ServerError, code: 'UNSUPPORTED', message: /is not sent/ })
    for (const words of [
      ['CLIENT', Buffer.from('REPLY'), 'OFF'],
      ['client', new Uint8Array(Buffer.from('reply')), 'skip'],
      ['XREAD', Buffer.from('BLOCK'), '0', 'STREAMS', 's', '$'],
      ['xReadGroup', 'GROUP', 'g', 'c', 'block', 0, 'STREAMS', 's', '>'],
    ] as [string, ...CommandArgument[]][]) {
      await assert.rejects(connection.command(...words), expected)
    }
    assert.equal(await connection.command('PING'), 'PONG')
    await connection.close()
  })

  it('errors name the key as it is on the server, with the prefix of the connection', async () => {
    const options = { host: '127.0.0.1', port: server.port, keyPrefix: 'app:' }
    const runs = new RedisWorkflowStateService(options)
    const locks = new RedisLockManager(options, { maxRetries: 0 })
    const admin = connect(server.url)
    await admin.command('HSET', 'app:workflows:run:bad', 'id', 'bad', 'input', '{')
    await assert.rejects(runs.getRun('bad'), { code: 'CORRUPT_ENTRY', key: 'app:workflows:run:bad' })
    await assert.rejects(
      runs.updateRunStatus('none', 'failed'),
      like({
        type: WorkflowError,
        code: 'RUN_NOT_FOUND',
        message: 'Run not found: none',
        key: 'app:workflows:run:none',
      }),
    )
    await locks.acquire('k')
    await assert.rejects(
      locks.withLock('k', () => undefined),
      like({
        type: LockError,
        code: 'LOCK_HELD',
        message: /^Failed to acquire lock for k/,
        key: 'app:fm:lock:k',
      }),
    )
    await Promise.all([runs.close(), locks.close(), admin.close()])
  })

  it('a user without the right to PING can use everything', async () => {
    const url = `redis://limited:pw@127.0.0.1:${server.port}`
    const runs = new RedisWorkflowStateService(url)
    await runs.init()
    const id = await runs.createRun('w')
    assert.equal(await runs.withRunLock(id, async () => (await runs.getRun(id))?.status), 'running')
    const sagas = new RedisSagaStore({ connection: url })
    await sagas.initialize()
    await sagas.save('S', { id: 'i', correlationId: 'c' })
    await Promise.all([runs.close(), sagas.close()])
  })

  it('values that throw when they are read are no JSON, and the place is named', async () => {
    const runs = new RedisWorkflowStateService('memory://edge cases')
    const throwing = {
      get b(): never {
        throw new Error('not now')
      },
    }
    for (const [input, place] of [
      [{ a: throwing }, /\$\.a\.b/],
      [{ a: [{ toJSON: () => 1n }] }, /BigInt at \$\.a\[0\]/],
      [
        {
          toJSON() {
            throw Object.create(null)
          },
        },
        /reading threw .* at \$/,
      ],
    ] as const) {
      await assert.rejects(
        runs.createRun('w', input),
        like({ type: ArgumentError, code: 'NOT_SERIALIZABLE', message: place }),
      )
    }
    await runs.close()
  })

  it('a queue that cannot add is said to be none', async () => {
    for (const queue of [null, {}, { add: 'no function' }]) {
      const runs = new RedisWorkflowStateService('memory://edge cases', queue)
      await assert.rejects(
        runs.addToQueue('w', 'r'),
        like({ type: ConfigError, code: 'CONFIG', message: /^QueueService not configured/ }),
      )
      await runs.close()
    }
  })
})
