import { types } from 'node:util'

import { binding, watchEvents } from './native.js'
import type { NativeAddress } from './options.js'
import { kindOf } from './validate.js'

/** ioredis' `NatMapFunction`. */
export type NatMapFunction = (key: string) => { host: string; port: number } | null | undefined

/** What the core takes for a host. */
const HOST = /^[\w.:%-]{1,255}$/
/** Beyond these, a function that fails in ever new ways is not warned about. */
const MAX_WARNINGS = 10

/** One for each function, so that connections with the same function are shared, and with different ones never. */
const mappers = new WeakMap<NatMapFunction, NatMapper>()

/** A function `natMap` as the core asks it: outside of any call, whenever it discovers addresses. */
export class NatMapper {
  /** What a connection is opened with. */
  readonly native = new binding.NativeNatMapper()
  readonly #reach: NatMapFunction
  readonly #warned = new Set<string>()
  #end: (() => void) | undefined

  private constructor(reach: NatMapFunction) {
    this.#reach = reach
  }

  /** The one of a function. */
  static of(reach: NatMapFunction): NatMapper {
    let mapper = mappers.get(reach)
    if (mapper === undefined) mappers.set(reach, (mapper = new NatMapper(reach)))
    return mapper
  }

  /** Answers the core, and keeps the function, until the last connection is gone that was opened with it. */
  serve(): void {
    this.#end ??= watchEvents(this.native.id, (name, detail) => {
      if (name === 'ask') {
        const addresses = detail as string[]
        this.native.answer(
          JSON.stringify(Object.fromEntries(addresses.map((key) => [key, this.#answer(key)]))),
        )
      } else if (!this.native.inUse) {
        // Unless another was opened since the last one ended.
        this.#end?.()
        this.#end = undefined
      }
    })
  }

  /** Where an address is reached; `null` where it is, and a text if the function fails. */
  #answer(key: string): NativeAddress | null | string {
    try {
      const reach = this.#reach
      const answer: unknown = reach(key)
      // As in ioredis: whatever is falsy leaves the address as it is.
      return answer ? readAddress(answer) : null
    } catch (error) {
      const failure = error instanceof Failure ? error.message : `it threw ${nameOf(error)}`
      this.#warn(failure)
      return failure
    }
  }

  #warn(failure: string): void {
    if (this.#warned.has(failure) || this.#warned.size >= MAX_WARNINGS) return
    this.#warned.add(failure)
    process.emitWarning(
      `The function natMap cannot be used: ${failure}. It must return { host, port }, or null for an address that is reached where it is. Until it does, the addresses that it was asked for are reached as it said last, or not at all`,
      { type: 'FerroflowWarning', code: 'FERROFLOW_NAT_MAP' },
    )
  }
}

class Failure extends Error {}

function readAddress(answer: unknown): NativeAddress {
  if (types.isPromise(answer)) {
    // Nobody else would take its error.
    answer.catch(() => {})
    throw new Failure('it returned a promise')
  }
  if (typeof answer !== 'object' || answer === null) throw new Failure(`it returned ${kindOf(answer)}`)
  const { host, port } = answer as { host?: unknown; port?: unknown }
  if (typeof host !== 'string' || !HOST.test(host)) throw new Failure('it returned no host')
  // Digits in a string count, as in the other form.
  const number = typeof port === 'string' && /^\d+$/.test(port) ? Number(port) : port
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 1 || number > 65_535) {
    throw new Failure('it returned no port from 1 to 65535')
  }
  return { host, port: number }
}

/** Of an error, only this is told: its message may quote what the function read, such as options with a password. */
function nameOf(error: unknown): string {
  try {
    const name: unknown = types.isNativeError(error) ? error.name : undefined
    return typeof name === 'string' && /^[A-Za-z]\w{0,63}$/.test(name) ? name : kindOf(error)
  } catch {
    return 'an object' // It throws when it is read.
  }
}
