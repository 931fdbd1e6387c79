/** Every target means to ferroflow what it means to ioredis 5 and 6, except where a case says why it does not. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis-5'
import { ConfigError, RedisLockManager, type Target, connect } from '../../index.js'
import { resolveTarget } from '../../ts/target'
import { SECRET, assertNoSecret } from '../helpers/errors'
import { type Meaning, TARGET_CASES, type TargetCase } from './target-cases'

type Options = Record<string, any>

/** Absent, where it says nothing. */
function present(meaning: Record<string, unknown>): Meaning {
  const said = Object.entries(meaning).filter(([, value]) => ![undefined, null, ''].includes(value as never))
  return Object.fromEntries(said) as Meaning
}

/** ioredis leaves the numbers of a query to the socket and to timers, which take digits too. */
function numeric(value: unknown): unknown {
  return typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
}

/** What an option means if nobody gives it; those of ioredis and of ferroflow are not the same. */
function given(value: unknown, fallback: unknown): unknown {
  return numeric(value) === fallback ? undefined : numeric(value)
}

/** Where nobody gives a host, it is `localhost` to ioredis and 127.0.0.1 to ferroflow, as documented. */
function host(value: unknown): unknown {
  return value === '127.0.0.1' ? 'localhost' : value
}

function ofIoredis(Client: typeof Redis, { args: [target, options] }: TargetCase): Meaning | undefined {
  let client: Redis
  try {
    client = new Client(target as string, { ...options, lazyConnect: true })
  } catch {
    return undefined
  }
  const read = client.options as Options
  const { options: plain } = new Client({ lazyConnect: true })
  return present({
    path: read['path'],
    // Host and port have no effect beside the path of a socket.
    host: read['path'] ? undefined : host(read['host']),
    port: read['path'] ? undefined : numeric(read['port']),
    username: read['username'],
    password: read['password'],
    db: numeric(read['db']),
    tls: read['tls'] ? true : undefined,
    servername: read['tls']?.servername,
    rejectUnauthorized: read['tls']?.rejectUnauthorized,
    keyPrefix: read['keyPrefix'],
    family: given(read['family'], plain.family),
    connectionName: read['connectionName'],
    connectTimeout: given(read['connectTimeout'], plain.connectTimeout),
    commandTimeout: given(read['commandTimeout'], plain.commandTimeout),
    keepAlive: given(read['keepAlive'], plain.keepAlive),
  })
}

function ofFerroflow({ args: [target, options] }: TargetCase): Meaning {
  const read = resolveTarget(target, options as Options)
  const plain = resolveTarget({})
  const { tcp, unix } = read.endpoint as Options
  return present({
    path: unix?.path,
    host: host(tcp?.host),
    port: tcp?.port,
    username: read.username,
    password: read.password,
    db: read.db,
    tls: read.tls === undefined ? undefined : true,
    servername: read.tls?.servername,
    rejectUnauthorized: read.tls?.rejectUnauthorized === false ? false : undefined,
    keyPrefix: read.keyPrefix,
    family: given(read.family, plain.family),
    connectionName: read.connectionName,
    connectTimeout: given(read.connectTimeout, plain.connectTimeout),
    commandTimeout: given(read.callTimeout, plain.callTimeout),
    keepAlive: given(read.keepAlive, plain.keepAlive),
  })
}

/** As `assert.throws`, with what was thrown. */
function refusal(run: () => unknown): Error {
  try {
    run()
  } catch (error) {
    return error as Error
  }
  return assert.fail('nothing was thrown')
}

const title = ({ args }: TargetCase): string =>
  args.map((arg) => inspect(arg, { breakLength: 200 })).join(', ')

describe('a target', () => {
  it('is looked at in 200 forms, and each of them once', () => {
    assert.ok(TARGET_CASES.length >= 200, `${TARGET_CASES.length}`)
    assert.equal(new Set(TARGET_CASES.map(title)).size, TARGET_CASES.length)
  })

  for (const target of TARGET_CASES)
    it(`${title(target)}${target.why === undefined ? '' : `: ${target.why}`}`, () => {
      const theirs = [Redis, Redis5 as unknown as typeof Redis].map((Client) => ofIoredis(Client, target))
      for (const their of theirs) {
        if (target.refused !== undefined || their === undefined) {
          assert.equal(their === undefined, target.refused === undefined, 'what ioredis does')
          const error = refusal(() => connect(...(target.args as [Target])))
          assert.ok(error instanceof ConfigError, inspect(error))
          assert.equal(error.code, 'CONFIG')
          if (target.refused !== undefined) assert.match(error.message, target.refused)
        } else {
          const expected = present({ ...their, ...target.ours })
          assert.deepEqual(ofFerroflow(target), expected)
          assert.equal(target.ours === undefined, target.why === undefined, 'a difference needs a reason')
          if (target.ours !== undefined) assert.notDeepEqual(expected, their, 'there is no difference')
        }
      }
    })

  it('that is refused shows nothing of its password, wherever that stands', () => {
    const refused = [
      ...TARGET_CASES.map(({ args }) => args).filter((args) => inspect(args).includes(SECRET)),
      [{ host: 'h', password: { [SECRET]: SECRET } }],
      [{ host: 5, password: SECRET, username: SECRET }],
      [{ port: SECRET, password: SECRET }],
      [{ db: SECRET }],
      [{ path: '/x', password: SECRET, tls: { key: SECRET } }],
      [{ tls: SECRET, password: SECRET }],
      [{ tls: { key: SECRET, cert: SECRET, passphrase: SECRET } }],
      [{ tls: { passphrase: { [SECRET]: SECRET }, key: SECRET } }],
      [{ tls: { ca: [{ [SECRET]: SECRET }] } }],
      [{ tls: { pfx: SECRET, passphrase: SECRET } }],
      [{ tls: { checkServerIdentity: () => SECRET } }],
      [{ keyPrefix: `${SECRET}\n`, password: SECRET }],
      [{ cluster: [{ host: 'h', password: SECRET }], sentinels: 5 }],
      [`redis://:${SECRET}@h/x`],
      [`redis://h/${SECRET}`],
      [`redis://h?password=${SECRET}&port=${SECRET}`],
      [`redis://h?password=${SECRET}&tls=${SECRET}`],
      [`unix:x?password=${SECRET}`],
      [`redis://h`, { password: SECRET, db: SECRET }],
    ] as [Target][]
    assert.ok(refused.length >= 30, `${refused.length}`)
    for (const args of refused) {
      assertNoSecret(refusal(() => connect(...args)))
      if (args.length === 1) assertNoSecret(refusal(() => new RedisLockManager(...args)))
    }
  })

  it('that is accepted shows nothing of its password', async () => {
    const connection = connect({
      host: '127.0.0.1',
      port: 1,
      username: 'alice',
      password: SECRET,
      commandTimeout: 50,
    })
    const told: unknown[] = []
    connection.on('status', (...event) => told.push(event))
    const error = await connection.command('PING').catch((reason: unknown) => reason)
    for (const value of [connection, error, told, new RedisLockManager(connection)]) assertNoSecret(value)
    await connection.close()
  })
})
