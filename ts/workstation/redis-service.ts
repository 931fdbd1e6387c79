import type { CommandArgument, CommandReply, Connection } from '../connection.js'
import { ArgumentError } from '../errors.js'
import { checkInteger, kindOf } from '../validate.js'
import type { RedisService } from './api.js'
import type { Gate } from './gate.js'

/** What the commands run on. */
export interface ServiceHost {
  /** Opens the connection if there is none. */
  open(): { connection: Connection; gate: Gate }
  /** The connection if there is one. */
  present(): { connection: Connection; gate: Gate; disabled: boolean } | undefined
  end(): Promise<void>
}

/** The documented commands. While Redis is out of reach they are refused: nobody knows what they are for. */
export function createRedisService(host: ServiceHost): RedisService {
  const send = async (name: string, key: string, ...args: CommandArgument[]): Promise<CommandReply> => {
    checkString('the key', key)
    const { connection, gate } = host.open()
    return gate.strictly('command', () => connection.command(name, key, ...args))
  }
  return {
    get: async (key) => (await send('GET', key)) as string | null,
    set: async (key, value, ttl) => {
      const text = checkString('the value', value)
      const expiry = ttl === undefined || ttl === 0 ? [] : ['EX', checkSeconds(ttl)]
      return (await send('SET', key, text, ...expiry)) === 'OK'
    },
    del: async (key) => {
      await send('DEL', key)
      return true
    },
    exists: async (key) => isOne(send('EXISTS', key)),
    setNX: async (key, value, ttl) =>
      (await send('SET', key, checkString('the value', value), 'EX', checkSeconds(ttl), 'NX')) === 'OK',
    sadd: async (key, ...members) => (await send('SADD', key, ...checkStrings(members))) as number,
    srem: async (key, ...members) => (await send('SREM', key, ...checkStrings(members))) as number,
    smembers: async (key) => (await send('SMEMBERS', key)) as string[],
    hset: async (key, field, value) =>
      (await send('HSET', key, checkString('the field', field), checkString('the value', value))) as number,
    hget: async (key, field) => (await send('HGET', key, checkString('the field', field))) as string | null,
    hgetall: async (key) => {
      const words = (await send('HGETALL', key)) as string[]
      const pairs = words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1]!]] : []))
      return Object.fromEntries(pairs) as Record<string, string>
    },
    incr: async (key) => Number(await send('INCR', key)),
    expire: async (key, seconds) => isOne(send('EXPIRE', key, checkSeconds(seconds))),
    ttl: async (key) => (await send('TTL', key)) as number,
    isAvailable: () => {
      const present = host.present()
      return (
        present !== undefined && !present.disabled && present.gate.up && present.connection.status === 'ready'
      )
    },
    reconnect: () => host.open().gate.reconnect(),
    disconnect: () => host.end(),
  }
}

function checkString(what: string, value: unknown): string {
  if (typeof value === 'string') return value
  throw new ArgumentError('INVALID_ARGUMENT', `${what} must be a string, not ${kindOf(value)}`)
}

function checkStrings(members: unknown[]): string[] {
  if (members.length === 0) throw new ArgumentError('INVALID_ARGUMENT', 'at least one member must be given')
  return members.map((member) => checkString('a member', member))
}

function checkSeconds(seconds: unknown): number {
  return checkInteger('ttl', seconds, { min: 1, max: 2 ** 31 - 1, unit: 'seconds' })
}

async function isOne(reply: Promise<CommandReply>): Promise<boolean> {
  return (await reply) === 1
}
