/** Sessions whose replies are lost: every copy of a write is known for what it is, on whatever way it comes. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Replay, type Workstation, createWorkstation } from '../../index.js'
import { CountingProxy, type Fault } from '../helpers/counting-proxy'
import { isDegraded, record, recovered } from '../helpers/outages'
import { isWrite } from '../helpers/proxied-stores'
import { RedisServer } from '../helpers/redis-server'
import type { RespClient } from '../helpers/resp-client'
import { until } from '../helpers/wait'

const SESSION = 'wks:session:u'

describe('A session whose reply is lost', () => {
  let server: RedisServer
  let direct: RespClient
  let proxy: CountingProxy
  let elsewhere: Workstation
  let workstation: Workstation
  let rejected: string[]
  let replays: Replay[]

  before(async () => {
    server = await RedisServer.start()
    direct = await server.client()
    elsewhere = createWorkstation({ redis: server.url, log: false })
  })
  after(async () => {
    direct.close()
    await elsewhere.close()
    await server.stop()
  })
  beforeEach(async () => {
    await direct.command('FLUSHALL')
    proxy = await CountingProxy.start(server)
    const redis = { host: '127.0.0.1', port: proxy.port, commandTimeout: 1000, redialDelay: 20 }
    workstation = createWorkstation({ redis, log: false })
    rejected = []
    replays = []
    workstation.on('rejected', ({ kind, reason }) => rejected.push(`${kind} ${reason}`))
    workstation.on('replayed', (replay) => replays.push(replay))
    // So that its scripts are known.
    await workstation.setSession('u', { n: 0 })
  })
  afterEach(async () => {
    await workstation.close()
    await proxy.close()
  })

  async function version(): Promise<number> {
    return (await elsewhere.getSessionEntry('u'))!.version
  }

  /** Somebody else writes it, up to this number. */
  async function written(last: number): Promise<void> {
    for (let n = 2; n <= last; n += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await elsewhere.setSession('u', { n })
    }
  }

  /** The write is carried out, its reply kept back, and `between` happens; then the connection is cut. */
  async function repeated<T>(write: () => Promise<T>, between: () => Promise<unknown>): Promise<T> {
    const untouched = await direct.command('GET', record('u'))
    const lost = proxy.disturb({ point: 'reply', filter: isWrite, part: 1, effect: 'delay', delayMs: 60_000 })
    const copies = write()
    await until('it is written', async () => (await direct.command('GET', record('u'))) !== untouched)
    await between()
    lost.cancel()
    proxy.cut('reset')
    return copies
  }

  /** The same, and nobody can be reached until the call has given up and `meanwhile` is over. */
  async function journaled(
    write: () => Promise<unknown>,
    meanwhile: () => Promise<unknown> = () => Promise.resolve(),
  ): Promise<void> {
    const refused = (): Promise<void> => proxy.refuse()
    assert.equal(await repeated(write, refused), true, 'it waits in the journal')
    await until('the outage is noticed', () => isDegraded(workstation))
    assert.equal(workstation.degradation.journal.entries, 1)
    await meanwhile()
    await proxy.resume()
    await recovered(workstation)
  }

  /** The write is kept back on its way, and nobody can be reached any more. */
  async function cutOff(write: () => Promise<boolean>): Promise<Fault> {
    const onStrike = (): void => void proxy.refuse()
    const late = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'late', onStrike })
    assert.equal(await write(), true, 'it waits in the journal')
    await until('the outage is noticed', () => isDegraded(workstation))
    return late
  }

  it('is told its version, though others went on from it', async () => {
    const first = await version()
    const write = (): Promise<boolean> => workstation.setSession('u', { n: 1 }, 60, { version: first })
    const next = async (): Promise<void> => {
      assert.equal(await elsewhere.setSession('u', { n: 2 }, 60, { version: await version() }), true)
    }
    assert.equal(await repeated(write, next), true)
    assert.equal(await direct.command('GET', SESSION), '{"n":2}')
    assert.deepEqual([workstation.degradation.fallbackOps.session, rejected], [0, []])
  })

  it('is refused if its first copy got lost and somebody else came before the second', async () => {
    const first = await version()
    const lost = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'black-hole' })
    const copies = workstation.setSession('u', { n: 1 }, 60, { version: first })
    await lost.done
    await elsewhere.setSession('u', { n: 2 })
    proxy.cut('reset')
    assert.equal(await copies, false)
    assert.equal(await direct.command('GET', SESSION), '{"n":2}')
  })

  it('is known still if seven others were written since', async () => {
    assert.equal(
      await repeated(
        () => workstation.setSession('u', { n: 1 }),
        () => written(8),
      ),
      true,
    )
    assert.equal(await direct.command('GET', SESSION), '{"n":8}')
    assert.equal(workstation.degradation.fallbackOps.session, 0)
    const names = String(await direct.command('GET', record('u'))).split(';')
    assert.equal(names.length, 9, 'of eight writes, behind the versions')
  })

  it('is never written over eight others', async () => {
    // Nobody can tell what became of it, so it is tried as what was asked for then.
    assert.equal(
      await repeated(
        () => workstation.setSession('u', { n: 1 }),
        () => written(9),
      ),
      true,
    )
    assert.equal(workstation.degradation.fallbackOps.session, 1)
    await recovered(workstation)
    await until('it is refused', () => rejected.length > 0)
    assert.deepEqual(rejected, ['session newer'])
    assert.equal(await direct.command('GET', SESSION), '{"n":9}')
  })

  it('that waits in the journal is known when Redis returns', async () => {
    const first = await version()
    await journaled(() => workstation.setSession('u', { n: 1 }, 60, { version: first }))
    assert.deepEqual([rejected, replays], [[], [{ applied: 1, rejected: 0 }]])
    assert.equal(await direct.command('GET', SESSION), '{"n":1}')
    assert.equal((await workstation.getSessionEntry('u'))!.version, await version())
  })

  it('has the time that it was given while it waited', async () => {
    await journaled(
      () => workstation.setSession('u', { n: 1 }, 60),
      () => workstation.touchSession('u', 600),
    )
    assert.deepEqual(rejected, [])
    const left = (await direct.command('PTTL', SESSION)) as number
    assert.ok(left > 500_000, `${left}`)
  })

  it('is not written by a copy that comes late', async () => {
    await direct.command('DEL', SESSION, record('u'))
    const late = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'late' })
    assert.equal(await workstation.setSession('u', { n: 1 }), true)
    assert.equal(late.late.length, 1)
    await elsewhere.deleteSession('u')
    await proxy.deliverLate(late)
    assert.equal(await direct.command('GET', SESSION), null)
  })

  it('does not undo a logout that came before its second copy', async () => {
    const lost = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'black-hole' })
    const copies = workstation.setSession('u', { n: 1 })
    await lost.done
    await elsewhere.deleteSession('u')
    proxy.cut('reset')
    assert.equal(await copies, true)
    await until('it is refused', () => rejected.length > 0)
    assert.deepEqual(rejected, ['session newer'])
    assert.equal(await direct.command('GET', SESSION), null)
  })

  it('that was to be ended is not, where somebody logs in before the second copy', async () => {
    const lost = proxy.disturb({ point: 'request', filter: isWrite, part: 0, effect: 'black-hole' })
    const copies = workstation.deleteSession('u')
    await lost.done
    // The clock of the server is known to within a round trip.
    await delay(100)
    await elsewhere.setSession('u', { login: true })
    proxy.cut('reset')
    await copies
    await until('it is refused', () => rejected.length > 0)
    assert.deepEqual(rejected, ['delete newer'])
    assert.equal(await direct.command('GET', SESSION), '{"login":true}')
  })

  it('does not take the time of a login that came since', async () => {
    await journaled(
      () => workstation.setSession('u', { n: 1 }, 60),
      async () => {
        await workstation.touchSession('u', 100)
        await elsewhere.deleteSession('u')
        await elsewhere.setSession('u', { login: true }, 9000)
      },
    )
    assert.equal(await direct.command('GET', SESSION), '{"login":true}')
    const left = (await direct.command('PTTL', SESSION)) as number
    assert.ok(left > 8_000_000, `${left}`)
  })

  for (const [how, options] of [
    ['that names its version', (own: number) => ({ version: own })],
    ['that names none', () => undefined],
  ] as const)
    it(`gives way to the next write of the same process, ${how}`, async () => {
      const first = await version()
      await journaled(
        () => workstation.setSession('u', { n: 1 }, 60, { version: first }),
        async () => {
          const { version: own } = (await workstation.getSessionEntry('u'))!
          assert.equal(await workstation.setSession('u', { n: 2 }, 60, options(own)), true)
        },
      )
      assert.deepEqual([rejected, replays], [[], [{ applied: 1, rejected: 0 }]])
      assert.equal(await direct.command('GET', SESSION), '{"n":2}')
    })

  it('gives way to no write of the same process if somebody else came in between', async () => {
    const first = await version()
    await journaled(
      () => workstation.setSession('u', { n: 1 }, 60, { version: first }),
      async () => {
        await elsewhere.setSession('u', { theirs: true })
        assert.equal(await workstation.setSession('u', { n: 2 }), true)
      },
    )
    assert.deepEqual(rejected, ['session newer'])
    assert.equal(await direct.command('GET', SESSION), '{"theirs":true}')
  })

  it('is not written late if it was refused', async () => {
    const late = await cutOff(() => workstation.setSession('u', { n: 1 }))
    await elsewhere.deleteSession('u')
    await proxy.resume()
    await recovered(workstation)
    assert.deepEqual(rejected, ['session newer'])
    await proxy.deliverLate(late)
    assert.equal(await direct.command('GET', SESSION), null)
  })

  it('is not written late once a logout has taken its place', async () => {
    const late = await cutOff(() => workstation.setSession('u', { n: 1 }))
    assert.equal(await workstation.deleteSession('u'), false)
    await proxy.resume()
    await recovered(workstation)
    await proxy.deliverLate(late)
    assert.equal(await direct.command('GET', SESSION), null)
  })

  it('that was ended is ended once', async () => {
    assert.equal(
      await repeated(
        () => workstation.deleteSession('u'),
        () => elsewhere.setSession('u', { login: true }),
      ),
      true,
    )
    assert.equal(await direct.command('GET', SESSION), '{"login":true}')
    assert.deepEqual([workstation.degradation.fallbackOps.delete, rejected], [0, []])
  })
})
