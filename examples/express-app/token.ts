/** Tokens for trying this out. In a real application whoever checks passwords makes them. */
import { createHmac } from 'node:crypto'

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A JSON web token for an hour that may do everything here. */
export function demoToken(secret: string): string {
  const claims = {
    sub: 'demo',
    aud: 'express-app',
    scope: 'workflow:read workflow:admin',
    exp: Math.floor(Date.now() / 1000) + 3600,
  }
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}
