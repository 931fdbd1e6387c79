/** Bearer tokens, over real HTTP. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import { ConfigError } from '../../index.js'
import { bearerAuth, type BearerAuthOptions, createWorkflowStateRouter } from '../../express.js'
import { FakeWorkstation } from '../helpers/fake-workstation'
import { type Answer, FRAMEWORKS, HttpServer, request } from '../helpers/http'

type Jose = typeof import('jose', { with: { 'resolution-mode': 'import' } })

const SECRET = 'a secret of the test, 32 bytes at least'
const OTHER = 'another secret of the test, as long as that'
const ALL = 'workflow:read workflow:admin'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const sha256 = (token: string): string => createHash('sha256').update(token).digest('hex')
const ask = (server: HttpServer, token: string, path = '/exec-123', method = 'GET'): Promise<Answer> =>
  request(server.url + path, { method, headers: { authorization: `Bearer ${token}` } })

describe('bearerAuth', () => {
  let jose: Jose
  const workstation = new FakeWorkstation()
  before(async () => {
    jose = await import('jose')
    workstation.start('exec-123')
  })
  beforeEach(() => void (workstation.calls.length = 0))

  const sign = (
    claims: Record<string, unknown> = {},
    secret = SECRET,
    algorithm = 'HS256',
  ): Promise<string> =>
    new jose.SignJWT({ scope: ALL, ...claims })
      .setProtectedHeader({ alg: algorithm })
      .setExpirationTime('expires' in claims ? (claims['expires'] as number) : '1h')
      .sign(bytes(secret))

  const serve = (options: BearerAuthOptions): Promise<HttpServer> => {
    const router = createWorkflowStateRouter({ authenticate: bearerAuth(options), workstation })
    return HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
  }
  function assertRefused({ status, headers, body }: Answer): void {
    assert.equal(status, 401)
    assert.match(headers.get('www-authenticate') ?? '', /^Bearer realm="ferroflow"/)
    assert.deepEqual(Object.keys(body), ['success', 'error', 'code'])
    assert.equal(body.success, false)
    assert.deepEqual(workstation.calls, [])
  }

  describe('with a secret', () => {
    let server: HttpServer
    before(async () => {
      server = await serve({ secret: SECRET })
    })
    after(() => server.stop())

    for (const algorithm of ['HS256', 'HS384', 'HS512'])
      it(`lets a token of ${algorithm} in`, async () => {
        const { status, body } = await ask(
          server,
          await sign({}, `${SECRET}${SECRET}`.slice(0, SECRET.length), algorithm),
        )
        assert.deepEqual([status, body.state.executionId], [200, 'exec-123'])
      })

    it('says that there is no token', async () => {
      const answer = await request(`${server.url}/exec-123`)
      assertRefused(answer)
      assert.deepEqual(answer.body, { success: false, error: 'No token provided', code: 'UNAUTHENTICATED' })
    })

    it('says that a token is not valid, and not why', async () => {
      const none = Buffer.from('{"alg":"none"}').toString('base64url')
      const [head = '', claims = '', signature = ''] = (await sign()).split('.')
      const wrong = {
        'another secret': await sign({}, OTHER),
        'it has expired': await sign({ expires: Math.floor(Date.now() / 1000) - 60 }),
        'it is not valid yet': await sign({ nbf: Math.floor(Date.now() / 1000) + 3600 }),
        'it never ends': await new jose.SignJWT({ scope: ALL })
          .setProtectedHeader({ alg: 'HS256' })
          .sign(bytes(SECRET)),
        'no signature': `${none}.${claims}.`,
        'a signature that was cut': `${head}.${claims}.${signature.slice(0, -4)}`,
        'other claims': `${head}.${Buffer.from(`{"scope":"${ALL}","exp":9999999999}`).toString('base64url')}.${signature}`,
        'no JWT': 'abc',
        'an extension that is critical': await new jose.SignJWT({})
          .setProtectedHeader({ alg: 'HS256', crit: ['b64'], b64: true })
          .setExpirationTime('1h')
          .sign(bytes(OTHER)),
      }
      for (const [why, token] of Object.entries(wrong)) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const answer = await ask(server, token)
        assertRefused(answer)
        assert.equal(answer.body.error, 'Invalid or expired token', why)
        assert.match(answer.headers.get('www-authenticate') ?? '', /error="invalid_token"/)
      }
    })

    it('refuses malformed headers', async () => {
      const token = await sign()
      const forms = malformed(token)
      assert.ok(forms.length >= 50, `${forms.length} forms`)
      for (const form of forms) {
        const lines = form.map((value) => `Authorization:${value}\r\n`).join('')
        const text = `GET /exec-123 HTTP/1.1\r\nHost: x\r\n${lines}Connection: close\r\n\r\n`
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const answer = await server.raw(Buffer.from(text, 'latin1'))
        assert.match(answer, /^HTTP\/1\.1 401 /, JSON.stringify(form))
        assert.match(answer, /\r\nWWW-Authenticate: Bearer realm="ferroflow"/)
      }
      assert.deepEqual(workstation.calls, [])
    })

    it('takes the scheme in any case, and more than one space', async () => {
      const token = await sign()
      for (const authorization of [`bearer ${token}`, `BEARER   ${token}`, `Bearer ${token}  `])
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assert.equal((await request(`${server.url}/exec-123`, { headers: { authorization } })).status, 200)
    })

    it('asks for a scope to read, and for another to clean up', async () => {
      const cases: [claims: Record<string, unknown>, read: number, admin: number][] = [
        [{ scope: 'workflow:read' }, 200, 403],
        [{ scope: 'workflow:admin' }, 403, 200],
        [{ scope: 'other workflow:read  workflow:admin' }, 200, 200],
        [{ scope: undefined, scopes: ['workflow:read'] }, 200, 403],
        [{ scope: undefined, scp: ['workflow:read', 7, null] }, 200, 403],
        [{ scope: 'workflow:reader' }, 403, 403],
        [{ scope: 7 }, 403, 403],
        [{ scope: undefined }, 403, 403],
      ]
      for (const [claims, read, admin] of cases) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const token = await sign(claims)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const reading = await ask(server, token)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const cleaning = await ask(server, token, '/cleanup', 'POST')
        assert.deepEqual([reading.status, cleaning.status], [read, admin], JSON.stringify(claims))
        if (admin === 403)
          assert.equal(
            cleaning.headers.get('www-authenticate'),
            'Bearer realm="ferroflow", error="insufficient_scope", scope="workflow:admin"',
          )
      }
    })

    it('does not ask for a token where the router has no route', async () => {
      assert.equal((await request(`${server.url}/a/b/c`)).status, 404)
    })
  })

  it('takes any valid token where no scope is asked for', async () => {
    await using server = await serve({ secret: SECRET, scopes: { read: [], admin: [] } })
    const token = await sign({ scope: undefined })
    assert.equal((await ask(server, token, '/cleanup', 'POST')).status, 200)
    assertRefused(((workstation.calls.length = 0), await ask(server, await sign({}, OTHER))))
  })

  it('takes the old and the new secret while one replaces the other', async () => {
    await using server = await serve({ secret: [OTHER, bytes(SECRET)] })
    assert.equal((await ask(server, await sign())).status, 200)
    assert.equal((await ask(server, await sign({}, OTHER))).status, 200)
    workstation.calls.length = 0
    assertRefused(await ask(server, await sign({}, `${OTHER}!`)))
  })

  it('checks audience and issuer', async () => {
    await using server = await serve({ secret: SECRET, audience: ['a', 'b'], issuer: 'me' })
    assert.equal((await ask(server, await sign({ aud: 'b', iss: 'me' }))).status, 200)
    workstation.calls.length = 0
    for (const claims of [{ aud: 'c', iss: 'me' }, { iss: 'me' }, { aud: 'a', iss: 'you' }, { aud: 'a' }])
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assertRefused(await ask(server, await sign(claims)))
  })

  describe('with public keys', () => {
    it('takes tokens of the set, and none that uses a public key as a secret', async () => {
      const { publicKey, privateKey } = await jose.generateKeyPair('ES256', { extractable: true })
      const jwk = { ...(await jose.exportJWK(publicKey)), kid: 'one', alg: 'ES256' }
      const signed = await new jose.SignJWT({ scope: ALL })
        .setProtectedHeader({ alg: 'ES256', kid: 'one' })
        .setExpirationTime('1h')
        .sign(privateKey)
      let fetched = 0
      await using keys = await HttpServer.start((_request, response) => {
        fetched += 1
        response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [jwk] }))
      })
      for (const jwks of [{ keys: [jwk] }, `${keys.url}/jwks.json`, new URL(keys.url)]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await using server = await serve({ jwks })
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        for (let times = 0; times < 3; times += 1) assert.equal((await ask(server, signed)).status, 200)
        workstation.calls.length = 0
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        assertRefused(await ask(server, await sign({}, JSON.stringify(jwk))))
      }
      assert.equal(fetched, 2, 'each set is fetched once')
    })

    it('answers 503 if the keys cannot be had', async () => {
      await using keys = await HttpServer.start((_request, response) => void response.writeHead(500).end())
      const unreachable = await HttpServer.start(() => undefined)
      await unreachable.stop()
      for (const jwks of [keys.url, unreachable.url]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await using server = await serve({ jwks })
        const token = `${Buffer.from('{"alg":"ES256"}').toString('base64url')}.e30.AAAA`
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { status, body } = await ask(server, token)
        assert.deepEqual([status, body.code], [503, 'AUTH_UNAVAILABLE'])
      }
    })
  })

  describe('with a function', () => {
    for (const [what, verify, status] of [
      ['resolves claims', () => Promise.resolve({ scope: ALL }), 200],
      ['returns claims', () => ({ scope: ALL }), 200],
      ['returns null', () => null, 401],
      ['returns false', () => false, 401],
      ['returns something else', () => 'yes', 401],
      ['throws', () => assert.fail('no'), 401],
      ['rejects', () => Promise.reject(new Error('no')), 401],
      ['has no answer now', () => Promise.reject(Object.assign(new Error('no'), { retryable: true })), 503],
    ] as [string, NonNullable<BearerAuthOptions['verify']>, number][])
      it(`that ${what}, answers ${status}`, async () => {
        await using server = await serve({ verify })
        assert.equal((await ask(server, 'anything')).status, status)
      })
  })

  it('compares tokens by their hash', async () => {
    await using server = await serve({
      tokens: [
        { sha256: sha256('old'), scopes: ['workflow:read'] },
        { sha256: sha256('new').toUpperCase(), scopes: ALL.split(' ') },
      ],
    })
    assert.equal((await ask(server, 'old')).status, 200)
    assert.equal((await ask(server, 'old', '/cleanup', 'POST')).status, 403)
    assert.equal((await ask(server, 'new', '/cleanup', 'POST')).status, 200)
    workstation.calls.length = 0
    for (const token of ['ol', 'older', 'OLD', sha256('old')])
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assertRefused(await ask(server, token))
  })

  it('tells the handlers behind it who asks', async () => {
    const auth = bearerAuth({ secret: SECRET })
    const app = FRAMEWORKS['Express 5']!('/', auth, (request_, response) =>
      response.end(JSON.stringify((request_ as { auth?: unknown }).auth)),
    )
    await using server = await HttpServer.start(app)
    const { body } = await ask(server, await sign({ sub: 'user123' }))
    const { subject, scopes, expiresAt, claims } = JSON.parse(body)
    assert.deepEqual([subject, scopes, claims.sub], ['user123', ALL.split(' '), 'user123'])
    assert.ok(expiresAt > Date.now() && expiresAt < Date.now() + 3_700_000)
  })

  it('believes no other middleware about scopes', async () => {
    const router = createWorkflowStateRouter({
      authenticate: (request_, _response, next) => {
        Object.assign(request_, { auth: { scopes: ALL.split(' '), admin: true } })
        next()
      },
      workstation,
    })
    await using server = await HttpServer.start(FRAMEWORKS['Express 5']!('/', router))
    assert.equal((await request(`${server.url}/cleanup`, { method: 'POST' })).status, 403)
  })

  it('refuses options that would be unsafe', () => {
    const jwks = { keys: [] }
    const wrong: Record<string, unknown> = {
      nothing: {},
      'two ways': { secret: SECRET, jwks },
      'a short secret': { secret: 'x'.repeat(31) },
      'an empty secret': { secret: '' },
      'no secret in the environment': { secret: undefined },
      'an empty list': { secret: [] },
      'a secret that is none': { secret: 7 },
      'no algorithm': { secret: SECRET, algorithms: [] },
      'algorithm none': { secret: SECRET, algorithms: ['none'] },
      'HMAC with public keys': { jwks, algorithms: ['HS256'] },
      'a URL that is none': { jwks: 'file:///etc/passwd' },
      'a token in the clear': { tokens: [{ sha256: 'token' }] },
      'a scope that breaks out of the header': { secret: SECRET, scopes: { read: 'a" b\r\nc' } },
      'no function': { verify: 'x' },
    }
    for (const [what, options] of Object.entries(wrong))
      assert.throws(
        () => bearerAuth(options as BearerAuthOptions),
        (error: Error) => {
          assert.ok(!error.message.includes(SECRET))
          return error instanceof ConfigError || what === 'no function'
        },
        what,
      )
  })
})

/** Values of one or more Authorization headers, none of which is `Bearer <token>`. */
function malformed(token: string): string[][] {
  const single = [
    '',
    ' ',
    ' Bearer',
    ' Bearer ',
    `Bearer${token}`,
    ` Bearer${token}`,
    ` Bearer:${token}`,
    ` Bearer: ${token}`,
    ` Bearer=${token}`,
    ` Bearer\t${token}`,
    ` ${token}`,
    ` Basic ${token}`,
    ` Basic dXNlcjpwYXNz`,
    ` Digest username="x"`,
    ` Token ${token}`,
    ` JWT ${token}`,
    ` Bear ${token}`,
    ` Bearers ${token}`,
    ` Bearer Bearer ${token}`,
    ` Bearer ${token} ${token}`,
    ` Bearer ${token},${token}`,
    ` Bearer ${token}, Basic x`,
    ` Bearer ${token};`,
    ` Bearer "${token}"`,
    ` Bearer '${token}'`,
    ` Bearer <${token}>`,
    ` Bearer {${token}}`,
    ` Bearer (${token})`,
    ` Bearer token=${token}`,
    ` Bearer ${token}\u00e9`,
    ` Bearer \u00e9${token}`,
    ` Bearer ${token}%0A`,
    ` Bearer ${token}%00`,
    ` Bearer ${token}?`,
    ` Bearer ${token}#`,
    ` Bearer ${token}@host`,
    ` Bearer ${token}=x`,
    ` Bearer =${token}`,
    ` Bearer ====`,
    ` Bearer .`,
    ` Bearer ..`,
    ` Bearer ...`,
    ` Bearer null`,
    ` Bearer undefined`,
    ` Bearer [object Object]`,
    ` Bearer {}`,
    ` Bearer ${token.split('.').slice(0, 2).join('.')}`,
    ` Bearer ${token}.${token}`,
    ` Bearer ${token.replaceAll('.', '')}`,
    ` Bearer ${token.replaceAll('.', '..')}`,
    ` Bearer ${'a'.repeat(8000)}`,
    ` Bearer ${'a.'.repeat(4000)}`,
    ` Bearer \u00a0${token}`,
    ` \u00a0Bearer ${token}`,
    ` Bearer ${token}\u00ff`,
    ` Bearer ../../etc/passwd`,
    ` Bearer ' OR 1=1 --`,
    ` Bearer __proto__`,
    ` Bearer e30.e30.`,
    ` Bearer e30.e30.e30`,
  ].map((value) => [value])
  return [
    ...single,
    [` Bearer ${token}`, ` Bearer ${token}`],
    [` Bearer ${token}`, ' Basic x'],
    [' Basic x', ` Bearer ${token}`],
  ]
}
