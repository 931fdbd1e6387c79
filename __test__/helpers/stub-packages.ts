/**
 * Packages that the documents name and that cannot be had here, as small ones of our own: what the examples and
 * ferroflow see of them.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A client over HTTP in the original: here it speaks to Redis, and reads JSON back as values as the original does. */
const upstash = `
import { Redis as Client } from 'ioredis'
const read = (text) => { try { return JSON.parse(text) } catch { return text } }
const write = (value) => typeof value === 'string' ? value : JSON.stringify(value)
export class Redis {
  #client = new Client(process.env.REDIS_URL)
  constructor({ url, token }) { Object.assign(this, { url, token }) }
  set(key, value) { return this.#client.set(key, write(value)) }
  async get(key) { return read(await this.#client.get(key)) }
  hset(key, kv) { return this.#client.hset(key, ...Object.entries(kv).flatMap(([k, v]) => [k, write(v)])) }
  async hget(key, field) { return read(await this.#client.hget(key, field)) }
  hdel(key, ...fields) { return this.#client.hdel(key, ...fields) }
  async hgetall(key) {
    const all = Object.entries(await this.#client.hgetall(key)).map(([k, v]) => [k, read(v)])
    return all.length === 0 ? null : Object.fromEntries(all)
  }
  del(...keys) { return this.#client.del(...keys) }
  expire(key, seconds) { return this.#client.expire(key, seconds) }
}`

const idioteque = 'export const createWorker = (options) => ({ ...options })'

const classOf = (exporting: string): string => `
class ConcurrencyError extends Error {
  constructor(sagaId, expectedVersion, actualVersion) {
    super('Concurrency conflict for saga ' + sagaId + ': expected version ' + expectedVersion + ', got ' + actualVersion)
    Object.assign(this, { name: 'ConcurrencyError', sagaId, expectedVersion, actualVersion })
  }
}
class InMemorySagaStore {}
const createBus = ({ store }) => ({ store, started: false, async start() { this.started = true } })
${exporting}`

const NAMES = '{ ConcurrencyError, InMemorySagaStore, createBus }'

/** Files by their path in the package. */
type StubPackage = Record<string, string>

const esm = (text: string): StubPackage => ({
  'package.json': JSON.stringify({ version: '1.0.0', type: 'module', exports: './index.js' }),
  'index.js': text,
})

/** As the original is packed: both kinds of module, each with a class of its own. */
const sagaBusCore: StubPackage = {
  'package.json': JSON.stringify({
    version: '1.0.0',
    exports: { '.': { import: './index.mjs', require: './index.cjs' } },
  }),
  'index.mjs': classOf(`export ${NAMES}`),
  'index.cjs': classOf(`module.exports = ${NAMES}`),
}

const packages = {
  '@upstash/redis': esm(upstash),
  idioteque: esm(idioteque),
  '@saga-bus/core': sagaBusCore,
}

/** Writes packages into the `node_modules` of a project. */
export function installStubs(root: string, names: (keyof typeof packages)[]): void {
  for (const name of names) {
    const folder = join(root, 'node_modules', name)
    mkdirSync(folder, { recursive: true })
    for (const [path, text] of Object.entries(packages[name])) writeFileSync(join(folder, path), text)
  }
}
