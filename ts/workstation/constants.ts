/** Beginnings of the documented keys. */
export const KEY_PREFIXES = Object.freeze({
  SESSION: 'wks:session:',
  WORKFLOW_STATE: 'wks:workflow:',
  EXECUTION_LOCK: 'wks:lock:execution:',
  ACTIVE_EXECUTIONS: 'wks:executions:active',
  API_CACHE: 'wks:cache:api:',
  RATE_LIMIT: 'wks:ratelimit:',
} as const)

/** Documented times to live, in seconds. */
export const DEFAULT_TTL = Object.freeze({
  SESSION: 86_400,
  WORKFLOW_STATE: 3600,
  EXECUTION_LOCK: 300,
  API_CACHE: 3600,
  RATE_LIMIT: 900,
} as const)
