/**
 * The crash matrix: one operation, one moment, one thing that goes wrong; what holds afterwards is what
 * `crash-operations.ts` says. Each case follows from a seed and its number alone.
 */
import { inspect } from 'node:util'
import { FerroflowError, connect } from '../../index.js'
import { CountingProxy, type Disturbance, type Fault } from '../helpers/counting-proxy'
import type { Effect } from '../helpers/fault'
import { random } from '../helpers/random'
import { RedisServer } from '../helpers/redis-server'
import { timed, until } from '../helpers/wait'
import { type Clients, OPERATIONS, type Operation, openClients } from './crash-operations'
import { dump, timeless } from './dump'

/** Where on its way a request or its reply is when it happens. */
const MOMENTS = [
  'before sending',
  'inside the request',
  'after the request',
  'before the reply',
  'inside the reply',
] as const
type Moment = (typeof MOMENTS)[number]

/** What happens. `kill` ends the server as a crash does; `wipe` does so on one that keeps nothing. */
const MEANS = ['end', 'reset', 'kill', 'kill', 'kill', 'wipe', 'black-hole', 'late', 'twice'] as const
type Means = (typeof MEANS)[number]

export interface Case {
  number: number
  operation: Operation
  moment: Moment
  means: Means
  /** Where in the message, if inside. */
  part: number
  /** Which of the requests of the call, of those that it has. */
  request: number
  /** Scripts are known to the server, are not, or were forgotten. */
  scripts: 'cold' | 'warm' | 'flushed'
  /** Whether the server comes back before the deadline of the call. */
  prompt: boolean
  /** Of the connection, in milliseconds. */
  deadline: number
}

/** Another order for every seed, in which each operation meets each moment once in a round. */
export function caseOf(seed: number, number: number): Case {
  const dice = random(seed * 1_000_003 + number)
  const cells = OPERATIONS.length * MOMENTS.length
  const cell = (number * stride(cells) + seed * 7919) % cells
  const moment = MOMENTS[cell % MOMENTS.length] as Moment
  const operation = OPERATIONS[Math.floor(cell / MOMENTS.length)] as Operation
  const means = dice.pick(
    MEANS.filter((each) => moment.includes('request') || !['late', 'twice'].includes(each)),
  )
  const prompt = means === 'black-hole' ? false : dice.below(5) > 0
  return {
    number,
    operation,
    moment,
    means,
    part: dice.below(1000) / 1000,
    request: dice.below(1000),
    scripts: dice.pick(['cold', 'warm', 'flushed'] as const),
    prompt,
    deadline: prompt ? 6000 : 250,
  }
}

function stride(cells: number): number {
  const common = (a: number, b: number): number => (b === 0 ? a : common(b, a % b))
  let found = Math.floor(cells * 0.618)
  while (common(found, cells) !== 1) found += 1
  return found
}

export function describeCase({ number, operation, moment, means, scripts, prompt }: Case): string {
  return `case ${number}: ${operation.name}, ${means} ${moment}, scripts ${scripts}, ${prompt ? 'back soon' : 'back late'}`
}

/** How long it may take until a lock is free that nobody has. */
const FREED_MS = 7000

interface Outcome {
  status: 'acknowledged' | 'refused' | 'unknown'
  /** The answer or the code. */
  what: string
}

/** What an operation does without faults, once and once more. */
interface Reference {
  before: string
  after: string
  again: string
  first: Outcome
  second: Outcome
  requests: number
}

/** Codes that say that nothing was written. */
const REFUSED = new Set([
  'REDIS_UNAVAILABLE',
  'QUEUE_FULL',
  'SERVER_NOT_READY',
  'LOCK_TIMEOUT',
  'LOCK_HELD',
  'TIMEOUT',
])
const UNKNOWN = new Set(['OUTCOME_UNKNOWN', 'LOCK_LOST'])
/** Not of the operation: what a connection says to set itself up, and what keeps the list of locks. */
const HOUSEKEEPING = new Set([
  'HELLO',
  'CLIENT',
  'SELECT',
  'PING',
  'INFO',
  'SUBSCRIBE',
  'UNSUBSCRIBE',
  'ZADD',
  'ZREMRANGEBYSCORE',
])

