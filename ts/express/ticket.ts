import { createHash, randomBytes } from 'node:crypto'

import { HttpError } from './http.js'
import type { TicketStore } from './source.js'

/** How long a ticket can be used, in seconds: as long as it takes to open a stream. */
export const TICKET_SECONDS = 30

const TICKET = /^[\w-]{43}$/

/** The ticket itself is stored nowhere, and is of no use for another execution. */
function hashOf(ticket: string, executionId: string): string {
  return createHash('sha256').update(`${ticket}:${executionId}`).digest('hex')
}

/**
 * A ticket for one stream, for clients that can send no header (`EventSource`): in place of a token, which would end up
 * in logs with the URL.
 *
 * @param expiresAt - when the token ends, in milliseconds since 1970
 */
export async function issueTicket(
  store: TicketStore,
  executionId: string,
  expiresAt: number | undefined,
): Promise<string> {
  const ticket = randomBytes(32).toString('base64url')
  await store.issue(hashOf(ticket, executionId), JSON.stringify({ expiresAt }), TICKET_SECONDS)
  return ticket
}

/**
 * Takes a ticket, once.
 *
 * @returns when the token ends for which it was issued
 * @throws HttpError 401 for a ticket that was never issued, is too old, was used, or is for another execution
 */
export async function redeemTicket(
  store: TicketStore,
  executionId: string,
  ticket: string,
): Promise<number | undefined> {
  const issued = TICKET.test(ticket) ? await store.take(hashOf(ticket, executionId)) : null
  if (issued === null) {
    throw new HttpError(401, 'INVALID_TICKET', 'The ticket is not valid any more', {
      'WWW-Authenticate': 'Bearer realm="ferroflow"',
    })
  }
  return (JSON.parse(issued) as { expiresAt?: number }).expiresAt
}
