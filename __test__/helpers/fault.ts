/** One planned failure of the counting proxy: where it strikes, how often, and whether it has. */
import type { CutMode, ProxiedRequest, Verdict } from './proxied-connection'

/** Where on a request's way the connection is cut. */
export type FaultPoint = 'before-forward' | 'after-forward' | 'before-reply'

export type RequestFilter = (request: ProxiedRequest) => boolean

type ByteCounter = 'request-bytes' | 'reply-bytes'

export type FaultPlan =
  | { point: FaultPoint; filter: RequestFilter; times?: number; mode?: CutMode }
  | { point: ByteCounter; bytes: number; mode?: CutMode }

export class Fault {
  /** The requests at which the fault struck, in order. */
  readonly struck: ProxiedRequest[] = []
  /** Resolves when the fault strikes for the first time. */
  readonly done: Promise<void>
  /** Resolves when the fault cannot strike any more. */
  readonly ended: Promise<void>
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

  #strike(request: ProxiedRequest | undefined, last: boolean): void {
    if (request !== undefined) this.struck.push(request)
    this.#markDone()
    if (last) this.cancel()
  }
}
