/** Walks one order through, and shows what happens when two want the same at the same time. */
import { randomUUID } from 'node:crypto'
import { ConcurrencyError, LockError, type Connection } from 'ferroflow'
import { Orders } from './order-workflow'
import { deleteUnder, describeUnder } from './print'

/** @throws if anything is not as it should be */
export async function walk(connection: Connection, log: (line: string) => void): Promise<void> {
  // A prefix of its own: several demos may use the same Redis, and each deletes what it wrote.
  const prefix = `ferroflow-demo:walk-${randomUUID().slice(0, 8)}:`
  const orders = new Orders(connection, { prefix, stepMs: 60, log: (line) => log(`   ${line}`) })
  try {
    await steps(orders, connection, prefix, log)
  } catch (error) {
    // The first error is the one to report; without a connection nothing can be deleted either.
    await deleteUnder(connection, prefix).catch(() => log(`   The keys ${prefix}* are still there.`))
    throw error
  }
  const deleted = await deleteUnder(connection, prefix)
  log(`5. The ${deleted} keys of this walk (${prefix}*) are deleted again, and nothing else.`)
}

async function steps(
  orders: Orders,
  connection: Connection,
  prefix: string,
  log: (line: string) => void,
): Promise<void> {
  log('1. An order is placed: a workflow run and a saga are stored.')
  const { correlationId: orderId } = await orders.place({
    item: 'keyboard',
    quantity: 2,
    priceCents: 7900,
    card: 'visa',
  })
  log(`   order ${orderId}: placed`)

  log('2. Two clerks look at version 1 of it, and both write a note.')
  await twoClerks(orders, orderId, log)

  log('3. Three workers want to run it at the same time: one may.')
  await threeWorkers(orders, orderId, log, () => describeUnder(connection, `${prefix}lock:`))

  log('4. This is stored now:')
  log(await describeUnder(connection, prefix))
}

async function twoClerks(orders: Orders, orderId: string, log: (line: string) => void): Promise<void> {
  const { metadata } = await orders.find(orderId)
  const seen = metadata?.version ?? 0
  const { metadata: saved } = await orders.writeNote(orderId, 'gift wrap', seen)
  log(`   the first one wins: the order has version ${saved?.version} now`)
  const error = await failure(orders.writeNote(orderId, 'no gift wrap', seen))
  if (!(error instanceof ConcurrencyError)) throw new Error('The stale note did not lose', { cause: error })
  log(`   the second one loses: ${error.name}: ${error.message}`)
}

async function threeWorkers(
  orders: Orders,
  orderId: string,
  log: (line: string) => void,
  describeLocks: () => Promise<string>,
): Promise<void> {
  const first = orders.run(orderId)
  // oxlint-disable-next-line no-await-in-loop -- polling
  while (!(await orders.locks.isLocked(orderId))) await new Promise(setImmediate)
  log(`   worker A has the lock:\n ${await describeLocks()}`)

  const refused = await failure(orders.run(orderId, 'refuse'))
  if (!(refused instanceof LockError)) throw new Error('Worker B was not refused', { cause: refused })
  log(`   worker B will not wait: ${refused.name}: ${refused.message}`)

  log('   worker C waits')
  const third = orders.run(orderId, 'wait')
  const shipped = await first
  const begin = performance.now()
  const seen = await third
  log(`   worker C was woken and done ${(performance.now() - begin).toFixed(1)} ms after worker A`)
  if (shipped.status !== 'shipped' || seen.metadata?.version !== shipped.metadata?.version)
    throw new Error(`The order is ${shipped.status}, and worker C changed it`)
}

/** What a promise rejects with; undefined if it does not. */
async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  )
}
