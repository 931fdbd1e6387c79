import type { HttpRequest } from './http.js'

/** What a request may do: `read` is every GET, `admin` what changes something (`POST /cleanup`). */
export type Access = 'read' | 'admin'

/** Who asks, as {@link bearerAuth} found out; also `request.auth` for the handlers behind it. */
export interface Identity {
  /** The `sub` of the token, where it has one. */
  subject?: string
  /** The scopes of the token. */
  scopes: string[]
  /** When the token ends, in milliseconds since 1970. Streams end then. */
  expiresAt?: number
  /** The claims of the token, or what `verify` resolved. */
  claims: Record<string, unknown>
}

/** What an identity may do, and what is lacking where it may not. */
export interface Grant {
  identity: Identity
  allows(access: Access): boolean
  /** Value of `WWW-Authenticate` for a request that needs more. */
  challenge(access: Access): string
}

// Common to all copies of this module. Not a property of the request, which other middleware could set.
const GRANTS = Symbol.for('ferroflow.express.grants.1')
const shared = globalThis as unknown as Record<symbol, WeakMap<HttpRequest, Grant> | undefined>
const grants = (shared[GRANTS] ??= new WeakMap<HttpRequest, Grant>())

/** Remembers what a request may do. */
export function setGrant(request: HttpRequest, grant: Grant): void {
  grants.set(request, grant)
}

/** What {@link bearerAuth} found out about a request; `undefined` if another middleware authenticated it. */
export function grantOf(request: HttpRequest): Grant | undefined {
  return grants.get(request)
}
