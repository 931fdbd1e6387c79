/** What docs/http.md says: its program compiles, and it names every code and every default. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { extractBlocks } from '../helpers/spec'
import { compile, describeDiagnostic, diagnosticsOf, repository } from '../types/compile'

const read = (path: string): string => readFileSync(join(repository, path), 'utf8')

describe('docs/http.md', () => {
  const guide = read('docs/http.md')

  it('has a program that compiles', () => {
    const blocks = extractBlocks(guide, 'http.md', 'ts')
    assert.equal(blocks.length, 1)
    const path = join(repository, '__test__/types/fixtures/http.mts')
    const modules = new Map([[path, blocks[0]?.code ?? '']])
    const program = compile({ modules, paths: { 'ferroflow/express': 'express.d.ts' } })
    assert.deepEqual(
      diagnosticsOf(program, path).map((diagnostic) => describeDiagnostic(diagnostic)),
      [],
    )
  })

  it('names every code of an error', () => {
    const [, union = ''] = /type HttpErrorCode =([^;]*);/.exec(read('express.d.ts')) ?? []
    const codes = [...union.matchAll(/["']([A-Z_]+)["']/g)].map(([, code = '']) => code)
    assert.ok(codes.length > 8)
    assert.deepEqual(
      codes.filter((code) => !guide.includes(`\`${code}\``)),
      [],
    )
  })
})
