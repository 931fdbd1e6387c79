/** A function as NAT map: when it is asked, what becomes of what it says, and that nobody waits for it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { type Connection, ConnectionError, type Target, connect } from '../../index.js'
import { Child } from '../helpers/child'
import { CountingProxy } from '../helpers/counting-proxy'
import { SECRET, assertNoSecret, like } from '../helpers/errors'
import { ScriptedServer } from '../helpers/scripted-server'
import { timed, until } from '../helpers/wait'

const repository = join(__dirname, '../..')

/** Says that all slots are at `inside:1`, and answers GET as it is told. */
function node(get = (): string => '$1\r\nx'): Promise<ScriptedServer> {
  return ScriptedServer.start(([name]) => {
    if (name === 'CLUSTER') return '*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$6\r\ninside\r\n:1\r\n'
    return name === 'GET' ? `${get()}\r\n` : undefined
  })
}

function connectionsOf({ commands }: ScriptedServer): number {
  return commands.filter(([name]) => name === 'HELLO').length
}

async function works(connection: Connection): Promise<boolean> {
  return connection.command('GET', 'k').then(
    (value) => value === 'x',
    () => false,
  )
}

describe('a function natMap', () => {
  const open: Connection[] = []
  let warnings: Error[]
  const warn = (warning: Error): void => void warnings.push(warning)
  beforeEach(() => {
    warnings = []
    process.on('warning', warn)
  })
  afterEach(async () => {
    process.off('warning', warn)
    await Promise.all(open.splice(0).map((connection) => connection.close()))
  })
  const opened = (target: object): Connection => {
    const connection = connect({ redialDelay: 50, ...target } as Target)
    open.push(connection)
    return connection
  }

  it('is asked when nodes are looked for, and not by a call', async () => {
    await using server = await node()
    const asked: string[] = []
    const natMap = (key: string): { host: string; port: number } => {
      asked.push(key)
      return server
    }
    const connection = opened({ cluster: [server], natMap })
    assert.ok(await works(connection))
    await until('it is ready', () => connection.status === 'ready')
    const before = asked.length
    for (let call = 0; call < 50; call++) {
      // oxlint-disable-next-line no-await-in-loop -- one call after the other
      assert.ok(await works(connection))
    }
    // In the beginning, the table of slots may be read once more.
    assert.ok(asked.length - before < 5, `asked ${asked.length - before} times`)
    assert.deepEqual(new Set(asked), new Set(['inside:1']))
  })

  it('leaves an address as it is by saying nothing', async () => {
    let port = 0
    await using server = await ScriptedServer.start(([name]) =>
      name === 'CLUSTER' ? `*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:${port}\r\n` : undefined,
    )
    ;({ port } = server)
    for (const nothing of [null, undefined, false, ''])
      assert.equal(
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await opened({ cluster: [server], natMap: () => nothing }).command('SET', 'k', 'v'),
        'OK',
      )
  })

  it('is shared by connections that are given the same one, and by no others', async () => {
    await using server = await node()
    const natMap = (): { host: string; port: number } => server
    const first = opened({ cluster: [server], natMap })
    assert.ok(await works(first))
    await until('it is ready', () => first.status === 'ready')
    const before = connectionsOf(server)
    assert.ok(await works(opened({ cluster: [server], natMap })))
    assert.equal(connectionsOf(server), before)
    assert.ok(await works(opened({ cluster: [server], natMap: () => server })))
    assert.ok(connectionsOf(server) > before)
    await first.close()
    assert.ok(await works(open[1] as Connection))
  })

  for (const [what, fail, message] of [
    ['throws an error', () => assert.fail(new TypeError(SECRET)), /it threw TypeError$/],
    [
      'throws something else',
      () => {
        // oxlint-disable-next-line no-throw-literal -- programs do
        throw SECRET
      },
      /it threw a string$/,
    ],
    ['is asynchronous', async () => ({ host: 'h', port: 1 }), /it returned a promise$/],
    ['rejects', () => Promise.reject(new Error(SECRET)), /it returned a promise$/],
    ['returns a text', () => `redis://:${SECRET}@h`, /it returned a string$/],
    ['returns no host', () => ({ port: 1 }), /it returned no host$/],
    ['returns what is no host', () => ({ host: `a:${SECRET}@h`, port: 1 }), /it returned no host$/],
    ['returns no port', () => ({ host: SECRET, port: 70_000 }), /it returned no port from 1 to 65535$/],
    [
      'returns what cannot be read',
      () => ({
        get host() {
          return assert.fail(new RangeError(SECRET))
        },
      }),
      /it threw RangeError$/,
    ],
  ] as [string, () => unknown, RegExp][])
    it(`that ${what} costs calls until it works: they say so in time, and one warning does`, async () => {
      await using server = await node()
      let reach = fail
      const connection = opened({ cluster: [server], natMap: () => reach(), commandTimeout: 400 })
      const changed = once(connection, 'status')
      for (let call = 0; call < 2; call++) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const { ms, outcome } = await timed(() => connection.command('GET', 'k'))
        assert.ok(outcome.status === 'rejected' && ms < 650, `${ms} ms`)
        like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message })(outcome.reason)
        assert.match(
          String(outcome.reason),
          /nothing was sent: the function natMap does not say where inside:1 is/,
        )
      }
      const [status, reason] = (await changed) as [string, string]
      assert.equal(status, 'reconnecting')
      assert.match(reason, message)
      assert.deepEqual(
        warnings.map((warning) => [warning.name, (warning as NodeJS.ErrnoException).code]),
        [['FerroflowWarning', 'FERROFLOW_NAT_MAP']],
      )
      assertNoSecret([reason, warnings])
      reach = () => server
      await until('it works', () => works(connection))
    })

  it('that fails later costs nothing where it has answered before', async () => {
    await using server = await node()
    await using proxy = await CountingProxy.start({ port: server.port })
    let reach = (): { host: string; port: number } => proxy
    const connection = opened({ cluster: [server], natMap: () => reach() })
    assert.ok(await works(connection))
    await until('it is ready', () => connection.status === 'ready')
    reach = () => assert.fail('no more')
    const lost = once(connection, 'status')
    proxy.cut()
    await lost
    assert.ok(await works(connection))
    await until('it was asked again', () => warnings.length === 1)
    await until('it is ready again', () => connection.status === 'ready')
    assert.ok(await works(connection))
  })

  it('may change its mind: what it says counts from the next time that nodes are looked for', async () => {
    await using one = await node()
    await using two = await node()
    let reach = one
    const connection = opened({ cluster: [two], natMap: () => reach })
    assert.ok(await works(connection))
    assert.ok(one.commands.some(([name]) => name === 'GET'))
    reach = two
    await one.stop()
    await until('it is connected to the other', () => works(connection))
    assert.ok(two.commands.some(([name]) => name === 'GET'))
    // It is stopped again at the end.
    await one[Symbol.asyncDispose]().catch(() => {})
  })

  for (const word of ['MOVED', 'ASK'])
    it(`${word} to a node that nobody has named before reaches it`, async () => {
      await using two = await node()
      await using one = await node(() => `-${word} 12539 new:2`)
      let reach = (key: string): { host: string; port: number } | null => (key === 'inside:1' ? one : null)
      const natMap = (key: string): unknown => reach(key) ?? assert.fail('not yet')
      const connection = opened({ cluster: [one], natMap, commandTimeout: 400 })
      const { ms, outcome } = await timed(() => connection.command('GET', 'k'))
      assert.ok(outcome.status === 'rejected' && ms < 650, `${ms} ms`)
      like({ type: ConnectionError, code: 'REDIS_UNAVAILABLE', message: /new:2 is reached/ })(outcome.reason)
      reach = (key) => (key === 'inside:1' ? one : two)
      assert.equal(await connection.command('GET', 'k'), 'x')
      const got = two.commands.map(([name]) => name)
      assert.ok(got.includes('GET'))
      assert.equal(got[got.indexOf('GET') - 1] === 'ASKING', word === 'ASK')
    })

  it('of a worker that is terminated while it is asked holds up nobody', async () => {
    await using server = await node()
    for (let round = 0; round < 5; round++) {
      // oxlint-disable-next-line no-await-in-loop -- one worker after the other
      await using proxy = await CountingProxy.start({ port: server.port })
      const worker = new Worker(
        `const { workerData, parentPort } = require('node:worker_threads')
         const { repository, node } = workerData
         const natMap = () => {
           parentPort.postMessage('asked')
           Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
         }
         require(repository).connect({ cluster: [node], natMap }).command('GET', 'k')`,
        { eval: true, workerData: { repository, node: { host: proxy.host, port: proxy.port } } },
      )
      // oxlint-disable-next-line no-await-in-loop -- one worker after the other
      await once(worker, 'message')
      // oxlint-disable-next-line no-await-in-loop -- one worker after the other
      await worker.terminate()
      // oxlint-disable-next-line no-await-in-loop -- one worker after the other
      await until('it has left no connection behind', () => proxy.openConnections === 0)
    }
    assert.ok(await works(opened({ cluster: [server], natMap: () => server })))
  })

  it('does not keep a program alive, and is let go with the last connection', async () => {
    await using server = await node()
    const script = `
      const { connect } = require('ferroflow')
      const { setTimeout: sleep } = require('node:timers/promises')
      const node = { host: '127.0.0.1', port: ${server.port} }
      async function used() {
        const natMap = () => node
        const connection = connect({ cluster: [node], natMap })
        await connection.command('GET', 'k')
        await connection.close()
        await connect({ cluster: [node], natMap }).command('GET', 'k')
        const third = connect({ cluster: [node], natMap })
        await third.command('GET', 'k')
        await third.close()
        return new WeakRef(natMap)
      }
      used().then(async (natMap) => {
        const kept = connect({ cluster: [node], natMap: () => node })
        while (natMap.deref() !== undefined) {
          // What was looked at lives until the turn is over.
          await sleep(1)
          gc()
        }
        console.log(await kept.command('GET', 'k'))
      })`
    const { code, signal, stdout, stderr } = await Child.start(script, '--expose-gc').ended()
    assert.deepEqual({ code, signal, stdout, stderr }, { code: 0, signal: null, stdout: 'x\n', stderr: '' })
  })
})
