/** The workstation services on a Redis Cluster, where an execution and the set of active ones lie apart. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Workstation, createWorkstation } from '../../index.js'
import { RedisCluster } from '../helpers/redis-cluster'
import { until } from '../helpers/wait'

describe('a workstation on a cluster', () => {
  let cluster: RedisCluster
  const open: Workstation[] = []
  before(async () => {
    cluster = await RedisCluster.start({ replicas: 0 })
  })
  after(async () => {
    await Promise.all(open.map((workstation) => workstation.close()))
    await cluster.stop()
  })

  for (const keyPrefix of ['', '{app}:']) {
    it(`keeps its promises with the prefix "${keyPrefix}"`, async () => {
      const redis = { cluster: cluster.addresses, keyPrefix }
      const [one, other] = [createWorkstation({ redis }), createWorkstation({ redis })]
      open.push(one, other)
      const ids = Array.from({ length: 60 }, (_, index) => `e${String(index).padStart(2, '0')}`)
      await Promise.all(ids.map((id) => one.startWorkflowTracking(id, 'wf', 20)))
      assert.deepEqual(await other.listActiveWorkflows(), ids)
      const updates = ids.flatMap((id) =>
        [one, other].map((workstation, index) =>
          workstation.updateWorkflowProgress(id, 10, 'half', { [`by${index}`]: true }),
        ),
      )
      assert.ok((await Promise.all(updates)).every(Boolean))
      assert.equal((await other.getWorkflowStatistics()).averageProgress, 50)
      const states = await one.getActiveWorkflowsStatus()
      for (const { data } of states) assert.deepEqual({ ...data }, { by0: true, by1: true })
      await one.addActiveExecution('ghost')
      assert.equal((await one.pageActiveWorkflows()).total, 61)
      await until('the ghost is gone', async () => !(await one.listActiveWorkflows()).includes('ghost'))
      await Promise.all(ids.map((id) => other.completeWorkflowTracking(id, 'completed')))
      assert.deepEqual(await one.listActiveWorkflows(), [])
      const users = ids.map((id) => `user-${id}`)
      await Promise.all(users.map((user) => one.setSession(user, { user })))
      const entries = await Promise.all(users.map((user) => other.getSessionEntry(user)))
      await Promise.all(users.map((user) => one.deleteSession(user)))
      const late = users.map((user, index) =>
        other.setSession(user, {}, 60, { version: entries[index]!.version }),
      )
      assert.ok((await Promise.all(late)).every((written) => !written))
      assert.equal(await one.lockWorkflowExecution('e', 'w1'), true)
      assert.equal(await other.lockWorkflowExecution('e', 'w2'), false)
      assert.equal(await other.getOrCompute('k', () => 7), 7)
      assert.equal(await one.getCachedAPIResponse('k'), 7)
      assert.equal((await one.checkReadiness()).ready, true)
    })
  }
})
