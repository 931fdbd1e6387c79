/** What `RedisExecutionCache` promises, whatever it runs on. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { ArgumentError, ConnectionError, RedisExecutionCache, type Target } from '../../index.js'
import { type Backend, Data } from '../helpers/backends'
import { like } from '../helpers/errors'

interface Execution {
  id: string
  status: string
  updatedAt?: number
}

export function cache(backend: Backend): void {
  let target: Target
  let data: Data
  let executions: RedisExecutionCache<Execution>

  before(async () => {
    target = await backend.freshTarget()
    data = new Data(target)
    executions = new RedisExecutionCache(target)
  })
  after(async () => {
    await Promise.all([executions.close(), data.close()])
  })
  afterEach(() => data.clear())

  describe('set and get', () => {
    it('store a plain string of JSON, as pipelines of the documents read it', async () => {
      const execution = { id: 'e1', status: 'waiting', updatedAt: 5 }
      await executions.set(execution)
      assert.equal(await data.get('fm:exec:e1'), JSON.stringify(execution))
      assert.deepEqual(await executions.get('e1'), execution)
      assert.equal(await executions.get('e2'), null)
    })

    it('take TTLs in milliseconds', async () => {
      const short = new RedisExecutionCache<Execution>(target, { keyPrefix: 'p:', ttl: 1500 })
      await short.set({ id: 'a', status: '' })
      await short.set({ id: 'b', status: '' }, 700)
      await executions.set({ id: 'c', status: '' })
      for (const [key, ttl] of [
        ['p:a', 1500],
        ['p:b', 700],
        ['fm:exec:c', 60_000],
      ] as const) {
        const left = await data.pttl(key)
        assert.ok(left > ttl - 600 && left <= ttl, `${key}: ${left} ms of ${ttl}`)
      }
      await short.close()
    })

    it('keep the newer of two executions, whichever comes first', async () => {
      await executions.set({ id: 'e', status: 'new', updatedAt: 2 })
      await executions.set({ id: 'e', status: 'old', updatedAt: 1 })
      assert.equal((await executions.get('e'))?.status, 'new')
      await executions.set({ id: 'e', status: 'same time', updatedAt: 2 })
      assert.equal((await executions.get('e'))?.status, 'same time')
      await executions.set({ id: 'e', status: 'undated' })
      assert.equal((await executions.get('e'))?.status, 'undated')
      await executions.set({ id: 'e', status: 'dated', updatedAt: 1 })
      assert.equal((await executions.get('e'))?.status, 'dated')
    })

    it('let the newest win among concurrent writers', async () => {
      const times = Array.from({ length: 100 }, (_, index) => (index * 37) % 100)
      await Promise.all(times.map((updatedAt) => executions.set({ id: 'e', status: '', updatedAt })))
      assert.equal((await executions.get('e'))?.updatedAt, 99)
    })

    it('take a corrupt entry for none, and replace it', async () => {
      for (const corrupt of ['{', '', '"text"', 'null']) {
        await data.set('fm:exec:e', corrupt)
        assert.equal(await executions.get('e'), null, corrupt)
        assert.equal((await executions.getMany(['e'])).size, 0, corrupt)
      }
      await executions.set({ id: 'e', status: 'whole', updatedAt: 1 })
      assert.equal((await executions.get('e'))?.status, 'whole')
    })
  })

  describe('getMany and invalidateMany', () => {
    it('work on what is there', async () => {
      await executions.set({ id: 'a', status: 'A' })
      await executions.set({ id: '__proto__', status: 'P' })
      const found = await executions.getMany(['a', 'none', '__proto__', 'constructor'])
      assert.ok(found instanceof Map)
      assert.deepEqual([...found.keys()], ['a', '__proto__'])
      assert.equal(found.get('__proto__')?.status, 'P')
      await executions.invalidateMany(['a', 'none'])
      assert.deepEqual(await data.keys(), ['fm:exec:__proto__'])
      await executions.invalidate('__proto__')
      await executions.invalidate('none')
      assert.deepEqual(await data.keys(), [])
    })

    it('take an empty list', async () => {
      assert.equal((await executions.getMany([])).size, 0)
      await executions.invalidateMany([])
    })
  })

  describe('clear', () => {
    it('forgets what is under its own prefix, taken literally', async () => {
      const odd = new RedisExecutionCache<Execution>(target, { keyPrefix: 'a*[b]?\\:' })
      for (let i = 0; i < 2500; i++) await odd.set({ id: `e${i}`, status: '' })
      const others = ['a*[b]?\\', 'aXb?\\:e1', 'axx[b]?\\:e', 'session:1']
      await Promise.all(others.map((key) => data.set(key, 'v')))
      await odd.clear()
      assert.deepEqual(await data.keys(), others.toSorted())
      await odd.clear()
      await odd.close()
    })
  })

  describe('bad input', () => {
    it('is refused before anything is sent', async () => {
      const wrong: [string, () => Promise<unknown>][] = [
        ['an empty id', () => executions.get('')],
        ['an id that is no string', () => executions.get(7 as never)],
        ['an execution without an id', () => executions.set({ status: '' } as never)],
        ['no execution', () => executions.set(null as never)],
        ['a TTL of zero', () => executions.set({ id: 'e', status: '' }, 0)],
        ['a TTL that is no number', () => executions.set({ id: 'e', status: '' }, Number.NaN)],
        ['ids that are no array', () => executions.getMany('e' as never)],
        ['a bad id among good ones', () => executions.invalidateMany(['e', 'a\nb'])],
        ['a BigInt', () => executions.set({ id: 'e', status: 1n as never })],
      ]
      for (const [what, call] of wrong) {
        await assert.rejects(call, (error) => error instanceof ArgumentError, what)
      }
      assert.deepEqual(await data.keys(), [])
    })

    it('in the options throws', () => {
      for (const options of [{ keyPrefix: '' }, { ttl: 0 }, { ttl: 1.5 }, { keyPrefix: 7 }]) {
        assert.throws(() => new RedisExecutionCache(target, options as never), ArgumentError)
      }
    })

    it('a closed cache rejects', async () => {
      const closed = new RedisExecutionCache(target)
      await closed.close()
      await assert.rejects(
        closed.get('e'),
        like({ type: ConnectionError, code: 'CLOSED', message: /closed/ }),
      )
    })
  })
}
