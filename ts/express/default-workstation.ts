import { ConfigError } from '../errors.js'
import type { HealthSource, WorkflowStateSource } from './source.js'

/** The instance that the environment configures. */
export function defaultWorkstation(): WorkflowStateSource & HealthSource {
  throw new ConfigError('CONFIG', 'There is no default instance yet: pass workstation')
}
