/** Every wrong argument is a typed error that says what is wrong, writes nothing, and shows no secret. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  ArgumentError,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  type Target,
} from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'

/** Values that are no name, and what the error says of each. */
const BAD_NAMES: [what: string, name: unknown, message: RegExp][] = [
  ['undefined', undefined, /must be a string, not undefined/],
  ['null', null, /must be a string, not null/],
  ['a number', 5, /must be a string, not 5/],
  ['NaN', Number.NaN, /must be a string, not NaN/],
  ['an object', { toString: () => 'x' }, /must be a string, not an object/],
  ['an array', ['x'], /must be a string, not an array/],
  ['a String object', Object('x'), /must be a string, not an object/],
  ['a symbol', Symbol('x'), /must be a string, not a symbol/],
  ['a bigint', 5n, /must be a string, not a bigint/],
  ['a function', () => 'x', /must be a string, not a function/],
  ['empty', '', /must not be empty/],
  ['513 bytes long', 'k'.repeat(513), /must be at most 512 bytes long, not 513/],
  ['514 bytes long in 257 characters', 'ü'.repeat(257), /must be at most 512 bytes long, not 514/],
  ['with a line break', 'a\nb', /must not contain control characters/],
  ['with a null character', 'a\0', /must not contain control characters/],
  ['with DEL', '\u007f', /must not contain control characters/],
  ['with a C1 control', 'a\u0085b', /must not contain control characters/],
]

/** Values that are no number of milliseconds. */
const BAD_NUMBERS: unknown[] = [
  Number.NaN,
  -1,
  1.5,
  Number.POSITIVE_INFINITY,
  2 ** 53,
  '5',
  null,
  {},
  true,
  5n,
]

const fn = (): never => assert.fail('it was called')
const state = (more: object = {}): Record<string, any> => ({ id: 'i', correlationId: 'c', ...more })

const wrong = (message: RegExp): ((error: unknown) => true) =>
  like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message })

type Call = (value: any) => Promise<unknown>

