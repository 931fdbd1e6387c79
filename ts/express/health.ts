import { statfs } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

import { ConfigError } from '../errors.js'
import { checkFunction, checkMillis, checkObject } from '../validate.js'
import { defaultWorkstation } from '../workstation/default-instance.js'
import { HttpError, type HttpHandler, isPath, routeOf, sendError, sendJson } from './http.js'
import type { HealthSource } from './source.js'

/** What one check of `/health` found. */
export interface CheckResult {
  status: 'up' | 'down' | 'disabled' | 'error'
  /** Milliseconds. */
  latency?: number
  [detail: string]: unknown
}

/** Looks whether something works. One that throws counts as `error`, one that takes too long as `down`. */
export type HealthCheck = () => CheckResult | Promise<CheckResult>

/** Options of {@link healthRouter}. */
export interface HealthRouterOptions {
  /** Whose Redis is looked at. Default: the instance that the environment configures. */
  workstation?: HealthSource
  /** More checks by name, such as `database`. */
  checks?: Record<string, HealthCheck>
  /** A path on the disk whose free space is reported. `false`: none. Default: the current folder. */
  disk?: string | false
  /** Less free space than this is `down`, in bytes. Default: 100 MiB. */
  minFreeBytes?: number
  /** How long a check may take, in milliseconds. Default: 1000. */
  timeoutMs?: number
}

/** Body of `GET /health`. */
export interface HealthBody {
  /** `degraded`: only Redis is out of reach. `unhealthy` (status 503): another check failed. */
  status: 'healthy' | 'degraded' | 'unhealthy'
  checks: Record<string, CheckResult>
}

/** However many ask, nothing is looked at more often than once in this time. */
const KEEP_MS = 1000

/**
 * The health routes, for Express 4 and 5: `app.use(healthRouter())`. None of them asks for a token.
 *
 * - `GET /health`: the documented body. 200, also without Redis (`degraded`); 503 if another check fails.
 * - `GET /live`: 200 as long as the process answers. Never touches Redis: a restart does not bring it back.
 * - `GET /ready`: 200 if Redis takes a write by script and gives it back within `timeoutMs`, otherwise 503. A server
 *   that only answers `PING`, such as a read-only replica, is not ready.
 *
 * @throws {@link ConfigError} if an option cannot be used
 */
export function healthRouter(options: HealthRouterOptions = {}): HttpHandler {
  checkObject('The options of healthRouter', options)
  const { disk = '.', minFreeBytes = 100 * 1024 * 1024, timeoutMs = 1000 } = options
  checkMillis('timeoutMs', timeoutMs)
  let source = options.workstation
  const workstation = (): HealthSource => (source ??= defaultWorkstation())
  const checks: [name: string, check: HealthCheck][] = [
    ...checksOf(options.checks),
    ['redis', () => redisCheck(workstation())],
  ]
  if (disk !== false) checks.push(['diskSpace', () => diskCheck(disk, minFreeBytes)])

  const health = kept(async (): Promise<HealthBody> => {
    const results = await Promise.all(
      checks.map(async ([name, check]) => [name, await runCheck(check, timeoutMs)] as const),
    )
    return { status: overall(results), checks: Object.fromEntries(results) }
  })
  const readiness = kept(() => isReady(workstation, timeoutMs))

  const handle = async (path: string): Promise<[status: number, body: object]> => {
    if (path === 'live') return [200, { status: 'alive' }]
    if (path === 'ready') {
      const { ready, latency } = await readiness()
      return [ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', redis: { latency } }]
    }
    const body = await health()
    return [body.status === 'unhealthy' ? 503 : 200, body]
  }

  return (request, response, next) => {
    const { method, segments = [] } = routeOf(request)
    const path = ['health', 'live', 'ready'].find((name) => isPath(segments, [name]))
    if (path === undefined || method !== 'GET') {
      if (next !== undefined) return next()
      return sendError(response, new HttpError(404, 'NOT_FOUND', 'There is no such path'))
    }
    handle(path).then(
      ([status, body]) => sendJson(response, status, body),
      (error: unknown) => sendError(response, error),
    )
  }
}

function checksOf(checks: Record<string, HealthCheck> = {}): [name: string, check: HealthCheck][] {
  const entries = Object.entries(checkObject('checks', checks) as Record<string, HealthCheck>)
  for (const [name, check] of entries) {
    checkFunction(`checks.${name}`, check)
    if (name === 'redis' || name === 'diskSpace')
      throw new ConfigError('CONFIG', `checks.${name} is one of our own`)
  }
  return entries
}

async function runCheck(check: HealthCheck, timeoutMs: number): Promise<CheckResult> {
  const giveUp = new AbortController()
  const late = delay(timeoutMs, { status: 'down' } as const, { signal: giveUp.signal, ref: false })
  late.catch(() => undefined)
  try {
    return await Promise.race([(async () => check())(), late])
  } catch {
    // Why is for the logs of whoever wrote the check, not for everybody.
    return { status: 'error' }
  } finally {
    giveUp.abort()
  }
}

async function redisCheck(workstation: HealthSource): Promise<CheckResult> {
  const { status, latency } = await workstation.redisHealthCheck()
  return { status, ...(latency === undefined ? {} : { latency: Math.round(latency) }) }
}

async function isReady(workstation: () => HealthSource, timeoutMs: number): Promise<HealthReadiness> {
  const begin = performance.now()
  const result = await runCheck(async () => {
    const { ready } = await workstation().checkReadiness()
    return { status: ready ? 'up' : 'down' }
  }, timeoutMs)
  return { ready: result.status === 'up', latency: Math.round(performance.now() - begin) }
}

interface HealthReadiness {
  ready: boolean
  latency: number
}

async function diskCheck(path: string, minFreeBytes: number): Promise<CheckResult> {
  const { bavail, bsize } = await statfs(path)
  const free = bavail * bsize
  const available = `${(free / 1024 ** 3).toFixed(1)}GB`
  return { status: free >= minFreeBytes ? 'up' : 'down', available }
}

function overall(results: (readonly [name: string, result: CheckResult])[]): HealthBody['status'] {
  const failed = results.filter(([, { status }]) => status === 'down' || status === 'error')
  if (failed.length === 0) return 'healthy'
  return failed.every(([name]) => name === 'redis') ? 'degraded' : 'unhealthy'
}

/** One answer for all who ask at the same time, and for a while afterwards. */
function kept<T>(look: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined
  let until = 0
  return () => {
    if (answer === undefined || performance.now() >= until) {
      until = Infinity
      answer = look().finally(() => (until = performance.now() + KEEP_MS))
    }
    return answer
  }
}
