import assert from 'node:assert/strict'
import { it } from 'node:test'
import { ArgumentError, LockError } from '../../index.js'
import type { Backend } from '../helpers/backends'
import { deferred } from '../helpers/wait'
import { placesOf } from '../helpers/workstations'

const KEY = 'wks:lock:execution:e'

export function executionLockSuite(backend: Backend): void {
  const place = placesOf(backend)

  it('a lock has one owner, for five minutes', async () => {
    const { workstation, another, data } = await place()
    assert.equal(await workstation.lockWorkflowExecution('e', 'worker-1'), true)
    assert.equal(await workstation.lockWorkflowExecution('e', 'worker-2'), false)
    assert.equal(await another().lockWorkflowExecution('e', 'worker-1'), false)
    const left = await data.pttl(KEY)
    assert.ok(left > 295_000 && left <= 300_000, `${left}`)
    assert.deepEqual(await another().isWorkflowLocked('e'), { locked: true, workerId: 'worker-1' })
    const lock = (await another().getExecutionLock('e'))!
    assert.deepEqual([lock.executionId, lock.workerId], ['e', 'worker-1'])
    assert.ok(lock.expiresAt! - lock.acquiredAt! > 290_000)
    assert.equal(await workstation.unlockWorkflowExecution('e'), true)
    assert.equal(await workstation.unlockWorkflowExecution('e'), false)
    assert.deepEqual(await workstation.isWorkflowLocked('e'), { locked: false })
    assert.equal(await workstation.getExecutionLock('e'), null)
  })

  it('nobody releases what another one holds, unless by force', async () => {
    const { workstation, another } = await place()
    const other = another()
    await workstation.lockWorkflowExecution('e', 'worker-1')
    assert.equal(await other.unlockWorkflowExecution('e'), false)
    assert.equal(await other.unlockWorkflowExecution('e', 'worker-2'), false)
    assert.equal((await other.isWorkflowLocked('e')).locked, true)
    assert.equal(await other.unlockWorkflowExecution('e', { force: true }), true)
    assert.equal(await other.lockWorkflowExecution('e', 'worker-2'), true)
    assert.equal(await workstation.unlockWorkflowExecution('e'), false, 'it was broken')
    assert.deepEqual(await workstation.isWorkflowLocked('e'), { locked: true, workerId: 'worker-2' })
  })

  it('a worker that starts anew releases its lock by its id', async () => {
    const { workstation, another } = await place()
    await workstation.lockWorkflowExecution('e', 'worker-1')
    assert.equal(await another().unlockWorkflowExecution('e', 'worker-1'), true)
    assert.equal((await workstation.isWorkflowLocked('e')).locked, false)
  })

  it('locks of the original package are respected, named and released', async () => {
    const { workstation, data } = await place()
    await data.command('SET', KEY, 'their-worker', 'EX', 100)
    assert.equal(await workstation.lockWorkflowExecution('e', 'worker-1'), false)
    assert.deepEqual(await workstation.isWorkflowLocked('e'), { locked: true, workerId: 'their-worker' })
    assert.equal(await workstation.checkExecutionLock('e'), 'their-worker')
    await assert.rejects(
      workstation.executeWithLock('e', 'worker-1', () => 1),
      {
        message: 'Workflow execution e is already locked by worker their-worker',
      },
    )
    assert.equal(await workstation.unlockWorkflowExecution('e', 'worker-1'), false)
    assert.equal(await workstation.unlockWorkflowExecution('e', 'their-worker'), true)
    assert.equal(await data.exists(KEY), false)
  })

  it('a lock that expired and went to another one is not released', async () => {
    const { workstation, another, data } = await place()
    await workstation.lockWorkflowExecution('e', 'worker-1')
    await data.command('DEL', KEY)
    await another().lockWorkflowExecution('e', 'worker-2')
    assert.equal(await workstation.unlockWorkflowExecution('e'), false)
    assert.deepEqual(await workstation.isWorkflowLocked('e'), { locked: true, workerId: 'worker-2' })
  })

  it('a function runs under a lock, which ends with it', async () => {
    const { workstation, another, data } = await place()
    const other = another()
    const result = await workstation.executeWithLock('e', 'worker-1', async ({ signal, fence }) => {
      assert.equal(signal.aborted, false)
      assert.ok(fence > 0)
      await assert.rejects(
        other.executeWithLock('e', 'worker-2', () => 1),
        (error: LockError) => {
          assert.ok(error instanceof LockError)
          assert.equal(error.message, 'Workflow execution e is already locked by worker worker-1')
          assert.deepEqual([error.code, error.key, error.retryable], ['LOCK_HELD', KEY, true])
          return error.holder?.name === 'worker-1'
        },
      )
      await assert.rejects(
        workstation.executeWithLock('e', 'worker-1', () => 1),
        /already locked by worker worker-1/,
      )
      return 'done'
    })
    assert.equal(result, 'done')
    assert.equal(await data.exists(KEY), false)
    await assert.rejects(
      workstation.executeWithLock('e', 'worker-1', () => Promise.reject(new Error('mine'))),
      /^Error: mine$/,
    )
    assert.equal(await data.exists(KEY), false)
  })

  it('a function that takes longer than the lock keeps it', async () => {
    const { workstation, another, data } = await place()
    const finish = deferred()
    const begun = deferred()
    const running = workstation.executeWithLock('e', 'w', () => (begun.resolve(), finish.promise), { ttl: 1 })
    await begun.promise
    const end = performance.now() + 2500
    while (performance.now() < end) {
      // oxlint-disable-next-line no-await-in-loop -- looking again and again
      assert.equal(await another().lockWorkflowExecution('e', 'thief'), false)
      // oxlint-disable-next-line no-await-in-loop -- looking again and again
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    finish.resolve()
    await running
    assert.equal(await data.exists(KEY), false)
  })

  it('whoever waits gets the lock when it is free', async () => {
    const { workstation, another } = await place()
    const order: string[] = []
    const finish = deferred()
    const begun = deferred()
    const first = workstation.executeWithLock('e', 'w1', async () => {
      begun.resolve()
      await finish.promise
      order.push('first')
    })
    await begun.promise
    const second = another().executeWithLock('e', 'w2', () => order.push('second'), { waitMs: 5000 })
    finish.resolve()
    await Promise.all([first, second])
    assert.deepEqual(order, ['first', 'second'])
  })

  it('of a thousand that ask at once, one gets it', async () => {
    const { workstation, another } = await place()
    const all = [workstation, another(), another(), another()]
    const asked = Array.from({ length: 1000 }, (_, index) =>
      all[index % 4]!.lockWorkflowExecution('e', `worker-${index}`),
    )
    assert.equal((await Promise.all(asked)).filter(Boolean).length, 1)
  })

  it('bad arguments reject', async () => {
    const { workstation } = await place()
    await assert.rejects(workstation.lockWorkflowExecution('', 'w'), ArgumentError)
    await assert.rejects(workstation.lockWorkflowExecution('e', ''), ArgumentError)
    await assert.rejects(workstation.lockWorkflowExecution('e', 'w', { ttl: -1 }), ArgumentError)
    await assert.rejects(workstation.executeWithLock('e', 'w', 7 as never), ArgumentError)
    await assert.rejects(workstation.unlockWorkflowExecution('e', 7 as never), ArgumentError)
    assert.deepEqual(await workstation.isWorkflowLocked('e'), { locked: false })
  })
}
