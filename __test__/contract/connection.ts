/** What `connect` and `Connection` promise, whatever is behind them. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, describe, it } from 'node:test'
import { inspect } from 'node:util'
import {
  ArgumentError,
  type CommandArgument,
  ConfigError,
  Connection,
  ConnectionError,
  RedisWorkflowStateService,
  ServerError,
  connect,
  type Target,
} from '../../index.js'
import type { Backend } from '../helpers/backends'
import { like } from '../helpers/errors'
import { until } from '../helpers/wait'

export function connection(backend: Backend): void {
  let target: Target
  let shared: Connection

  before(async () => {
    target = await backend.freshTarget()
    shared = connect(target)
  })
  after(() => shared.close())
  afterEach(() => shared.command('FLUSHDB'))

  describe('command', () => {
    it('answers in plain values', async () => {
      const replies: [reply: unknown, name: string, ...args: CommandArgument[]][] = [
        ['PONG', 'PING'],
        ['hi', 'ECHO', 'hi'],
        ['OK', 'SET', 's', 'ünï ✓'],
        ['ünï ✓', 'GET', 's'],
        [null, 'GET', 'none'],
        [2, 'HSET', 'h', 'a', '1', 'b', ''],
        [['a', '1', 'b', ''], 'HGETALL', 'h'],
        [['1', null], 'HMGET', 'h', 'a', 'none'],
        [[], 'HGETALL', 'none'],
        [['ünï ✓', null], 'MGET', 's', '{s}none'],
        [-1, 'PTTL', 's'],
        [-2, 'PTTL', 'none'],
        ['hash', 'TYPE', 'h'],
        [5, 'INCRBY', 'n', 5],
        ['5', 'GET', 'n'],
        ['OK', 'SET', 'big', 12345678901234567890n],
        ['12345678901234567890', 'GET', 'big'],
        ['OK', 'SET', 'fraction', 1.5],
        ['1.5', 'GET', 'fraction'],
        ['OK', 'set', '{s}lower', 'x', 'PX', 50_000],
        [1, 'EXISTS', '{s}lower'],
        [2, 'DEL', 's', '{s}lower'],
      ]
      for (const [reply, name, ...args] of replies)
        assert.deepEqual(await shared.command(name, ...args), reply, `${name} ${args.join(' ')}`)
    })

    it('gives integers beyond a double as bigints', async () => {
      assert.equal(await shared.command('INCRBY', 'n', '9007199254740991'), 9007199254740991)
      assert.equal(await shared.command('INCRBY', 'n', 2), 9007199254740993n)
      assert.equal(await shared.command('DECRBY', 'm', 9007199254740993n), -9007199254740993n)
    })

    it('sends and gives back bytes as they are', async () => {
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
      await shared.command('SET', bytes, new Uint8Array(bytes))
      assert.deepEqual(await shared.commandBuffer('GET', bytes), bytes)
      assert.deepEqual(await shared.commandBuffer('MGET', bytes, bytes), [bytes, bytes])
      assert.equal(await shared.commandBuffer('STRLEN', bytes), 256)
      assert.equal(await shared.command('STRLEN', bytes), 256)
      await shared.command('SET', 'empty', '')
      assert.deepEqual(await shared.commandBuffer('GET', 'empty'), Buffer.alloc(0))
      assert.equal(await shared.command('GET', 'empty'), '')
    })

    it('takes the bytes of an argument at the time of the call', async () => {
      const bytes = Buffer.from('before')
      const done = shared.command('SET', 'copied', bytes)
      bytes.fill('x')
      await done
      assert.equal(await shared.command('GET', 'copied'), 'before')
    })

    it('carries megabytes', async () => {
      const text = 'ü'.repeat(2 ** 21)
      await shared.command('SET', 'long', text)
      assert.equal(await shared.command('GET', 'long'), text)
    })

    it('runs the calls of one connection in order, each with its own outcome', async () => {
      const calls = Array.from({ length: 1000 }, (_, n) =>
        n % 10 === 9 ? shared.command('HGET', 'counter', 'field') : shared.command('INCR', 'counter'),
      )
      const outcomes = await Promise.allSettled(calls)
      let count = 0
      for (const [n, outcome] of outcomes.entries()) {
        if (n % 10 === 9) {
          assert.ok(outcome.status === 'rejected' && outcome.reason.code === 'WRONG_TYPE', `call ${n}`)
        } else {
          count += 1
          assert.deepEqual(outcome, { status: 'fulfilled', value: count })
        }
      }
    })

    it('rejects with the class and the text of the server’s error', async () => {
      await shared.command('SET', 's', 'text')
      for (const [code, message, name, ...args] of [
        ['WRONG_TYPE', /^WRONGTYPE Operation against a key/, 'HGET', 's', 'f'],
        ['SERVER_ERROR', /^ERR value is not an integer/, 'INCR', 's'],
        ['SERVER_ERROR', /^ERR syntax error/, 'SET', 's', 'x', 'NONSENSE'],
        ['SERVER_ERROR', /^ERR wrong number of arguments for 'get' command/, 'GET'],
      ] as const)
        await assert.rejects(shared.command(name, ...args), like({ type: ServerError, code, message }))
      await assert.rejects(shared.command('NOSUCHCOMMAND', 'x'), (error: ServerError) => {
        assert.ok(error instanceof ServerError)
        assert.match(error.message, /NOSUCHCOMMAND/)
        return true
      })
    })

    it('shows who called in the stack of an error', async () => {
      const caller = { theCaller: async () => void (await shared.command('GET')) }
      await assert.rejects(caller.theCaller(), (error: Error) => /theCaller/.test(error.stack ?? ''))
    })

    it('refuses what would change or stop the connection for everybody', async () => {
      const names =
        'SUBSCRIBE PSUBSCRIBE UNSUBSCRIBE MONITOR SYNC AUTH HELLO SELECT RESET QUIT MULTI EXEC DISCARD WATCH UNWATCH BLPOP BRPOP BLMOVE BZPOPMIN WAIT'
      for (const name of names.split(' ').flatMap((upper) => [upper, upper.toLowerCase()]))
        await assert.rejects(
          shared.command(name, 'x'),
          like({
            type: ServerError,
            code: 'UNSUPPORTED',
            message: new RegExp(`^${name.toUpperCase()} is not sent`),
          }),
        )
      assert.equal(await shared.command('PING'), 'PONG')
    })

    for (const [name, ...args] of [
      ['CLIENT', 'REPLY', 'OFF'],
      ['client', 'reply', 'skip'],
      ['XREAD', 'BLOCK', '0', 'STREAMS', 's', '$'],
      ['xreadgroup', 'GROUP', 'g', 'c', 'block', '0', 'STREAMS', 's', '>'],
    ] as const)
      it(`refuses ${name} ${args.join(' ')}, which does the same by its options`, async () => {
        // On a connection that nobody else needs afterwards.
        const own = connect(target, { connectionName: randomUUID(), commandTimeout: 500 })
        try {
          await assert.rejects(
            own.command(name, ...args),
            like({ type: ServerError, code: 'UNSUPPORTED', message: new RegExp(name, 'i') }),
          )
          assert.equal(await own.command('PING'), 'PONG')
        } finally {
          await own.close()
        }
      })

    it('rejects arguments that are none, and sends nothing', async () => {
      const bad: unknown[] = [
        undefined,
        null,
        {},
        [],
        Number.NaN,
        Number.POSITIVE_INFINITY,
        true,
        Symbol('s'),
        () => {},
      ]
      for (const value of bad)
        await assert.rejects(
          shared.command('SET', 'k', value as string),
          like({ type: ArgumentError, code: 'INVALID_ARGUMENT', message: /Argument 2/ }),
        )
      for (const name of [undefined, null, '', 5, {}, Buffer.from('PING')])
        await assert.rejects(shared.command(name as string), {
          name: 'ArgumentError',
          code: 'INVALID_ARGUMENT',
        })
      assert.equal(await shared.command('EXISTS', 'k'), 0)
    })
  })

  describe('status', () => {
    it('is ready once a call was answered', async () => {
      const own = connect(target)
      await own.command('PING')
      await until('ready', () => own.status === 'ready')
      assert.match(inspect(own), /^Connection \{ address: '.*', status: 'ready' \}$/)
      await own.close()
      assert.equal(own.status, 'closed')
    })

    it('tells that it is closed, once', async () => {
      const own = connect(target)
      await own.command('PING')
      const seen: unknown[] = []
      own.on('status', (...args) => seen.push(args))
      await Promise.all([own.close(), own.close()])
      await own.close()
      assert.deepEqual(seen, [['closed', undefined]])
    })
  })

  describe('close', () => {
    it('refuses later calls', async () => {
      const own = connect(target)
      await own.close()
      const closed = like({ type: ConnectionError, code: 'CLOSED', message: /closed/ })
      await assert.rejects(own.command('PING'), closed)
      await assert.rejects(own.commandBuffer('PING'), closed)
      assert.throws(() => new RedisWorkflowStateService(own), closed)
    })

    it('lets calls in flight finish', async () => {
      const own = connect(target)
      const calls = Array.from({ length: 100 }, () => own.command('INCR', 'flight'))
      await own.close()
      const replies = await Promise.all(calls)
      assert.equal(replies.at(-1), 100)
    })

    it('leaves others on the same target alone', async () => {
      const [one, two] = [connect(target), connect(target)]
      await one.command('SET', 'both', 'seen')
      await one.close()
      assert.equal(await two.command('GET', 'both'), 'seen')
      await two.close()
      assert.equal(await shared.command('GET', 'both'), 'seen')
    })
  })

  it('a Connection is its own connection, and takes no options', () => {
    assert.equal(connect(shared), shared)
    assert.throws(
      () => connect(shared, { db: 1 }),
      like({ type: ConfigError, code: 'CONFIG', message: /already open/ }),
    )
  })

  it('is no class to be constructed, and knows its instances', () => {
    assert.ok(shared instanceof Connection)
    assert.throws(() => new (Connection as unknown as new (config: object) => Connection)({}))
  })

  it('puts keyPrefix before the keys of stores, not of commands', async () => {
    const prefixed = connect(target, { keyPrefix: 'app:' })
    const runId = await new RedisWorkflowStateService(prefixed).createRun('w', 1)
    assert.equal(await shared.command('EXISTS', `app:workflows:run:${runId}`), 1)
    await prefixed.command('SET', 'plain', '1')
    assert.equal(await shared.command('EXISTS', 'plain'), 1)
    await prefixed.close()
  })
}
