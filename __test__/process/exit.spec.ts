/** A program ends when it has nothing more to do, and not before. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { Child } from '../helpers/child'
import { RedisServer } from '../helpers/redis-server'

async function runs(script: string): Promise<string> {
  const { code, signal, stdout, stderr } = await Child.start(script).ended()
  assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  return stdout
}

describe('a program', () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.stop())

  for (const [name, target] of [
    ['Redis', () => server.url],
    ['memory://', () => 'memory://'],
    ['a server that is not there', () => 'redis://127.0.0.1:1'],
  ] as const) {
    it(`that forgets close() on ${name} ends by itself`, async () => {
      const out = await runs(`
        const { connect, RedisLockManager } = require('ferroflow')
        const connection = connect('${target()}')
        new RedisLockManager(connection)
        connection.on('status', () => {})
        console.log('end')`)
      assert.equal(out, 'end\n')
    })
  }

  it('that forgets close() after its calls ends by itself', async () => {
    const out = await runs(`
      const { connect } = require('ferroflow')
      const connection = connect('${server.url}')
      connection.command('PING').then(console.log)`)
    assert.equal(out, 'PONG\n')
  })

  it('with a pending call stays alive until it is settled', async () => {
    const out = await runs(`
      const { connect } = require('ferroflow')
      connect('redis://127.0.0.1:1', { commandTimeout: 700 })
        .command('PING').catch((error) => console.log(error.code))`)
    assert.equal(out, 'REDIS_UNAVAILABLE\n')
  })

  it('that waits for a lock stays alive until it has it', async () => {
    const out = await runs(`
      const { RedisLockManager } = require('ferroflow')
      const locks = new RedisLockManager('memory://')
      locks.tryAcquire('k', 300).then(() => locks.acquire('k')).then((token) => console.log(typeof token))`)
    assert.equal(out, 'string\n')
  })

  it('that listens ends when its connection is closed', async () => {
    for (const target of [server.url, 'memory://']) {
      const out = await runs(`
        const { connect, RedisWakeSignaler } = require('ferroflow')
        const connection = connect('${target}')
        new RedisWakeSignaler(connection).subscribe(() => {}).then(async () => {
          await connection.close()
          console.log('closed')
        })`)
      assert.equal(out, 'closed\n')
    }
  })

  it('that only loads ferroflow starts no thread', async () => {
    const out = await runs(`
      require('ferroflow')
      const { readdirSync, readFileSync } = require('node:fs')
      if (process.platform !== 'linux') console.log('false')
      else console.log(readdirSync('/proc/self/task')
        .some((task) => readFileSync('/proc/self/task/' + task + '/comm', 'utf8').startsWith('ferroflow')))`)
    assert.equal(out, 'false\n')
  })

  it('without a listener survives a server that comes and goes', async () => {
    const brief = await RedisServer.start()
    const child = Child.start(`
      const { connect } = require('ferroflow')
      const connection = connect('${brief.url}')
      const poll = async () => {
        const reply = await connection.command('GET', 'done').catch((error) => error.code)
        if (reply === 'yes') console.log('alive')
        else setTimeout(poll, 5)
      }
      poll()`)
    try {
      for (let i = 0; i < 5; i++) await brief.restart()
      const client = await brief.client()
      await client.command('SET', 'done', 'yes')
      const { code, stdout, stderr } = await child.ended()
      assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'alive\n', stderr: '' })
      client.close()
    } finally {
      child.process.kill('SIGKILL')
      await brief.stop()
    }
  })
})
