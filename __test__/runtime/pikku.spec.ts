import { onEveryBackend } from '../helpers/backends'
import { runtime } from './pikku'

onEveryBackend('@pikku/core 0.12', runtime, { tagged: true })
