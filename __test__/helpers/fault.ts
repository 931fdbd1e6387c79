/** One planned failure of the counting proxy: where it strikes, how often, and whether it has. */
import type { CutMode, ProxiedRequest, Verdict } from './proxied-connection'
import type { Random } from './random'

/** Where on a request's way the connection is cut. */
export type FaultPoint = 'before-forward' | 'after-forward' | 'before-reply'

export type RequestFilter = (request: ProxiedRequest) => boolean

type ByteCounter = 'request-bytes' | 'reply-bytes'

/**
 * What happens to a message and its connection. Nothing overtakes anything on one connection, so `late` and `twice` are
 * what a network can do of that: a connection is lost with a request on it, which the server reads after those of the
 * next connection (`late`), or reads now and, as a copy, again (`twice`).
 */
export type Effect = CutMode | 'black-hole' | 'delay' | 'late' | 'twice'

export interface Disturbance {
  point: 'request' | 'reply'
  filter: RequestFilter
  /** How much of the message passes before, from 0 (nothing) to 1 (all of it); in between, some bytes but not all. */
  part: number
  effect: Effect
  /** For `delay`. */
  delayMs?: number
  times?: number
  /** Called at the very moment, before anything that arrives later is looked at. */
  onStrike?: (request: ProxiedRequest) => void
}

export type FaultPlan =
  | Disturbance
  | { point: FaultPoint; filter: RequestFilter; times?: number; mode?: CutMode }
  | { point: ByteCounter; bytes: number; mode?: CutMode }

export class Fault {
  /** The requests at which the fault struck, in order. */
  readonly struck: ProxiedRequest[] = []
  /** Resolves when the fault strikes for the first time. */
  readonly done: Promise<void>
  /** Resolves when the fault cannot strike any more. */
  readonly ended: Promise<void>
  /** Requests that the server has yet to get, as they were sent. */
  readonly late: Buffer[] = []
  readonly #plan: FaultPlan
  #markDone!: () => void
  #markEnded!: () => void
  /** Strikes that are left, or bytes that may still pass. */
  #left: number
  #active = true

  constructor(plan: FaultPlan) {
    this.#plan = plan
    this.#left = 'bytes' in plan ? plan.bytes : (plan.times ?? 1)
    this.done = new Promise((resolve) => (this.#markDone = resolve))
    this.ended = new Promise((resolve) => (this.#markEnded = resolve))
    if (this.#left < 1) throw new RangeError('A fault must be able to strike at least once')
  }

  /** Takes the fault back. */
  cancel(): void {
    this.#active = false
    this.#markEnded()
  }

  /** What this fault does to a message, or undefined if it lets it pass. */
  judge(
    points: readonly FaultPoint[],
    counter: ByteCounter,
    request: ProxiedRequest | undefined,
    raw: Buffer,
  ): Verdict | undefined {
    if (!this.#active) return undefined
    const plan = this.#plan
    if ('effect' in plan) {
      if (request === undefined || plan.point !== counter.slice(0, -'-bytes'.length)) return undefined
      return plan.filter(request) ? this.#disturb(plan, request, raw) : undefined
    }
    const cut = plan.mode ?? 'end'
    if ('bytes' in plan) {
      if (plan.point !== counter) return undefined
      const forwardBytes = Math.min(this.#left, raw.length)
      this.#left -= forwardBytes
      if (this.#left > 0) return undefined
      this.#strike(request, true)
      return { forwardBytes, cut }
    }
    if (request === undefined || !points.includes(plan.point) || !plan.filter(request)) return undefined
    this.#left -= 1
    this.#strike(request, this.#left === 0)
    return plan.point === 'after-forward' ? { cut } : { forwardBytes: 0, cut }
  }

  #disturb(plan: Disturbance, request: ProxiedRequest, raw: Buffer): Verdict {
    this.#left -= 1
    this.#strike(request, this.#left === 0)
    plan.onStrike?.(request)
    const forwardBytes = partOf(plan.part, raw.length)
    switch (plan.effect) {
      case 'black-hole':
        return { forwardBytes, silence: true }
      case 'delay':
        return { delayMs: plan.delayMs ?? 0 }
      case 'late':
        this.late.push(raw)
        return { forwardBytes: 0, cut: 'reset' }
      case 'twice':
        this.late.push(raw)
        return { cut: 'end' }
      default:
        return { forwardBytes, cut: plan.effect }
    }
  }

  #strike(request: ProxiedRequest | undefined, last: boolean): void {
    if (request !== undefined) this.struck.push(request)
    this.#markDone()
    if (last) this.cancel()
  }
}

function partOf(part: number, length: number): number {
  return part <= 0 ? 0 : part >= 1 ? length : Math.min(length - 1, 1 + Math.floor(part * (length - 1)))
}

/** Anything that can happen to one message; the same random numbers give the same again. */
export function anyDisturbance(dice: Random, filter: RequestFilter): Disturbance {
  const point = dice.pick(['request', 'reply'] as const)
  const effects: Effect[] = ['end', 'reset', 'black-hole', 'delay']
  const effect = dice.pick(point === 'reply' ? effects : [...effects, 'late' as const, 'twice' as const])
  const part = dice.pick([0, 1, dice.below(1000) / 1000])
  return { point, filter, part, effect, delayMs: 1 + dice.below(50) }
}
