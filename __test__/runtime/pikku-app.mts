/**
 * A small application on the real @pikku/core: functions, workflows, a graph, and a queue that delivers every job as
 * often as it is told, at the same time. An ES module, as the core is one.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { addFunction } from '@pikku/core/function'
import { runQueueJob } from '@pikku/core/queue'
import { rpcService } from '@pikku/core/rpc'
import { addWorkflow, type PikkuWorkflowWire, type StepState, type WorkflowRun } from '@pikku/core/workflow'
import type { Target } from '../../index.js'
import { RedisWorkflowService } from '../../pikku.mjs'

type State = Map<string, Record<string, Record<string, any>>>
type Func = (data: any, wire: any) => unknown
type Workflow = (workflow: PikkuWorkflowWire, input: any) => Promise<unknown>

/** What the core's generated code fills in a built application. */
function state(type: string, content: string): any {
  const states = (globalThis as any)[Symbol.for('@pikku/core/state')] as State
  return states.get('__main__')![type]![content]
}

export interface GraphNode {
  rpcName: string
  input?: Record<string, unknown>
  next?: string | string[] | Record<string, string>
  retries?: number
}

const quiet = { debug() {}, info() {}, warn() {}, error() {}, trace() {} }

export class PikkuApp {
  readonly service: InstanceType<typeof RedisWorkflowService>
  readonly calls: { name: string; data: any }[] = []
  /** Errors of jobs that failed for good. */
  readonly failures: unknown[] = []
  readonly #deliveries: number
  #underWay = 0
  #jobs = 0

  /** @param deliveries - how often each job is delivered; 0 for an application without a queue */
  constructor(target: Target, deliveries: number) {
    this.#deliveries = deliveries
    this.service = new RedisWorkflowService(target)
    const services: any = { workflowService: this.service, logger: quiet, config: {} }
    if (deliveries > 0) services.queueService = { add: this.#add.bind(this) }
    const states = (globalThis as any)[Symbol.for('@pikku/core/state')] as State
    states.get('__main__')!['package']!['singletonServices'] = services
    this.#services = services
  }
  readonly #services: any

  /** A function that steps may call. */
  addFunction(name: string, func: Func, queued = false): void {
    const record = (_services: unknown, data: any, wire: any): unknown => {
      this.calls.push({ name, data })
      return func(data, wire)
    }
    this.#register(name, record, { workflowQueued: queued })
    state('rpc', 'meta')[name] = name
  }

  addWorkflow(name: string, body: Workflow): void {
    state('workflows', 'meta')[name] = { name, pikkuFuncId: name, source: 'dsl', graphHash: `${name}-1` }
    const func: any = { func: (_: unknown, input: any, { workflow }: any) => body(workflow, input) }
    addWorkflow(name, func)
    state('function', 'meta')[name] = meta(name)
  }

  addGraph(name: string, entryNodeIds: string[], nodes: Record<string, GraphNode>): void {
    state('workflows', 'meta')[name] = {
      name,
      pikkuFuncId: name,
      source: 'graph',
      graphHash: `${name}-1`,
      entryNodeIds,
      nodes,
    }
  }

  /** Starts a workflow and waits until it ends, and until the queue is empty. */
  async run(
    name: string,
    input?: unknown,
  ): Promise<{ run: WorkflowRun; steps: StepState[]; error?: unknown }> {
    const rpc = rpcService.getContextRPCService(this.#services, {} as never)
    let runId = ''
    let error: unknown
    try {
      const started = await this.service.startWorkflow(name, input, { type: 'test' }, rpc as never, {
        onRunCreated: (id: string) => (runId = id),
      })
      runId = started.runId
    } catch (thrown) {
      error = thrown
    }
    const end = Date.now() + 30_000
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop -- polling
      const run = await this.service.getRun(runId)
      if (this.#underWay === 0 && run !== null && run.status !== 'running') {
        // oxlint-disable-next-line no-await-in-loop -- once
        return { run, steps: await this.service.getRunHistory(runId), error }
      }
      if (Date.now() > end) throw new Error(`The run ${name} does not end: ${JSON.stringify(run)}`)
      // oxlint-disable-next-line no-await-in-loop -- polling
      await delay(5)
    }
  }

  callsOf(name: string): any[] {
    return this.calls.filter((call) => call.name === name).map(({ data }) => data)
  }

  async close(): Promise<void> {
    await this.service.close()
  }

  #register(name: string, func: (...args: any[]) => unknown, more: object): void {
    addFunction(name, { func: func as never })
    state('function', 'meta')[name] = { ...meta(name), ...more }
  }

  async #add(queueName: string, data: unknown, options: { attempts?: number } = {}): Promise<string> {
    this.#jobs += 1
    const id = `job-${this.#jobs}`
    const payload = JSON.stringify(data)
    for (let delivery = 0; delivery < this.#deliveries; delivery++) {
      this.#underWay += 1
      void this.#deliver(id, queueName, payload, options.attempts ?? 1).finally(() => (this.#underWay -= 1))
    }
    return id
  }

  async #deliver(id: string, queueName: string, payload: string, attempts: number): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        // Later than the caller goes on, as from a queue.
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        await delay(1)
        const job = { id, queueName, data: JSON.parse(payload), status: () => 'active' }
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        await runQueueJob({ job: job as never })
        return
      } catch (error) {
        if (attempt >= attempts) {
          this.failures.push(error)
          return
        }
      }
    }
  }
}

function meta(name: string): object {
  return { pikkuFuncId: name, sessionless: true, inputSchemaName: null, outputSchemaName: null }
}
