import { onEveryBackend } from '../helpers/backends'
import { sessionSuite } from './workstation-sessions'

onEveryBackend('Sessions of a workstation', sessionSuite)
