import { tracingChannel, type TracingChannel } from 'node:diagnostics_channel'

/** The methods that are traced. Others call these, or wait for messages. */
const TRACED = {
  Connection: ['command', 'commandBuffer'],
  RedisExecutionCache: ['get', 'getMany', 'set', 'invalidate', 'invalidateMany', 'clear'],
  RedisLockManager: [
    'acquire',
    'tryAcquire',
    'acquireLock',
    'release',
    'extend',
    'withLock',
    'withLocks',
    'isLocked',
    'inspect',
    'list',
    'forceRelease',
    'health',
  ],
  RedisSagaStore: [
    'initialize',
    'getById',
    'getByCorrelationId',
    'insert',
    'update',
    'save',
    'delete',
    'deleteById',
    'deleteByCorrelationId',
  ],
  RedisWakeSignaler: ['signal', 'signalMany', 'publish'],
  RedisWorkflowRunService: [
    'listRuns',
    'getRun',
    'getRunSteps',
    'getRunHistory',
    'getDistinctWorkflowNames',
    'getWorkflowVersion',
    'deleteRun',
    'indexRuns',
  ],
  RedisWorkflowService: [
    'init',
    'createRunImpl',
    'getRun',
    'updateRunStatusImpl',
    'insertStepStateImpl',
    'getStepState',
    'setStepScheduledImpl',
    'setStepRunningImpl',
    'setStepResultImpl',
    'setStepErrorImpl',
    'setStepChildRunIdImpl',
    'setBranchTakenImpl',
    'createRetryAttemptImpl',
    'claimStepForExecution',
    'withRunLock',
    'withStepLock',
    'getRunHistory',
    'listStepStates',
    'getCompletedGraphState',
    'getStepInstances',
    'getNodeResults',
    'updateRunStateImpl',
    'getRunState',
    'upsertWorkflowVersionImpl',
    'updateWorkflowVersionStatusImpl',
    'getWorkflowVersion',
    'findStalledRunIds',
    'findUndispatchedSteps',
  ],
  RedisWorkflowStateService: [
    'init',
    'createRun',
    'getRun',
    'updateRunStatus',
    'getStepState',
    'setStepScheduled',
    'setStepResult',
    'setStepError',
    'withRunLock',
  ],
  WorkerStore: [
    'beginExecution',
    'isExecutionInProgress',
    'beginExecutionTask',
    'isExecutionTaskInProgress',
    'commitExecutionTaskResult',
    'getExecutionTaskResult',
    'getExecutionTaskResults',
    'disposeExecution',
  ],
} as const

type Traced = typeof TRACED
type Method = (this: any, ...args: any[]) => Promise<unknown>

/** An operation by the name that its callers know: of `createRunImpl`, the core calls `createRun`. */
function operationName(owner: string, method: string): string {
  return `${owner}.${method.replace(/Impl$/, '')}`
}

/**
 * The operations that can be traced, as `class.method`. Each is a `TracingChannel` of `node:diagnostics_channel`, by the
 * name `ferroflow:{operation}`, whose messages are an {@link OperationContext}.
 */
export const tracedOperations: readonly string[] = Object.freeze(
  Object.entries(TRACED).flatMap(([owner, methods]) => methods.map((method) => operationName(owner, method))),
)

/** What subscribers of an operation's tracing channel get: one object for all its messages. */
export interface OperationContext {
  /** One of {@link tracedOperations}, such as `RedisSagaStore.save`. */
  readonly operation: string
  /** Of `Connection.command`, the name of the command in upper case. */
  readonly command?: string
  /** What the promise resolved with, from `asyncStart` on. */
  result?: unknown
  /** What it rejected with, from `error` on. */
  error?: unknown
}

/** Held here for ever: Node forgets a channel that nobody holds. */
const channels = new Map<string, TracingChannel<OperationContext>>()

function channelOf(operation: string): TracingChannel<OperationContext> {
  let channel = channels.get(operation)
  if (channel === undefined) {
    channel = tracingChannel<OperationContext>(`ferroflow:${operation}`)
    channels.set(operation, channel)
  }
  return channel
}

/**
 * Has the traced methods of `target` (a prototype, or an object) tell the subscribers of their channels. Without one, a
 * call costs no more than to see that. What such a method throws rejects, so that one that only passes on what the core
 * answers need not be `async`.
 *
 * @param details - what is told beside the operation: nothing of the arguments, unless it is none of the caller's data
 */
export function traced<Owner extends keyof Traced, T extends Record<Traced[Owner][number], Method>>(
  owner: Owner,
  target: T,
  details?: (args: IArguments) => Partial<OperationContext>,
): T {
  for (const name of TRACED[owner] as readonly (keyof T & string)[]) {
    const method = target[name] as Method
    const wrapper = wrap(operationName(owner, name), method, details)
    for (const property of ['name', 'length'] as const) {
      Object.defineProperty(wrapper, property, { value: method[property], configurable: true })
    }
    Object.defineProperty(target, name, { value: wrapper, writable: true, configurable: true })
  }
  return target
}

function wrap(
  operation: string,
  method: Method,
  details: ((args: IArguments) => Partial<OperationContext>) | undefined,
): Method {
  const channel = channelOf(operation)
  const { start, end, asyncStart, asyncEnd, error } = channel
  return function traceable(this: unknown) {
    // One by one: early versions of Node 20 cannot be asked about the five together.
    const isHeard =
      start.hasSubscribers ||
      asyncEnd.hasSubscribers ||
      end.hasSubscribers ||
      asyncStart.hasSubscribers ||
      error.hasSubscribers
    // oxlint-disable-next-line prefer-rest-params -- an array of them would cost every call
    const args = arguments
    if (!isHeard) return rejecting(method, this, args)
    const context: OperationContext = { operation, ...details?.(args) }
    return channel.tracePromise(() => rejecting(method, this, args), context) as Promise<unknown>
  }
}

function rejecting(method: Method, owner: unknown, args: IArguments): Promise<unknown> {
  try {
    return method.apply(owner, args as unknown as unknown[])
  } catch (error) {
    return Promise.reject(error)
  }
}
