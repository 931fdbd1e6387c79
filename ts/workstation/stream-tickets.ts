import { type Connection, nativeOf } from '../connection.js'
import { binding, guarded, settled } from '../native.js'
import { checkInteger, checkName } from '../validate.js'
import type { StreamTickets } from './api.js'
import type { Gate } from './gate.js'

/** Tickets on one connection; without Redis there are none. */
export function streamTicketsOn(connection: Connection, gate: () => Gate): StreamTickets {
  const native = guarded(() => binding.NativeTracking.open(nativeOf(connection)))
  return {
    async issue(ticket, text, ttl) {
      checkName('the ticket', ticket)
      const ttlMs = checkInteger('ttl', ttl, { min: 1, max: 3600, unit: 'seconds' }) * 1000
      await gate().strictly('command', () => settled(native.issueTicket(ticket, text, ttlMs)))
    },
    async take(ticket) {
      checkName('the ticket', ticket)
      return gate().strictly('command', () => settled(native.takeTicket(ticket)))
    },
  }
}
