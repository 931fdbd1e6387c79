import { type Connection, nativeOf } from '../../connection.js'
import { toJson } from '../../json.js'
import { binding, guarded, settled } from '../../native.js'
import { checkName } from '../../validate.js'
import { parseResult } from './result.js'
import type { WorkerStore } from './store.js'

/** A store whose writes are one atomic step each. */
export function nativeStore(connection: Connection, prefix: string, ttl: number): WorkerStore {
  const tasks = guarded(() => binding.NativeTasks.open(nativeOf(connection), prefix, ttl))
  const results = (executionId: string): string => `${prefix}${executionId}-results`

  return {
    async beginExecution(executionId) {
      await settled(tasks.begin(checked(executionId)))
    },
    async isExecutionInProgress(executionId) {
      return settled(tasks.isInProgress(checked(executionId)))
    },
    async beginExecutionTask(executionId, taskId) {
      await settled(tasks.beginTask(...checkedTask(executionId, taskId)))
    },
    async isExecutionTaskInProgress(executionId, taskId) {
      return settled(tasks.isTaskInProgress(...checkedTask(executionId, taskId)))
    },
    async commitExecutionTaskResult(executionId, taskId, result) {
      await settled(tasks.commit(...checkedTask(executionId, taskId), toJson('The result', result)))
    },
    async getExecutionTaskResult(executionId, taskId) {
      const json = await settled(tasks.result(...checkedTask(executionId, taskId)))
      return json === null ? undefined : parseResult(results(executionId), taskId, json)
    },
    async getExecutionTaskResults(executionId) {
      const stored = await settled(tasks.results(checked(executionId)))
      const parsed = Object.create(null) as Record<string, unknown>
      for (let index = 0; index + 1 < stored.length; index += 2) {
        const task = stored[index]!
        parsed[task] = parseResult(results(executionId), task, stored[index + 1]!)
      }
      return parsed
    },
    async disposeExecution(executionId) {
      await settled(tasks.dispose(checked(executionId)))
    },
  }
}

function checked(executionId: string): string {
  return checkName('the execution id', executionId)
}

function checkedTask(executionId: string, taskId: string): [string, string] {
  return [checked(executionId), checkName('the task id', taskId)]
}
