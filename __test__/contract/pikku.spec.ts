import { describe } from 'node:test'
import { onEveryBackend } from '../helpers/backends'
import { interop } from './pikku-interop'
import { lists } from './pikku-lists'
import { runs } from './pikku-runs'
import { steps } from './pikku-steps'

onEveryBackend(
  'the service for @pikku/core',
  (backend) => {
    describe('runs', () => runs(backend))
    describe('steps', () => steps(backend))
    describe('one Redis, two generations', () => interop(backend))
    describe('lists and sweeps', () => lists(backend))
  },
  { tagged: true },
)
