/** What the workstation services cost, counted between the client and a real server. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Connection, type Workstation, connect, createWorkstation } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { RedisServer } from '../helpers/redis-server'

const ACTIVE = 5000

describe('round trips of a workstation', () => {
  let server: RedisServer
  let proxy: CountingProxy
  let connection: Connection
  let workstation: Workstation

  before(async () => {
    server = await RedisServer.start()
    proxy = await CountingProxy.start(server)
    connection = connect(proxy.url)
    workstation = createWorkstation({ redis: connection })
    await Promise.all(
      Array.from({ length: ACTIVE }, (_, index) =>
        workstation.startWorkflowTracking(`e${index}`, 'wf', 10, { index }),
      ),
    )
  })
  after(async () => {
    await workstation.close()
    await connection.close()
    await proxy.close()
    await server.stop()
  })

  async function count(run: () => Promise<unknown>): Promise<number> {
    return (await proxy.count(run)).roundTrips
  }

  for (const [name, run] of Object.entries<() => Promise<unknown>>({
    setSession: () => workstation.setSession('u', { n: 1 }),
    getSession: () => workstation.getSession('u'),
    deleteSession: () => workstation.deleteSession('u'),
    touchSession: () => workstation.touchSession('u'),
    startWorkflowTracking: () => workstation.startWorkflowTracking('one', 'wf', 10),
    'updateWorkflowProgress of a known execution': () => workstation.updateWorkflowProgress('e7', 1, 's'),
    'completeWorkflowTracking of a known execution': () =>
      workstation.completeWorkflowTracking('e8', 'failed'),
    fetchWorkflowState: () => workstation.fetchWorkflowState('e1'),
    lockWorkflowExecution: () => workstation.lockWorkflowExecution('e1', 'w'),
    unlockWorkflowExecution: () => workstation.unlockWorkflowExecution('e1'),
    cacheAPIResponse: () => workstation.cacheAPIResponse('h', 1),
    getCachedAPIResponse: () => workstation.getCachedAPIResponse('h'),
    'getOrCompute of what is cached': () => workstation.getOrCompute('h', () => assert.fail('it is cached')),
    'streamTickets.issue': () => workstation.streamTickets.issue('t', 'x', 30),
    'streamTickets.take': () => workstation.streamTickets.take('t'),
    listActiveWorkflows: () => workstation.listActiveWorkflows(),
    redisHealthCheck: () => workstation.redisHealthCheck(),
    checkReadiness: () => workstation.checkReadiness(),
  })) {
    it(`${name}: one`, async () => {
      assert.equal(await count(run), 1)
    })
  }

  it('detail and statistics of thousands of executions: two', async () => {
    assert.equal(await count(() => workstation.getActiveWorkflowsStatus()), 2)
    assert.equal(await count(() => workstation.pageActiveWorkflows({ cursor: 'e2', limit: 3000 })), 2)
    assert.equal(await count(() => workstation.getWorkflowStatistics()), 2)
  })

  it('a hundred changes of one execution at once: no more than three', async () => {
    const changes = Array.from({ length: 100 }, (_, index) => index)
    const trips = await count(() =>
      Promise.all(
        changes.map((index) => workstation.updateWorkflowProgress('e9', 1, 's', { [`k${index}`]: index })),
      ),
    )
    assert.ok(trips <= 3, `${trips}`)
    assert.equal(Object.keys((await workstation.fetchWorkflowState('e9'))!.data).length, 101)
  })

  it('a thousand health checks: one command', async () => {
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const { requests } = await proxy.count(() =>
      Promise.all(Array.from({ length: 1000 }, () => workstation.redisHealthCheck())),
    )
    assert.equal(requests.length, 1)
  })
})
