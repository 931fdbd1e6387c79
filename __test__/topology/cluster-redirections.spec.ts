/** What nodes of a cluster say instead of an answer. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type FerroflowError, ServerError, connect } from '../../index.js'
import { like } from '../helpers/errors'
import { ScriptedServer } from '../helpers/scripted-server'
import { timed } from '../helpers/wait'

/** Says that one port serves all slots, and answers GET as it is told. */
function node(owner: () => number, get: () => string, host = '127.0.0.1'): Promise<ScriptedServer> {
  return ScriptedServer.start(([name]) => {
    if (name === 'CLUSTER')
      return `*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$${host.length}\r\n${host}\r\n:${owner()}\r\n`
    return name === 'GET' ? `${get()}\r\n` : undefined
  })
}

describe('a node that says strange things', () => {
  it('two nodes that send a call to each other do so only for its time', async () => {
    let [first, second] = [0, 0]
    await using one = await node(
      () => first,
      () => `-MOVED 12539 127.0.0.1:${second}`,
    )
    await using two = await node(
      () => first,
      () => `-MOVED 12539 127.0.0.1:${first}`,
    )
    ;[first, second] = [one.port, two.port]
    const connection = connect({ cluster: [one], commandTimeout: 400 })
    const { ms, outcome } = await timed(() => connection.command('GET', 'k'))
    assert.ok(outcome.status === 'rejected' && ms < 650, `${ms} ms`)
    // What it was told last, unless its time was over while one of them was still to answer.
    assert.match(String(outcome.reason), /MOVED .*no node serves the slot|did not reply in time/)
    assert.match(String((outcome.reason as FerroflowError).code), /^(SERVER_NOT_READY|TIMEOUT)$/)
    const asked = [one, two].flatMap(({ commands }) => commands).filter(([name]) => name === 'GET').length
    assert.ok(asked > 1 && asked < 300, `${asked} times`)
    await connection.close()
  })

  it('what is no redirection is the outcome', async () => {
    let answer = ''
    let port = 0
    await using server = await node(
      () => port,
      () => answer,
    )
    port = server.port
    const connection = connect({ cluster: [server] })
    for (answer of ['-MOVED', '-MOVED 99999 h:1', '-MOVED 1 ?:1', '-ASK 1 h:x', '-MOVED 1 h:1 __proto__']) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(connection.command('GET', 'k'), { code: 'SERVER_ERROR' })
    }
    await connection.close()
  })

  it('reaches nodes through the NAT map', async () => {
    await using server = await node(
      () => 1,
      () => '$1\r\nx',
      'inside',
    )
    const { host, port } = server
    const connection = connect({ cluster: [server], natMap: { 'inside:1': { host, port } } })
    assert.equal(await connection.command('GET', 'k'), 'x')
    await connection.close()
  })

  it('TRYAGAIN, CLUSTERDOWN and the like are tried again until they are over', async () => {
    const answers = ['-TRYAGAIN x', '-CLUSTERDOWN x', '-LOADING x', '-MASTERDOWN x', '$1\r\nx']
    let port = 0
    await using server = await node(
      () => port,
      () => String(answers.length > 1 ? answers.shift() : answers[0]),
    )
    port = server.port
    const connection = connect({ cluster: [server], commandTimeout: 1000 })
    assert.equal(await connection.command('GET', 'k'), 'x')
    answers[0] = '-CLUSTERDOWN Hash slot not served'
    await assert.rejects(
      connection.command('GET', 'k'),
      like({ type: ServerError, code: 'SERVER_NOT_READY', message: 'CLUSTERDOWN Hash slot not served' }),
    )
    await connection.close()
  })
})
