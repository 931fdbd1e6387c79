import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { RedisServer, findFreePort } from './redis-server'
import { Monitor, RespClient, RespError, parseMonitorLine } from './resp-client'

describe('RedisServer', () => {
  it('answers as soon as it is started, keeps nothing after stop', async () => {
    const server = await RedisServer.start({ unixSocket: true })
    const folder = dirname(server.socketPath ?? '')
    try {
      using client = await server.client()
      assert.equal(await client.command('PING'), 'PONG')
      using viaSocket = await RespClient.connect({ path: server.socketPath as string })
      assert.equal(await viaSocket.command('PING'), 'PONG')
      assert.deepEqual(await client.command('CONFIG', 'GET', 'bind'), ['bind', '127.0.0.1'])
      assert.deepEqual(await client.command('CONFIG', 'GET', 'save'), ['save', ''])
    } finally {
      await server.stop()
    }
    assert.equal(existsSync(folder), false)
    await server.stop()
    await assert.rejects(server.client(), { code: 'ECONNREFUSED' })
  })

  it('takes a password, users and arguments', async () => {
    const server = await RedisServer.start({
      password: 'p@ss',
      users: ['alice on >secret ~app:* +@all'],
      args: ['--maxclients', '42'],
    })
    try {
      assert.equal(server.url, `redis://:p%40ss@127.0.0.1:${server.port}`)
      using admin = await server.client()
      assert.deepEqual(await admin.command('CONFIG', 'GET', 'maxclients'), ['maxclients', '42'])
      using alice = await server.client({ username: 'alice', password: 'secret' })
      assert.equal(await alice.command('SET', 'app:x', '1'), 'OK')
      await assert.rejects(
        alice.command('GET', 'other'),
        (error) => error instanceof RespError && error.code === 'NOPERM',
      )
      await assert.rejects(server.client({ password: 'wrong' }), { code: 'WRONGPASS' })
    } finally {
      await server.stop()
    }
  })

  it('comes back on the same port after a crash, without its data', async () => {
    const server = await RedisServer.start()
    try {
      using client = await server.client()
      await client.command('SET', 'k', 'v')
      const first = server.pid
      const closed = client.command('BLPOP', 'never', 0)
      await Promise.all([server.kill(), assert.rejects(closed, /closed|ECONNRESET/)])
      assert.equal(server.running, false)
      await assert.rejects(server.client(), { code: 'ECONNREFUSED' })
      await server.restart()
      assert.notEqual(server.pid, first)
      using again = await server.client()
      assert.equal(await again.command('EXISTS', 'k'), 0)
    } finally {
      await server.stop()
    }
  })

  it('answers nothing while it is paused', async () => {
    const server = await RedisServer.start()
    try {
      using client = await server.client()
      server.pause()
      const pong = client.command('PING')
      assert.equal(await Promise.race([pong, delay(100, 'nothing')]), 'nothing')
      server.resume()
      assert.equal(await pong, 'PONG')
      server.pause()
    } finally {
      await server.stop()
    }
  })

  it('shows the log of a server that does not start', async () => {
    await assert.rejects(
      RedisServer.start({ args: ['--no-such-option', 'x'] }),
      /Bad directive or wrong number/,
    )
  })

  it('does not take a port that is in use', async () => {
    const port = await findFreePort()
    const holder = createServer().listen(port, '127.0.0.1')
    await once(holder, 'listening')
    try {
      await assert.rejects(RedisServer.start({ port }), /already in use/)
    } finally {
      holder.close()
    }
  })

  for (const end of ['process.exit(0)', "process.kill(process.pid, 'SIGTERM')", "throw new Error('x')"]) {
    it(`is ended by ${end} of the process that started it`, async () => {
      const script = `
        const { RedisServer } = require('./redis-server')
        RedisServer.start({ unixSocket: true }).then((server) => {
          process.stdout.write(JSON.stringify([server.port, server.socketPath]), () => { ${end} })
        })`
      const child = spawn(process.execPath, ['--import', 'tsx', '-e', script], {
        cwd: join(__dirname),
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      let output = ''
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
      await once(child, 'close')
      const [port, socketPath] = JSON.parse(output) as [number, string]
      await gone(port)
      assert.equal(existsSync(dirname(socketPath)), false)
    })
  }
})

describe('RespClient', () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.stop())

  it('counts commands on the server', async () => {
    using client = await server.client()
    await client.resetCommandStats()
    await Promise.all([
      client.command('SET', 'a', 1),
      client.command('SET', 'b', 2),
      client.command('GET', 'a'),
    ])
    await assert.rejects(client.command('LPUSH', 'a', 'x'), { code: 'WRONGTYPE' })
    const stats = await client.commandStats()
    assert.equal(stats['set']?.calls, 2)
    assert.equal(stats['get']?.calls, 1)
    assert.equal(stats['lpush']?.failed_calls, 1)
    assert.deepEqual(await client.keys(), ['a', 'b'])
  })

  it('finds its connection by name', async () => {
    using client = await server.client()
    await client.command('CLIENT', 'SETNAME', 'me')
    const rows = await client.clientList()
    assert.equal(rows.filter(({ name }) => name === 'me').length, 1)
  })

  it('records commands through MONITOR, byte for byte', async () => {
    const monitor = await Monitor.start(server.address)
    using client = await server.client()
    await client.command('SET', 'schlüssel "1"', 'a\r\n\\\t🦀')
    await client.command('EVAL', "return redis.call('GET', KEYS[1])", 1, 'k')
    await client.command('PING')
    await monitor.stop()
    assert.deepEqual(monitor.names, ['SET', 'EVAL', 'GET', 'PING'])
    assert.deepEqual(monitor.commands[0]?.args, ['SET', 'schlüssel "1"', 'a\r\n\\\t🦀'])
    assert.equal(monitor.commands[2]?.source, 'lua')
  })

  it('reads RESP3 replies and pushes', async () => {
    using client = await server.client()
    const pushes: string[] = []
    client.onPush((value) => pushes.push(value.type))
    const hello = await client.command<{ proto: number }>('HELLO', 3)
    assert.equal(hello.proto, 3)
    await client.command('CLIENT', 'TRACKING', 'ON')
    await client.command('GET', 'x')
    using other = await server.client()
    await other.command('SET', 'x', 1)
    await client.command('PING')
    assert.deepEqual(pushes, ['push'])
  })

  it('parses the escapes of a MONITOR line', () => {
    assert.deepEqual(parseMonitorLine(String.raw`1.5 [3 unix:/x] "set" "\x00\xff\"" "\\n"`).args.slice(2), [
      String.raw`\n`,
    ])
  })
})

/** Waits until nobody listens: the system needs a moment to end a killed process. */
async function gone(port: number): Promise<void> {
  for (const deadline = Date.now() + 5000; Date.now() < deadline;) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- polling
      const client = await RespClient.connect({ port })
      client.close()
    } catch {
      return
    }
    // oxlint-disable-next-line no-await-in-loop -- polling
    await delay(10)
  }
  assert.fail(`port ${port} still answers after 5 s`)
}
