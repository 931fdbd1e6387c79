import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { it } from 'node:test'
import { ArgumentError, hashParams } from '../../index.js'
import type { Backend } from '../helpers/backends'
import { deferred } from '../helpers/wait'
import { placesOf } from '../helpers/workstations'

export function apiCacheSuite(backend: Backend): void {
  const place = placesOf(backend)

  it('an answer is cached under the documented key for the documented time', async () => {
    const { workstation, data } = await place()
    assert.equal(await workstation.getCachedAPIResponse('h'), null)
    assert.equal(await workstation.cacheAPIResponse('h', { a: [1] }), true)
    assert.equal(await data.get('wks:cache:api:h'), '{"a":[1]}')
    const left = await data.pttl('wks:cache:api:h')
    assert.ok(left > 3_595_000 && left <= 3_600_000, `${left}`)
    assert.deepEqual(await workstation.getCachedAPIResponse('h'), { a: [1] })
    await workstation.cacheAPIResponse('h', { a: [2] }, 60)
    assert.ok((await data.pttl('wks:cache:api:h')) <= 60_000)
    await data.set('wks:cache:api:h', '{"a":')
    assert.equal(await workstation.getCachedAPIResponse('h'), null, 'computed again')
  })

  it('a hundred who miss at once compute once', async () => {
    const { workstation, another } = await place()
    const all = [workstation, another(), another(), another()]
    let computed = 0
    const compute = async (): Promise<{ n: number }> => {
      computed += 1
      await new Promise((resolve) => setTimeout(resolve, 20))
      return { n: computed }
    }
    const asked = Array.from({ length: 100 }, (_, index) => all[index % 4]!.getOrCompute('k', compute))
    const answers = await Promise.all(asked)
    assert.equal(computed, 1)
    for (const answer of answers) assert.deepEqual(answer, { n: 1 })
    assert.deepEqual(await workstation.getOrCompute('k', compute), { n: 1 })
    assert.equal(computed, 1)
  })

  it('a failure is its own, and wakes those who waited', async () => {
    const { workstation, another } = await place()
    const fail = deferred()
    const begun = deferred()
    const leader = workstation.getOrCompute('k', async () => {
      begun.resolve()
      await fail.promise
      throw new Error('the leader fails')
    })
    await begun.promise
    let computed = 0
    const compute = (): number => (computed += 1)
    const others = Array.from({ length: 20 }, (_, index) =>
      (index % 2 === 0 ? workstation : another()).getOrCompute('k', compute),
    )
    fail.resolve()
    await assert.rejects(leader, /the leader fails/)
    assert.deepEqual(new Set(await Promise.all(others)), new Set([1]))
    assert.equal(computed, 1)
  })

  it('what is cached waits for nobody who computes', async () => {
    const { workstation, another } = await place()
    const [begun, finish] = [deferred(), deferred()]
    const slow = workstation.getOrCompute('k', async () => {
      begun.resolve()
      await finish.promise
      return 'slow'
    })
    await begun.promise
    await another().cacheAPIResponse('k', 'there')
    assert.equal(await workstation.getOrCompute('k', () => assert.fail('it is cached')), 'there')
    finish.resolve()
    assert.equal(await slow, 'slow')
  })

  it('null and undefined are answers too', async () => {
    const { workstation } = await place()
    let computed = 0
    const compute = (): null => ((computed += 1), null)
    assert.equal(await workstation.getOrCompute('k', compute), null)
    assert.equal(await workstation.getOrCompute('k', compute), null)
    assert.equal(computed, 1)
  })

  it('a computation leaves nothing behind but the answer', async () => {
    const { workstation, data } = await place()
    await workstation.getOrCompute('k', () => 1, 60)
    const keys = (await data.keys()).filter((key) => !key.includes('ferroflow:'))
    assert.deepEqual(keys, ['wks:cache:api:k'])
  })

  it('bad arguments reject', async () => {
    const { workstation } = await place()
    await assert.rejects(workstation.cacheAPIResponse('', 1), /the cache key must not be empty/)
    await assert.rejects(workstation.cacheAPIResponse('k', 1, -1), ArgumentError)
    await assert.rejects(workstation.cacheAPIResponse('k', { n: 1n }), /a BigInt at \$\.n/)
    await assert.rejects(workstation.getOrCompute('k', 7 as never), ArgumentError)
    assert.equal(await workstation.getCachedAPIResponse('k'), null)
  })

  it('parameters have one hash, in whatever order they come', () => {
    const one = hashParams({ b: [1, { y: 1, x: undefined }], a: 'ü', when: new Date(0) })
    const other = hashParams({ when: '1970-01-01T00:00:00.000Z', a: 'ü', b: [1, { y: 1 }] })
    assert.equal(one, other)
    assert.match(one, /^[0-9a-f]{64}$/)
    assert.notEqual(hashParams([1, 2]), hashParams([2, 1]))
    assert.notEqual(hashParams({ a: '1' }), hashParams({ a: 1 }))
    const md5 = createHash('md5').update('{"a":1,"b":2}').digest('hex')
    assert.equal(hashParams({ b: 2, a: 1 }, { algorithm: 'md5' }), md5)
    assert.throws(() => hashParams({}, { algorithm: 'crc32' as never }), ArgumentError)
    assert.throws(() => hashParams({ n: 1n }), /a BigInt at \$\.n/)
  })
}
