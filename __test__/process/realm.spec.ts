/** Test runners such as Jest give a program classes of its own (`Error`, `Object`, `Uint8Array`, `Date`). */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { createContext, runInContext } from 'node:vm'

import * as ferroflow from '../../index.js'

/** Runs a function's text in a context where nothing is the class that it is outside. */
function inContext<T>(text: string): T {
  return runInContext(`(${text})`, createContext({ Buffer, URL, URLSearchParams, queueMicrotask })) as T
}

const root = join(__dirname, '../..')

function outside(name: string): unknown {
  return name.endsWith('js-binding.js') ? require('../../js-binding.js') : require(name)
}

function read(path: string): string {
  return readFileSync(path, 'utf8')
}

describe('values of another context', () => {
  const { RedisSagaStore, RedisWorkflowStateService, connect } = ferroflow
  const connection = connect('memory://realm')
  after(() => connection.close())

  it('are options', async () => {
    const options = inContext<object>(`{ host: '127.0.0.1', port: 1, tls: { ca: [new Uint8Array(3)] } }`)
    const own = connect(options as never)
    await own.close()
  })

  it('are errors, with message and stack', async () => {
    const runs = new RedisWorkflowStateService(connection)
    const id = await runs.createRun('w')
    const error = inContext<Error>(`Object.assign(new Error('from elsewhere'), { code: 'E_ELSE' })`)
    assert.ok(!(error instanceof Error))
    await runs.updateRunStatus(id, 'failed', undefined, error)
    const run = await runs.getRun(id)
    assert.equal(run?.error?.message, 'from elsewhere')
    assert.equal(run?.error?.code, 'E_ELSE')
    assert.match(run?.error?.stack ?? '', /from elsewhere/)
  })

  it('are bytes and dates', async () => {
    await connection.command('SET', 'bytes', inContext<Uint8Array>('new Uint8Array([104, 105])'))
    assert.equal(await connection.command('GET', 'bytes'), 'hi')
    const sagas = new RedisSagaStore({ redis: connection })
    const createdAt = inContext<Date>('new Date(5000)')
    await sagas.insert('S', 'c', { metadata: { sagaId: 'i', createdAt } })
    assert.deepEqual((await sagas.getById('S', 'i'))?.['metadata'].createdAt, new Date(5000))
  })
})

describe('ferroflow loaded in another context', () => {
  let inner: typeof ferroflow
  before(() => {
    // As Jest does it: the modules run in the context, the addon is loaded outside of it.
    const load = inContext<(require: NodeRequire, wrap: (path: string) => string) => typeof ferroflow>(`
      (outside, read) => {
        const modules = new Map()
        const load = (path) => {
          if (!modules.has(path)) {
            const module = { exports: {} }
            modules.set(path, module)
            const require = (name) => {
              if (!name.startsWith('.') || name.endsWith('js-binding.js')) return outside(name)
              return load(outside('node:path').join(outside('node:path').dirname(path), name))
            }
            new Function('exports', 'require', 'module', '__filename', 'process', 'setTimeout', read(path))(
              module.exports, require, module, path, outside('node:process'), outside('node:timers').setTimeout)
          }
          return modules.get(path).exports
        }
        return load(outside('node:path').join(outside.root, 'dist/index.js'))
      }`)
    inner = load(Object.assign(outside, { root }) as unknown as NodeRequire, read)
  })

  it('throws its own classes', async () => {
    assert.notEqual(inner.ServerError, ferroflow.ServerError)
    const connection = inner.connect('memory://realm')
    await assert.rejects(connection.command('NO-SUCH-COMMAND'), (error) => {
      assert.ok(error instanceof inner.ServerError)
      assert.equal(error.code, 'UNSUPPORTED')
      return true
    })
    await connection.close()
  })

  it('shares connections with the copy outside, and both get their events', async () => {
    const outer = ferroflow.connect('redis://127.0.0.1:1')
    const own = inner.connect('redis://127.0.0.1:1')
    const statuses: string[] = []
    // Events keep no process alive.
    const alive = setInterval(() => undefined, 1000)
    await Promise.all(
      [outer, own].map(
        (connection, index) =>
          new Promise<void>((resolve) => {
            connection.on('status', (status) => {
              statuses[index] = status
              resolve()
            })
          }),
      ),
    )
    clearInterval(alive)
    assert.deepEqual(statuses, ['reconnecting', 'reconnecting'])
    const locks = new inner.RedisLockManager(ferroflow.connect('memory://shared between copies'))
    assert.equal(typeof (await locks.tryAcquire('k')), 'string')
    await Promise.all([outer.close(), own.close()])
  })
})
