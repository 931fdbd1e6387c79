/** A server that says nothing is sent a PING, so that its system must acknowledge something; one that is well is not. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { connect } from '../../index.js'
import { ScriptedServer } from '../helpers/scripted-server'
import { until } from '../helpers/wait'

/** Commands other than those that set a connection up. */
function later(server: ScriptedServer): string[] {
  return server.commands.map(([name]) => name as string).slice(2)
}

describe('a silent server', () => {
  it('gets a PING while a reply is missing, and has all the time it needs', async () => {
    await using server = await ScriptedServer.start(([name]) => (name === 'GET' ? '' : undefined))
    const connection = connect({ port: server.port, commandTimeout: 20_000 })
    const begin = performance.now()
    const call = connection.command('GET', 'k')
    await until('the call has arrived', () => later(server).includes('GET'))
    await until('a probe', () => later(server).includes('PING'), 6000)
    const ms = performance.now() - begin
    assert.ok(ms > 2000, `after ${ms} ms`)
    // The reply to the probe is no reply to the call: replies come in order, so this one is the call's.
    assert.equal(await call, 'PONG')
    assert.equal(connection.status, 'ready')
    await connection.close()
  })

  it('gets none while nothing is asked of it', async () => {
    await using server = await ScriptedServer.start(() => undefined)
    const connection = connect({ port: server.port })
    const busy = connect({ port: server.port, db: 1 })
    await connection.command('GET', 'k')
    const pings = (): number => later(server).filter((name) => name === 'PING').length
    const before = pings()
    const end = performance.now() + 4500
    await until('time is over', async () => {
      await busy.command('GET', 'k')
      return performance.now() > end
    })
    assert.ok(pings() <= before + 1, `${pings() - before} probes`)
    await Promise.all([connection.close(), busy.close()])
  })
})
