import { onEveryBackend } from '../helpers/backends'
import { corrupt } from './corrupt'

onEveryBackend('corrupt entries', corrupt)