export interface Tally {
  cases: number
  /** Cases whose fault found no message. */
  missed: number
  acknowledged: number
  refused: number
  unknown: number
}

/** A server, a proxy in front of it, and sound clients that pass by it. */
class Site {
  private constructor(
    readonly server: RedisServer,
    readonly proxy: CountingProxy,
    public sound: Clients,
  ) {}

  static async start(args: string[]): Promise<Site> {
    const server = await RedisServer.start({ args })
    return new Site(
      server,
      await CountingProxy.start(server),
      await openClients(connect(server.url, { redialDelay: 50 })),
    )
  }

  /** After a crash: nobody waits for a redial that was planned before. */
  async revive(): Promise<void> {
    await this.sound.connection.close()
    await this.server.restart()
    this.sound = await openClients(connect(this.server.url, { redialDelay: 50 }))
  }

  async dump(): Promise<string> {
    using client = await this.server.client()
    return (await dump(client)).join('\n')
  }

  async stop(): Promise<void> {
    await this.sound.connection.close()
    await this.proxy.close()
    await this.server.stop()
  }
}

/** Where cases run, one after the other. */
export class Lane {
  readonly #references = new Map<string, Reference>()
  readonly #sites: { kept: Site; wiped: Site }
  readonly tally: Tally = { cases: 0, missed: 0, acknowledged: 0, refused: 0, unknown: 0 }

  private constructor(kept: Site, wiped: Site) {
    this.#sites = { kept, wiped }
  }

  static async start(): Promise<Lane> {
    return new Lane(
      await Site.start(['--appendonly', 'yes', '--appendfsync', 'always']),
      await Site.start([]),
    )
  }

  async stop(): Promise<void> {
    await Promise.all([this.#sites.kept.stop(), this.#sites.wiped.stop()])
  }

  /** Runs a case. What does not hold is thrown, in words. */
  async run(each: Case): Promise<void> {
    const site = each.means === 'wipe' ? this.#sites.wiped : this.#sites.kept
    const reference = await this.#reference(each.operation)
    const connection = connect(site.proxy.url, { commandTimeout: each.deadline, redialDelay: 50 })
    try {
      await until('it is connected', () => connection.command('PING').then(Boolean, () => false))
      if (each.scripts !== 'cold') await this.#warm(each.operation, site, await openClients(connection))
      if (each.scripts === 'flushed') await site.sound.connection.command('SCRIPT', 'FLUSH')
      await site.sound.connection.command('FLUSHALL')
      const call = await each.operation.prepare(site.sound)
      assertEqual('what is there before', await site.dump(), reference.before)
      const clients = await openClients(connection)
      await new Trial(each, site, clients, reference, this.tally).run(call)
      await clients.locks.close()
      if (each.operation.lock) assertEqual('what is there after close', await site.dump(), reference.before)
    } finally {
      await site.proxy.resume()
      await connection.close()
    }
  }

  async #warm(operation: Operation, site: Site, clients: Clients): Promise<void> {
    const call = await operation.prepare(site.sound)
    // Its deadline may be short for a busy machine. What counts is that the scripts were sent.
    await timed(() => call(clients))
    await clients.locks.close()
  }

  async #reference(operation: Operation): Promise<Reference> {
    const known = this.#references.get(operation.name)
    if (known !== undefined) return known
    const { kept: site } = this.#sites
    const connection = connect(site.proxy.url, { redialDelay: 50 })
    const clients = await openClients(connection)
    await site.sound.connection.command('FLUSHALL')
    const call = await operation.prepare(site.sound)
    const before = await site.dump()
    site.proxy.reset()
    const first = outcomeOf((await timed(() => call(clients))).outcome)
    const requests = site.proxy.commands.filter((name) => !HOUSEKEEPING.has(name)).length
    const after = await site.dump()
    const second = outcomeOf((await timed(() => call(clients))).outcome)
    const reference = { before, after, again: await site.dump(), first, second, requests }
    if (first.status !== 'acknowledged' || requests === 0)
      throw new Error(`${operation.name} does nothing without faults: ${inspect(reference)}`)
    await connection.close()
    await site.sound.connection.command('FLUSHALL')
    this.#references.set(operation.name, reference)
    return reference
  }
}

