/** The rights that docs/operations.md asks for. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

const document = readFileSync(resolve(__dirname, '../../docs/operations.md'), 'utf8')

function rulesOf(pattern: RegExp): Map<string, string[]> {
  const users = [...document.matchAll(pattern)]
  return new Map(users.map(([, name = '', rules = '']) => [name, rules.split(' ')]))
}

/** Rules of access control, by class. */
export const DOCUMENTED = rulesOf(/^ACL SETUSER (\S+) (on .+)$/gm)

/** The same in a cluster. */
export const IN_CLUSTER = new Map(
  [...rulesOf(/^ACL SETUSER (\S+) ([~+].+)$/gm)].map(([name, rules]) => [
    name,
    [...(DOCUMENTED.get(name) ?? []), ...rules],
  ]),
)
