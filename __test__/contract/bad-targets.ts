/** Targets and options that cannot be used: constructors throw, say what is accepted, and show no secret. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  ArgumentError,
  ConfigError,
  RedisLockManager,
  RedisSagaStore,
  RedisWorkflowStateService,
  type Target,
  connect,
} from '../../index.js'
import type { Backend } from '../helpers/backends'
import { SECRET, like } from '../helpers/errors'

const memory = 'memory://bad-options'

const ACCEPTED = /'redis:\/\/….*memory:\/\/.*host:port.*ioredis.*node-redis.*Connection/

class Unknown {
  hgetall(): void {}
  password = SECRET
}

const TARGETS: [what: string, target: unknown, message: RegExp][] = [
  ['undefined', undefined, ACCEPTED],
  ['null', null, ACCEPTED],
  ['a number', 6379, ACCEPTED],
  ['an array', ['redis://127.0.0.1'], ACCEPTED],
  ['a function', () => SECRET, ACCEPTED],
  ['a word that ioredis takes for a socket', '.workflows', ACCEPTED],
  ['an empty string', '', ACCEPTED],
  ['a URL of another kind', `http://user:${SECRET}@host`, ACCEPTED],
  ['a URL that is none', `redis://user:${SECRET}@[`, /URL cannot be parsed/],
  ['a URL with a broken password', `redis://:%zz${SECRET}@host`, /percent-encoding/],
  ['a URL with a port that is none', `redis://:${SECRET}@host:99999`, /URL cannot be parsed/],
  ['a relative path of a socket', `unix:relative?password=${SECRET}`, ACCEPTED],
  ['a database that is none', `redis://:${SECRET}@host/first`, /option db must be a whole number/],
  ['words', `the password is ${SECRET}`, ACCEPTED],
  ['an unknown client', new Unknown(), /unknown client object.*'redis:\/\//i],
  ['a mock with some methods', { sendCommand: () => {}, password: SECRET }, /unknown client object/i],
  [
    'a port that is none',
    { port: 70_000, password: SECRET },
    /option port must be a whole number from 1 to 65535/,
  ],
  ['a fractional port', { port: 1.5 }, /option port/],
  ['a negative database', { db: -1 }, /option db/],
  ['NaN as a timeout', { commandTimeout: Number.NaN }, /option commandTimeout/],
  ['no timeout at all', { connectTimeout: 0 }, /option connectTimeout/],
  ['a password that is no text', { password: { [SECRET]: SECRET } }, /option password must be a string/],
  ['a host that is no text', { host: 5, password: SECRET }, /option host must be a string/],
  ['TLS that is none', { tls: SECRET }, /option tls must be/],
  ['a certificate that is none', { tls: { ca: 5, key: SECRET } }, /option tls\.ca must be PEM/],
  ['a passphrase', { tls: { passphrase: SECRET } }, /tls\.passphrase is not supported/],
  ['an unknown protocol', { protocol: 4 }, /option protocol/],
]

export function badTargets(backend: Backend): void {
  const makers: Record<string, (target: Target) => unknown> = {
    connect,
    RedisWorkflowStateService: (target) => new RedisWorkflowStateService(target),
    RedisLockManager: (target) => new RedisLockManager(target),
    'RedisSagaStore({ redis })': (target) => new RedisSagaStore({ redis: target }),
  }
  for (const [name, make] of Object.entries(makers))
    describe(name, () => {
      for (const [what, target, message] of TARGETS) {
        // To a saga store, no target at all is something else.
        if (name.startsWith('RedisSaga') && (target === undefined || target === null)) continue
        it(`refuses ${what}`, () => {
          assert.throws(() => make(target as Target), like({ type: ConfigError, code: 'CONFIG', message }))
        })
      }
    })

  it('a saga store with `connection` refuses the same, when it connects', async () => {
    for (const [, target, message] of TARGETS) {
      if (target === undefined || target === null) continue
      const store = new RedisSagaStore({ connection: target as Target })
      await assert.rejects(store.initialize(), like({ type: ConfigError, code: 'CONFIG', message }))
    }
  })

  it('a query of a URL reaches no prototype', () => {
    assert.throws(() => connect('redis://h/?__proto__=x&constructor=y&db=x'), { code: 'CONFIG' })
    assert.equal(Object.getPrototypeOf({}), Object.prototype)
  })

  describe('options', () => {
    const numbers = [Number.NaN, -1, 1.5, Number.POSITIVE_INFINITY, '5', null, {}, 2 ** 53]
    const takers: Record<string, (value: any) => unknown> = {
      'RedisLockManager defaultTTL': (defaultTTL) => new RedisLockManager(memory, { defaultTTL }),
      'RedisLockManager retryDelay': (retryDelay) => new RedisLockManager(memory, { retryDelay }),
      'RedisLockManager maxRetries': (maxRetries) => new RedisLockManager(memory, { maxRetries }),
      'RedisSagaStore defaultTtlSeconds': (defaultTtlSeconds) =>
        new RedisSagaStore({ redis: memory, defaultTtlSeconds }),
      'RedisSagaStore completedTtlSeconds': (completedTtlSeconds) =>
        new RedisSagaStore({ redis: memory, completedTtlSeconds }),
      'RedisSagaStore maxRetries': (maxRetries) => new RedisSagaStore({ redis: memory, maxRetries }),
      'RedisSagaStore retryDelayMs': (retryDelayMs) => new RedisSagaStore({ redis: memory, retryDelayMs }),
    }
    for (const [what, make] of Object.entries(takers))
      it(what, () => {
        for (const value of numbers)
          assert.throws(
            () => make(value),
            like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /must be a whole number/ }),
          )
      })

    it('a prefix that is none', () => {
      for (const prefix of [5, null, {}, 'a\nb', 'p'.repeat(513)]) {
        const keyPrefix = prefix as string
        const expected = like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /keyPrefix must/ })
        assert.throws(() => new RedisLockManager(memory, { keyPrefix }), expected)
        assert.throws(() => new RedisSagaStore({ redis: memory, keyPrefix }), expected)
        if (prefix !== null)
          assert.throws(() => new RedisWorkflowStateService(memory, undefined, keyPrefix), expected)
      }
      assert.throws(() => new RedisWorkflowStateService(memory, ''), { code: 'INVALID_ARGUMENT' })
    })

    it('options that are no object', () => {
      for (const options of [null, 5, 'x', []])
        assert.throws(
          () => new RedisLockManager(memory, options as object),
          like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /options must be an object/ }),
        )
      for (const options of [undefined, null, 5, 'redis://127.0.0.1', []])
        assert.throws(() => new RedisSagaStore(options as object), { name: /ArgumentError|ConfigError/ })
    })

    it('of connect that are no object', async () => {
      const target = await backend.freshTarget()
      for (const options of [null, 5, 'x', []])
        assert.throws(() => connect(target, options as object), {
          name: 'ConfigError',
          code: 'CONFIG',
        })
    })

    it('undefined never overrides a default', async () => {
      const own = connect(await backend.freshTarget(), {
        db: undefined,
        commandTimeout: undefined,
        maxQueuedCommands: undefined,
        protocol: undefined,
        tls: undefined,
        password: undefined,
      })
      assert.equal(await own.command('PING'), 'PONG')
      await own.close()
    })
  })
}
