/**
 * Conflicts in an application with a core of its own, which exists twice in a process that loads it both ways: they
 * must be of the class that the application tests for.
 */
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { PackedProject } from '../helpers/packed-project'
import { RedisServer } from '../helpers/redis-server'
import { installStubs } from '../helpers/stub-packages'

const OURS = '@saga-bus/store-redis'
const CORE = '@saga-bus/core'

/** What an application learns of one error. */
interface Seen {
  isCore: boolean
  isOurs: boolean
  name: string
  code: string
  message: string
  fields: [sagaId: string, expectedVersion: number, actualVersion: number]
}

/** Makes a conflict and a duplicate, and prints what they are. Needs `core` (or undefined), `ours` and `url`. */
const PROGRAM = `
  const store = new ours.RedisSagaStore({ redis: url })
  const see = (error) => ({
    isCore: core !== undefined && error instanceof core.ConcurrencyError,
    isOurs: error instanceof ours.ConcurrencyError,
    name: error.name, code: error.code, message: error.message,
    fields: [error.sagaId, error.expectedVersion, error.actualVersion],
  })
  const caught = (promise) => promise.then(() => { throw new Error('It resolved') }, see)
  const state = { metadata: { sagaId: 'i', version: 0 } }
  await store.insert('S', 'c', state)
  const seen = [
    await caught(store.update('S', { metadata: { sagaId: 'i', version: 6 } }, 5)),
    await caught(store.save('S', { metadata: { sagaId: 'i', version: 5 } })),
    await caught(store.insert('S', 'c', state)),
  ]
  await store.close()
  console.log(JSON.stringify(seen))`

const ES_MODULE = `import * as core from '${CORE}'\nimport * as ours from '${OURS}'\n`
const COMMON_JS = `const core = require('${CORE}')\nconst ours = require('${OURS}')\n`

function assertSeen(seen: Seen[], isCore: boolean): void {
  assert.equal(seen.length, 3)
  for (const { isCore: is, isOurs, name } of seen)
    assert.deepEqual([is, isOurs, name], [isCore, true, 'ConcurrencyError'])
  const [update, save, insert] = seen as [Seen, Seen, Seen]
  for (const { code, message, fields } of [update, save]) {
    assert.equal(code, 'CONCURRENCY_CONFLICT')
    assert.ok(message.includes('Optimistic concurrency conflict'), message)
    assert.ok(message.includes('Concurrency conflict for saga i: expected version 5, got 0'), message)
    assert.deepEqual(fields, ['i', 5, 0])
  }
  assert.equal(insert.code, 'SAGA_EXISTS')
  assert.match(insert.message, /^Saga S with correlation ID c already exists/)
  assert.equal(insert.fields[0], 'i')
}

describe('conflicts beside the core', () => {
  let server: RedisServer
  let project: PackedProject
  let url: string
  before(async () => {
    server = await RedisServer.start()
    project = await PackedProject.create([OURS])
  })
  after(async () => {
    project.remove()
    await server.stop()
  })
  beforeEach(async () => {
    using admin = await server.client()
    await admin.command('FLUSHALL')
    url = `\nconst url = '${server.url}'\n`
  })
  afterEach(() => rmSync(join(project.root, 'node_modules', CORE), { recursive: true, force: true }))

  it('are of its class where both are imported', async () => {
    installStubs(project.root, [CORE])
    assertSeen(await project.evaluate<Seen[]>('core.mjs', `${ES_MODULE}${url}${PROGRAM}`), true)
  })

  it('are of its class where both are required', async () => {
    installStubs(project.root, [CORE])
    const script = `${COMMON_JS}${url}void (async () => {${PROGRAM}})()`
    assertSeen(await project.evaluate<Seen[]>('core.cjs', script), true)
  })

  it('are of its class where it is imported and ferroflow required', async () => {
    installStubs(project.root, [CORE])
    const script = `import { createRequire } from 'node:module'
      import * as core from '${CORE}'
      const ours = createRequire(import.meta.url)('${OURS}')${url}${PROGRAM}`
    assertSeen(await project.evaluate<Seen[]>('core.mjs', script), true)
  })

  it('are of its class where it is loaded after the store was made', async () => {
    installStubs(project.root, [CORE])
    const script = `import * as ours from '${OURS}'${url}
      const early = new ours.RedisSagaStore({ redis: url })
      await early.initialize()
      await early.close()
      const core = await import('${CORE}')${PROGRAM}`
    assertSeen(await project.evaluate<Seen[]>('core.mjs', script), true)
  })

  it('are of the class of the option, even where there is a core', async () => {
    installStubs(project.root, [CORE])
    // Both copies are loaded: only the application knows which of them its runtime has.
    const script = `import * as core from '${CORE}'
      import { createRequire } from 'node:module'
      import * as ours_ from '${OURS}'
      createRequire(import.meta.url)('${CORE}')
      const ours = { ...ours_, RedisSagaStore: class extends ours_.RedisSagaStore {
        constructor(options) { super({ ...options, ConcurrencyError: core.ConcurrencyError }) }
      } }${url}${PROGRAM}`
    assertSeen(await project.evaluate<Seen[]>('core.mjs', script), true)
  })

  it('are of its class where it can only be imported', async () => {
    const core = join(project.root, 'node_modules', CORE)
    mkdirSync(core, { recursive: true })
    const manifest = { name: CORE, version: '0.0.0', exports: { '.': { import: './index.mjs' } } }
    writeFileSync(join(core, 'package.json'), JSON.stringify(manifest))
    writeFileSync(
      join(core, 'index.mjs'),
      `export class ConcurrencyError extends Error {
        name = 'ConcurrencyError'
        constructor(sagaId, expectedVersion, actualVersion) {
          super('Concurrency conflict')
          Object.assign(this, { sagaId, expectedVersion, actualVersion })
        }
      }`,
    )
    assertSeen(await project.evaluate<Seen[]>('core.mjs', `${ES_MODULE}${url}${PROGRAM}`), true)
  })

  it('are ours where there is none, and transient', async () => {
    const script = `import * as ours from '${OURS}'\nconst core = undefined${url}${PROGRAM}`
    const seen = await project.evaluate<Seen[]>('core.mjs', script)
    assertSeen(seen, false)
    for (const { message } of seen) assert.match(message, /network/)
  })

  it('are of its class where ferroflow is linked from elsewhere, and both are required', async () => {
    installStubs(project.root, [CORE])
    const installed = join(project.root, 'node_modules', OURS)
    const elsewhere = join(project.folder, 'elsewhere/node_modules')
    mkdirSync(elsewhere, { recursive: true })
    // The addon is found beside the package, as a link keeps it.
    cpSync(join(project.root, 'node_modules'), elsewhere, {
      recursive: true,
      filter: (source) => !source.includes('@saga-bus'),
    })
    const real = join(elsewhere, 'linked')
    renameSync(installed, real)
    symlinkSync(real, installed, 'junction')
    try {
      const script = `${COMMON_JS}${url}void (async () => {${PROGRAM}})()`
      assertSeen(await project.evaluate<Seen[]>('core.cjs', script), true)
    } finally {
      rmSync(installed)
      renameSync(real, installed)
    }
  })
})
