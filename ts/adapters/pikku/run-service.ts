import { type Connection, type StoreConnection, connectStore, fullPrefix } from '../../connection.js'
import { type FenceOptions, fenceOf } from '../../fence.js'
import {
  type JournalAttempt,
  type JournalList,
  type JournalRun,
  type JournalStep,
  Rows,
  openJournal,
  toRun,
  toStep,
} from '../../journal.js'
import { corrupt } from '../../json.js'
import { type binding, settled } from '../../native.js'
import type { Target } from '../../options.js'
import { traced } from '../../tracing.js'
import { checkInteger, checkName, withDefaults } from '../../validate.js'
import { type WorkflowStatus, checkStatus, jsonField, toFields } from '../../workflow.js'
import { readHistory } from './history.js'
import { readVersion } from './store.js'

/** Which runs {@link RedisWorkflowRunService.listRuns} returns. */
export interface ListRunsOptions {
  /** Only runs of this workflow. */
  workflowName?: string
  /** Only runs with this status. */
  status?: WorkflowStatus
  /** Default: 50. */
  limit?: number
  /** How many of the newest runs to leave out. Default: 0. */
  offset?: number
}

/** A step with what it was started with. */
export interface JournalRunStep extends Omit<JournalStep, 'rpcName' | 'fromStepName'> {
  stepName: string
  rpcName?: string
  data?: any
}

/**
 * Reads and deletes the workflow runs of @pikku/core 0.12 (contract of @pikku/redis): for consoles and clean-up.
 *
 * Lists come from indexes and cost one round trip, however much else the database holds. Runs that the original made
 * are in no index: where nothing is indexed yet, the first list adds them; in a mixed fleet, {@link indexRuns} does.
 */
export class RedisWorkflowRunService {
  readonly #store: StoreConnection
  readonly #journal: binding.NativeJournal
  readonly #prefix: string

  /**
   * @param connectionOrConfig - where the runs are. A connection made here is closed by `close()`
   * @param keyPrefix - Default: `workflows`
   */
  constructor(connectionOrConfig: Target, keyPrefix = 'workflows') {
    const prefix = checkName('keyPrefix', keyPrefix)
    this.#store = connectStore(connectionOrConfig)
    this.#prefix = fullPrefix(this.#store.connection, prefix)
    this.#journal = openJournal(this.#store.connection, prefix)
  }

  /** Runs, newest first. One that is corrupt is left out and named in `corrupt`. */
  async listRuns(options: ListRunsOptions = {}): Promise<JournalList<JournalRun>> {
    const defaults: ListRunsOptions = { workflowName: undefined, status: undefined, limit: 50, offset: 0 }
    const { workflowName, status, limit, offset } = withDefaults('The options', defaults, options)
    const workflow = workflowName && checkName('the workflow name', workflowName)
    const wanted = status && checkStatus(status)
    const [skip, most] = [checkInteger('offset', offset), checkInteger('limit', limit)]
    const list = (): Promise<string[][] | null> =>
      settled(this.#journal.listRuns(workflow || undefined, wanted || undefined, skip, most))
    let runs = await list()
    if (runs === null && (await this.indexRuns()) > 0) runs = await list()
    const rows = new Rows<JournalRun>()
    for (const stored of runs ?? []) {
      const fields = toFields(stored)
      const id = fields['id'] ?? stored[0]!
      const key = `${this.#prefix}:run:${id}`
      rows.add(id, () => {
        if (stored.length === 1) throw corrupt('it is no hash', key)
        return toRun(fields, key)
      })
    }
    return rows.list()
  }

  /** The run, or `null` if there is none. */
  async getRun(id: string): Promise<JournalRun | null> {
    const fields = toFields(await settled(this.#journal.run(checkName('the run id', id))))
    return fields['id'] === undefined ? null : toRun(fields, `${this.#prefix}:run:${id}`)
  }

  /** The steps of a run, oldest first. One that is corrupt is left out and named in `corrupt`. */
  async getRunSteps(runId: string): Promise<JournalList<JournalRunStep>> {
    const rows = new Rows<JournalRunStep>()
    for (const [stepName, stored] of await settled(this.#journal.steps(checkName('the run id', runId), []))) {
      const key = `${this.#prefix}:step:${runId}:${stepName}`
      rows.add(stepName, () => {
        const fields = toFields(stored)
        const step = toStep(runId, stepName, fields, key)
        if (step === undefined) return undefined
        const { fromStepName: _, rpcName, ...rest } = step
        return {
          ...rest,
          stepName,
          rpcName: rpcName ?? undefined,
          data: jsonField(fields, 'data', key),
        }
      })
    }
    return rows.sorted((step) => step.createdAt.getTime())
  }

  /** Every attempt of every step of a run, in the order of their beginning. */
  async getRunHistory(runId: string): Promise<JournalList<JournalAttempt>> {
    return readHistory(this.#journal, this.#prefix, runId)
  }

  /** The names of all workflows that have runs, sorted. */
  async getDistinctWorkflowNames(): Promise<string[]> {
    const names = await settled(this.#journal.workflowNames())
    if (names !== null) return names
    return (await this.indexRuns()) > 0 ? ((await settled(this.#journal.workflowNames())) ?? []) : []
  }

  /** A version of a workflow, or `null` if there is none. */
  async getWorkflowVersion(name: string, graphHash: string): Promise<{ graph: any; source: string } | null> {
    return readVersion(this.#journal, this.#prefix, name, graphHash)
  }

  /**
   * Deletes a run with everything that belongs to it: steps, history, state, locks, places in lists. Its
   * fence stays for as long as it would have, so that earlier holders of the lock stay refused.
   *
   * @returns whether there was such a run
   * @throws {@link LockError} with the code `STALE_FENCE` if anything of it was written under a higher fence
   */
  async deleteRun(id: string, options?: FenceOptions): Promise<boolean> {
    return settled(this.#journal.deleteRun(checkName('the run id', id), fenceOf(options)))
  }

  /**
   * Adds the runs that the original made to the lists. Looks at all keys of the database, in small steps: for once
   * after a migration, not for every day.
   *
   * @returns how many runs were added
   */
  async indexRuns(): Promise<number> {
    return settled(this.#journal.indexRuns())
  }

  /** The connection in use. */
  get connection(): Connection {
    return this.#store.connection
  }

  /** Closes the connection that this service made. One that was given to it stays open. */
  async close(): Promise<void> {
    if (this.#store.owned) await this.#store.connection.close()
  }
}

traced('RedisWorkflowRunService', RedisWorkflowRunService.prototype)
