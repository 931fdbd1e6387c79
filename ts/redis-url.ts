import { ConfigError } from './errors.js'
import type { LooseOptions } from './target.js'

const HOST = /^(?:\[[\da-f:.]+\]|[a-z\d](?:[a-z\d._-]*[a-z\d])?)$/i

/** Credentials in front of a host and a port, without a scheme and without a path. */
const CREDENTIALS = /^[^\s/?#]*@[^\s/?#@]+(?:\?|$)/

/**
 * Connection options of a string, with ioredis' rules: the path of a URL is the database, its query holds further
 * options, a string that starts with `/` is a Unix domain socket. `undefined` if it is none of the forms that
 * ioredis means; ioredis itself takes any other word for the path of a socket.
 */
export function parseTarget(target: string): LooseOptions | undefined {
  if (target.startsWith('memory://')) return { memory: decode(target.slice('memory://'.length)) }
  if (/^(?:redis|valkey)s?:\/\//i.test(target)) return parseUrl(target.replace(/^valkey/i, 'redis'))
  if (target.startsWith('//')) return parseUrl(`redis:${target}`)
  if (/^unix:/i.test(target)) return parsePath(target.replace(/^unix:(?:\/\/)?/i, ''))
  if (target.startsWith('/')) return parsePath(target)
  if (/^\d+$/.test(target)) return { port: target }
  return parseHost(target)
}

function parseUrl(target: string): LooseOptions {
  let url: URL
  try {
    url = new URL(target)
  } catch {
    // Not even the error of URL: it holds the whole text, and so the password.
    throw new ConfigError(
      'CONFIG',
      'The connection URL cannot be parsed; reserved characters in user and password must be percent-encoded',
    )
  }
  const { hostname, port, pathname, username, password, searchParams } = url
  const options = fromQuery(searchParams)
  if (/^rediss:/i.test(target)) options['tls'] ??= true
  // Together, as in ioredis: beside a password, a user in the query would log in as somebody else.
  if (username !== '' || password !== '') {
    options['username'] = decode(username)
    options['password'] = decode(password)
  }
  if (hostname !== '') options['host'] = hostname.replace(/^\[|\]$/g, '')
  if (port !== '') options['port'] = port
  if (pathname.length > 1) options['db'] = pathname.slice(1)
  return options
}

function parsePath(target: string): LooseOptions | undefined {
  const [path = '', query = ''] = target.split('?', 2)
  if (!path.startsWith('/')) return undefined
  return { ...fromQuery(new URLSearchParams(query)), path }
}

function parseHost(target: string): LooseOptions | undefined {
  if (CREDENTIALS.test(target)) return parseUrl(`redis://${target}`)
  const [address = '', query = ''] = target.split('?', 2)
  const match = /^(.*?)(?::(\d+))?$/.exec(address)
  const [, host = '', port] = match ?? []
  if (!HOST.test(host)) return undefined
  const options: LooseOptions = {
    ...fromQuery(new URLSearchParams(query)),
    host: host.replace(/^\[|\]$/g, ''),
  }
  if (port !== undefined) options['port'] = port
  return options
}

/** Without a prototype, so that `?__proto__=…` is an option like any other unknown one. */
function fromQuery(query: URLSearchParams): LooseOptions {
  const options = Object.create(null) as LooseOptions
  for (const [name, value] of query) options[name] = value
  return options
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new ConfigError('CONFIG', 'The connection URL holds a malformed percent-encoding')
  }
}
