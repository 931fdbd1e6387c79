/**
 * Several processes take a few locks while processes stop, connections fail and servers restart; what they noticed is
 * compared with what locks promise. LOCK_HISTORY_SEED names a seed, LOCK_HISTORY_SECONDS the time for it.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { CountingProxy } from '../helpers/counting-proxy'
import { type LockEvent, type LockHistory, type Sighting, violations } from '../helpers/lock-history'
import { Program } from '../helpers/program'
import { type Random, random } from '../helpers/random'
import { RedisServer } from '../helpers/redis-server'
import { RespClient } from '../helpers/resp-client'

const KEYS = ['a', 'b', 'c']
/** The longest TTL at first; an extension may ask for a little more. */
const TTL = 600
/** How long calls may take to end when all faults are over. */
const PATIENCE_MS = 20_000

function now(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

class Run {
  readonly #random: Random
  readonly #sightings: Sighting[] = []
  readonly #dataLosses: number[] = []
  readonly #faults = new Map<string, number>()
  #watching = true

  constructor(readonly seed: number) {
    this.#random = random(seed)
  }

  async history(seconds: number): Promise<LockHistory & { faults: Map<string, number> }> {
    await using server = await RedisServer.start({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
    await using resource = await RedisServer.start()
    await using first = await CountingProxy.start(server)
    await using second = await CountingProxy.start(server)
    const targets = [server.url, server.url, first.url, second.url]
    const children = targets.map((url, n) =>
      Program.typescript('__test__/helpers/lock-worker.ts', [
        `p${n}`,
        String(this.seed * 31 + n),
        String(seconds * 1000),
        url,
        resource.url,
      ]),
    )
    try {
      await Promise.all(children.map((child) => child.printed(/begin/)))
      const watching = this.#watch(server)
      await this.#break(server, [first, second], children, performance.now() + seconds * 1000 - 2000)
      const ends = await Promise.all(children.map((child) => child.ended(PATIENCE_MS)))
      this.#watching = false
      await watching
      for (const end of ends) assert.deepEqual(end, { code: 0, signal: null })
      const events = children.flatMap(({ output }) => parse(output))
      using client = await resource.client()
      const writes: LockHistory['writes'] = {}
      for (const key of KEYS) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const taken = await client.command<string[]>('LRANGE', `writes:${key}`, 0, -1)
        writes[key] = taken.map((line) => {
          const [fence, op] = line.split(' ') as [string, string]
          return { fence: Number(fence), op }
        })
      }
      return {
        events,
        writes,
        sightings: this.#sightings,
        dataLosses: this.#dataLosses,
        faults: this.#faults,
      }
    } finally {
      await Promise.all(children.map((child) => child[Symbol.asyncDispose]()))
    }
  }

  /** Looks at the locks all the time, past the code under test. */
  async #watch(server: RedisServer): Promise<void> {
    let client: RespClient | undefined
    while (this.#watching) {
      try {
        client ??= await RespClient.connect(server.address)
        const t = now()
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        const tokens = await client.command<(string | null)[]>('MGET', ...KEYS.map((key) => `fm:lock:${key}`))
        for (const [index, token] of tokens.entries())
          if (token !== null) this.#sightings.push({ t, key: KEYS[index] as string, token })
      } catch {
        // The server is down.
        client?.close()
        client = undefined
      }
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await delay(15)
    }
    client?.close()
  }

  async #break(
    server: RedisServer,
    proxies: CountingProxy[],
    children: Program[],
    end: number,
  ): Promise<void> {
    const { below, pick } = this.#random
    const stopped = new Set<Program>()
    const faults: Record<string, () => Promise<void>> = {
      stop: async () => {
        const child = pick(children)
        if (stopped.has(child)) return
        stopped.add(child)
        child.kill('SIGSTOP')
        // Meanwhile other things break.
        setTimeout(
          () => {
            stopped.delete(child)
            child.kill('SIGCONT')
          },
          100 + below(3 * TTL),
        )
      },
      cut: async () => pick(proxies).cut(pick(['end', 'reset'] as const)),
      'cut on the way': async () => {
        const point = pick(['before-forward', 'after-forward', 'before-reply'] as const)
        pick(proxies).cutOn(point, ({ name }) => name.startsWith('EVAL'), {
          mode: pick(['end', 'reset'] as const),
        })
      },
      'cut inside': async () => {
        if (below(2)) pick(proxies).cutAfterReplyBytes(1 + below(300))
        else pick(proxies).cutAfterRequestBytes(1 + below(1000))
      },
      'black hole': async () => {
        const proxy = pick(proxies)
        proxy.blackhole()
        await delay(below(2 * TTL))
        await proxy.resume()
      },
      slowness: async () => {
        const proxy = pick(proxies)
        proxy.delayReplies(below(TTL))
        await delay(below(TTL))
        proxy.delayReplies(0)
      },
      'frozen server': async () => {
        server.pause()
        await delay(below(2 * TTL))
        server.resume()
      },
      'script flush': async () => {
        using client = await server.client()
        await client.command('SCRIPT', 'FLUSH')
      },
      restart: async () => {
        await server.kill()
        await delay(below(300))
        await server.restart()
      },
      'restart without data': async () => {
        this.#dataLosses.push(now())
        using client = await server.client()
        await client.command('FLUSHALL')
        this.#dataLosses.push(now())
        await server.kill()
        await server.restart()
      },
    }
    const rare = new Set(['restart', 'restart without data', 'frozen server'])
    while (performance.now() < end) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await delay(below(120))
      const name = below(4) === 0 ? 'stop' : pick(Object.keys(faults))
      if (rare.has(name) && below(3) > 0) continue
      this.#faults.set(name, (this.#faults.get(name) ?? 0) + 1)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await faults[name]?.()
    }
  }
}

function parse(output: string): LockEvent[] {
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      try {
        return JSON.parse(line) as LockEvent
      } catch {
        // A warning, a stack trace: nobody expects anything there.
        return { t: 0, op: '', kind: 'uncaught', text: line }
      }
    })
}

describe('locks of several processes, while everything fails', () => {
  const named = process.env['LOCK_HISTORY_SEED']
  const seeds = named === undefined ? [4711, Date.now() % 1_000_000] : [Number(named)]
  const seconds = Number(process.env['LOCK_HISTORY_SECONDS'] ?? 30)

  for (const seed of seeds)
    it(`keep their promises: LOCK_HISTORY_SEED=${seed}`, { timeout: seconds * 1000 + 120_000 }, async (t) => {
      const { faults, ...history } = await new Run(seed).history(seconds)
      const count = (kind: string): number => history.events.filter((event) => event.kind === kind).length
      const writes = Object.values(history.writes).flat().length
      t.diagnostic(`${[...faults].map(([name, times]) => `${times} × ${name}`).join(', ')}`)
      t.diagnostic(
        `${count('begin')} calls, ${count('grant')} grants, ${count('aborted')} losses, ${writes} writes`,
      )
      const found = violations(history)
      // What its operations noticed, for whoever looks for the reason.
      for (const event of history.events.filter(({ op }) => found.some((text) => text.includes(`${op} `))))
        t.diagnostic(JSON.stringify(event))
      if (found.length > 0) t.diagnostic(`data was lost at ${history.dataLosses.join(', ')}`)
      assert.deepEqual(found, [])
      assert.ok(count('grant') > 5 * seconds && writes > 5 * seconds, 'too little happened to say anything')
    })
})
