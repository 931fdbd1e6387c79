import { createHash, timingSafeEqual } from 'node:crypto'

import { ConfigError } from '../errors.js'
import { checkFunction, checkObject, kindOf } from '../validate.js'
import { type Access, type Identity, setGrant } from './access.js'
import { HttpError, type HttpHandler, type HttpRequest, sendError } from './http.js'
import { type Claims, type JwtOptions, TokenRefused, jwtVerifier, type TokenVerifier } from './jwt.js'

/** Which scopes a token must have for what: all of a list. An empty list asks for a valid token only. */
export interface AccessScopes {
  /** Every GET. Default: `workflow:read`. */
  read?: string | string[]
  /** `POST /cleanup`. Default: `workflow:admin`. */
  admin?: string | string[]
}

/** A token that is no JWT, by its hash: a copy of the configuration does not give it away. */
export interface HashedToken {
  /** SHA-256 of the token, in hexadecimal. */
  sha256: string
  /** What it may do. Default: `workflow:read`. */
  scopes?: string[]
  /** Who has it. */
  subject?: string
}

/** Options of {@link bearerAuth}: exactly one of `secret`, `jwks`, `verify` and `tokens`. */
export interface BearerAuthOptions extends JwtOptions {
  /**
   * Finds out whose token it is: resolves its claims, or `null` for one that is not valid. If it throws, the token is
   * refused as well, unless the error has `retryable: true` (503).
   */
  verify?: (token: string) => Claims | null | undefined | false | Promise<Claims | null | undefined | false>
  /** Tokens by their hash, all of which are valid: more than one to replace one while it is in use. */
  tokens?: HashedToken[]
  /** Which scopes are needed for what. */
  scopes?: AccessScopes
  /** Named in `WWW-Authenticate`. Default: `ferroflow`. */
  realm?: string
}

const TOKEN = /^Bearer +([\w\-.~+/]+=*) *$/i

/**
 * Middleware that asks for `Authorization: Bearer <token>` (RFC 6750). What is missing, malformed or not valid gets a
 * 401 with `WWW-Authenticate`; a scope that is missing gets a 403 from the router. Signatures and hashes are compared
 * in constant time. `secret` and `jwks` need the package `jose`.
 *
 * Scopes are read from the claims `scope` (a text with spaces), `scopes` and `scp` (either).
 *
 * @throws {@link ConfigError} unless exactly one way to verify is given, or if it cannot be used
 */
export function bearerAuth(options: BearerAuthOptions): HttpHandler {
  checkObject('The options of bearerAuth', options)
  const verify = verifierOf(options)
  const needed = {
    read: listOf('scopes.read', options.scopes?.read, 'workflow:read'),
    admin: listOf('scopes.admin', options.scopes?.admin, 'workflow:admin'),
  }
  const realm = `Bearer realm="${(options.realm ?? 'ferroflow').replaceAll(/[^\w .:/-]/g, '_')}"`

  const admit = async (request: HttpRequest): Promise<void> => {
    const identity = toIdentity(await claimsOf(request, verify, realm))
    setGrant(request, {
      identity,
      allows: (access: Access) => needed[access].every((scope) => identity.scopes.includes(scope)),
      challenge: (access: Access) =>
        `${realm}, error="insufficient_scope", scope="${needed[access].join(' ')}"`,
    })
    Object.defineProperty(request, 'auth', { value: identity, configurable: true, writable: true })
  }

  return (request, response, next) => {
    admit(request).then(
      () => next?.(),
      (error: unknown) => sendError(response, error),
    )
  }
}

async function claimsOf(request: HttpRequest, verify: TokenVerifier, realm: string): Promise<Claims> {
  const token = readToken(request, realm)
  const refusal = new HttpError(401, 'INVALID_TOKEN', 'Invalid or expired token', {
    'WWW-Authenticate': `${realm}, error="invalid_token"`,
  })
  let claims: Claims | null | undefined | false
  try {
    claims = await verify(token)
  } catch (error) {
    if ((error as { retryable?: unknown } | null)?.retryable !== true) throw refusal
    throw new HttpError(503, 'AUTH_UNAVAILABLE', 'Tokens cannot be verified now', { 'Retry-After': '1' })
  }
  if (typeof claims !== 'object' || claims === null) throw refusal
  return claims
}

/** The token of a request. Two headers are refused, as somebody on the way may have read the other one. */
function readToken({ rawHeaders }: HttpRequest, realm: string): string {
  const values = rawHeaders.filter((_, at) => at % 2 === 1 && /^authorization$/i.test(rawHeaders[at - 1]!))
  if (values.length === 0)
    throw new HttpError(401, 'UNAUTHENTICATED', 'No token provided', { 'WWW-Authenticate': realm })
  const token = values.length === 1 ? TOKEN.exec(values[0]!)?.[1] : undefined
  if (token !== undefined) return token
  throw new HttpError(401, 'INVALID_TOKEN', 'The Authorization header must be: Bearer <token>', {
    'WWW-Authenticate': `${realm}, error="invalid_request"`,
  })
}

function toIdentity(claims: Claims): Identity {
  const { sub, exp } = claims
  const scopes = ['scope', 'scopes', 'scp'].flatMap((name) => toScopes(claims[name]))
  return {
    ...(typeof sub === 'string' ? { subject: sub } : {}),
    scopes,
    ...(typeof exp === 'number' ? { expiresAt: exp * 1000 } : {}),
    claims,
  }
}

function toScopes(value: unknown): string[] {
  if (typeof value === 'string') return value.split(' ').filter((scope) => scope !== '')
  return Array.isArray(value) ? value.filter((scope) => typeof scope === 'string') : []
}

function listOf(what: string, value: unknown, usual: string): string[] {
  const list = value === undefined ? [usual] : Array.isArray(value) ? value : [value]
  // The characters that RFC 6749 allows: others would break out of the header.
  if (list.every((scope) => typeof scope === 'string' && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)))
    return list as string[]
  throw new ConfigError('CONFIG', `${what} must be a scope or a list of scopes`)
}

function verifierOf(options: BearerAuthOptions): TokenVerifier {
  const ways = (['secret', 'jwks', 'verify', 'tokens'] as const).filter((way) => options[way] !== undefined)
  if (ways.length !== 1)
    throw new ConfigError('CONFIG', 'bearerAuth needs exactly one of: secret, jwks, verify, tokens')
  if (options.tokens !== undefined) return hashVerifier(options.tokens)
  if (options.verify === undefined) return jwtVerifier(options)
  checkFunction('verify', options.verify)
  const { verify } = options
  return async (token) => (await verify(token)) || null
}

/** Compares hashes of equal length, and all of them, so that the time says nothing about any token. */
function hashVerifier(tokens: HashedToken[]): TokenVerifier {
  if (!Array.isArray(tokens)) throw new ConfigError('CONFIG', `tokens must be a list, not ${kindOf(tokens)}`)
  const known = tokens.map(({ sha256, scopes = ['workflow:read'], subject }) => {
    if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/i.test(sha256))
      throw new ConfigError('CONFIG', 'sha256 of a token must be 64 hexadecimal digits')
    return { hash: Buffer.from(sha256, 'hex'), claims: { sub: subject, scopes } }
  })
  return (token) => {
    const hash = createHash('sha256').update(token).digest()
    let found: Claims | undefined
    for (const { hash: other, claims } of known) if (timingSafeEqual(hash, other)) found = claims
    if (found === undefined) throw new TokenRefused()
    return Promise.resolve(found)
  }
}
