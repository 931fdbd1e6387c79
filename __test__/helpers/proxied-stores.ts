/** The three stores on one connection through the counting proxy, and what cutting it does to a call. */
import {
  type Connection,
  type ConnectionOptions,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  connect,
} from '../../index.js'
import { CountingProxy, type RequestFilter } from './counting-proxy'
import type { RedisServer } from './redis-server'
import { type Counter, counter } from './saga-states'

/** Milliseconds; far below the deadline of a call, however often its connection is lost. */
export const REDIAL_DELAY = 50

export class ProxiedStores {
  readonly proxy: CountingProxy
  readonly connection: Connection
  readonly workflow: RedisWorkflowStateService
  readonly lock: RedisLockManager
  readonly saga: RedisSagaStore<Counter>

  private constructor(proxy: CountingProxy, options: ConnectionOptions) {
    this.proxy = proxy
    // Tests cut connections in a row, and have few clients.
    this.connection = connect(proxy.url, { redialDelay: REDIAL_DELAY, ...options })
    this.workflow = new RedisWorkflowStateService(this.connection)
    this.lock = new RedisLockManager(this.connection, { maxRetries: 0 })
    this.saga = new RedisSagaStore<Counter>({ redis: this.connection })
  }

  static async open(server: RedisServer, options: ConnectionOptions = {}): Promise<ProxiedStores> {
    return new ProxiedStores(await CountingProxy.start(server), options)
  }

  /** Connects, and sends every script once, so that what follows is the ordinary case. */
  async warm(): Promise<this> {
    const runId = await this.workflow.createRun('warm', 1)
    await this.workflow.updateRunStatus(runId, 'failed')
    await this.workflow.setStepScheduled('warm', 's')
    const token = (await this.lock.acquire('warm')) as string
    await this.lock.extend('warm', token)
    await this.lock.release('warm', token)
    await this.saga.insert('S', 'warm', counter('warm'))
    await this.saga.delete('S', 'warm')
    await this.connection.command('DEL', `workflows:run:${runId}`, 'workflows:step:warm:s')
    return this
  }

  async close(): Promise<void> {
    await this.connection.close()
    await this.proxy.close()
  }
}

const WRITES = new Set(['EVAL', 'EVALSHA', 'HSET', 'SET', 'INCR'])

export const isWrite: RequestFilter = ({ name }) => WRITES.has(name)
