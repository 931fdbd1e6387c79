/**
 * Under the names of the packages that it replaces: installed by alias, beside each other, loaded both ways, on a real
 * Redis. A copy of ferroflow stands behind each name, and one addon behind all of them.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { PackedProject } from '../helpers/packed-project'
import { RedisServer } from '../helpers/redis-server'

/** What a user of each package does first. Each prints what is true. */
const PROGRAMS: Record<string, string> = {
  '@pikku-workflows/redis': `
    const service = new ours.RedisWorkflowStateService(url, { add() {} }, 'workflows')
    await service.init()
    const id = await service.createRun('w', { a: 1 })
    await service.setStepResult(id, 's', 2)
    const result = await service.withRunLock(id, async () => (await service.getStepState(id, 's')).result)
    await service.close()
    print(result === 2)`,
  '@flowmonkey/redis': `
    const locks = new ours.RedisLockManager(url)
    const token = await locks.acquire('e')
    const refused = await new ours.RedisLockManager(url, { maxRetries: 0 }).acquire('e')
    const cache = new ours.RedisExecutionCache(url)
    await cache.set({ id: 'e', status: 'waiting' })
    const signaler = new ours.RedisWakeSignaler(url)
    const heard = new Promise((resolve) => void signaler.subscribe(async (id) => resolve(id)).then(() => signaler.signal('e')))
    const id = await heard
    await signaler.unsubscribe()
    print(typeof token === 'string' && refused === null && (await cache.get('e')).status === 'waiting' && id === 'e')`,
  '@idioteque/redis': `
    const store = ours.createRedisStore(url, { ttl: 5000 })
    await store.beginExecution('x')
    await store.commitExecutionTaskResult('x', 't', [1])
    print((await store.getExecutionTaskResult('x', 't'))[0] === 1)`,
  '@saga-bus/store-redis': `
    const store = new ours.RedisSagaStore({ connection: url })
    await store.initialize()
    const state = await store.save('S', { id: 'i', correlationId: 'c', metadata: {} })
    const stale = await store.save('S', { id: 'i', correlationId: 'c', metadata: {} }).catch((error) => error)
    await store.close()
    print(state.metadata.version === 1 && stale.message.includes('Optimistic concurrency conflict'))`,
}

describe('installed by alias', () => {
  let server: RedisServer
  let project: PackedProject
  before(async () => {
    server = await RedisServer.start()
    project = await PackedProject.create(Object.keys(PROGRAMS))
  })
  after(async () => {
    project.remove()
    await server.stop()
  })

  let database = 0
  const preamble = (): string => `
    const url = '${server.url}/${database++}'
    const print = (value) => console.log(JSON.stringify(value))`

  for (const [name, program] of Object.entries(PROGRAMS)) {
    it(`${name} works for import`, async () => {
      const script = `import * as ours from '${name}'\n${preamble()}\n${program}`
      assert.equal(await project.evaluate('alias.mjs', script), true)
    })

    it(`${name} works for require`, async () => {
      const script = `const ours = require('${name}')\n${preamble()}\nvoid (async () => {${program}})()`
      assert.equal(await project.evaluate('alias.cjs', script), true)
    })
  }

  it('each copy hears of its own connections, and takes those of the others', async () => {
    const script = `
      const names = ${JSON.stringify(Object.keys(PROGRAMS))}
      const copies = names.map((name) => require(name))
      ${preamble()}
      void (async () => {
        // Events keep no process alive; the timer does.
        const alive = setInterval(() => {}, 1000)
        const statuses = await Promise.all(copies.map((copy) => new Promise((resolve) =>
          copy.connect(url).on('status', (status) => resolve(status)))))
        clearInterval(alive)
        const [pikku, flowmonkey] = copies
        const locks = new flowmonkey.RedisLockManager(pikku.connect(url))
        const token = await locks.tryAcquire('k')
        print([...statuses, typeof token, new Set(copies).size])
      })()`
    assert.deepEqual(await project.evaluate('copies.cjs', script), [
      'ready',
      'ready',
      'ready',
      'ready',
      'string',
      4,
    ])
  })
})
