import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

import { ConfigError } from '../errors.js'
import { corrupt } from '../json.js'
import { checkObject } from '../validate.js'
import type { SessionKeyRing } from './api.js'

/** `ffs1:{key name}:{nonce, tag and ciphertext in base64url}` */
const START = 'ffs1:'
const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const NAME = /^[\w.-]{1,64}$/

/** How a text is stored, and read again. `owner` is part of what is authenticated: nobody can pass it to another. */
export interface Sealing {
  seal(text: string, owner: string): string
  open(stored: string, owner: string, key: string): string
}

/** For those who encrypt nothing. */
export const clear: Sealing = {
  seal: (text) => text,
  open: (stored, _owner, key) => {
    if (!stored.startsWith(START)) return stored
    throw corrupt('it is encrypted, and no keys were given', key)
  },
}

/** AES-256-GCM under the current key of a ring. */
export function sealingOf(ring: SessionKeyRing | undefined): Sealing {
  if (ring === undefined) return clear
  const { keys, current, allowPlain = true } = checkObject('encryption', ring) as SessionKeyRing
  const ringKeys = new Map(Object.entries(checkObject('encryption.keys', keys) as typeof keys))
  for (const [name, key] of ringKeys) {
    if (!NAME.test(name))
      throw new ConfigError('CONFIG', 'Names of encryption keys are 1 to 64 of A-Z a-z 0-9 _ . -')
    if (!(key instanceof Uint8Array) || key.byteLength !== KEY_BYTES)
      throw new ConfigError('CONFIG', `The encryption key ${name} must be a Uint8Array of 32 bytes`)
  }
  const writing = ringKeys.get(current)
  if (writing === undefined)
    throw new ConfigError('CONFIG', 'encryption.current must be the name of one of encryption.keys')
  return {
    seal(text, owner) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv(CIPHER, writing, nonce).setAAD(Buffer.from(owner))
      const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return `${START}${current}:${Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64url')}`
    },
    open(stored, owner, key) {
      if (!stored.startsWith(START)) {
        if (allowPlain) return stored
        throw corrupt('it is not encrypted', key)
      }
      const separator = stored.indexOf(':', START.length)
      const reading = ringKeys.get(stored.slice(START.length, separator))
      if (separator < 0 || reading === undefined)
        throw corrupt('it is encrypted with a key that is not in the ring', key)
      const bytes = Buffer.from(stored.slice(separator + 1), 'base64url')
      try {
        const decipher = createDecipheriv(CIPHER, reading, bytes.subarray(0, NONCE_BYTES))
        decipher.setAAD(Buffer.from(owner))
        decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES))
        const text = decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES))
        return Buffer.concat([text, decipher.final()]).toString('utf8')
      } catch {
        // The reason of a failure is nobody's business.
        throw corrupt('it cannot be decrypted', key)
      }
    },
  }
}
