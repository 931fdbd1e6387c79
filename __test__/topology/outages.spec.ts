/** Every kind of outage on every topology: each call settles in time, and says truthfully what became of it. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { type Connection, FerroflowError, connect } from '../../index.js'
import { dump } from '../faults/dump'
import { whileLate } from '../helpers/lateness'
import { RedisServer, serverVersion } from '../helpers/redis-server'
import { RelayingServer, type Ruling } from '../helpers/relaying-server'
import type { RespClient } from '../helpers/resp-client'
import { timed, until } from '../helpers/wait'
import { type Clients, TOPOLOGIES, type Topology, isData, openClients, prepareAll } from './outage-table'

/** Of a call, and how much later it may settle. */
const DEADLINE = 400
const MARGIN = 250
/** For calls that are to succeed. */
const PATIENT = 4000
/** How long a condition lasts that ends. */
const PASSING = 300

/** What servers say that do nothing, and where that is waited out: elsewhere it would be in vain. */
const REFUSALS: Record<string, Topology['name'][]> = {
  "-READONLY You can't write against a read only replica.": ['Sentinels', 'a cluster'],
  '-LOADING Redis is loading the dataset in memory': ['Sentinels', 'a cluster'],
  "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": [
    'Sentinels',
    'a cluster',
  ],
  '-CLUSTERDOWN The cluster is down': ['a cluster'],
  '-TRYAGAIN Multiple keys request during rehashing of slot': ['a cluster'],
  "-OOM command not allowed when used memory > 'maxmemory'.": [],
  '-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.': [],
  '-MISCONF Redis is configured to save RDB snapshots': [],
  '-NOREPLICAS Not enough good replicas to write.': [],
}

