/** Where cases of the crash matrix take place. */
import { connect } from '../../index.js'
import { CountingProxy } from '../helpers/counting-proxy'
import { RedisServer } from '../helpers/redis-server'
import { type Clients, openClients } from './crash-operations'
import { dump } from './dump'

/** How long it may take until a claim is withdrawn that got nothing. */
const WITHDRAWN_MS = 7000

/** A server, a proxy in front of it, and sound clients that pass by it. */
export class Site {
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

  /** What is stored, once nobody waits for a lock any more: who gives up says so behind the caller's back. */
  async dump(): Promise<string> {
    using client = await this.server.client()
    for (const end = performance.now() + WITHDRAWN_MS; ;) {
      // oxlint-disable-next-line no-await-in-loop -- polling
      const lines = await dump(client)
      if (performance.now() > end || !lines.some((line) => line.includes('ferroflow:queue:')))
        return lines.join('\n')
    }
  }

  async stop(): Promise<void> {
    await this.sound.connection.close()
    await this.proxy.close()
    await this.server.stop()
  }
}
