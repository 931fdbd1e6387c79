/** Clients whose options cannot be read are refused: a connection to somewhere else would be worse than none. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as nodeRedis from 'redis'
import { ConfigError, RedisLockManager, type Target, connect } from '../../index.js'
import { SECRET, like } from '../helpers/errors'

const expected = like({
  type: ConfigError,
  code: 'CONFIG',
  message: /accepted are|not supported|cannot be read/,
})

function noop(): void {}

describe('an object that is no single client', () => {
  const url = `redis://:${SECRET}@10.0.0.1:7000`
  const objects: Record<string, unknown> = {
    'a cluster of node-redis': nodeRedis.createCluster({ rootNodes: [{ url }] }),
    'a sentinel of node-redis': nodeRedis.createSentinel({
      name: 'm',
      sentinelRootNodes: [{ host: '10.0.0.1', port: 26379 }],
    }),
    'a pool of node-redis': nodeRedis.createClientPool({ url }),
    'a client with credentials that change': nodeRedis.createClient({
      socket: { host: '10.0.0.1' },
      credentialsProvider: {
        type: 'async-credentials-provider',
        credentials: () => Promise.resolve({ username: 'u', password: SECRET }),
      },
    }),
    'a mock as an object literal': { get: noop, set: noop, hset: noop, hget: noop, del: noop },
    'a mock as an instance': new (class Mock {
      hgetall = noop
      status = 'ready'
      options = {}
    })(),
    'a Map': new Map(),
    'a date': new Date(),
  }
  for (const [what, object] of Object.entries(objects)) {
    it(`is refused: ${what}`, () => {
      assert.throws(() => connect(object as Target), expected)
      assert.throws(() => new RedisLockManager(object as Target), expected)
    })
  }

  it('does not include options that hold functions', async () => {
    const options = { host: '127.0.0.1', port: 1, retryStrategy: noop, reconnectOnError: noop }
    await connect(options as Target).close()
  })
})
