import { ConfigError } from '../errors.js'
import type { Target } from '../options.js'

const YES = new Set(['true', '1', 'yes', 'on'])
const NO = new Set(['false', '0', 'no', 'off'])

/**
 * Where the documented environment variables say that the data is: `REDIS_ENABLED` (default: true in production, otherwise
 * false), `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`, `REDIS_DB`.
 *
 * @returns `false` for nowhere but in this process
 * @throws {@link ConfigError} for a value that makes no sense
 */
export function targetOfEnvironment(env: NodeJS.ProcessEnv): Target | false {
  if (!isEnabled(env)) return false
  const password = env['REDIS_PASSWORD']
  return {
    host: env['REDIS_HOST'] || 'localhost',
    port: number(env, 'REDIS_PORT', 6379, 65_535),
    db: number(env, 'REDIS_DB', 0, 2 ** 31 - 1),
    ...(password !== undefined && password !== '' && { password }),
    // A request must not wait for longer until it is known that Redis is away.
    commandTimeout: 1000,
    connectTimeout: 2000,
  }
}

function isEnabled(env: NodeJS.ProcessEnv): boolean {
  const word = env['REDIS_ENABLED']?.trim().toLowerCase() ?? ''
  if (word === '') return env['NODE_ENV'] === 'production'
  if (YES.has(word)) return true
  if (NO.has(word)) return false
  throw new ConfigError('CONFIG', 'REDIS_ENABLED must be true or false')
}

function number(env: NodeJS.ProcessEnv, name: string, fallback: number, max: number): number {
  const text = env[name]?.trim() ?? ''
  if (text === '') return fallback
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= max) return value
  throw new ConfigError('CONFIG', `${name} must be a whole number from 0 to ${max}`)
}
