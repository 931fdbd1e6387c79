import { addressOf, type Connection } from '../connection.js'
import { evictionOf } from '../doctor.js'
import { ServerError } from '../errors.js'

/** The servers that were looked at. */
const looked = new Set<string>()

/** Warns once a process if a server may evict locks. Costs nobody a round trip that they wait for. */
export function warnOnce(connection: Connection): void {
  const address = addressOf(connection)
  if (looked.has(address) || address.startsWith('memory:')) return
  looked.add(address)
  void warn(connection, address)
}

async function warn(connection: Connection, address: string): Promise<void> {
  try {
    for (const warning of await lockWarnings(connection)) {
      process.emitWarning(`${address}: ${warning}`, { type: 'FerroflowWarning', code: 'FERROFLOW_EVICTION' })
    }
  } catch {
    // Whatever is wrong with the connection, those who use it are told.
    looked.delete(address)
  }
}

/** What may cost locks on a server. Through INFO, since managed servers do not allow CONFIG. */
export async function lockWarnings(connection: Connection): Promise<string[]> {
  return evictionOf(await memoryInfo(connection)).map(({ message }) => message)
}

async function memoryInfo(connection: Connection): Promise<string> {
  try {
    return String(await connection.command('INFO', 'memory'))
  } catch (error) {
    // A user who may not ask, or an engine that does not evict.
    if (error instanceof ServerError) return ''
    throw error
  }
}
