import { onEveryBackend } from '../helpers/backends'
import { lockHold } from './lock-hold'

onEveryBackend('holding a lock', lockHold)
