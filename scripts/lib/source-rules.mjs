/**
 * Where a few words may stand in the Rust sources. The compiler cannot check this: it is what keeps the core free of
 * Node and the domains free of Redis commands.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { repository } from './step.mjs'

/**
 * @typedef {object} SourceRule
 * @property {string} title
 * @property {(text: string) => RegExp} pattern what must not stand on a line of this file
 * @property {RegExp} allowed paths where it may
 */

// `self::redis::` and `lock::redis::` are modules of ours, and in a file with `mod redis;` so is `redis::` alone.
const REDIS_CRATE = /(?<![\w:])(?:::)?redis::|\b(?:use|extern crate)\s+(?:::)?redis\b/
const REDIS_CRATE_BESIDE_MODULE = /(?<![\w:>])::redis::|\b(?:use|extern crate)\s+(?:::)?redis\b/

/** @type {SourceRule[]} */
export const sourceRules = [
  {
    title: 'unsafe only in src/binding/ and src/runtime/',
    pattern: () => /\bunsafe\b/,
    allowed: /^src\/(?:binding|runtime)\//,
  },
  { title: '#[napi] only in src/binding/', pattern: () => /#!?\[\s*napi\b/, allowed: /^src\/binding\// },
  {
    title: 'the redis crate only in src/connection/, src/script.rs and src/*/redis.rs',
    pattern: (text) => (/\bmod\s+redis\s*;/.test(text) ? REDIS_CRATE_BESIDE_MODULE : REDIS_CRATE),
    allowed: /^src\/(?:connection\/|script\.rs$|[^/]+\/redis\.rs$)/,
  },
]

/** `path:line: text` for every line that breaks the rule. */
export function violations(rule, files = rustFiles()) {
  return files
    .filter(({ path }) => !rule.allowed.test(path))
    .flatMap(({ path, text }) => {
      const code = stripComments(text)
      const pattern = rule.pattern(code)
      return code
        .split('\n')
        .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : []))
    })
}

function rustFiles() {
  return readdirSync(join(repository, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.rs'))
    .map((entry) => {
      const path = join(entry.parentPath ?? entry.path, entry.name)
      return { path: relative(repository, path).split(sep).join('/'), text: readFileSync(path, 'utf8') }
    })
}

/** Comments and texts may say anything. Lines keep their numbers. */
export function stripComments(text) {
  const token = /\/\/[^\n]*|\/\*[^]*?\*\/|r(#*)"[^]*?"\1|"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\.)'/g
  return text.replaceAll(token, (match) => match.replaceAll(/[^\n]/g, ' '))
}
