import { onEveryBackend } from '../helpers/backends'
import { workflow } from './workflow'

onEveryBackend('workflow', workflow)
