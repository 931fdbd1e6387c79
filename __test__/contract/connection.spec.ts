import { onEveryBackend } from '../helpers/backends'
import { connection } from './connection'

onEveryBackend('connection', connection)
