/** The compose file of the example, without Docker: whether it fits together, and runs what it says. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { createWorkstation } from '../../index.js'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import { parseYaml } from '../helpers/yaml'

const repository = join(__dirname, '../..')
const folder = join(repository, 'examples/express-app')
const read = (path: string): string => readFileSync(join(repository, path), 'utf8')

describe('the compose file', () => {
  const file = parseYaml(read('examples/express-app/docker-compose.yml'))
  const { redis, app } = file.services

  it('has two services, of words that Compose knows', () => {
    assert.deepEqual(Object.keys(file), ['services', 'volumes'])
    assert.deepEqual(Object.keys(file.services), ['redis', 'app'])
    const known = [
      'image',
      'working_dir',
      'command',
      'volumes',
      'environment',
      'ports',
      'depends_on',
      'healthcheck',
    ]
    for (const service of [redis, app]) {
      assert.deepEqual(
        Object.keys(service).filter((word) => !known.includes(word)),
        [],
      )
      assert.equal(typeof service.command, 'string')
      assert.equal(service.healthcheck.test[0], 'CMD')
      for (const time of ['interval', 'timeout'])
        assert.match(service.healthcheck[time] ?? '1s', /^\d+s$/, time)
    }
    assert.deepEqual(app.depends_on, { redis: { condition: 'service_healthy' } })
  })

  it('sets variables that the application reads', () => {
    const sources = read('examples/express-app/main.ts') + read('ts/workstation/environment.ts')
    for (const name of Object.keys(app.environment)) assert.ok(sources.includes(`'${name}'`), name)
    assert.ok(Object.keys(file.services).includes(app.environment.REDIS_HOST))
    assert.equal(app.environment.REDIS_ENABLED, 'true', 'a text, as variables are')
    // A secret that everybody knows would be worse than a new one.
    assert.equal(app.environment.JWT_SECRET, '${JWT_SECRET:-}')
  })

  it('mounts what there is, and publishes the port of the application on this machine alone', () => {
    const [, port] = /'PORT'\] \|\| (\d+)/.exec(read('examples/express-app/main.ts')) ?? []
    assert.deepEqual(app.ports, [`127.0.0.1:${port}:${port}`])
    assert.equal(app.environment.HOST, '0.0.0.0', 'from outside of its container')
    assert.ok(app.healthcheck.test.join(' ').includes(`127.0.0.1:${port}/live`))
    const [source, target, mode] = app.volumes[0].split(':')
    assert.deepEqual([resolve(folder, source), target, mode], [repository, app.working_dir, 'ro'])
    const [volume] = redis.volumes[0].split(':')
    assert.ok(Object.hasOwn(file.volumes, volume))
    const { engines } = JSON.parse(read('package.json')) as { engines: { node: string } }
    const [, oldest] = /(\d+)/.exec(engines.node) ?? []
    assert.ok(Number(/^node:(\d+)/.exec(app.image)?.[1]) >= Number(oldest))
    // The addon is built for glibc, which alpine does not have.
    assert.doesNotMatch(app.image, /alpine/)
  })

  it('runs what it says, and finds it healthy', async () => {
    const [server, ...args] = redis.command.split(' ')
    assert.equal(server, 'redis-server')
    await using there = await RedisServer.start({ args })
    const [node, ...command] = app.command.split(' ')
    assert.ok(node === 'node' && existsSync(join(repository, command.at(-1))))
    const env = { ...app.environment, JWT_SECRET: '', REDIS_HOST: there.host, REDIS_PORT: String(there.port) }
    await using program = new Program(command, { env: { ...env, PORT: '0', REDIS_PASSWORD: undefined } })
    const [, port = ''] = await program.printed(/Listening on http:\/\/localhost:(\d+)/, 20_000)
    const check = app.healthcheck.test.slice(2).map((word: string) => word.replace('3000', port))
    await using healthy = new Program(check)
    assert.deepEqual(await healthy.ended(), { code: 0, signal: null }, healthy.output)
    const workstation = createWorkstation({ redis: there.url, log: false })
    assert.equal((await workstation.redisHealthCheck()).status, 'up')
    await workstation.close()
    program.kill('SIGTERM')
    assert.deepEqual(await program.ended(), { code: 0, signal: null }, program.output)
    await using gone = new Program(check)
    assert.notEqual((await gone.ended()).code, 0)
  })
})
