// The door to the HTTP API for ES modules: the same objects as the CommonJS door's.
import http from './express.js'

export const { bearerAuth, createWorkflowStateRouter, healthRouter, redactSecrets } = http

export default http
