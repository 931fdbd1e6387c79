import { onEveryBackend } from '../helpers/backends'
import { lockInspect } from './lock-inspect'

onEveryBackend('looking at locks', lockInspect)
