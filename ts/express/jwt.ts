import { ConfigError } from '../errors.js'
import { kindOf } from '../validate.js'

/** What a token says. `scope` (text) or `scopes` (list) say what it may do, `exp` (seconds) when it ends. */
export type Claims = Record<string, unknown>

/** Resolves the claims of a valid token, `null` for another; also throws for one that is not valid. */
export type TokenVerifier = (token: string) => Promise<Claims | null>

/** A token that is not valid. */
export class TokenRefused extends Error {}

/** A key of `jwks`, as in RFC 7517. */
export interface JsonWebKeySet {
  keys: Record<string, unknown>[]
}

/** How JSON web tokens are verified, by the package `jose`. */
export interface JwtOptions {
  /** Key of HS256, HS384 and HS512, at least 32 bytes. With a list, each is tried: to replace one while it is in use. */
  secret?: string | Uint8Array | (string | Uint8Array)[]
  /** Public keys: the URL of a set, which is fetched and kept, or the set itself. */
  jwks?: string | URL | JsonWebKeySet
  /** The token must be meant for this (one of these). Default: not checked. */
  audience?: string | string[]
  /** The token must come from this (one of these). Default: not checked. */
  issuer?: string | string[]
  /** Algorithms that are accepted. Default: those of HMAC for `secret`, those with public keys for `jwks`. */
  algorithms?: string[]
  /** Claims that a token must have. Default: `exp`, so that none is valid for ever. */
  requiredClaims?: string[]
  /** How far the clocks may be apart, in seconds. Default: 5. */
  clockTolerance?: number
}

type Jose = typeof import('jose', { with: { 'resolution-mode': 'import' } })
type JoseKey = Parameters<Jose['jwtVerify']>[1]
type JoseOptions = Parameters<Jose['jwtVerify']>[2]
type KeyResolver = ReturnType<Jose['createRemoteJWKSet']>

const HMAC = ['HS256', 'HS384', 'HS512']
// A token must not be able to choose HMAC with a public key as its secret.
const PUBLIC_KEY = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ')
const MIN_SECRET_BYTES = 32
const JWKS_TIMEOUT_MS = 5000

let jose: Promise<Jose> | undefined

/** An ES module, which `require` does not load on every version of Node that we support. */
function loadJose(): Promise<Jose> {
  try {
    require.resolve('jose')
  } catch (cause) {
    throw new ConfigError(
      'CONFIG',
      'bearerAuth with secret or jwks needs the package jose: npm install jose',
      {
        cause,
      },
    )
  }
  jose ??= import('jose')
  return jose
}

/** The set of keys cannot be fetched: nothing is known about the token. */
class KeysUnavailable extends Error {
  readonly retryable = true
}

/** @throws ConfigError if the secret is too short, the set cannot be one, or jose is missing */
export function jwtVerifier(options: JwtOptions): TokenVerifier {
  const { secret, jwks, audience, issuer, requiredClaims = ['exp'], clockTolerance = 5 } = options
  const algorithms = options.algorithms ?? (secret === undefined ? PUBLIC_KEY : HMAC)
  checkAlgorithms(algorithms, secret !== undefined)
  const checks: JoseOptions = { audience, issuer, algorithms, requiredClaims, clockTolerance }
  const secrets = secret === undefined ? [] : toSecrets(secret)
  const source = jwks === undefined ? undefined : toKeySource(jwks)
  const module = loadJose()
  // The first token waits for it; without a token nobody needs to know that it failed.
  module.catch(() => undefined)
  let keys: KeyResolver | undefined
  return async (token) => {
    const library = await module
    if (source === undefined) return verifyBySecrets(library, token, secrets, checks)
    keys ??= keyResolver(library, source)
    try {
      return (await library.jwtVerify(token, keys, checks)).payload
    } catch (error) {
      throw isOutage(library, error) ? new KeysUnavailable() : error
    }
  }
}

async function verifyBySecrets(
  library: Jose,
  token: string,
  secrets: readonly JoseKey[],
  checks: JoseOptions,
): Promise<Claims> {
  for (const key of secrets) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- the first one fits nearly always
      return (await library.jwtVerify(token, key, checks)).payload
    } catch (error) {
      if (!(error instanceof library.errors.JWSSignatureVerificationFailed)) throw error
    }
  }
  throw new TokenRefused()
}

function keyResolver(library: Jose, source: URL | JsonWebKeySet): KeyResolver {
  if (source instanceof URL)
    return library.createRemoteJWKSet(source, { timeoutDuration: JWKS_TIMEOUT_MS, cooldownDuration: 30_000 })
  return library.createLocalJWKSet(source as never) as KeyResolver
}

/** What says nothing about the token: no answer from the server of the keys, or a useless one. */
function isOutage(library: Jose, error: unknown): boolean {
  const { JOSEError, JWKSTimeout, JWKSInvalid } = library.errors
  if (error instanceof JWKSTimeout || error instanceof JWKSInvalid) return true
  const { code } = error as { code?: unknown }
  return !(error instanceof JOSEError) || code === 'ERR_JOSE_GENERIC'
}

function toSecrets(secret: NonNullable<JwtOptions['secret']>): Uint8Array[] {
  const list = Array.isArray(secret) ? secret : [secret]
  if (list.length === 0) throw new ConfigError('CONFIG', 'secret must not be an empty list')
  return list.map((value) => {
    if (typeof value !== 'string' && !(value instanceof Uint8Array))
      throw new ConfigError('CONFIG', `secret must be a string or a Uint8Array, not ${kindOf(value)}`)
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    if (bytes.length < MIN_SECRET_BYTES)
      throw new ConfigError('CONFIG', `secret must be at least ${MIN_SECRET_BYTES} bytes long`)
    return Uint8Array.from(bytes)
  })
}

function toKeySource(jwks: NonNullable<JwtOptions['jwks']>): URL | JsonWebKeySet {
  if (typeof jwks === 'object' && !(jwks instanceof URL) && Array.isArray(jwks?.keys)) return jwks
  let url: URL | undefined
  try {
    url = new URL(String(jwks))
  } catch {
    // Said below.
  }
  if (url?.protocol === 'https:' || url?.protocol === 'http:') return url
  throw new ConfigError('CONFIG', 'jwks must be an http(s) URL or an object with a list of keys')
}

function checkAlgorithms(algorithms: unknown, bySecret: boolean): void {
  const allowed = bySecret ? HMAC : PUBLIC_KEY
  if (
    Array.isArray(algorithms) &&
    algorithms.length > 0 &&
    algorithms.every((name) => allowed.includes(name))
  )
    return
  throw new ConfigError('CONFIG', `algorithms must be a list of: ${allowed.join(', ')}`)
}
