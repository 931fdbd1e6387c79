import { onEveryBackend } from '../helpers/backends'
import { lock } from './lock'

onEveryBackend('lock', lock)
