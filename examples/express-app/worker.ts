/** The work: an album of photos goes through a few steps, and says after each how far it is. */
import { setTimeout as delay } from 'node:timers/promises'

/** What the work needs of a workstation. */
export interface Tracker {
  startWorkflowTracking(
    executionId: string,
    workflowId: string,
    totalSteps: number,
    data?: Record<string, unknown>,
  ): Promise<boolean>
  updateWorkflowProgress(
    executionId: string,
    completedSteps: number,
    currentStep: string,
    data?: Record<string, unknown>,
  ): Promise<boolean>
  completeWorkflowTracking(
    executionId: string,
    status: 'completed' | 'failed' | 'cancelled',
    error?: string,
    data?: Record<string, unknown>,
  ): Promise<boolean>
  executeWithLock<T>(executionId: string, workerId: string, fn: () => Promise<T>): Promise<T>
}

const STEPS = ['Reading photos', 'Rotating', 'Resizing', 'Writing thumbnails', 'Publishing']
const WORKFLOW = 'album'

export interface WorkerOptions {
  /** Names this process to others, for instance in the text "is already locked by worker …". */
  workerId: string
  /** How long a step takes, in milliseconds. */
  stepMs: number
  /** Stops the work between two steps. */
  signal: AbortSignal
}

export class Worker {
  readonly #tracker: Tracker
  readonly #options: WorkerOptions

  constructor(tracker: Tracker, options: WorkerOptions) {
    this.#tracker = tracker
    this.#options = options
  }

  /** Makes an execution known: from here on it can be looked at. */
  async accept(executionId: string, photos: number): Promise<void> {
    await this.#tracker.startWorkflowTracking(executionId, WORKFLOW, STEPS.length, { photos })
  }

  /** Does the work. The lock keeps two workers from doing it at the same time. */
  async run(executionId: string, photos: number): Promise<void> {
    const { workerId } = this.#options
    await this.#tracker.executeWithLock(executionId, workerId, async () => {
      try {
        await this.#steps(executionId)
        await this.#tracker.completeWorkflowTracking(executionId, 'completed', undefined, {
          thumbnails: photos,
        })
      } catch (error) {
        // Everybody who may read the state reads this, so it does not say more.
        const stopped = this.#options.signal.aborted
        const [status, reason] = stopped
          ? (['cancelled', 'Stopped'] as const)
          : (['failed', 'Failed'] as const)
        await this.#tracker.completeWorkflowTracking(executionId, status, reason)
        if (!stopped) throw error
      }
    })
  }

  async #steps(executionId: string): Promise<void> {
    const { stepMs, signal } = this.#options
    for (const [done, step] of STEPS.entries()) {
      // oxlint-disable-next-line no-await-in-loop -- one step after the other
      await this.#tracker.updateWorkflowProgress(executionId, done, step)
      // oxlint-disable-next-line no-await-in-loop -- in a real application, the step itself
      await delay(stepMs, undefined, { signal })
    }
  }
}
