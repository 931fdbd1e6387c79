import { onEveryBackend } from '../helpers/backends'
import { apiCacheSuite } from './workstation-cache'

onEveryBackend('API cache of a workstation', apiCacheSuite)