function outcomeOf(settled: PromiseSettledResult<unknown>): Outcome {
  if (settled.status === 'fulfilled') return { status: 'acknowledged', what: timeless(settled.value) }
  const { reason } = settled
  if (!(reason instanceof FerroflowError)) {
    // @pikku/core wraps nothing, and users' own classes do not occur here.
    const code = (reason as { code?: unknown })?.code
    if (typeof code !== 'string') throw new Error(`not an error of ours: ${inspect(reason)}`)
    return { status: 'refused', what: code }
  }
  return { status: UNKNOWN.has(reason.code) ? 'unknown' : 'refused', what: reason.code }
}

/** Runs something, and says by how many milliseconds timers of this process were late meanwhile, at worst. */
async function whileLate<T>(run: () => Promise<T>): Promise<{ late: number; result: T }> {
  let late = 0
  let last = performance.now()
  const look = (): void => {
    late = Math.max(late, performance.now() - last - 5)
    last = performance.now()
  }
  const timer = setInterval(look, 5)
  try {
    const result = await run()
    look()
    return { late, result }
  } finally {
    clearInterval(timer)
  }
}

function assertEqual(what: string, actual: string, expected: string): void {
  if (actual !== expected)
    throw new Error(`${what} is\n${actual || '(nothing)'}\nand not\n${expected || '(nothing)'}`)
}

/** One case while it runs. */
class Trial {
  #revived: Promise<void> | undefined
  #seen = 0

  constructor(
    readonly each: Case,
    readonly site: Site,
    readonly clients: Clients,
    readonly reference: Reference,
    readonly tally: Tally,
  ) {}

  async run(call: (by: Clients) => Promise<unknown>): Promise<void> {
    const { each, site, clients, reference, tally } = this
    const fault = site.proxy.disturb(this.#disturbance())
    const { late, result } = await whileLate(() => timed(() => call(clients)))
    const { ms, outcome } = result
    fault.cancel()
    const told = outcomeOf(outcome)
    tally.cases += 1
    tally[told.status] += 1
    if (fault.struck.length === 0) tally.missed += 1
    const limit = each.deadline * (each.operation.calls ?? 1) + 250 + late
    if (ms > limit) throw new Error(`settled after ${Math.round(ms)} ms, not ${limit}: ${told.what}`)
    await this.#mend(fault)
    if (each.means === 'wipe' && fault.struck.length > 0) return this.#startAgain()
    if (told.status === 'acknowledged') assertEqual('the answer', told.what, reference.first.what)
    else if (told.status === 'refused' && !REFUSED.has(told.what))
      throw new Error(`refused with ${told.what}`)
    const done = await this.#judge(told, fault)
    if (each.means === 'late' || each.means === 'twice') return
    await this.#repeat(call, done, told)
  }

  #disturbance(): Disturbance {
    const { each, reference } = this
    const nth = each.request % reference.requests
    const point = each.moment.includes('reply') ? 'reply' : 'request'
    const inside = each.moment.startsWith('inside')
    const part = inside ? Math.max(each.part, 0.001) : each.moment.startsWith('after') ? 1 : 0
    const filter = ({ name }: { name: string }): boolean => !HOUSEKEEPING.has(name) && this.#seen++ === nth
    const kills = each.means === 'kill' || each.means === 'wipe'
    // A server that was sent the whole request may still answer it.
    const passes = kills && each.moment === 'after the request'
    const effect = passes ? 'delay' : kills ? 'end' : (each.means as Effect)
    return { point, filter, part, effect, onStrike: () => this.#strike(kills, passes) }
  }

  #strike(kills: boolean, passes: boolean): void {
    const { each, site } = this
    if (!kills) return
    const kill = (): void => {
      const killed = site.server.kill()
      if (each.prompt) this.#revived = killed.then(() => site.revive())
      else this.#revived = killed
    }
    if (passes) setImmediate(kill)
    else kill()
  }

