/** The domain: an order goes through reserve → charge → ship, and none of these happens twice. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import {
  ConcurrencyError,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  type Connection,
  type SagaMetadata,
} from 'ferroflow'

/** What a customer wants. */
export interface OrderInput {
  item: string
  quantity: number
  priceCents: number
  /** A card called `declined` is. */
  card: string
}

export type OrderStatus = 'placed' | 'reserved' | 'charged' | 'shipped' | 'failed' | 'cancelled'

/** The state of the saga: what is true of an order as a whole. The steps are in its workflow run. */
export interface OrderState extends OrderInput {
  /** Id of the saga. */
  id: string
  /** Id of the order: that is what customers know. */
  correlationId: string
  runId: string
  status: OrderStatus
  note?: string
  metadata?: SagaMetadata
}

/** An order that cannot do what was asked of it. */
export class OrderError extends Error {
  override readonly name = 'OrderError'

  constructor(
    readonly code: 'ORDER_NOT_FOUND' | 'ORDER_ENDED' | 'CARD_DECLINED',
    message: string,
  ) {
    super(message)
  }
}

const SAGA = 'OrderSaga'
export const STEPS = ['reserve', 'charge', 'ship'] as const
type StepName = (typeof STEPS)[number]

/** What the order is after a step. `shipped` comes at the very end, together with the end of the saga. */
const STATUS_AFTER: Partial<Record<StepName, OrderStatus>> = { reserve: 'reserved', charge: 'charged' }

/** What the steps do. In a real application these call other services. */
const WORK: Record<StepName, (order: OrderState) => object> = {
  reserve: ({ item, quantity }) => ({ shelf: `${item} x ${quantity}` }),
  charge: ({ card, quantity, priceCents }) => {
    if (card === 'declined') throw new OrderError('CARD_DECLINED', 'The card was declined')
    return { paidCents: quantity * priceCents }
  },
  ship: () => ({ trackingNumber: `T-${randomUUID().slice(0, 8)}` }),
}

export interface OrdersOptions {
  /** Put before every key, so that the demo can be told from everything else in the same Redis. */
  prefix: string
  /** How long a step takes, in milliseconds. */
  stepMs: number
  /** Stops work between two steps; what is done is stored, and another run goes on from there. */
  signal?: AbortSignal
  log?: (line: string) => void
}

export class Orders {
  /** Ids, steps and outcome of the runs. */
  readonly runs: RedisWorkflowStateService
  /** One lock an order. Whoever does not get it waits, and is woken by the release. */
  readonly locks: RedisLockManager
  /** The same locks for those who would rather be refused than wait. */
  readonly #impatientLocks: RedisLockManager
  /** States of the orders. Those that have ended are kept for a day. */
  readonly sagas: RedisSagaStore<OrderState>
  readonly #options: OrdersOptions

  constructor(connection: Connection, options: OrdersOptions) {
    const { prefix } = options
    this.#options = options
    this.runs = new RedisWorkflowStateService(connection, undefined, `${prefix}workflows`)
    const locks = { keyPrefix: `${prefix}lock:`, defaultTTL: 10_000 }
    this.locks = new RedisLockManager(connection, locks)
    this.#impatientLocks = new RedisLockManager(connection, { ...locks, maxRetries: 0 })
    this.sagas = new RedisSagaStore<OrderState>({
      redis: connection,
      keyPrefix: prefix,
      completedTtlSeconds: 24 * 60 * 60,
    })
  }

  /** Stores a new order. {@link Orders.run} does the work. */
  async place(input: OrderInput): Promise<OrderState> {
    const runId = await this.runs.createRun('order', input)
    const [id, correlationId] = [randomUUID(), randomUUID().slice(0, 8)]
    return this.sagas.save(SAGA, { ...input, id, correlationId, runId, status: 'placed' })
  }

  /** @throws {OrderError} with the code `ORDER_NOT_FOUND` */
  async find(orderId: string): Promise<OrderState> {
    const order = await this.sagas.getByCorrelationId(SAGA, orderId)
    if (order === null) throw new OrderError('ORDER_NOT_FOUND', `There is no order ${orderId}`)
    return order
  }

  /** Run and steps of an order. Four calls of one turn travel together, so this takes one round trip. */
  async progress({ runId }: OrderState): Promise<object> {
    const [run, ...steps] = await Promise.all([
      this.runs.getRun(runId),
      ...STEPS.map((name) => this.runs.getStepState(runId, name)),
    ])
    return { run, steps: Object.fromEntries(STEPS.map((name, index) => [name, steps[index]])) }
  }

