import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { it } from 'node:test'
import {
  ArgumentError,
  ConfigError,
  CorruptEntryError,
  type SessionKeyRing,
  createWorkstation,
} from '../../index.js'
import type { Backend } from '../helpers/backends'
import { placesOf } from '../helpers/workstations'

const DAY = 86_400_000

export function sessionSuite(backend: Backend): void {
  const place = placesOf(backend)

  it('a session is stored under the documented key, as JSON, for the documented time', async () => {
    const { workstation, data } = await place()
    assert.equal(await workstation.setSession('user123', { token: 'abc', n: [1, {}] }), true)
    assert.equal(await data.get('wks:session:user123'), '{"token":"abc","n":[1,{}]}')
    const left = await data.pttl('wks:session:user123')
    assert.ok(left > DAY - 5000 && left <= DAY, `${left}`)
    assert.deepEqual(await workstation.getSession('user123'), { token: 'abc', n: [1, {}] })
    await workstation.setSession('user123', { short: true }, 60)
    const shorter = await data.pttl('wks:session:user123')
    assert.ok(shorter > 55_000 && shorter <= 60_000, `${shorter}`)
    await workstation.setSession('user123', {}, 0)
    assert.ok((await data.pttl('wks:session:user123')) > DAY - 5000)
  })

  it('a session that another package wrote is read', async () => {
    const { workstation, data } = await place()
    await data.set('wks:session:u', '{"a":1}')
    assert.deepEqual(await workstation.getSessionEntry('u'), { session: { a: 1 }, version: 1, stale: false })
    assert.equal(await workstation.setSession('u', { a: 2 }, 60, { version: 1 }), true)
    assert.equal(await data.get('wks:session:u'), '{"a":2}')
  })

  it('calls happen in the order in which they are made', async () => {
    const { workstation } = await place()
    const [, first, , second] = await Promise.all([
      workstation.setSession('u', { n: 1 }),
      workstation.getSession('u'),
      workstation.deleteSession('u'),
      workstation.getSession('u'),
    ])
    assert.deepEqual([first, second], [{ n: 1 }, null])
  })

  it('a deleted session is gone', async () => {
    const { workstation, data } = await place()
    await workstation.setSession('u', { a: 1 })
    assert.equal(await workstation.deleteSession('u'), true)
    assert.equal(await workstation.getSession('u'), null)
    assert.equal(await data.exists('wks:session:u'), false)
    assert.equal(await workstation.deleteSession('u'), true)
    assert.equal(await workstation.setSession('u', { b: 1 }), true, 'the next login')
    assert.deepEqual(await workstation.getSession('u'), { b: 1 })
  })

  it('touching gives time, and creates nothing', async () => {
    const { workstation, data } = await place()
    assert.equal(await workstation.touchSession('u'), false)
    assert.equal(await data.exists('wks:session:u'), false)
    await workstation.setSession('u', { a: 1 }, 10)
    assert.equal(await workstation.touchSession('u', 100), true)
    assert.ok((await data.pttl('wks:session:u')) > 90_000)
    assert.deepEqual(await workstation.getSession('u'), { a: 1 })
  })

  it('a slow request cannot undo a logout', async () => {
    const { workstation, another } = await place()
    const other = another()
    await workstation.setSession('u', { n: 1 })
    const { version } = (await workstation.getSessionEntry('u'))!
    await other.deleteSession('u')
    assert.equal(await workstation.setSession('u', { n: 2 }, 60, { version }), false)
    assert.equal(await workstation.getSession('u'), null)
    await other.setSession('u', { n: 1 })
    assert.equal(await workstation.setSession('u', { n: 2 }, 60, { version }), false, 'another session')
    const current = (await workstation.getSessionEntry('u'))!.version
    assert.ok(current > version)
    assert.equal(await workstation.setSession('u', { n: 3 }, 60, { version: current }), true)
    assert.equal(await workstation.setSession('u', { n: 4 }, 60, { version: current }), false)
    assert.deepEqual(await other.getSession('u'), { n: 3 })
    assert.equal(await workstation.setSession('u', {}, 60, { version: 0 }), false, 'only if there is none')
    assert.equal(await workstation.setSession('new', {}, 60, { version: 0 }), true)
  })

  it('logging out everywhere ends the one session that a user has', async () => {
    const { workstation, another, data } = await place()
    const [phone, laptop] = [another(), another()]
    await phone.setSession('u', { on: 'phone' })
    const { version } = (await laptop.getSessionEntry('u'))!
    assert.equal(await workstation.deleteAllSessions('u'), true)
    for (const device of [phone, laptop]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await device.getSession('u'), null)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await device.setSession('u', { late: true }, 60, { version }), false)
    }
    assert.equal(await data.exists('wks:session:u'), false)
    await assert.rejects(workstation.deleteAllSessions(''), ArgumentError)
  })

  it('25,000 races of a logout with a late write resurrect nothing', async () => {
    const { workstation, another } = await place()
    const both = [workstation, another()] as const
    // A hundred thousand over all backends.
    const races = 25_000
    const atOnce = 500
    let resurrected = 0
    let written = 0
    const race = async (user: string, round: number): Promise<void> => {
      const [here, there] = round % 2 === 0 ? both : ([both[1], both[0]] as const)
      await here.setSession(user, { n: 1 }, 600)
      const { version } = (await here.getSessionEntry(user))!
      const leave = round % 4 < 2 ? there : here
      const left = round % 8 < 4 ? leave.deleteSession(user) : undefined
      const late = here.setSession(user, { n: 2 }, 600, { version })
      await (left ?? leave.deleteSession(user))
      if (await late) written += 1
      if ((await there.getSession(user)) !== null) resurrected += 1
    }
    for (let first = 0; first < races; first += atOnce) {
      const round = first / atOnce
      // oxlint-disable-next-line no-await-in-loop -- so many at once
      await Promise.all(Array.from({ length: atOnce }, (_, index) => race(`u${index}`, round)))
    }
    assert.equal(resurrected, 0)
    assert.ok(written > 0 && written < races, `${written} writes came first, and were deleted`)
  })

  it('a session that is no object of JSON is an error that names its key', async () => {
    const { workstation, data } = await place()
    for (const text of ['{', '7', 'null']) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await data.set('wks:session:u', text)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(workstation.getSession('u'), (error: CorruptEntryError) => {
        assert.ok(error instanceof CorruptEntryError)
        return error.key === 'wks:session:u'
      })
    }
  })

  it('bad arguments reject', async () => {
    const { workstation } = await place()
    const bad = ['', 'a\nb', 'x'.repeat(513), undefined, 7] as string[]
    for (const id of bad) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(workstation.setSession(id, {}), ArgumentError)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(workstation.getSession(id), ArgumentError)
    }
    for (const ttl of [-1, 1.5, Number.NaN, Infinity]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await assert.rejects(workstation.setSession('u', {}, ttl), ArgumentError)
    }
    await assert.rejects(workstation.setSession('u', 'text' as never), ArgumentError)
    await assert.rejects(workstation.setSession('u', { n: 1n }), /a BigInt at \$\.n/)
    assert.equal(await workstation.getSession('u'), null)
  })

  it('encrypted sessions are readable with the ring alone, also after the keys rotated', async () => {
    const [old, young] = [randomBytes(32), randomBytes(32)]
    const { workstation, another, data } = await place({
      sessions: { encryption: { keys: { old }, current: 'old' } },
    })
    await data.set('wks:session:plain', '{"plain":true}')
    await workstation.setSession('u', { secret: 'hunter2' })
    const stored = (await data.get('wks:session:u'))!
    assert.match(stored, /^ffs1:old:[\w-]+$/)
    assert.ok(!Buffer.from(stored.split(':')[2]!, 'base64url').toString().includes('hunter2'))
    const rotated = another({ sessions: { encryption: { keys: { old, young }, current: 'young' } } })
    assert.deepEqual(await rotated.getSession('u'), { secret: 'hunter2' })
    assert.deepEqual(await rotated.getSession('plain'), { plain: true })
    await rotated.setSession('u', { secret: 'again' })
    assert.match((await data.get('wks:session:u'))!, /^ffs1:young:/)
    await assert.rejects(workstation.getSession('u'), /a key that is not in the ring/)
    await assert.rejects(another().getSession('u'), /it is encrypted, and no keys were given/)
    const strict = { keys: { young }, current: 'young', allowPlain: false }
    await assert.rejects(another({ sessions: { encryption: strict } }).getSession('plain'), CorruptEntryError)
    // Nobody can give a session to another user, or change a bit of it.
    await data.set('wks:session:thief', (await data.get('wks:session:u'))!)
    await assert.rejects(rotated.getSession('thief'), /cannot be decrypted/)
    const [start, name, text] = (await data.get('wks:session:u'))!.split(':') as [string, string, string]
    const bytes = Buffer.from(text, 'base64url')
    bytes[bytes.length - 1]! ^= 1
    await data.set('wks:session:u', `${start}:${name}:${bytes.toString('base64url')}`)
    await assert.rejects(rotated.getSession('u'), /cannot be decrypted/)
  })

  it('key rings that cannot work are refused', () => {
    const key = randomBytes(32)
    const rings: SessionKeyRing[] = [
      { keys: { a: key }, current: 'b' },
      { keys: { a: randomBytes(16) }, current: 'a' },
      { keys: { 'a:b': key }, current: 'a:b' },
      { keys: {}, current: '' },
    ]
    for (const encryption of rings) {
      assert.throws(() => createWorkstation({ redis: false, sessions: { encryption } }), ConfigError)
    }
  })
}