export function badInput(backend: Backend): void {
  let target: Target
  let data: Data
  let workflow: RedisWorkflowStateService
  let lock: RedisLockManager
  let saga: RedisSagaStore

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    workflow = new RedisWorkflowStateService(target)
    lock = new RedisLockManager(target)
    saga = new RedisSagaStore({ redis: target })
  })
  after(async () => {
    await Promise.all([workflow.close(), lock.close(), saga.close(), data.close()])
  })

  /** Rejects, never throws at once, and leaves everything as it was. */
  async function refuses(call: () => Promise<unknown>, check: (error: unknown) => true): Promise<void> {
    const earlier = await data.snapshot()
    let promise: Promise<unknown>
    try {
      promise = call()
    } catch (error) {
      throw new Error('it threw instead of rejecting', { cause: error })
    }
    await assert.rejects(promise, check)
    assert.deepEqual(await data.snapshot(), earlier)
  }

  describe('names', () => {
    const calls: Record<string, Call> = {
      'createRun(workflowName)': (name) => workflow.createRun(name, 1),
      'getRun(id)': (name) => workflow.getRun(name),
      'updateRunStatus(id)': (name) => workflow.updateRunStatus(name, 'failed'),
      'getStepState(runId)': (name) => workflow.getStepState(name, 's'),
      'getStepState(stepName)': (name) => workflow.getStepState('r', name),
      'setStepScheduled(runId)': (name) => workflow.setStepScheduled(name, 's'),
      'setStepScheduled(stepName)': (name) => workflow.setStepScheduled('r', name),
      'setStepResult(runId)': (name) => workflow.setStepResult(name, 's', 1),
      'setStepResult(stepName)': (name) => workflow.setStepResult('r', name, 1),
      'setStepError(runId)': (name) => workflow.setStepError(name, 's', new Error('x')),
      'setStepError(stepName)': (name) => workflow.setStepError('r', name, new Error('x')),
      'withRunLock(id)': (name) => workflow.withRunLock(name, fn),
      'acquire(key)': (name) => lock.acquire(name),
      'tryAcquire(key)': (name) => lock.tryAcquire(name),
      'release(key)': (name) => lock.release(name, 't'),
      'release(token)': (name) => lock.release('k', name),
      'extend(key)': (name) => lock.extend(name, 't'),
      'extend(token)': (name) => lock.extend('k', name),
      'isLocked(key)': (name) => lock.isLocked(name),
      'withLock(key)': (name) => lock.withLock(name, fn),
      'getById(sagaName)': (name) => saga.getById(name, 'i'),
      'getById(sagaId)': (name) => saga.getById('S', name),
      'getByCorrelationId(sagaName)': (name) => saga.getByCorrelationId(name, 'c'),
      'getByCorrelationId(correlationId)': (name) => saga.getByCorrelationId('S', name),
      'findById(sagaId)': (name) => saga.findById('S', name),
      'findByCorrelationId(correlationId)': (name) => saga.findByCorrelationId('S', name),
      'insert(sagaName)': (name) => saga.insert(name, 'c', state()),
      'insert(correlationId)': (name) => saga.insert('S', name, state()),
      'insert(state.metadata.sagaId)': (name) =>
        saga.insert('S', 'c', { id: name, metadata: { sagaId: name } }),
      'update(sagaName)': (name) => saga.update(name, state(), 0),
      'update(state.id)': (name) => saga.update('S', { id: name }, 0),
      'save(sagaName)': (name) => saga.save(name, state()),
      'save(state.id)': (name) => saga.save('S', state({ id: name })),
      'delete(sagaName)': (name) => saga.delete(name, 'c'),
      'delete(id)': (name) => saga.delete('S', name),
      'deleteById(sagaId)': (name) => saga.deleteById('S', name),
      'deleteByCorrelationId(correlationId)': (name) => saga.deleteByCorrelationId('S', name),
    }
    for (const [what, call] of Object.entries(calls))
      it(what, async () => {
        for (const [, name, message] of BAD_NAMES)
          await refuses(() => call(name), like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message }))
      })

    it('save(state.correlationId)', async () => {
      for (const [, name, message] of BAD_NAMES.slice(2))
        await refuses(
          () => saga.save('S', state({ correlationId: name })),
          like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message }),
        )
    })

    it('a correlation id that would name an index', async () => {
      const expected = like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /idx:id:/ })
      for (const call of [
        () => saga.insert('S', 'idx:id:x', state()),
        () => saga.save('S', state({ correlationId: 'idx:id:x' })),
        () => saga.getByCorrelationId('S', 'idx:id:x'),
        () => saga.deleteByCorrelationId('S', 'idx:id:x'),
      ])
        await refuses(call, expected)
    })

    it('of exactly 512 bytes is accepted', async () => {
      for (const name of ['k'.repeat(512), 'ü'.repeat(256)]) {
        assert.equal(await workflow.getRun(name), null)
        assert.equal(await lock.isLocked(name), false)
        assert.equal(await saga.getByCorrelationId(name, name), null)
      }
    })
  })

  describe('numbers', () => {
    const calls: Record<string, Call> = {
      'acquire(ttl)': (ttl) => lock.acquire('k', ttl),
      'tryAcquire(ttl)': (ttl) => lock.tryAcquire('k', ttl),
      'extend(ttl)': (ttl) => lock.extend('k', 't', ttl),
      'withLock(ttl)': (ttl) => lock.withLock('k', fn, ttl),
      'update(expectedVersion)': (version) => saga.update('S', state(), version),
      'insert(state.metadata.version)': (version) => saga.insert('S', 'c', state({ metadata: { version } })),
      'update(state.metadata.version)': (version) => saga.update('S', state({ metadata: { version } }), 0),
      'save(state.metadata.version)': (version) => saga.save('S', state({ metadata: { version } })),
    }
    for (const [what, call] of Object.entries(calls)) {
      it(what, async () => {
        // An absent one is the default.
        const absent = what.startsWith('update(exp') ? [] : [null]
        // Where a TTL is expected, an object is the form with options.
        const takesOptions = /^(?:acquire|tryAcquire|withLock)/.test(what)
        const bad = BAD_NUMBERS.filter((number) => !absent.includes(number as null))
        for (const value of bad.filter((number) => !takesOptions || typeof number !== 'object'))
          await refuses(
            () => call(value),
            like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /must be a whole number/ }),
          )
      })
    }

    it('a TTL of nothing', async () => {
      for (const call of [() => lock.acquire('k', 0), () => lock.extend('k', 't', 0)])
        await refuses(call, like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /from 10 to/ }))
    })
  })

  describe('other arguments', () => {
    it('a status that is none', async () => {
      for (const status of ['done', '', 'RUNNING', undefined, null, 5, {}, '__proto__'])
        await refuses(
          () => workflow.updateRunStatus('r', status as 'running'),
          wrong(/status must be one of running, completed, failed/),
        )
    })

    it('options that are no object', async () => {
      for (const options of [null, 5, 'reopen', [], true])
        await refuses(
          () => workflow.updateRunStatus('r', 'failed', undefined, undefined, options as object),
          wrong(/options must be an object/),
        )
    })

    it('a function that is none', async () => {
      for (const value of [undefined, null, 'fn', {}, Promise.resolve(1)]) {
        await refuses(() => workflow.withRunLock('r', value as () => 1), wrong(/fn must be a function/))
        await refuses(() => lock.withLock('k', value as () => 1), wrong(/fn must be a function/))
      }
    })

    it('a state that is none', async () => {
      for (const value of [undefined, null, 5, 'state', [], () => {}]) {
        const expected = wrong(/state must be an object/)
        await refuses(() => saga.insert('S', 'c', value as object), expected)
        await refuses(() => saga.update('S', value as object, 0), expected)
        await refuses(() => saga.save('S', value as object), expected)
      }
    })

    it('metadata that is none', async () => {
      for (const metadata of [5, 'x', []])
        await refuses(() => saga.save('S', state({ metadata })), wrong(/metadata must be an object/))
    })

    it('a date that is none', async () => {
      for (const name of ['createdAt', 'updatedAt', 'archivedAt', 'timeoutExpiresAt'])
        for (const value of ['yesterday', new Date(Number.NaN), Number.NaN, {}])
          await refuses(
            () => saga.insert('S', 'c', state({ metadata: { [name]: value } })),
            wrong(new RegExp(`metadata.${name} must be a date`)),
          )
    })
  })

  describe('what JSON cannot hold', () => {
    const cyclic: Record<string, any> = { a: { list: [{}, {}] } }
    cyclic['a'].list[1].up = cyclic['a']
    const values: [value: unknown, path: RegExp][] = [
      [5n, /a BigInt at \$$/],
      [{ a: { b: [0, 1, 2, 5n] } }, /a BigInt at \$\.a\.b\[3\]$/],
      [{ 'a key': [{ 'b"': 1n }] }, /a BigInt at \$\["a key"\]\[0\]\["b\\""\]$/],
      [cyclic, /at \$\.a\.list\[1\]\.up$/],
    ]
    const calls: Record<string, [call: Call, inside: string]> = {
      createRun: [(value) => workflow.createRun('w', value), ''],
      'updateRunStatus(output)': [(value) => workflow.updateRunStatus('r', 'completed', value), ''],
      'updateRunStatus(error)': [(value) => workflow.updateRunStatus('r', 'failed', undefined, value), ''],
      setStepResult: [(value) => workflow.setStepResult('r', 's', value), ''],
      insert: [(value) => saga.insert('S', 'c', state({ data: value })), '.data'],
      update: [(value) => saga.update('S', state({ data: value }), 0), '.data'],
      save: [(value) => saga.save('S', state({ data: value })), '.data'],
    }
    for (const [what, [call, inside]] of Object.entries(calls))
      it(what, async () => {
        for (const [value, path] of values) {
          const message = new RegExp(path.source.replace(String.raw`\$`, String.raw`\$` + inside))
          await refuses(() => call(value), like({ type: ArgumentError, code: 'NOT_SERIALIZABLE', message }))
        }
      })

    it('a toJSON that throws is named with its place', async () => {
      const value = {
        a: {
          toJSON(): never {
            throw new Error('mine')
          },
        },
      }
      await refuses(
        () => workflow.createRun('w', value),
        like({ type: ArgumentError, code: 'NOT_SERIALIZABLE', message: /\$\.a.*mine|mine.*\$\.a/ }),
      )
    })

    it('nesting that V8 cannot write', async () => {
      let deep: unknown = 1
      for (let depth = 0; depth < 100_000; depth += 1) deep = [deep]
      await refuses(
        () => workflow.createRun('w', deep),
        like({ type: ArgumentError, code: 'NOT_SERIALIZABLE', message: /cannot be stored as JSON/ }),
      )
    })

    it('the code of an error', async () => {
      const error = Object.assign(new Error('x'), { code: 5n })
      await refuses(
        () => workflow.setStepError('r', 's', error),
        like({ type: ArgumentError, code: 'NOT_SERIALIZABLE', message: /\$\.code/ }),
      )
    })
  })

  it('nothing of all that was stored', async () => {
    // Functions that were refused ran under no lock, but locks of good names were taken to find that out.
    assert.deepEqual(Object.keys(await data.contracted()), [])
  })
}
