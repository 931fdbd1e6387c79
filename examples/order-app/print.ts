/** What is stored under a prefix, as readable lines. Nothing here knows what an order is. */
import type { Connection } from 'ferroflow'

/** Keys that begin with a prefix, sorted. SCAN, not KEYS: a shared Redis must not stand still for a demo. */
export async function keysUnder(connection: Connection, prefix: string): Promise<string[]> {
  const keys = new Set<string>()
  let cursor = '0'
  do {
    // oxlint-disable-next-line no-await-in-loop -- each page names the next
    const reply = await connection.command('SCAN', cursor, 'MATCH', `${prefix}*`, 'COUNT', 1000)
    const [next, page] = reply as [string, string[]]
    for (const key of page) keys.add(key)
    cursor = next
  } while (cursor !== '0')
  return [...keys].toSorted()
}

/** Deletes keys that begin with a prefix, and nothing else. Returns how many there were. */
export async function deleteUnder(connection: Connection, prefix: string): Promise<number> {
  const keys = await keysUnder(connection, prefix)
  if (keys.length > 0) await connection.command('UNLINK', ...keys)
  return keys.length
}

/** Key, type, fields and time to live of everything under a prefix. */
export async function describeUnder(connection: Connection, prefix: string): Promise<string> {
  const keys = await keysUnder(connection, prefix)
  const entries = await Promise.all(keys.map((key) => describe(connection, key)))
  return entries.join('\n')
}

async function describe(connection: Connection, key: string): Promise<string> {
  const [type, ttl] = await Promise.all([connection.command('TYPE', key), connection.command('PTTL', key)])
  const fields =
    type === 'hash'
      ? pairs((await connection.command('HGETALL', key)) as string[])
      : type === 'zset'
        ? ((await connection.command('ZRANGE', key, 0, -1)) as string[]).map((member): [string, string] => [
            '',
            member,
          ])
        : jsonFields(String(await connection.command('GET', key)))
  const life = Number(ttl) < 0 ? 'no TTL' : `TTL ${Math.round(Number(ttl) / 1000)} s`
  const width = Math.max(0, ...fields.map(([name]) => name.length))
  const lines = fields.map(([name, value]) => `      ${name.padEnd(width)}  ${shorten(value)}`)
  return [`  ${key}  (${String(type)}, ${life})`, ...lines].join('\n')
}

function pairs(alternating: string[]): [string, string][] {
  return alternating.flatMap((name, index) =>
    index % 2 === 0 ? [[name, alternating[index + 1] ?? ''] satisfies [string, string]] : [],
  )
}

/** The fields of a JSON object, or the text itself if it is none. */
function jsonFields(text: string): [string, string][] {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null)
      return Object.entries(value).map(([name, field]) => [name, JSON.stringify(field)])
  } catch {
    // Not JSON: a token or an id.
  }
  return [['', text]]
}

function shorten(text: string): string {
  return text.length > 160 ? `${text.slice(0, 159)}…` : text
}
