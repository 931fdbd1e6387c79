/** What an error must be, and what it must never show. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { FerroflowError, type ErrorCode } from '../../index.js'

/** Not a word that could be in an error by chance. */
export const SECRET = 'hunter2-7f3a9c'

export type ErrorClass = abstract new (...args: never[]) => FerroflowError

export interface ExpectedError {
  type: ErrorClass
  code: ErrorCode
  /** The whole message, or a part of it. */
  message: string | RegExp
  key?: string
}

/** For `assert.rejects` and `assert.throws`. */
export function like({ type, code, message, key }: ExpectedError): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof FerroflowError, `not an error of ferroflow: ${inspect(error)}`)
    assert.ok(error instanceof type, `${error.name}, not ${type.name}: ${error.message}`)
    assert.equal(error.code, code, error.message)
    assert.equal(error.name, type.name)
    if (typeof message === 'string') assert.equal(error.message, message)
    else assert.match(error.message, message)
    if (key !== undefined) assert.equal(error.key, key)
    assert.equal(typeof error.retryable, 'boolean')
    assertNoSecret(error)
    return true
  }
}

/** The secret is in nothing that anybody may log. */
export function assertNoSecret(value: unknown): void {
  const shown = [inspect(value, { depth: 8, showHidden: true }), String(value), JSON.stringify(value)]
  if (value instanceof Error) shown.push(value.stack ?? '', inspect(value.cause, { depth: 8 }))
  for (const text of shown) assert.ok(!text?.includes(SECRET), `a secret is shown: ${text}`)
}
