/**
 * What people give as a target, as data. Without a remark, a case means to ferroflow what it means to ioredis 5 and 6,
 * or is refused by all three. Where it does not, `ours` or `refused` says what ferroflow does instead, and `why`.
 */
import { SECRET } from '../helpers/errors'

/** The options that say where a connection goes, and as whom; what is not given is absent. */
export interface Meaning {
  path?: string
  host?: string
  port?: number
  username?: string
  password?: string
  db?: number
  tls?: boolean
  servername?: string
  rejectUnauthorized?: false
  keyPrefix?: string
  family?: number
  connectionName?: string
  connectTimeout?: number
  commandTimeout?: number
  keepAlive?: number
}

export interface TargetCase {
  /** The arguments of `connect`, and of `new Redis`. */
  args: [target: string | object, options?: object]
  /** What ferroflow makes of it in place of what ioredis does; an absent value is `undefined`. */
  ours?: Partial<Meaning>
  /** The text of the ConfigError, where ioredis accepts it. */
  refused?: RegExp
  /** ioredis refuses it, or breaks on it. */
  theyThrow?: true
  why?: string
}

const PREFER = {
  noSocket: 'a word, or a host with a path, is no socket: ioredis would look for a file of that name',
  noNumber: 'a number that is none is an error: ioredis takes the digits in front, or NaN',
  valkey: 'the scheme of Valkey means the same as that of Redis; to ioredis it is a path',
  range: 'out of range: ioredis finds out when it connects, or never',
  tls: 'TLS is on or off; ioredis takes any word for a profile, unknown ones for yes',
}

const whole = /must be a whole number/
const accepted = /connection string must be a URL/

/** Characters with a meaning in URLs, and some without. */
const CHARACTERS = [...'/:@?#%+&=;,$!*()\'"[]{}|\\^~` ', 'ü', '密', '🔑', '\u0001', '%2F', '100%25']

/** The same word in every place where credentials may stand, percent-encoded as it should be. */
function encoded(character: string): TargetCase[] {
  const word = encodeURIComponent(`a${character}z`)
  return [
    { args: [`redis://${word}:${word}@h:7000/1`] },
    { args: [`redis://:${word}@h`] },
    { args: [`redis://h?username=${word}&password=${word}`] },
  ]
}

/** As people type it, which URLs allow for some. */
const RAW: TargetCase[] = [...':@+&=;,$!*()\'"{}|^~` ', 'ü', '密', '🔑', '%25', '%2f', '%40'].map(
  (character) => ({
    args: [`redis://user:a${character}z@h:7000/1`],
  }),
)

/** These end the credentials too early, or are no encoding. */
const BROKEN: TargetCase[] = [
  { args: [`redis://:${SECRET}/z@h`] },
  { args: [`redis://:${SECRET}?z@h`] },
  { args: [`redis://:${SECRET}#z@h`] },
  { args: [`redis://:${SECRET}%@h`] },
  { args: [`redis://:${SECRET}%zz@h`] },
  { args: [`redis://:${SECRET}%ff@h`] },
  { args: [`redis://%e0%a4:${SECRET}@h`] },
  { args: [`redis://user:${SECRET}@h:99999`] },
  { args: [`redis://user:${SECRET}@h:port`] },
  { args: [`redis://user:${SECRET}@[::1`] },
  { args: [`redis://user:${SECRET}@`] },
  { args: [`redis://user:${SECRET}@h x`] },
  { args: [`user:${SECRET}@h:port`] },
  {
    args: [`redis://user:12/${SECRET}@h`],
    refused: whole,
    why: 'a password with / in it: ioredis connects to the host "user", port 12',
  },
]

const USERS: TargetCase[] = [
  { args: ['redis://user@h'] },
  { args: ['redis://user:@h'] },
  { args: ['redis://:pw@h'] },
  { args: ['redis://user:pw@h'] },
  { args: ['redis://default:pw@h'] },
  { args: ['redis://:@h'] },
  { args: ['redis://@h'] },
  { args: ['redis://:pw@h?username=alice'] },
  { args: ['redis://user@h?password=pw'] },
  { args: ['redis://user:pw@h?username=alice&password=other'] },
  { args: ['redis://h?password=pw'] },
  { args: ['redis://h?username=alice&password=pw'] },
  { args: ['user:pw@h:7000'] },
  { args: ['user:pw@h'] },
  { args: [':pw@h:7000?db=2'] },
  { args: ['user@h:7000'] },
  { args: ['a:b:c@h'] },
]