for (const topology of TOPOLOGIES)
  describe(`an outage on ${topology.name}`, () => {
    let real: RedisServer
    let direct: RespClient
    let sound: { connection: Connection; clients: Clients }
    before(async () => {
      real = await RedisServer.start()
      direct = await real.client()
      const connection = connect(real.url)
      sound = { connection, clients: await openClients(connection, real.url) }
    })
    after(async () => {
      direct.close()
      await sound.clients.workstation.close()
      await sound.connection.close()
      await real.stop()
    })

    /** Everything by itself, so that the outcomes of one condition do not depend on another. */
    async function during(
      commandTimeout: number,
      run: (server: RelayingServer, clients: Clients, connection: Connection) => Promise<void>,
      rule: (words: string[]) => Ruling = () => undefined,
    ): Promise<void> {
      await direct.command('FLUSHALL')
      const server = await RelayingServer.start(real, () => undefined)
      answer(topology, server, rule)
      const { target, stop } = await topology.lead(server)
      const options = { ...target, commandTimeout, redialDelay: 50 }
      const connection = connect(options)
      const clients = await openClients(connection, options)
      try {
        await run(server, clients, connection)
      } finally {
        await clients.workstation.close()
        await clients.locks.close()
        await connection.close()
        await server.stop()
        await stop()
      }
    }

    async function stored(): Promise<string> {
      return (await dump(direct)).join('\n')
    }

    /** Makes all calls at once, and checks each outcome. */
    async function callAll(
      clients: Clients,
      deadline: number,
      check: (name: string, outcome: PromiseSettledResult<unknown>, ms: number) => void,
      begin: () => void = () => {},
    ): Promise<void> {
      const calls = await prepareAll(sound.clients)
      const earlier = await stored()
      begin()
      const { late, result } = await whileLate(() =>
        Promise.all(calls.map(async ({ name, call }) => ({ name, ...(await timed(() => call(clients))) }))),
      )
      let nothing = true
      for (const { name, ms, outcome } of result) {
        assert.ok(ms <= deadline + MARGIN + late, `${name} took ${ms} ms, of which ${late} were lost`)
        if (outcome.status === 'rejected')
          assert.ok(outcome.reason instanceof FerroflowError, `${name}: ${inspect(outcome.reason)}`)
        if (codeOf(outcome) === 'OUTCOME_UNKNOWN' || outcome.status === 'fulfilled') nothing = false
        check(name, outcome, ms)
      }
      // Who says that nothing was written must be right.
      if (nothing) assert.equal(await stored(), earlier)
    }

    for (const [text, waited] of Object.entries(REFUSALS)) {
      const [, word] = /^-(\w+)/.exec(text) as unknown as [string, string]
      const waits = waited.includes(topology.name)
      const refusal = ([name = '', ...rest]: string[]): Ruling =>
        isData([name, ...rest]) ? `${text}\r\n` : undefined

      it(`${word} that lasts: every call ends in time, and nothing is written`, () =>
        during(DEADLINE, async (server, clients, connection) => {
          await connection.command('PING')
          await callAll(
            clients,
            DEADLINE,
            (name, outcome, ms) => {
              // Whose last copy is on its way when the time is over cannot know.
              if (waits && /^(OUTCOME_UNKNOWN|TIMEOUT)$/.test(codeOf(outcome) ?? '')) return
              assert.equal(codeOf(outcome), 'SERVER_NOT_READY', name)
              const { message, retryable } = (outcome as PromiseRejectedResult).reason as FerroflowError
              assert.ok(message.includes(word) && retryable, `${name}: ${message}`)
              if (waits) assert.ok(ms >= DEADLINE - 20, `${name} did not wait: ${ms} ms`)
            },
            () => answer(topology, server, refusal),
          )
        }))

      if (waits)
        it(`${word} that passes: every call waits, and succeeds`, () =>
          during(PATIENT, async (server, clients, connection) => {
            await connection.command('PING')
            let refused = 0
            await callAll(clients, PATIENT, succeeds, () => {
              const end = performance.now() + PASSING
              answer(topology, server, (words) => {
                const ruling = performance.now() < end ? refusal(words) : undefined
                if (ruling !== undefined) refused += 1
                return ruling
              })
            })
            assert.ok(refused > 0)
          }))
    }

    it('NOSCRIPT after a flush: nobody notices', () =>
      during(PATIENT, async (_, clients) => {
        await callAll(clients, PATIENT, succeeds)
        await direct.command('SCRIPT', 'FLUSH')
        await callAll(clients, PATIENT, succeeds)
      }))

    it('a server that accepts and never answers: nothing was sent', () =>
      during(
        DEADLINE,
        async (_, clients) => {
          await callAll(clients, DEADLINE, (name, outcome) =>
            assert.equal(codeOf(outcome), 'REDIS_UNAVAILABLE', name),
          )
        },
        () => 'never',
      ))

    it('a server that stops answering: every call may have happened', () =>
      during(DEADLINE, async (server, clients, connection) => {
        await connection.command('PING')
        await callAll(
          clients,
          DEADLINE,
          (name, outcome) => assert.match(String(codeOf(outcome)), /^(OUTCOME_UNKNOWN|TIMEOUT)$/, name),
          () => answer(topology, server, (words) => (isData(words) ? 'never' : undefined)),
        )
      }))

    for (const part of [0, 0.01, 0.5, 0.99])
      it(`a reply that breaks off after ${part * 100} %: every call is repeated, and succeeds`, () =>
        during(PATIENT, async (server, clients, connection) => {
          await connection.command('PING')
          let left = 3
          await callAll(clients, PATIENT, succeeds, () =>
            answer(topology, server, (words) => (isData(words) && left-- > 0 ? { part } : undefined)),
          )
          assert.ok(left < 0)
        }))

    it('a reply that is lost, and then OOM: no call denies what its first copy did', () =>
      during(PATIENT, async (server, clients, connection) => {
        let refuses = false
        let lost = 0
        answer(topology, server, (words) => {
          if (!refuses || !isData(words)) return undefined
          lost += 1
          return lost === 1 ? { part: 0 } : '-OOM command not allowed\r\n'
        })
        await connection.command('PING')
        const calls = await prepareAll(sound.clients)
        for (const { name, call } of calls) {
          // oxlint-disable no-await-in-loop -- each by itself
          const earlier = await stored()
          lost = 0
          refuses = true
          const { outcome } = await timed(() => call(clients))
          refuses = false
          const code = codeOf(outcome)
          assert.match(String(code), /^(OUTCOME_UNKNOWN|SERVER_NOT_READY)$/, name)
          if (code === 'SERVER_NOT_READY') assert.equal(await stored(), earlier, name)
          // oxlint-enable no-await-in-loop
        }
      }))

    it('READONLY: the workstation answers at once, and what it kept is written afterwards', () =>
      during(DEADLINE, async (server, { workstation }, connection) => {
        await connection.command('PING')
        let readonly = true
        answer(topology, server, (words) => (readonly && isData(words) ? '-READONLY no\r\n' : undefined))
        const { late, result } = await whileLate(() =>
          Promise.all([
            timed(() => workstation.setSession('u', { n: 1 })),
            timed(() => workstation.startWorkflowTracking('e', 'w', 2)),
          ]),
        )
        for (const { ms, outcome } of result) {
          assert.equal(outcome.status, 'fulfilled', inspect(outcome))
          assert.ok(ms <= DEADLINE + MARGIN + late, `${ms} ms`)
        }
        assert.deepEqual(await direct.keys(), [])
        readonly = false
        await until(
          'all of it is written',
          async () =>
            (await direct.command('GET', 'wks:session:u')) === '{"n":1}' &&
            (await direct.command('EXISTS', 'wks:workflow:e')) === 1,
          10_000,
        )
      }))
  })

