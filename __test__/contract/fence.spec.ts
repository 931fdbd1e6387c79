import { describe } from 'node:test'
import { onEveryBackend } from '../helpers/backends'
import { fences } from './fence'

onEveryBackend('a fence', (backend) => {
  describe('of records', () => fences(backend))
  // Where a journal takes steps without one.
  if (backend.isCluster) describe('of a journal with a hash tag', () => fences(backend, '{workflows}'))
})
