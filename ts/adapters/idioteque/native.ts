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
    beginExecution(executionId) {
      return settled(tasks.begin(checked(executionId)))
    },
    isExecutionInProgress(executionId) {
      return settled(tasks.isInProgress(checked(executionId)))
    },
    beginExecutionTask(executionId, taskId) {
      return settled(tasks.beginTask(...checkedTask(executionId, taskId)))
    },
    isExecutionTaskInProgress(executionId, taskId) {
      return settled(tasks.isTaskInProgress(...checkedTask(executionId, taskId)))
    },
    commitExecutionTaskResult(executionId, taskId, result) {
      return settled(tasks.commit(...checkedTask(executionId, taskId), toJson('The result', result)))
    },
    getExecutionTaskResult(executionId, taskId) {
      return settled(tasks.result(...checkedTask(executionId, taskId)), (json) =>
        json === null ? undefined : parseResult(results(executionId), taskId, json),
      )
    },
    getExecutionTaskResults(executionId) {
      return settled(tasks.results(checked(executionId)), (stored) => {
        const parsed = Object.create(null) as Record<string, unknown>
        for (let index = 0; index + 1 < stored.length; index += 2) {
          const task = stored[index]!
          parsed[task] = parseResult(results(executionId), task, stored[index + 1]!)
        }
        return parsed
      })
    },
    disposeExecution(executionId) {
      return settled(tasks.dispose(checked(executionId)))
    },
  }
}

function checked(executionId: string): string {
  return checkName('the execution id', executionId)
}

function checkedTask(executionId: string, taskId: string): [string, string] {
  return [checked(executionId), checkName('the task id', taskId)]
}