const HOSTS: TargetCase[] = [
  { args: ['redis://h'] },
  { args: ['redis://h/'] },
  { args: ['redis://h:6380'] },
  { args: ['redis://h:'] },
  { args: ['redis://'] },
  { args: ['redis://?db=2'] },
  { args: ['redis:///2'] },
  { args: ['redis://:6380'] },
  { args: ['redis://127.0.0.1:6380'] },
  { args: ['redis://cache-1.prod.example.com:6380'] },
  { args: ['redis://under_score:6380'] },
  { args: ['redis://UPPER.example'] },
  { args: ['redis://b%C3%BCcher.example'] },
  { args: ['redis://[::1]'] },
  { args: ['redis://[::1]:6380/3'] },
  { args: ['redis://user:pw@[2001:db8::1]:6380/3'] },
  { args: ['redis://[fe80::1%25eth0]'] },
  { args: ['redis://::1'] },
  { args: ['redis://h:0'], refused: whole, why: PREFER.range },
  { args: ['REDIS://h'] },
  { args: ['//h:6380/2'] },
  { args: ['//user:pw@h'] },
  { args: ['h'] },
  { args: ['h:6380'] },
  { args: ['127.0.0.1:6380'] },
  { args: ['[::1]:6380'] },
  { args: ['[::1]'] },
  { args: ['h:6380?db=2&password=pw'] },
  { args: ['6380'] },
  { args: ['0'], refused: whole, why: PREFER.range },
  { args: ['70000'], refused: whole, why: PREFER.range },
  { args: ['::1'] },
  { args: ['h:6380/2'], refused: accepted, why: PREFER.noSocket },
  { args: ['user:pw@h/2'], refused: accepted, why: PREFER.noSocket },
  { args: ['.workflows'], refused: accepted, why: PREFER.noSocket },
  { args: ['tmp/redis.sock'], refused: accepted, why: PREFER.noSocket },
  { args: ['http://h'], refused: accepted, why: PREFER.noSocket },
  {
    args: ['valkey://user:pw@h:6380/2'],
    ours: { path: undefined, host: 'h', port: 6380, username: 'user', password: 'pw', db: 2 },
    why: PREFER.valkey,
  },
  { args: ['valkeys://h'], ours: { path: undefined, host: 'h', port: 6379, tls: true }, why: PREFER.valkey },
]

const DATABASES: TargetCase[] = [
  { args: ['redis://h/0'] },
  { args: ['redis://h/15'] },
  { args: ['redis://h?db=5'] },
  { args: ['redis://h/2?db=5'] },
  { args: ['redis://h/?db=5'] },
  { args: ['redis://h?db=5&db=6'] },
  { args: ['redis://h/3#fragment'] },
  { args: ['redis://h/007'] },
  { args: ['redis://h/2x'], refused: whole, why: PREFER.noNumber },
  { args: ['redis://h/x'], refused: whole, why: PREFER.noNumber },
  { args: ['redis://h/1/2'], refused: whole, why: PREFER.noNumber },
  { args: ['redis://h/1.5'], refused: whole, why: PREFER.noNumber },
  { args: ['redis://h/-1'], refused: whole, why: PREFER.range },
  { args: ['redis://h/%31'], refused: whole, why: PREFER.noNumber },
  { args: ['redis://h?db='], refused: whole, why: PREFER.noNumber },
  { args: [{ db: 3 }] },
  { args: [{ db: '3' }] },
  { args: [{ db: 1.5 }], refused: whole, why: PREFER.range },
]

const SOCKETS: TargetCase[] = [
  { args: ['/tmp/redis.sock'] },
  { args: ['/tmp/redis.sock?db=2'] },
  { args: ['/tmp/redis.sock?password=a%2Fb&username=alice'] },
  { args: ['/tmp/with%20percent.sock'] },
  { args: ['/tmp/with space.sock'] },
  { args: ['unix:/tmp/redis.sock'] },
  {
    args: ['unix:///tmp/redis.sock?db=2'],
    ours: { path: '/tmp/redis.sock', host: undefined },
    why: 'ioredis keeps the slashes, which lead to the same file',
  },
  { args: [{ path: '/tmp/redis.sock', db: 2, password: 'pw' }] },
  { args: [{ path: '/tmp/redis.sock', host: 'h', port: 7000 }] },
  { args: [{ path: null, host: 'h' }] },
  { args: [{ path: '', host: 'h' }] },
  { args: ['redis://h?path=/tmp/redis.sock'] },
  { args: ['unix:relative.sock'] },
  {
    args: [{ path: '/tmp/redis.sock', tls: {} }],
    refused: /Unix domain socket/,
    why: 'no TLS on sockets: ioredis would try',
  },
]

