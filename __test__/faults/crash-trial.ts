/** One case of the crash matrix while it runs, and what must hold afterwards. */
import { connect } from '../../index.js'
import type { Disturbance, Fault } from '../helpers/counting-proxy'
import type { Effect } from '../helpers/fault'
import { whileLate } from '../helpers/lateness'
import { recovered } from '../helpers/outages'
import { timed, until } from '../helpers/wait'
import type { Case } from './crash-case'
import { type Clients, closeClients, openClients } from './crash-operations'
import { type Outcome, REFUSED, type Reference, type Tally, assertEqual, outcomeOf } from './crash-outcome'
import type { Site } from './crash-site'

/** How long it may take until a lock is free that nobody has. */
const FREED_MS = 7000

/** Not of the operation: what a connection says to set itself up, and what keeps the list of locks. */
export const HOUSEKEEPING = new Set([
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

/** One case while it runs. */
export class Trial {
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
    // Who has time to ask again finds out.
    const inTime = each.prompt && each.means !== 'wipe' && ms < each.deadline - 250 && late < 250
    if (told.status === 'unknown' && inTime)
      throw new Error(`${told.what} after ${Math.round(ms)} ms, although the server was back`)
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
    await recovered(this.clients.workstation)
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
    const clients = patient ? await openClients(patient) : this.clients
    const { outcome } = await timed(() => call(clients))
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
    if (patient === undefined) return
    await closeClients(clients)
    await patient.close()
  }

  /** The server has lost everything, so only what is done from now on can be judged. */
  async #startAgain(): Promise<void> {
    const { site, reference, each, clients } = this
    // What it still has to free must not meet what begins now.
    await closeClients(clients)
    await site.sound.connection.command('FLUSHALL')
    const call = await each.operation.prepare(site.sound)
    const patient = connect(site.proxy.url, { commandTimeout: 6000, redialDelay: 50 })
    const fresh = await openClients(patient)
    const { outcome } = await timed(() => call(fresh))
    assertEqual('the answer after a new start', outcomeOf(outcome).what, reference.first.what)
    assertEqual('what is there after a new start', await site.dump(), reference.after)
    await closeClients(fresh)
    await patient.close()
  }
}
