/** The subpath for HTTP, in a project that has neither Express nor jose, and in one that has jose. */
import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { PackedProject } from '../helpers/packed-project'
import { repository } from '../types/compile'

const NAMES = ['bearerAuth', 'createWorkflowStateRouter', 'healthRouter', 'redactSecrets']

describe('ferroflow/express, packed', () => {
  let project: PackedProject
  before(async () => {
    project = await PackedProject.create()
  })
  after(() => project.remove())

  it('gives the same objects to require and import, without Express', async () => {
    const script = `
      import * as imported from 'ferroflow/express'
      import { createRequire } from 'node:module'
      const required = createRequire(import.meta.url)('ferroflow/express')
      console.log(JSON.stringify([Object.keys(required).sort(), Object.keys(required).filter((name) => required[name] !== imported[name])]))`
    assert.deepEqual(await project.evaluate('same.mjs', script), [NAMES, []])
  })

  it('serves without Express', async () => {
    const script = `
      const { createServer } = require('node:http')
      const { healthRouter } = require('ferroflow/express')
      const server = createServer(healthRouter({ workstation: {} })).listen(0, async () => {
        const answer = await fetch('http://127.0.0.1:' + server.address().port + '/live')
        console.log(JSON.stringify([answer.status, await answer.json()]))
        server.close()
      })`
    assert.deepEqual(await project.evaluate('serve.cjs', script), [200, { status: 'alive' }])
  })

  it('says that jose is missing, at once', async () => {
    const script = `
      const { ConfigError } = require('ferroflow')
      const { bearerAuth } = require('ferroflow/express')
      bearerAuth({ verify: () => null })
      try {
        bearerAuth({ secret: 'x'.repeat(32) })
      } catch (error) {
        console.log(JSON.stringify([error instanceof ConfigError, error.message]))
      }`
    assert.deepEqual(await project.evaluate('missing.cjs', script), [
      true,
      'bearerAuth with secret or jwks needs the package jose: npm install jose',
    ])
  })

  it('verifies by the jose that is installed', async () => {
    symlinkSync(join(repository, 'node_modules/jose'), join(project.root, 'node_modules/jose'), 'junction')
    const script = `
      import { createServer } from 'node:http'
      import { SignJWT } from 'jose'
      import { bearerAuth } from 'ferroflow/express'
      const secret = 'x'.repeat(32)
      const token = await new SignJWT({ sub: 'me' }).setProtectedHeader({ alg: 'HS256' }).setExpirationTime('1h')
        .sign(new TextEncoder().encode(secret))
      const auth = bearerAuth({ secret })
      const server = createServer((request, response) => auth(request, response, () => response.end(request.auth.subject)))
      await new Promise((resolve) => server.listen(0, resolve))
      const url = 'http://127.0.0.1:' + server.address().port
      const good = await fetch(url, { headers: { authorization: 'Bearer ' + token } })
      const bad = await fetch(url, { headers: { authorization: 'Bearer ' + token + 'x' } })
      console.log(JSON.stringify([good.status, await good.text(), bad.status]))
      server.close()`
    assert.deepEqual(await project.evaluate('with.mjs', script), [200, 'me', 401])
  })
})
