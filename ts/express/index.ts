/**
 * The documented HTTP API over tracked executions, live streams of their progress, health, and bearer tokens; for
 * Express 4 and 5.
 *
 * @packageDocumentation
 */

export type { Access, Identity } from './access.js'
export { bearerAuth, type AccessScopes, type BearerAuthOptions, type HashedToken } from './bearer.js'
export {
  healthRouter,
  type CheckResult,
  type HealthBody,
  type HealthCheck,
  type HealthRouterOptions,
} from './health.js'
export type { HttpErrorBody, HttpErrorCode, HttpHandler, HttpRequest, Next } from './http.js'
export type { Claims, JsonWebKeySet, JwtOptions } from './jwt.js'
export type { Middleware } from './middleware.js'
export { redactSecrets, type Redact } from './presentation.js'
export {
  createWorkflowStateRouter,
  type WorkflowStateRouter,
  type WorkflowStateRouterOptions,
} from './router.js'
export type {
  ErrorListener,
  HealthSource,
  ServedPage,
  ServedState,
  TicketStore,
  WorkflowStateSource,
} from './source.js'
export type { StreamOptions } from './stream.js'
