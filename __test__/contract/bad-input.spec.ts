import { onEveryBackend } from '../helpers/backends'
import { badInput } from './bad-input'
import { badTargets } from './bad-targets'

onEveryBackend('bad input', badInput)
onEveryBackend('bad targets', badTargets)
