/** Steps: what is stored, and that a step that is done is never reopened. */
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { CorruptEntryError, RedisWorkflowStateService, ServerError } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'

const keyOf = (step: string, run = 'r'): string => `workflows:step:${run}:${step}`

export function steps(backend: Backend): void {
  let service: RedisWorkflowStateService
  let data: Data

  before(async () => {
    const target = await backend.freshTarget()
    service = new RedisWorkflowStateService(target)
    data = new Data(target)
  })
  after(async () => {
    await service.close()
    await data.close()
  })

  async function storedTime(step: string): Promise<number> {
    return Number((await data.hash(keyOf(step)))['updatedAt'])
  }

  it('a step of which nothing is stored is pending, with no other keys', async () => {
    const begin = Date.now()
    const state = await service.getStepState('r', 'none')
    assert.deepEqual(Object.keys(state).toSorted(), ['status', 'updatedAt'])
    assert.equal(state.status, 'pending')
    assert.ok(state.updatedAt >= begin && state.updatedAt <= Date.now())
    assert.equal(await data.exists(keyOf('none')), false)
  })

  it('writes the fields and bytes of the original', async () => {
    const begin = Date.now()
    assert.equal(await service.setStepScheduled('r', 's'), undefined)
    const scheduled = await data.hash(keyOf('s'))
    assert.deepEqual(scheduled, { status: 'scheduled', updatedAt: scheduled['updatedAt'] })
    assert.match(scheduled['updatedAt'] as string, /^\d{13}$/)
    assert.ok(Number(scheduled['updatedAt']) >= begin)

    const error = Object.assign(new Error('no "stock"'), { stack: 'Error: no\n    at x', code: 'E_STOCK' })
    assert.equal(await service.setStepError('r', 's', error), undefined)
    const failed = await data.hash(keyOf('s'))
    assert.deepEqual(failed, {
      status: 'error',
      error: '{"message":"no \\"stock\\"","stack":"Error: no\\n    at x","code":"E_STOCK"}',
      updatedAt: failed['updatedAt'],
    })

    assert.equal(await service.setStepResult('r', 's', { ok: [1, 'ü'] }), undefined)
    const done = await data.hash(keyOf('s'))
    assert.deepEqual(done, { status: 'done', result: '{"ok":[1,"ü"]}', updatedAt: done['updatedAt'] })
    assert.equal(await data.pttl(keyOf('s')), -1)
  })

  it('returns status, result, error and a numeric time', async () => {
    await service.setStepScheduled('r', 'shape')
    assert.deepEqual(await service.getStepState('r', 'shape'), {
      status: 'scheduled',
      result: undefined,
      error: undefined,
      updatedAt: await storedTime('shape'),
    })
    await service.setStepError('r', 'shape', Object.assign(new Error('m'), { stack: 's' }))
    assert.deepEqual(await service.getStepState('r', 'shape'), {
      status: 'error',
      result: undefined,
      error: { message: 'm', stack: 's' },
      updatedAt: await storedTime('shape'),
    })
    await service.setStepResult('r', 'shape', 7)
    assert.deepEqual(await service.getStepState('r', 'shape'), {
      status: 'done',
      result: 7,
      error: undefined,
      updatedAt: await storedTime('shape'),
    })
  })

  it('every result that JSON holds comes back; undefined as null', async () => {
    for (const result of [0, '', false, null, [], {}, 'x', undefined]) {
      const step = `result-${JSON.stringify(result)}-`
      await service.setStepResult('r', step, result)
      const state = await service.getStepState('r', step)
      assert.deepEqual(
        [state.status, state.result],
        ['done', result ?? (result === undefined ? null : result)],
      )
    }
  })

  it('stores the message of whatever was thrown', async () => {
    await service.setStepError('r', 'thrown', 'just text' as unknown as Error)
    assert.equal((await data.hash(keyOf('thrown')))['error'], '{"message":"just text"}')
  })

  it('a failed step may be scheduled, fail and succeed again', async () => {
    await service.setStepError('r', 'again', new Error('1'))
    await service.setStepScheduled('r', 'again')
    assert.equal((await service.getStepState('r', 'again')).status, 'scheduled')
    await service.setStepError('r', 'again', new Error('2'))
    assert.equal((await service.getStepState('r', 'again')).error?.message, '2')
    await service.setStepResult('r', 'again', 1)
    assert.equal((await service.getStepState('r', 'again')).status, 'done')
  })

  it('a done step stays done, in whatever order the rest arrives', async () => {
    const late: Record<string, (step: string) => Promise<void>> = {
      scheduled: (step) => service.setStepScheduled('r', step),
      error: (step) => service.setStepError('r', step, new Error('late')),
      result: (step) => service.setStepResult('r', step, 'late'),
    }
    for (const order of permutations(Object.keys(late))) {
      const step = `done-${order.join('-')}`
      await service.setStepResult('r', step, 'first')
      const earlier = await data.hash(keyOf(step))
      for (const name of order) await late[name]?.(step)
      assert.deepEqual(await data.hash(keyOf(step)), earlier, order.join(', '))
    }
  })

  it('the result wins however it races with the others', async () => {
    for (const order of permutations(['scheduled', 'error', 'result'])) {
      const step = `race-${order.join('-')}`
      const writes = order.map((name) => {
        if (name === 'scheduled') return service.setStepScheduled('r', step)
        if (name === 'error') return service.setStepError('r', step, new Error('x'))
        return service.setStepResult('r', step, 'kept')
      })
      await Promise.all(writes)
      const { status, result, error } = await service.getStepState('r', step)
      assert.deepEqual([status, result, error], ['done', 'kept', undefined])
      assert.deepEqual(Object.keys(await data.hash(keyOf(step))).toSorted(), [
        'result',
        'status',
        'updatedAt',
      ])
    }
  })

  it('of 50 concurrent results one stays, and everybody reads that one', async () => {
    const results = Array.from({ length: 50 }, (_, n) => service.setStepResult('r', 'first-wins', n))
    await Promise.all(results)
    const first = await service.getStepState('r', 'first-wins')
    await service.setStepResult('r', 'first-wins', 'late')
    assert.deepEqual(await service.getStepState('r', 'first-wins'), first)
  })

  it('reads the statuses of later versions, and never reopens their done steps', async () => {
    for (const [status, read] of [
      ['pending', 'pending'],
      ['scheduled', 'scheduled'],
      ['running', 'scheduled'],
      ['succeeded', 'done'],
      ['done', 'done'],
      ['failed', 'error'],
      ['error', 'error'],
    ] as const) {
      const step = `later-${status}`
      await data.setHash(keyOf(step), { status, result: '5', updatedAt: '6' })
      const state = await service.getStepState('r', step)
      assert.deepEqual(state, { status: read, result: 5, error: undefined, updatedAt: 6 })
      if (read !== 'done') continue
      await service.setStepScheduled('r', step)
      await service.setStepError('r', step, new Error('late'))
      await service.setStepResult('r', step, 'late')
      assert.deepEqual(await data.hash(keyOf(step)), { status, result: '5', updatedAt: '6' })
    }
  })

  it('a running step is not set back to scheduled', async () => {
    await data.setHash(keyOf('claimed'), { status: 'running', updatedAt: '6' })
    await service.setStepScheduled('r', 'claimed')
    assert.deepEqual(await data.hash(keyOf('claimed')), { status: 'running', updatedAt: '6' })
    await service.setStepResult('r', 'claimed', 1)
    assert.equal((await service.getStepState('r', 'claimed')).status, 'done')
  })

  it('an empty result or error, as the original wrote for undefined, loads as absent', async () => {
    await data.setHash(keyOf('empty'), { status: 'done', result: '', error: '', updatedAt: '6' })
    assert.deepEqual(await service.getStepState('r', 'empty'), {
      status: 'done',
      result: undefined,
      error: undefined,
      updatedAt: 6,
    })
  })

  it('names the key of what it cannot read', async () => {
    await data.setHash(keyOf('bad'), { status: 'done', result: 'oops', updatedAt: '6' })
    const key = 'workflows:step:r:bad'
    await assert.rejects(
      service.getStepState('r', 'bad'),
      like({ type: CorruptEntryError, code: 'CORRUPT_ENTRY', message: /step:r:bad.*result.*oops/, key }),
    )
    await data.set(keyOf('string'), 'x')
    const expected = { type: ServerError, code: 'WRONG_TYPE', message: /WRONGTYPE/ } as const
    for (const call of [
      () => service.getStepState('r', 'string'),
      () => service.setStepScheduled('r', 'string'),
      () => service.setStepResult('r', 'string', 1),
      () => service.setStepError('r', 'string', new Error('x')),
    ])
      await assert.rejects(call(), like({ ...expected, key: 'workflows:step:r:string' }))
    assert.equal(await data.get(keyOf('string')), 'x')
  })
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]]
  return items.flatMap((item, index) =>
    permutations(items.filter((_, other) => other !== index)).map((rest) => [item, ...rest]),
  )
}
