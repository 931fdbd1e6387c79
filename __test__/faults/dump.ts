/** Everything that a server holds, in a form in which two runs of the same calls are equal. */
import type { RespClient } from '../helpers/resp-client'

/** Our own beside the locks, which no other entry has to agree with: the counter, the list, given up claims, answers. */
const ASIDE = /ferroflow:(fence|held|(withdrawn|request|forced):.*)$/

const MOMENTS: [RegExp, string][] = [
  [/\bff1:[^"]*/g, '(token)'],
  // One for each write of a session.
  [/;[0-9a-f]{12}[0-9a-z]+:\d+/g, ';(write)'],
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '(id)'],
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z/g, '(time)'],
  [/\b1[5-9]\d{14}\b/g, '(micros)'],
  [/\b1[5-9]\d{11}\b/g, '(millis)'],
  // Where a call was made from, which differs between a call and its repetition.
  [/(\\+n\s+at [^"\\]*)+/g, '(stack)'],
]

/** Without what is different each time: times, ids, tokens, stacks. */
export function timeless(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined'
  return MOMENTS.reduce((result, [pattern, name]) => result.replaceAll(pattern, name), text)
}

/** What is stored: a line an entry, with its type, whether it has an end, and its content. */
export async function dump(client: RespClient): Promise<string[]> {
  const keys = (await client.keys()).filter((key) => !ASIDE.test(key))
  const lines = keys.map(async (key) => {
    const [type, ttl] = await Promise.all([
      client.command<string>('TYPE', key),
      client.command<number>('PTTL', key),
    ])
    const content = await read(client, type, key).catch((error: unknown) => error)
    if ((await client.command('EXISTS', key)) === 0) return undefined
    if (content instanceof Error) throw content
    // Half a minute apart: an extension is another, and a slow test is not.
    const end = ttl < 0 ? 'stays' : `ends in ${Math.round(ttl / 60_000)} min`
    return timeless([key, type, end, content])
  })
  // What ended while it was looked at is not there.
  return (await Promise.all(lines)).filter((line) => line !== undefined).toSorted()
}

async function read(client: RespClient, type: string, key: string): Promise<unknown> {
  switch (type) {
    case 'string':
      return client.command('GET', key)
    case 'hash':
      return pairs(await client.command<string[]>('HGETALL', key))
    case 'set':
      return (await client.command<string[]>('SMEMBERS', key)).toSorted()
    case 'zset':
      return pairs(await client.command<string[]>('ZRANGE', key, 0, -1, 'WITHSCORES'))
    default:
      throw new Error(`${key} is a ${type}, which nothing here stores`)
  }
}

function pairs(flat: string[]): string[][] {
  const found: string[][] = []
  for (let i = 0; i < flat.length; i += 2) found.push(flat.slice(i, i + 2))
  return found.toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1))
}
