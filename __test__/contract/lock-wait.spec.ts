import { onEveryBackend } from '../helpers/backends'
import { lockWait } from './lock-wait'

onEveryBackend('waiting for a lock', lockWait)
