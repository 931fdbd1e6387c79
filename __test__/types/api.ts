/**
 * Wrong uses of the public API that must not compile, and types that must come out right. Nothing here runs: the
 * compiler is the test.
 */
import type { Cluster, Redis } from 'ioredis'
import {
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  type Target,
  connect,
} from '../../index'

/** Compiles only where both types are the same: assignable in both directions is not enough, because of `any`. */
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
function isTrue<_T extends true>(): void {}

interface OrderState {
  id: string
  correlationId: string
  status: string
  data: { orderId: string }
  metadata: { sagaId: string; version: number; createdAt: Date; updatedAt: Date; isCompleted: boolean }
}

declare const redis: Redis
declare const order: OrderState

declare const cluster: Cluster

export function topologies(): Target[] {
  const sentinels = [{ host: 'a', port: 26_379 }, { host: 'b' }]
  // @ts-expect-error -- a node is an address
  connect({ sentinels: ['a:26379'], name: 'm' })
  // @ts-expect-error -- a cluster has more than one way in
  connect({ cluster: { host: 'a' } })
  return [
    cluster,
    { sentinels, name: 'm', sentinelPassword: 'x', natMap: { 'a:1': { host: 'b', port: 2 } } },
    { cluster: [7000], natMap: (key) => (key === 'a:1' ? { host: 'b', port: 2 } : null) },
    { cluster: ['redis://a', 7000, { port: 1 }] },
  ]
}

export async function locks(): Promise<void> {
  const manager = new RedisLockManager(redis)

  const token = await manager.acquire('order-1', 5000)
  isTrue<Equal<typeof token, string | null>>()
  // @ts-expect-error -- the lock may be taken: null must be dealt with first
  await manager.release('order-1', token)

  const result = await manager.withLock('order-1', async () => ({ paid: true }))
  isTrue<Equal<typeof result, { paid: boolean }>>()

  // @ts-expect-error -- a name is a text
  await manager.acquire(42)
  // @ts-expect-error -- a time to live is a number of milliseconds
  await manager.extend('order-1', 'token', '30s')
  // @ts-expect-error -- the function comes before the time to live
  await manager.withLock('order-1', 5000, async () => {})

  // @ts-expect-error -- without a target there is nothing to connect to
  void new RedisLockManager()
  // @ts-expect-error -- a misspelt option
  void new RedisLockManager(redis, { defaultTtlMs: 1000 })
}

export async function sagas(): Promise<void> {
  const store = new RedisSagaStore<OrderState>({ redis, keyPrefix: 'app:' })

  const found = await store.findById('OrderSaga', 'saga-1')
  isTrue<Equal<typeof found, OrderState | null>>()
  await store.save('OrderSaga', order)

  // @ts-expect-error -- nothing may be stored: null must be dealt with first
  await store.save('OrderSaga', found)
  // @ts-expect-error -- not the state of this saga
  await store.save('OrderSaga', { ...order, data: { orderId: 1 } })
  // @ts-expect-error -- seconds are a number
  void new RedisSagaStore({ redis, completedTtlSeconds: '1d' })
}

export async function workflows(): Promise<void> {
  const service = new RedisWorkflowStateService(redis, undefined, 'workflows')
  await service.init()

  // @ts-expect-error -- neither a client, nor options, nor a URL
  void new RedisWorkflowStateService(42)
  // @ts-expect-error -- the prefix is a text
  void new RedisWorkflowStateService(redis, undefined, 42)
}
