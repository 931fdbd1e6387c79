/** What must and must not compile with Express 4 and 5. Nothing here runs: the compiler is the test. */
import express5, { type RequestHandler as Handler5 } from 'express'
import express4, { type RequestHandler as Handler4 } from 'express-4'
import {
  bearerAuth,
  createWorkflowStateRouter,
  healthRouter,
  type WorkflowStateSource,
} from '../../express.js'

declare const workstation: WorkflowStateSource
declare const passport4: Handler4
declare const passport5: Handler5

export function mounted(): void {
  const authenticate = bearerAuth({ secret: 'x'.repeat(32) })
  const router = createWorkflowStateRouter({ authenticate, workstation })
  express4().use('/api/workflow-state', router).use(healthRouter()).use('/admin', authenticate)
  express5().use('/api/workflow-state', router).use(healthRouter()).use('/admin', authenticate)
  createWorkflowStateRouter({ authenticate: passport4, workstation })
  createWorkflowStateRouter({ authenticate: passport5, workstation })
  createWorkflowStateRouter({ authenticate: false, workstation })
  router.close()
}

export function refused(): void {
  // @ts-expect-error -- whether anybody may read must be said
  createWorkflowStateRouter({ workstation })
  // @ts-expect-error -- `true` says nothing about who
  createWorkflowStateRouter({ authenticate: true, workstation })
  // @ts-expect-error -- not a workstation
  createWorkflowStateRouter({ authenticate: false, workstation: {} })
  // @ts-expect-error -- one of `up`, `down`, `disabled` and `error`
  healthRouter({ checks: { database: () => ({ status: 'fine' }) } })
  // @ts-expect-error -- a secret is a text or bytes
  bearerAuth({ secret: 7 })
}
