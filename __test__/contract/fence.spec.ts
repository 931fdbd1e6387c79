import { onEveryBackend } from '../helpers/backends'
import { fences } from './fence'

onEveryBackend('a fence', fences)
