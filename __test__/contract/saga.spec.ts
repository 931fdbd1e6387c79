import { onEveryBackend } from '../helpers/backends'
import { saga } from './saga'

onEveryBackend('saga', saga)