  /** Everything is as it was, but for what the fault did to the data. */
  async #mend(fault: Fault): Promise<void> {
    const { site } = this
    if (fault.struck.length > 0)
      await until('the server is dead', () => this.#revived !== undefined || !this.#kills())
    await this.#revived
    if (!site.server.running) await site.revive()
    await site.proxy.resume()
    await until('the connection is back', () => this.clients.connection.status === 'ready', 10_000)
  }

  #kills(): boolean {
    return this.each.means === 'kill' || this.each.means === 'wipe'
  }

  /** What is stored is what the caller was told. Returns whether it was done. */
  async #judge(told: Outcome, fault: Fault): Promise<boolean> {
    const { site, reference, each } = this
    await site.proxy.deliverLate(fault)
    const free = each.operation.lock === true && told.status !== 'acknowledged'
    const allowed = new Set<string>()
    if (told.status !== 'acknowledged') allowed.add(reference.before)
    if (told.status !== 'refused' && !free) allowed.add(reference.after)
    // A request that the server reads long after its connection was lost does what it says, and once more.
    if (fault.struck.length > 0 && (each.means === 'late' || each.means === 'twice')) {
      allowed.add(reference.after)
      allowed.add(reference.again)
    }
    let state = await site.dump()
    // What nobody was told to have, and what a function ran under, is freed behind the caller's back if need be.
    if (each.operation.lock === true)
      for (const end = performance.now() + FREED_MS; !allowed.has(state) && performance.now() < end;)
        // oxlint-disable-next-line no-await-in-loop -- polling
        state = await site.dump()
    const partly = each.operation.piecemeal === true && told.status !== 'acknowledged'
    if (partly && state.split('\n').every((line) => reference.before.includes(line))) return false
    if (!allowed.has(state))
      throw new Error(
        `told ${told.status} (${told.what}), there is\n${state}\nbefore:\n${reference.before}\nafter:\n${reference.after}`,
      )
    return state === reference.after
  }

  async #repeat(call: (by: Clients) => Promise<unknown>, done: boolean, told: Outcome): Promise<void> {
    const { reference, site, each } = this
    // A deadline that was made to be missed says nothing about a repetition.
    const patient = each.prompt
      ? undefined
      : connect(site.proxy.url, { commandTimeout: 6000, redialDelay: 50 })
    const { outcome } = await timed(async () => call(patient ? await openClients(patient) : this.clients))
    const again = outcomeOf(outcome)
    const same = reference.before === reference.after
    const expected = done ? [reference.second, ...(same ? [reference.first] : [])] : [reference.first]
    if (!expected.some(({ what }) => what === again.what))
      throw new Error(`told ${told.what} at first, a repetition says ${again.what}, not ${expected[0]?.what}`)
    assertEqual(
      'what is there after a repetition',
      await site.dump(),
      done ? reference.again : reference.after,
    )
    // It frees what its locks hold.
    await patient?.close()
  }

  /** The server has lost everything, so only what is done from now on can be judged. */
  async #startAgain(): Promise<void> {
    const { site, reference, each, clients } = this
    // What it still has to free must not meet what begins now.
    await clients.locks.close()
    await site.sound.connection.command('FLUSHALL')
    const call = await each.operation.prepare(site.sound)
    const patient = connect(site.proxy.url, { commandTimeout: 6000, redialDelay: 50 })
    const fresh = await openClients(patient)
    const { outcome } = await timed(() => call(fresh))
    assertEqual('the answer after a new start', outcomeOf(outcome).what, reference.first.what)
    assertEqual('what is there after a new start', await site.dump(), reference.after)
    await fresh.locks.close()
    await patient.close()
  }
}
