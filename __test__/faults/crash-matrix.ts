/**
 * The crash matrix: one operation, one moment, one thing that goes wrong; what holds afterwards is what
 * `crash-operations.ts` says. Each case follows from a seed and its number alone.
 */
import { inspect } from 'node:util'
import { connect } from '../../index.js'
import { timed, until } from '../helpers/wait'
import type { Case } from './crash-case'
import { type Clients, type Operation, closeClients, openClients } from './crash-operations'
import { type Reference, type Tally, assertEqual, outcomeOf } from './crash-outcome'
import { Site } from './crash-site'
import { HOUSEKEEPING, Trial } from './crash-trial'

const KEEPS_ALL = ['--appendonly', 'yes', '--appendfsync', 'always']
/** A file of some megabytes would have a server say LOADING for a while, to which no case is tuned. */
const LOADS_AT_ONCE = ['--auto-aof-rewrite-min-size', '512kb', '--auto-aof-rewrite-percentage', '100']

/** Where cases run, one after the other. */
export class Lane {
  readonly #references = new Map<string, Reference>()
  readonly #sites: { kept: Site; wiped: Site }
  readonly tally: Tally = { cases: 0, missed: 0, acknowledged: 0, refused: 0, unknown: 0 }

  private constructor(kept: Site, wiped: Site) {
    this.#sites = { kept, wiped }
  }

  static async start(): Promise<Lane> {
    return new Lane(await Site.start([...KEEPS_ALL, ...LOADS_AT_ONCE]), await Site.start([]))
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
      await closeClients(clients)
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
    await closeClients(clients)
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
