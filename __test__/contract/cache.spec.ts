import { onEveryBackend } from '../helpers/backends'
import { cache } from './cache'

onEveryBackend('execution cache', cache)
