import { onEveryBackend } from '../helpers/backends'
import { executionLockSuite } from './workstation-locks'

onEveryBackend('Execution locks of a workstation', executionLockSuite)
