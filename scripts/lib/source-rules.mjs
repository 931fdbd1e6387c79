/**
 * Where a few words may stand in the Rust sources. The compiler cannot check this: it is what keeps the core free of
 * Node and the domains free of Redis commands.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { repository } from './step.mjs'

/** @typedef {{ title: string, pattern: RegExp, allowed: RegExp }} SourceRule */

/** @type {SourceRule[]} */
export const sourceRules = [
  {
    title: 'unsafe only in src/binding/ and src/runtime/',
    pattern: /\bunsafe\b/,
    allowed: /^src\/(?:binding|runtime)\//,
  },
  { title: '#[napi] only in src/binding/', pattern: /#!?\[\s*napi\b/, allowed: /^src\/binding\// },
  {
    title: 'the redis crate only in src/connection/, src/script.rs and src/*/redis.rs',
    // `self::redis::` and `lock::redis::` are modules of ours.
    pattern: /(?<![\w:])(?:::)?redis::|\b(?:use|extern crate)\s+(?:::)?redis\b/,
    allowed: /^src\/(?:connection\/|script\.rs$|[^/]+\/redis\.rs$)/,
  },
]

/** `path:line: text` for every line that breaks the rule. */
export function violations(rule, files = rustFiles()) {
  return files
    .filter(({ path }) => !rule.allowed.test(path))
    .flatMap(({ path, text }) =>
      stripComments(text)
        .split('\n')
        .flatMap((line, index) => (rule.pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
    )
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
