import { LockError } from '../../errors.js'
import { endsWithin } from '../../lock/chain.js'

/** As long as a lock lives that nobody releases. */
const PATIENCE = 30_000

/**
 * One replay of a run at a time in this process.
 *
 * The engine counts the steps of a run in one place, so two replays side by side, as from a job that is delivered
 * twice, would count each other's steps and run them under new names. The lock of the run comes too late: the engine
 * begins to count before it takes it.
 */
export class Turns {
  readonly #taken = new Map<string, Promise<unknown>>()

  /** @throws {@link LockError} if somebody else is at it all the time */
  async take<T>(runId: string, replay: () => Promise<T>): Promise<T> {
    const end = Date.now() + PATIENCE
    for (let turn = this.#taken.get(runId); turn !== undefined; turn = this.#taken.get(runId)) {
      // oxlint-disable-next-line no-await-in-loop -- until it is our turn
      if (!(await endsWithin(end - Date.now(), turn))) {
        throw new LockError('LOCK_TIMEOUT', `Failed to acquire lock for run ${runId}: it is being replayed`, {
          retryable: true,
        })
      }
    }
    const result = replay()
    this.#taken.set(runId, result)
    try {
      return await result
    } finally {
      this.#taken.delete(runId)
    }
  }
}
