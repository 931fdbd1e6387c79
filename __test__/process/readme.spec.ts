/** What the documents say is true: the first program runs, and names, codes, paths and commands exist. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { Program } from '../helpers/program'
import { extractBlocks } from '../helpers/spec'

const repository = resolve(__dirname, '../..')
const read = (path: string): string => readFileSync(join(repository, path), 'utf8')

describe('README.md', () => {
  const readme = read('README.md')

  it('has a first program that runs', async () => {
    const [program, ...others] = extractBlocks(readme, 'README.md', 'js')
    assert.ok(program !== undefined && others.length === 0)
    await using child = new Program(['--input-type=module', '--eval', program.code])
    assert.deepEqual(await child.ended(), { code: 0, signal: null }, child.output)
    assert.match(child.output, /workflow: 'order',\n +status: 'completed'/)
    assert.match(child.output, /correlationId: 'order-1'/)
  })

  it('names every error code once, and no other', () => {
    const [, union = ''] = /type ErrorCode =([^]*?)\n(?:\/\*\*|export)/.exec(read('index.d.ts')) ?? []
    const codes = [...union.matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code)
    const named = [...readme.matchAll(/^\| `([A-Z_]+)` +\| `\w+Error`/gm)].map(([, code]) => code)
    assert.ok(codes.length > 10)
    assert.deepEqual(named.toSorted(), codes.toSorted())
  })
})

describe('the documents', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }

  for (const document of [
    'README.md',
    'ARCHITECTURE.md',
    'CONTRIBUTING.md',
    'docs/locks.md',
    'docs/metrics.md',
    'docs/http.md',
    'docs/workstation.md',
    'docs/operations.md',
    'examples/express-app/README.md',
  ]) {
    const text = read(document)

    it(`${document} names files that exist`, () => {
      const inCode = [...text.matchAll(/`((?:src|ts|__test__|scripts|examples|bench|npm)\/[\w./-]*)`/g)]
      const inLinks = [...text.matchAll(/\]\(([^):#]+)(?:#[\w-]+)?\)/g)]
      const paths = [
        ...inCode.map(([, path = '']) => path),
        ...inLinks.map(([, path = '']) => join(dirname(document), path)),
      ]
      const missing = paths.filter((path) => !existsSync(join(repository, path)))
      assert.deepEqual(missing, [])
    })

    it(`${document} names commands that exist`, () => {
      const named = [...text.matchAll(/\bnpm run ([\w:]+)/g)].map(([, name = '']) => name)
      assert.deepEqual(
        named.filter((name) => scripts[name] === undefined),
        [],
      )
    })
  }
})
