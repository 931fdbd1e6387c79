/** The functions of the default workstation in programs of their own, which the environment configures. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Child, type Ended } from '../helpers/child'
import { RedisServer } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const HEALTH = `
  await ferroflow.setSession('u', { n: 1 })
  const { status } = await ferroflow.redisHealthCheck()
  console.log(status, ferroflow.redisService.isAvailable(), JSON.stringify(await ferroflow.getSession('u')))`

describe('the default workstation', () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start({ password: 'hunter2' })
  })
  after(() => server.stop())

  const there = (): Record<string, string> => ({
    REDIS_HOST: server.host,
    REDIS_PORT: String(server.port),
    REDIS_PASSWORD: 'hunter2',
    REDIS_DB: '3',
  })

  it('connects where the environment says', async () => {
    const { stdout, stderr, code } = await run({ ...there(), REDIS_ENABLED: 'true' }, HEALTH)
    assert.deepEqual([stdout, stderr, code], ['up true {"n":1}\n', '', 0])
    const client = await server.client()
    await client.command('SELECT', '3')
    assert.equal(await client.command('GET', 'wks:session:u'), '{"n":1}')
    client.close()
  })

  it('uses Redis in production unless that is switched off, and otherwise not', async () => {
    const production = { ...there(), NODE_ENV: 'production' }
    assert.equal((await run(production, HEALTH)).stdout, 'up true {"n":1}\n')
    assert.equal(
      (await run({ ...production, REDIS_ENABLED: 'false' }, HEALTH)).stdout,
      'disabled false {"n":1}\n',
    )
    assert.equal((await run(there(), HEALTH)).stdout, 'disabled false {"n":1}\n')
  })

  it('has everything in the process where Redis is disabled, locks included', async () => {
    const { stdout } = await run(
      { REDIS_ENABLED: 'false' },
      `console.log(await ferroflow.lockWorkflowExecution('e', 'w1'), await ferroflow.lockWorkflowExecution('e', 'w2'))
       console.log(await ferroflow.executeWithLock('e', 'w3', () => 1).catch((error) => error.message))
       await ferroflow.startWorkflowTracking('e', 'wf', 2)
       console.log(await ferroflow.deleteSession('u'), (await ferroflow.getWorkflowStatistics()).activeExecutions)`,
    )
    assert.equal(stdout, 'true false\nWorkflow execution e is already locked by worker w1\ntrue 1\n')
  })

  it('does not connect before it is used', async () => {
    const { stdout, code } = await run(
      { REDIS_ENABLED: 'maybe' },
      `console.log(typeof ferroflow.redisService.get, ferroflow.redisService.isAvailable())
       await ferroflow.getSession('u').catch((error) => console.log(error.code, error.message))`,
    )
    assert.deepEqual([stdout, code], ['function false\nCONFIG REDIS_ENABLED must be true or false\n', 0])
  })

  it('without a server, a program says so once, shows no secret, and ends by itself', async () => {
    const gone = { ...there(), REDIS_ENABLED: 'true', REDIS_PORT: '1' }
    const { stdout, stderr, code } = await run(
      gone,
      `console.log(await ferroflow.setSession('u', { n: 1 }), await ferroflow.deleteSession('v'))
       console.log(JSON.stringify(await ferroflow.getSession('u')))
       console.log(await ferroflow.lockWorkflowExecution('e', 'w').catch((error) => error.code))
       const { status, error } = await ferroflow.redisHealthCheck()
       console.log(status, error)`,
    )
    assert.equal(code, 0)
    assert.equal(stdout, 'true false\n{"n":1}\nREDIS_UNAVAILABLE\ndown Redis does not answer\n')
    assert.equal(stderr.match(/FERROFLOW_WORKSTATION/g)?.length, 1, stderr)
    assert.ok(!stderr.includes('hunter2'))
  })

  it('two programs whose server is killed get no lock in 10,000 attempts', async () => {
    const brief = await RedisServer.start()
    const env = { REDIS_ENABLED: 'true', REDIS_HOST: brief.host, REDIS_PORT: String(brief.port) }
    const script = `
      const workstation = ferroflow.defaultWorkstation()
      await ferroflow.isWorkflowLocked('e')
      await ferroflow.redisService.incr('ready')
      // An idle workstation keeps no program alive.
      setInterval(() => {}, 1000)
      await new Promise((resolve) => workstation.once('transition', resolve))
      const counts = { granted: 0, refused: 0 }
      await Promise.all(Array.from({ length: 5000 }, (_, index) =>
        ferroflow.lockWorkflowExecution('e' + index % 3, 'w' + process.pid).then(
          (granted) => (counts.granted += granted),
          (error) => (counts.refused += error.code === 'REDIS_UNAVAILABLE'))))
      console.log(JSON.stringify(counts))
      process.exit(0)`
    try {
      const programs = [run(env, script), run(env, script)]
      const client = await brief.client()
      await until('both are ready', async () => (await client.command('GET', 'ready')) === '2', 10_000)
      client.close()
      await brief.kill()
      for (const { stdout } of await Promise.all(programs)) {
        assert.equal(stdout, '{"granted":0,"refused":5000}\n')
      }
    } finally {
      await brief.stop()
    }
  })

  it('closing gives what is journaled a last chance', async () => {
    const { stdout, code } = await run(
      {},
      `const workstation = ferroflow.createWorkstation({ redis: { port: 1, commandTimeout: 200 }, log: false })
       await workstation.setSession('u', { n: 1 })
       const begin = performance.now()
       await workstation.close()
       console.log(performance.now() - begin < 2500)`,
    )
    assert.deepEqual([stdout, code], ['true\n', 0])
  })
})

async function run(env: Record<string, string>, script: string): Promise<Ended> {
  const cleared =
    "for (const name of Object.keys(process.env)) if (name.startsWith('REDIS_')) delete process.env[name]"
  const set = `Object.assign(process.env, ${JSON.stringify({ NODE_ENV: 'test', ...env })})`
  return Child.start(
    `${cleared}; ${set}; const ferroflow = require('ferroflow'); (async () => { ${script} })()`,
  ).ended()
}