  /**
   * Changes the note of an order, as somebody does who looked at it a while ago.
   *
   * @throws {ConcurrencyError} if it is not the version any more that they saw
   */
  async writeNote(orderId: string, note: string, seenVersion: number): Promise<OrderState> {
    const order = await this.find(orderId)
    return this.sagas.save(SAGA, { ...order, note, metadata: { ...order.metadata, version: seenVersion } })
  }

  /**
   * Does what is left to do for an order, while nobody else can.
   *
   * @param patience - `wait` for another worker to finish, or `refuse` to start beside it
   * @throws {LockError} if another worker has the order
   */
  async run(orderId: string, patience: 'wait' | 'refuse' = 'refuse'): Promise<OrderState> {
    await this.find(orderId)
    const locks = patience === 'wait' ? this.locks : this.#impatientLocks
    return locks.withLock(orderId, () => this.#work(orderId))
  }

  /**
   * Cancels an order that has not been shipped, and takes back what was done for it.
   *
   * @throws {LockError} if a worker has the order
   */
  async cancel(orderId: string): Promise<OrderState> {
    await this.find(orderId)
    return this.#impatientLocks.withLock(orderId, async () => {
      const order = await this.find(orderId)
      if (order.status === 'cancelled') return order
      const { runId } = order
      const undone = await this.#stepsDone(runId)
      if (undone.includes('ship'))
        throw new OrderError('ORDER_ENDED', `The order ${orderId} has been shipped`)
      await this.runs.updateRunStatus(runId, 'cancelled', { undone })
      return this.#change(orderId, { status: 'cancelled' }, 'ended')
    })
  }

  async #work(orderId: string): Promise<OrderState> {
    const order = await this.find(orderId)
    const { runId } = order
    if (order.metadata?.isCompleted === true) {
      this.#log(orderId, `is ${order.status}: nothing left to do`)
      return order
    }
    let result: unknown
    for (const name of STEPS) {
      // oxlint-disable-next-line no-await-in-loop -- one step after the other
      result = await this.#step(order, name)
    }
    // Doing these two again, after a crash between them, changes nothing.
    await this.runs.updateRunStatus(runId, 'completed', result)
    return this.#change(orderId, { status: 'shipped' }, 'ended')
  }

  /** Does a step unless it is done, and returns the stored result either way. */
  async #step(order: OrderState, name: StepName): Promise<unknown> {
    const { runId, correlationId: orderId } = order
    const state = await this.runs.getStepState(runId, name)
    if (state.status === 'done') return state.result
    await this.runs.setStepScheduled(runId, name)
    await delay(this.#options.stepMs, undefined, { signal: this.#options.signal })
    let result: object
    try {
      result = WORK[name](order)
    } catch (error) {
      await this.runs.setStepError(runId, name, error as Error)
      await this.runs.updateRunStatus(runId, 'failed', undefined, error)
      await this.#change(orderId, { status: 'failed' })
      this.#log(orderId, `${name} failed: ${(error as Error).message}`)
      throw error
    }
    await this.runs.setStepResult(runId, name, result)
    const status = STATUS_AFTER[name]
    if (status !== undefined) await this.#change(orderId, { status })
    this.#log(orderId, `${name} done: ${JSON.stringify(result)}`)
    return result
  }

  async #stepsDone(runId: string): Promise<string[]> {
    const states = await Promise.all(STEPS.map((name) => this.runs.getStepState(runId, name)))
    return STEPS.filter((_name, index) => states[index]?.status === 'done')
  }

  /** Changes an order whatever its version: if somebody else was faster, on top of what they stored. */
  async #change(orderId: string, change: Partial<OrderState>, ended?: 'ended'): Promise<OrderState> {
    for (let attempt = 1; ; attempt += 1) {
      // oxlint-disable-next-line no-await-in-loop -- each attempt needs what is stored by then
      const order = await this.find(orderId)
      const metadata = { ...order.metadata, isCompleted: ended !== undefined }
      try {
        // oxlint-disable-next-line no-await-in-loop
        return await this.sagas.save(SAGA, { ...order, ...change, metadata })
      } catch (error) {
        if (!(error instanceof ConcurrencyError) || attempt === 5) throw error
      }
    }
  }

  #log(orderId: string, line: string): void {
    this.#options.log?.(`order ${orderId}: ${line}`)
  }
}
