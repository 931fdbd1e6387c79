import type { Connection } from '../connection.js'
import { FerroflowError } from '../errors.js'
import type { Degradation, Readiness, RedisHealth } from './api.js'
import { isUnreachable } from './gate.js'

/** However many ask, Redis is asked once in this time, and has no longer to answer. Milliseconds. */
const INTERVAL = 1000

interface Measured {
  latency: number
  failure: unknown
}

/** What is measured to answer one question, once a second for all who ask. */
class Probe {
  readonly #run: () => Promise<unknown>
  readonly #refusable: boolean
  #at = -Infinity
  #last: Promise<Measured> | undefined

  constructor(run: () => Promise<unknown>, options: { refusable: boolean }) {
    this.#run = run
    this.#refusable = options.refusable
  }

  async ask(): Promise<Measured> {
    const now = performance.now()
    if (this.#last === undefined || now - this.#at >= INTERVAL) {
      this.#at = now
      this.#last = this.#measure(now)
    }
    return this.#last
  }

  async #measure(begin: number): Promise<Measured> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(reject, INTERVAL, new FerroflowError('TIMEOUT', 'no answer within one second'))
    })
    let failure: unknown
    try {
      await Promise.race([this.#run(), late])
    } catch (error) {
      // That it is not allowed is an answer too.
      const refused = error instanceof FerroflowError && error.code === 'NO_PERMISSION'
      if (!refused || !this.#refusable) failure = error
    } finally {
      clearTimeout(timer)
    }
    return { latency: Math.max(1, Math.round(performance.now() - begin)), failure }
  }
}

/** Health and readiness of one connection. */
export class Health {
  readonly #ping: Probe
  readonly #script: Probe
  readonly #degradation: () => Degradation

  constructor(connection: Connection, proveWritable: () => Promise<void>, degradation: () => Degradation) {
    this.#ping = new Probe(async () => connection.command('PING'), { refusable: true })
    this.#script = new Probe(proveWritable, { refusable: false })
    this.#degradation = degradation
  }

  async check(): Promise<RedisHealth> {
    const degradation = this.#degradation()
    if (degradation.disabled) {
      return { healthy: true, usingRedis: false, connected: false, status: 'disabled', degradation }
    }
    const { latency, failure } = await this.#ping.ask()
    if (failure === undefined) {
      const now = this.#degradation()
      const usingRedis = now.state === 'up'
      return { healthy: usingRedis, usingRedis, connected: true, status: 'up', latency, degradation: now }
    }
    const status = isUnreachable(failure) ? 'down' : 'error'
    const down = {
      healthy: false,
      usingRedis: false,
      connected: false,
      status,
      error: describe(failure),
    } as const
    return { ...down, degradation: this.#degradation() }
  }

  async ready(): Promise<Readiness> {
    const { latency, failure } = await this.#script.ask()
    const { state } = this.#degradation()
    if (failure !== undefined) return { ready: false, latency, error: describe(failure) }
    return state === 'up'
      ? { ready: true, latency }
      : { ready: false, latency, error: `the state is ${state}` }
  }
}

/** By code: texts may name hosts and keys. */
function describe(failure: unknown): string {
  if (isUnreachable(failure)) return 'Redis does not answer'
  return failure instanceof FerroflowError ? failure.code : 'Redis cannot be asked'
}
