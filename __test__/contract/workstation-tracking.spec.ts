import { onEveryBackend } from '../helpers/backends'
import { trackingSuite } from './workstation-tracking'

onEveryBackend('Tracking of a workstation', trackingSuite)
