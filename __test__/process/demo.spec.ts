/** The demo, as users run it: a process of its own, spoken to over HTTP. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { Program } from '../helpers/program'
import { findFreePort, RedisServer } from '../helpers/redis-server'

const DEMO = 'examples/order-app/main.ts'
/** The program itself gives up after 2 s. */
const SHUTDOWN_MS = 2000

interface Answer {
  status: number
  headers: Headers
  body: Record<string, any>
}

describe('the demo', () => {
  let redis: RedisServer
  before(async () => {
    redis = await RedisServer.start()
  })
  after(() => redis.stop())

  describe('the walk', () => {
    for (const where of ['memory', 'redis'] as const)
      it(`goes through on ${where}`, async () => {
        const url = where === 'redis' ? redis.url : undefined
        await using demo = Program.typescript(DEMO, ['--once'], { env: { REDIS_URL: url } })
        assert.deepEqual(await demo.ended(), { code: 0, signal: null }, demo.output)
        for (const line of [
          url ?? 'memory://',
          /order \w+: placed/,
          /the second one loses: ConcurrencyError: Optimistic concurrency conflict.* expected version 1, got 2/,
          /ferroflow-demo:walk-\w+:lock:\w+ {2}\(string, TTL 10 s\)/,
          /worker B will not wait: LockError/,
          /worker C was woken/,
          /ferroflow-demo:walk-\w+:workflows:run:[\w-]+ {2}\(hash, no TTL\)\n.*\n.*\n {6}status +completed/,
          /:saga:OrderSaga:\w+ {2}\(string, TTL 86400 s\)/,
          /The 8 keys of this walk .* are deleted again/,
        ])
          assert.ok(
            typeof line === 'string' ? demo.output.includes(line) : line.test(demo.output),
            demo.output,
          )
      })

    it('leaves nothing of its own on Redis, and everything of others', async () => {
      using client = await redis.client()
      await client.command('SET', 'ferroflow-demonstration', 'of somebody else')
      await using demo = Program.typescript(DEMO, ['--once'], { env: { REDIS_URL: redis.url } })
      assert.equal((await demo.ended()).code, 0, demo.output)
      assert.deepEqual(await client.command('KEYS', '*'), ['ferroflow-demonstration'])
      await client.command('DEL', 'ferroflow-demonstration')
    })

    it('says what to do if there is no Redis, without the password', async () => {
      const url = `redis://user:s3cret@127.0.0.1:${await findFreePort()}`
      await using demo = Program.typescript(DEMO, ['--once'], { env: { REDIS_URL: url } })
      assert.equal((await demo.ended()).code, 1)
      assert.match(demo.output, /cannot be reached.*ECONNREFUSED[^]*unset REDIS_URL/)
      assert.ok(!demo.output.includes('s3cret'), demo.output)
    })

    it('says that REDIS_URL is wrong', async () => {
      await using demo = Program.typescript(DEMO, ['--once'], { env: { REDIS_URL: 'what is this' } })
      assert.equal((await demo.ended()).code, 1)
      assert.match(demo.output, /REDIS_URL cannot be used/)
    })
  })

  describe('the service', () => {
    for (const where of ['memory', 'redis'] as const)
      describe(`on ${where}`, () => {
        let demo: Program
        let url: string
        before(async () => {
          demo = serve(where === 'redis' ? redis.url : undefined)
          url = await address(demo)
        })
        after(() => demo[Symbol.asyncDispose]())

        it('takes an order, refuses a second worker, and ships it', async () => {
          const placed = await send(url, 'POST', '/orders', {
            item: 'keyboard',
            quantity: 2,
            priceCents: 7900,
          })
          assert.equal(placed.status, 202)
          assert.equal(placed.body['status'], 'placed')
          const path = placed.headers.get('location') ?? ''
          assert.equal(path, `/orders/${placed.body['id']}`)

          const early = await send(url, 'POST', `${path}/cancel`)
          assert.deepEqual([early.status, early.body['code']], [409, 'LOCK_HELD'])
          const second = await send(url, 'POST', `${path}/run`)
          assert.deepEqual([second.status, second.body['code']], [409, 'LOCK_HELD'])

          const shipped = await until(url, path, 'shipped')
          assert.equal(shipped['run'].status, 'completed')
          assert.equal(shipped['steps'].charge.result.paidCents, 15_800)
          assert.deepEqual(shipped['run'].output, shipped['steps'].ship.result)

          const late = await send(url, 'POST', `${path}/cancel`)
          assert.deepEqual([late.status, late.body['code']], [409, 'ORDER_ENDED'])
          const again = await send(url, 'POST', `${path}/run`)
          assert.deepEqual([again.status, again.body['version']], [200, shipped['version']])
        })

        it('cancels an order that failed', async () => {
          const order = { item: 'mouse', priceCents: 2900, card: 'declined' }
          const { body } = await send(url, 'POST', '/orders', order)
          const path = `/orders/${body['id']}`
          const failed = await until(url, path, 'failed')
          assert.equal(failed['steps'].reserve.status, 'done')
          assert.equal(failed['steps'].charge.error.message, 'The card was declined')
          assert.ok(!JSON.stringify(failed).includes('"stack"'))
          const cancelled = await send(url, 'POST', `${path}/cancel`)
          assert.deepEqual([cancelled.status, cancelled.body['status']], [200, 'cancelled'])
        })

        it('lets a stale writer lose', async () => {
          const { body } = await send(url, 'POST', '/orders', { item: 'lamp', priceCents: 1 })
          const path = `/orders/${body['id']}`
          const { version } = await until(url, path, 'shipped')
          const first = await send(url, 'PATCH', path, { note: 'gift wrap', version })
          assert.deepEqual([first.status, first.body['version']], [200, version + 1])
          const stale = await send(url, 'PATCH', path, { note: 'no gift wrap', version })
          assert.deepEqual([stale.status, stale.body['code']], [409, 'CONCURRENCY_CONFLICT'])
          assert.equal((await send(url, 'GET', path)).body['note'], 'gift wrap')
        })

        it('answers 404 to what is not there', async () => {
          for (const [method, path] of [
            ['GET', '/orders/nothing'],
            ['POST', '/orders/nothing/cancel'],
            ['POST', '/orders/nothing/run'],
            ['GET', '/nothing'],
          ] as const)
            // oxlint-disable-next-line no-await-in-loop
            assert.equal((await send(url, method, path)).status, 404, `${method} ${path}`)
        })

        it('answers 400 to what makes no sense', async () => {
          for (const body of [
            '{',
            '[]',
            '"text"',
            '{}',
            '{"item":"x","priceCents":-1}',
            '{"item":7}',
            'null',
          ])
            // oxlint-disable-next-line no-await-in-loop
            assert.equal((await send(url, 'POST', '/orders', body)).status, 400, body)
          assert.equal((await send(url, 'GET', '/orders/a%0ab')).status, 400)
          assert.equal((await send(url, 'GET', '/orders/%zz')).status, 400)
          assert.equal((await send(url, 'GET', `/orders/${'x'.repeat(600)}`)).status, 400)
        })
      })

    it('answers 503 while Redis is away, and recovers', async () => {
      await using mortal = await RedisServer.start()
      await using demo = serve(mortal.url)
      const url = await address(demo)
      await mortal.kill()
      const away = await send(url, 'GET', '/orders/any')
      assert.equal(away.status, 503)
      assert.equal(away.headers.get('retry-after'), '1')
      await mortal.restart()
      await demo.printed(/Redis: ready/)
      assert.equal((await send(url, 'GET', '/orders/any')).status, 404)
    })

    it('stops within two seconds in the middle of an order, which another process then finishes', async () => {
      const first = serve(redis.url)
      let path: string
      try {
        const url = await address(first)
        const { body } = await send(url, 'POST', '/orders', { item: 'desk', priceCents: 1 })
        path = `/orders/${body['id']}`
        await until(url, path, 'reserved')
        const begin = performance.now()
        first.kill('SIGTERM')
        assert.deepEqual(await first.ended(), { code: 0, signal: null }, first.output)
        assert.ok(performance.now() - begin < SHUTDOWN_MS)
      } finally {
        await first[Symbol.asyncDispose]()
      }
      await using second = serve(redis.url)
      const url = await address(second)
      const { body: interrupted } = await send(url, 'GET', path)
      assert.deepEqual([interrupted['status'], interrupted['steps'].reserve.status], ['reserved', 'done'])
      assert.equal((await send(url, 'POST', `${path}/run`)).body['status'], 'shipped')
      const { body: finished } = await send(url, 'GET', path)
      assert.deepEqual(finished['steps'].reserve, interrupted['steps'].reserve)
    })

    it('takes another port if the one it wants is taken', async () => {
      const holder = createServer().listen(0, '127.0.0.1')
      await once(holder, 'listening')
      const { port } = holder.address() as AddressInfo
      try {
        await using demo = serve(undefined, String(port))
        assert.ok(!(await address(demo)).endsWith(`:${port}`))
        assert.match(demo.output, new RegExp(`Port ${port} is taken`))
      } finally {
        holder.close()
      }
    })
  })
})

function serve(redisUrl: string | undefined, port = '0'): Program {
  return Program.typescript(DEMO, [], { env: { REDIS_URL: redisUrl, PORT: port } })
}

async function address(demo: Program): Promise<string> {
  const [, url = ''] = await demo.printed(/Listening on (\S+)/)
  return url
}

async function send(url: string, method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    ...(body === undefined
      ? {}
      : {
          headers: { 'content-type': 'application/json' },
          body: typeof body === 'string' ? body : JSON.stringify(body),
        }),
  })
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Record<string, any>,
  }
}

/** Waits until an order has a status. */
async function until(url: string, path: string, status: string): Promise<Record<string, any>> {
  const deadline = Date.now() + 10_000
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- polling
    const { body } = await send(url, 'GET', path)
    if (body['status'] === status) return body
    if (Date.now() > deadline) throw new Error(`${path} is ${body['status']}, not ${status}`)
    // oxlint-disable-next-line no-await-in-loop -- polling
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
