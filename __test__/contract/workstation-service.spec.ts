import { onEveryBackend } from '../helpers/backends'
import { redisServiceSuite } from './workstation-service'

onEveryBackend('redisService of a workstation', redisServiceSuite)
