/** TLS as ioredis' option `tls` says it, against real servers with certificates of the test's own. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTo, createServer } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { ConfigError, type FerroflowError, type Target, type TlsOptions, connect } from '../../index.js'
import { Certificates } from '../helpers/certificates'
import { SECRET, assertNoSecret, like } from '../helpers/errors'
import { RedisServer, findFreePort } from '../helpers/redis-server'
import { until } from '../helpers/wait'

const DEADLINE = 1000

/** A proxy that lets nobody through before all have come, and again when all have sent something to an answer. */
class Crowd implements AsyncDisposable {
  accepted = 0
  readonly #server = createServer()
  readonly #count: number
  /** What waits for the others, by round. */
  readonly #waiting: (() => void)[][] = [[], []]

  private constructor(target: number, count: number) {
    this.#count = count
    this.#server.on('connection', (client) => {
      this.accepted += 1
      const server = connectTo(target, '127.0.0.1')
      let round = 0
      let answered = true
      let gate = Promise.resolve()
      client.on('data', (chunk) => {
        if (answered) {
          gate = this.#everybody(round)
          round += 1
          answered = false
        }
        void gate.then(() => server.write(chunk))
      })
      server.on('data', (chunk) => {
        answered = true
        client.write(chunk)
      })
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        one.on('error', () => other.destroy())
        one.on('close', () => other.destroy())
      }
    })
  }

  static async start(target: number, count: number): Promise<Crowd> {
    const crowd = new Crowd(target, count)
    crowd.#server.listen(0)
    await once(crowd.#server, 'listening')
    return crowd
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #everybody(round: number): Promise<void> {
    const waiting = this.#waiting[round]
    if (waiting === undefined) return Promise.resolve()
    return new Promise((resolve) => {
      waiting.push(resolve)
      if (waiting.length === this.#count) for (const go of waiting) go()
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/** The answer to a PING, or what was thrown within the deadline. */
async function ping(target: Target, tls?: TlsOptions | boolean): Promise<string | FerroflowError> {
  const began = performance.now()
  const connection = connect(target, { commandTimeout: DEADLINE, ...(tls === undefined ? {} : { tls }) })
  try {
    return (await connection.command('PING').catch((error: unknown) => error)) as string | FerroflowError
  } finally {
    await connection.close()
    assert.ok(performance.now() - began < DEADLINE + 1250, `${performance.now() - began} ms`)
  }
}

describe('TLS', () => {
  let certificates: Certificates
  let strangers: Certificates
  let server: RedisServer
  let strict: RedisServer
  let expired: RedisServer
  const ports = { server: 0, strict: 0, expired: 0 }

  before(async () => {
    certificates = new Certificates()
    strangers = new Certificates()
    certificates.issue('expired', { subject: 'DNS:localhost,IP:127.0.0.1', expired: true })
    ports.server = await findFreePort()
    server = await RedisServer.start({ args: certificates.serverArguments(ports.server) })
    ports.strict = await findFreePort()
    strict = await RedisServer.start({
      args: [...certificates.serverArguments(ports.strict), '--tls-auth-clients', 'yes'],
    })
    ports.expired = await findFreePort()
    expired = await RedisServer.start({ args: certificates.serverArguments(ports.expired, 'expired') })
  })
  after(async () => {
    await Promise.all([server, strict, expired].map((started) => started.stop()))
    certificates.remove()
    strangers.remove()
  })

  type Port = keyof typeof ports
  const at = (port: Port, host = 'localhost'): Target => ({ host, port: ports[port] })

  /** In pieces, as a chain is read from files. */
  const accepted: Record<string, () => [Port, TlsOptions, host?: string]> = {
    'a CA in a string': () => ['server', { ca: certificates.ca }],
    'a CA in a Buffer': () => ['server', { ca: Buffer.from(certificates.ca) }],
    'a CA among others in an array': () => ['server', { ca: [strangers.ca, Buffer.from(certificates.ca)] }],
    'several CAs in one text': () => ['server', { ca: `${strangers.ca}\n${certificates.ca}` }],
    'an address that the certificate names': () => ['server', { ca: certificates.ca }, '127.0.0.1'],
    'a servername in place of the address': () => [
      'server',
      { ca: certificates.ca, servername: 'localhost' },
      '127.0.0.1',
    ],
    'no verification, on demand': () => ['server', { rejectUnauthorized: false }],
    'no verification, of the wrong name': () => [
      'server',
      { ca: certificates.ca, servername: 'elsewhere', rejectUnauthorized: false },
    ],
    'no verification, of an expired certificate': () => ['expired', { rejectUnauthorized: false }],
    'a client certificate where one is required': () => [
      'strict',
      { ca: certificates.ca, cert: certificates.clientCert, key: certificates.clientKey },
    ],
    'a client certificate in Buffers': () => [
      'strict',
      {
        ca: certificates.ca,
        cert: [Buffer.from(certificates.clientCert)],
        key: Buffer.from(certificates.clientKey),
      },
    ],
    'a client key under a passphrase': () => [
      'strict',
      {
        ca: certificates.ca,
        cert: certificates.clientCert,
        key: certificates.encryptedKey('client', SECRET),
        passphrase: SECRET,
      },
    ],
    'a client certificate where none is required': () => [
      'server',
      { ca: certificates.ca, cert: certificates.clientCert, key: certificates.clientKey },
    ],
  }
  for (const [what, make] of Object.entries(accepted))
    it(`works with ${what}`, async () => {
      const [port, tls, host] = make()
      assert.equal(await ping(at(port, host), tls), 'PONG')
    })

  const refused: Record<string, () => [Port, TlsOptions | boolean, because: RegExp]> = {
    'the roots of the system alone': () => ['server', true, /certificate|trust/i],
    'another CA': () => ['server', { ca: strangers.ca }, /certificate/i],
    'a servername that the certificate lacks': () => [
      'server',
      { ca: certificates.ca, servername: 'elsewhere.example' },
      /certificate.*elsewhere\.example/i,
    ],
    'an expired certificate': () => ['expired', { ca: certificates.ca }, /certificate.*expired/i],
    'no client certificate where one is required': () => [
      'strict',
      { ca: certificates.ca },
      /CertificateRequired/,
    ],
    'a client certificate of another authority': () => [
      'strict',
      { ca: certificates.ca, cert: strangers.clientCert, key: strangers.clientKey },
      /UnknownCA/,
    ],
    'a client key that is not that of the certificate': () => [
      'strict',
      { ca: certificates.ca, cert: certificates.clientCert, key: strangers.clientKey },
      /KeyMismatch/,
    ],
  }
  for (const [what, make] of Object.entries(refused))
    it(`fails with ${what}`, async () => {
      const [port, tls, because] = make()
      const error = await ping(at(port), tls)
      assert.ok(
        typeof error === 'object' && ['REDIS_UNAVAILABLE', 'CONFIG'].includes(error.code),
        String(error),
      )
      assert.match(error.message, because)
      assertNoSecret(error)
    })

  it('ten connections are dialled in parallel: none waits for another', async () => {
    const count = 10
    await using crowd = await Crowd.start(ports.server, count)
    // Nobody gets an answer before all have asked, in both flights of the handshake.
    const connections = Array.from({ length: count }, (_, n) =>
      connect(
        { host: 'localhost', port: crowd.port },
        { tls: { ca: certificates.ca }, connectionName: `t${n}` },
      ),
    )
    const answers = await Promise.all(connections.map((connection) => connection.command('PING')))
    assert.deepEqual(new Set(answers), new Set(['PONG']))
    assert.equal(crowd.accepted, count)
    await Promise.all(connections.map((connection) => connection.close()))
  })

  it('rediss:// trusts the CA that is given, and nothing else', async () => {
    const url = `rediss://localhost:${ports.server}`
    assert.equal(await ping(url, { ca: certificates.ca }), 'PONG')
    const error = await ping(url)
    assert.ok(typeof error === 'object' && error.code === 'REDIS_UNAVAILABLE', String(error))
  })

  it('refuses what the core cannot do, in words', () => {
    const { ca, clientCert: cert, clientKey: key } = certificates
    for (const [tls, message] of [
      [{ checkServerIdentity: () => undefined }, /tls\.checkServerIdentity is not supported/],
      [{ pfx: Buffer.from(SECRET), passphrase: SECRET }, /tls\.pfx is not supported/],
      [{ secureContext: {} }, /tls\.secureContext is not supported/],
      [{ crl: SECRET }, /tls\.crl is not supported/],
      [
        { cert, key: certificates.encryptedKey('client', SECRET), passphrase: 'wrong' },
        /tls\.key cannot be read/,
      ],
      [{ ca, passphrase: SECRET }, /tls\.passphrase is not supported without tls\.key/],
    ] as [object, RegExp][])
      assert.throws(
        () => connect(at('server'), { tls }),
        like({ type: ConfigError, code: 'CONFIG', message }),
      )
    assert.ok(key.includes('PRIVATE KEY'))
  })

  it('says what is wrong with PEM that is none', async () => {
    const { ca, clientCert: cert } = certificates
    for (const [tls, message] of [
      [{ ca: SECRET }, /ca holds no certificate/],
      [{ ca, cert, key: SECRET }, /key is not a private key/],
      [{ ca, cert, key: certificates.encryptedKey('client', SECRET) }, /key is not a private key/],
      [{ ca, cert }, /cert and key belong together/],
    ] as [TlsOptions, RegExp][]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other, to see which
      const error = await ping(at('server'), tls)
      assert.ok(typeof error === 'object' && error.code === 'CONFIG', String(error))
      assert.match(error.message, message)
      assertNoSecret(error)
    }
  })

  it('comes back to a server whose certificate was replaced by one of the same CA', async () => {
    const rotating = new Certificates()
    const port = await findFreePort()
    const own = await RedisServer.start({ args: rotating.serverArguments(port) })
    const connection = connect({ host: 'localhost', port }, { tls: { ca: rotating.ca } })
    try {
      assert.equal(await connection.command('PING'), 'PONG')
      const first = rotating.fingerprint('server')
      rotating.issue('server', { subject: 'DNS:localhost,IP:127.0.0.1' })
      assert.notEqual(rotating.fingerprint('server'), first)
      await own.restart()
      await until('it is back', async () => (await connection.command('PING').catch(() => '')) === 'PONG')
      // One of another authority is not taken for it.
      rotating.issue('server', { subject: 'DNS:localhost,IP:127.0.0.1', by: strangers })
      await own.restart()
      await until('it has noticed', () => connection.status === 'reconnecting')
      const short = await ping({ host: 'localhost', port }, { ca: rotating.ca })
      assert.match(String((short as FerroflowError).message), /certificate/i)
    } finally {
      await connection.close()
      await own.stop()
      rotating.remove()
    }
  })
})
