/** Workstations whose server goes away and comes back, for one suite. */
import { after, before, beforeEach } from 'node:test'
import { type Workstation, type WorkstationOptions, createWorkstation } from '../../index.js'
import { RedisServer } from './redis-server'
import type { RespClient } from './resp-client'
import { until } from './wait'

/** Long enough for everybody to notice that a server is gone. */
const NOTICED = 5000

export interface Outages {
  readonly server: RedisServer
  /** A client of the test's own, a new one after each return of the server. */
  readonly other: RespClient
  /** A workstation on the server, closed after the test. */
  start(options?: WorkstationOptions): Workstation
  /** Ends the server as a crash would, and waits until all of these know. */
  goDown(...workstations: Workstation[]): Promise<void>
  /** The same server again, with what a persistent one would have kept. */
  comeBack(kept?: Record<string, string>): Promise<void>
}

/** Registers what a suite needs; every test begins with a server that runs and holds nothing. */
export function outages(): Outages {
  const open: Workstation[] = []
  let server: RedisServer
  let other: RespClient

  const closeAll = async (): Promise<void> => {
    await Promise.all(open.splice(0).map((workstation) => workstation.close()))
  }

  before(async () => {
    server = await RedisServer.start()
  })

  after(async () => {
    await closeAll()
    other?.close()
    await server.stop()
  })

  beforeEach(async () => {
    if (!server.running) await server.restart()
    await closeAll()
    other?.close()
    other = await server.client()
    await other.command('FLUSHALL')
  })

  return {
    get server() {
      return server
    },
    get other() {
      return other
    },
    start(options = {}) {
      const workstation = createWorkstation({
        redis: { host: server.host, port: server.port, commandTimeout: 500, connectTimeout: 500 },
        log: false,
        ...options,
      })
      open.push(workstation)
      return workstation
    },
    async goDown(...workstations) {
      await server.kill()
      await until('everybody noticed', () => workstations.every(isDegraded), NOTICED)
    },
    async comeBack(kept = {}) {
      await server.restart()
      other.close()
      other = await server.client()
      for (const [key, value] of Object.entries(kept)) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await other.command('SET', key, value)
      }
    },
  }
}

export function isDegraded({ degradation }: Workstation): boolean {
  return degradation.state !== 'up'
}

/** Waits until all of these have written what they journaled, and go to Redis again. */
export async function recovered(...workstations: Workstation[]): Promise<void> {
  await until(
    'everybody is up',
    () => workstations.every(({ degradation }) => degradation.state === 'up'),
    10_000,
  )
}

/** The key of our own beside a session: when it was written last. */
export function record(user: string): string {
  return `ferroflow:session:{wks:session:${user}}`
}