/** Puts a real server into a state, and back. */
const STATES: Record<string, (direct: RespClient) => Promise<() => Promise<unknown>>> = {
  READONLY: async (direct) => {
    await direct.command('REPLICAOF', '127.0.0.1', 1)
    return () => direct.command('REPLICAOF', 'NO', 'ONE')
  },
  OOM: async (direct) => {
    await direct.command('CONFIG', 'SET', 'maxmemory', 1)
    return () => direct.command('CONFIG', 'SET', 'maxmemory', 0)
  },
  NOREPLICAS: async (direct) => {
    await direct.command('CONFIG', 'SET', 'min-replicas-to-write', 1)
    return () => direct.command('CONFIG', 'SET', 'min-replicas-to-write', 0)
  },
}

describe('a real server', () => {
  let server: RedisServer
  let direct: RespClient
  let connection: Connection
  let clients: Clients
  before(async () => {
    server = await RedisServer.start({ args: ['--lua-time-limit', '20'] })
    direct = await server.client()
    connection = connect(server.url)
    clients = await openClients(connection, server.url)
  })
  after(async () => {
    direct.close()
    await clients.workstation.close()
    await clients.locks.close()
    await connection.close()
    await server.stop()
  })

  for (const [state, begin] of Object.entries(STATES))
    it(`${state}: what is refused changed nothing, and succeeds afterwards`, async () => {
      const calls = await prepareAll(clients)
      const end = await begin(direct)
      const refused: typeof calls = []
      try {
        for (const each of calls) {
          // oxlint-disable no-await-in-loop -- each by itself
          const earlier = await dump(direct)
          const { outcome } = await timed(() => each.call(clients))
          if (outcome.status === 'fulfilled') continue
          assert.equal(codeOf(outcome), 'SERVER_NOT_READY', `${each.name}: ${inspect(outcome)}`)
          assert.deepEqual(await dump(direct), earlier, each.name)
          refused.push(each)
          // oxlint-enable no-await-in-loop
        }
      } finally {
        await end()
      }
      // Redis 6 does not ask a script for replicas.
      const least = state === 'NOREPLICAS' && serverVersion()[0] < 7 ? 1 : 6
      assert.ok(refused.length >= least, `${refused.length} were refused`)
      await Promise.all(refused.map(({ call }) => call(clients)))
    })

  it('BUSY: every call is refused, and succeeds once the script has ended', async () => {
    const calls = await prepareAll(clients)
    const earlier = await dump(direct)
    const other = await server.client()
    const endless = other.command('EVAL', 'while true do end', 0).catch((error: unknown) => error)
    const isBusy = (): Promise<boolean> =>
      direct.command('PING').then(
        () => false,
        () => true,
      )
    await until('the server is busy', isBusy)
    const outcomes = await Promise.all(calls.map(({ call }) => timed(() => call(clients))))
    await direct.command('SCRIPT', 'KILL')
    await endless
    other.close()
    for (const [n, { outcome }] of outcomes.entries())
      assert.equal(codeOf(outcome), 'SERVER_NOT_READY', calls[n]!.name)
    assert.deepEqual(await dump(direct), earlier)
    await Promise.all(calls.map(({ call }) => call(clients)))
  })
})

function codeOf(outcome: PromiseSettledResult<unknown>): string | undefined {
  return outcome.status === 'rejected' ? (outcome.reason as FerroflowError).code : undefined
}

function succeeds(name: string, outcome: PromiseSettledResult<unknown>): void {
  assert.equal(codeOf(outcome), undefined, name)
}

function answer(topology: Topology, server: RelayingServer, rule: (words: string[]) => Ruling): void {
  server.rule = (words) => rule(words) ?? topology.own(words, server)
}
