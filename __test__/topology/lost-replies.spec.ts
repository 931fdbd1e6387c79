/** Replies that are lost where Sentinels or a cluster lead: the call is repeated, and succeeds as if nothing had been. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { connect } from '../../index.js'
import { type Servers, TOPOLOGIES, throughProxies } from '../helpers/proxied-topology'
import { isData, openClients, prepareAll } from './outage-table'

for (const [name, start] of Object.entries(TOPOLOGIES))
  describe(`a lost reply with ${name}`, () => {
    let servers: Servers
    before(async () => {
      servers = await start()
    })
    after(() => servers.stop())

    it('and two more after it cost no mutation more than time', () =>
      throughProxies(servers, async (target, proxies) => {
        const sound = connect(servers.target)
        const soundClients = await openClients(sound, servers.target)
        const connection = connect({ ...target, redialDelay: 50 })
        const clients = await openClients(connection, target)
        for (const { name: mutation, call } of await prepareAll(soundClients)) {
          // oxlint-disable no-await-in-loop -- each by itself
          await connection.command('DBSIZE')
          const faults = proxies.map((proxy) =>
            proxy.cutOn('before-reply', ({ name: command }) => isData([command]), { times: 3 }),
          )
          await assert.doesNotReject(call(clients), mutation)
          const strikes = faults.reduce((sum, fault) => sum + fault.struck.length, 0)
          assert.ok(strikes >= 3, `${mutation} lost ${strikes} replies`)
          for (const fault of faults) fault.cancel()
          // oxlint-enable no-await-in-loop
        }
        for (const one of [clients, soundClients]) {
          // oxlint-disable no-await-in-loop -- two of them
          await one.workstation.close()
          await one.locks.close()
          // oxlint-enable no-await-in-loop
        }
        await Promise.all([connection.close(), sound.close()])
      }))
  })