const TLS: TargetCase[] = [
  { args: ['rediss://h'] },
  { args: ['rediss://user:pw@h:6380/2'] },
  { args: ['rediss://h', { tls: { servername: 's' } }] },
  { args: ['rediss://h', { tls: { rejectUnauthorized: false } }] },
  { args: ['redis://h', { tls: {} }] },
  { args: ['redis://h', { tls: true }] },
  { args: ['redis://h?tls=true'] },
  {
    args: ['redis://h?tls=true', { tls: { servername: 's' } }],
    ours: { servername: 's' },
    why: 'ioredis drops the object',
  },
  { args: [{ host: 'h', tls: { servername: 's', rejectUnauthorized: false } }] },
  { args: [{ host: 'h', tls: undefined }] },
  { args: [{ host: 'h', tls: null }] },
  { args: [{ host: 'h', tls: false }] },
  {
    args: ['REDISS://h'],
    ours: { tls: true },
    why: 'ioredis connects in clear text, because it compares letters',
  },
  { args: ['redis://h?tls=false'], refused: /tls must be/, why: PREFER.tls },
  {
    args: [{ tls: 'RedisCloudFixed' }],
    refused: /tls must be/,
    why: `${PREFER.tls}; the certificates of profiles are not ours to ship`,
  },
]

const OTHERS: TargetCase[] = [
  { args: ['redis://h?family=6'] },
  { args: ['redis://h?family=4'] },
  { args: ['redis://h?family=0'] },
  { args: ['redis://h?family=6x'], refused: whole, why: PREFER.noNumber },
  { args: [{ host: 'h', family: 6 }] },
  { args: ['redis://h?connectTimeout=1500'] },
  { args: ['redis://h?commandTimeout=1500'] },
  { args: ['redis://h?keepAlive=1000'] },
  { args: ['redis://h?connectTimeout=soon'], refused: whole, why: PREFER.noNumber },
  { args: ['redis://h?connectionName=worker'] },
  { args: ['redis://h?keyPrefix=app%3A'] },
  { args: ['redis://h?keyPrefix=app:&keyPrefix=other:'] },
  { args: ['redis://h?password=a+b'] },
  { args: ['redis://h?password=a%2Bb'] },
  { args: ['redis://h?unknown=1&__proto__=2&constructor=3'] },
  { args: ['redis://h?host=other&port=7001'] },
  { args: ['redis://h:7000?port=7001'] },
  { args: ['redis://?host=other&port=7001'] },
  { args: [{ host: 'h', port: 7000, username: 'u', password: 'p', db: 1, keyPrefix: 'k:' }] },
  { args: [{ host: 'h', port: '7000' }] },
  { args: [{ host: 'h', port: 'many' }], refused: whole, why: PREFER.noNumber },
  { args: [{ host: '::1' }] },
  { args: [{ username: null, password: null, connectionName: null }] },
  { args: [{ username: '', password: '' }] },
  { args: [{ host: 'h', connectTimeout: 100, commandTimeout: 200, keepAlive: 1000 }] },
  { args: [{}] },
  { args: ['redis://h', { password: 'pw', db: 4, keyPrefix: 'k:' }] },
  { args: ['redis://:pw@h/1', { password: 'other', username: 'alice', db: 4, port: 7000, host: 'x' }] },
  { args: ['redis://user:pw@h:7000/1', { password: 'other', db: 4, port: 7001 }] },
  { args: ['h:7000', { db: 4, host: 'x' }] },
  { args: ['/tmp/redis.sock', { db: 4, path: '/x' }] },
  {
    args: [{ host: 'h', password: 5 }],
    refused: /password must be a string/,
    why: 'ioredis sends the digits',
  },
]

export const TARGET_CASES: TargetCase[] = [
  ...CHARACTERS.flatMap(encoded),
  ...RAW,
  ...BROKEN,
  ...USERS,
  ...HOSTS,
  ...DATABASES,
  ...SOCKETS,
  ...TLS,
  ...OTHERS,
]
