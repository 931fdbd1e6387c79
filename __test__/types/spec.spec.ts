/**
 * The examples of the documents compile against our types, with nothing changed but the package that answers to the
 * imported name. Both versions of ioredis that users have are tried, because the examples pass its objects to us.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import type ts from 'typescript'
import { specSkipReason, type SpecBlock } from '../helpers/spec'
import { compile, describeDiagnostic, diagnosticsOf, repository } from './compile'
import { blocksOf, documentedPackages, type DocumentedPackage } from './documents'
import { exportedNames, toModule, type ExampleModule } from './example-module'

const FIXTURES = join(repository, '__test__/types/fixtures')
const INDEX = join(repository, 'index.d.ts')
/** An error that no type may let pass: if it does, the compiler saw `any` instead of our types. */
const CANARY = 'canary'

interface Example {
  path: string
  block: SpecBlock
  module: ExampleModule
}

const skip = specSkipReason()

function examplesOf(documented: DocumentedPackage): { all: SpecBlock[]; examples: Example[] } {
  const { document, interfaces } = documented
  const all = blocksOf(documented)
  const name = document.replace(/\.md$/, '')
  const names = exportedNames(readFileSync(join(FIXTURES, `${name}.d.ts`), 'utf8'))
  const fixture = { specifier: `./${name}`, names }
  const examples = all.map((block) => {
    const earlier = all.slice(0, all.indexOf(block))
    return {
      path: join(FIXTURES, `${name}.line-${block.line}.ts`),
      block,
      module: toModule(block, { earlier, fixture, interfaces }),
    }
  })
  return { all, examples }
}

function canary({ packageName, document }: DocumentedPackage): [path: string, text: string] {
  const text = `import * as ours from '${packageName}'\nnew ours.NoSuchClassAnywhere()\n`
  return [join(FIXTURES, `${document}.${CANARY}.ts`), text]
}

function compileWith(ioredis: string, examples: Example[]): ts.Program {
  return compile({
    modules: new Map([
      ...examples.map(({ path, module }): [string, string] => [path, module.text]),
      ...documentedPackages.map(canary),
    ]),
    paths: {
      ...Object.fromEntries(documentedPackages.map(({ packageName, entry }) => [packageName, entry])),
      '@saga-bus/core': '__test__/types/fixtures/saga-bus-core.d.ts',
      '@upstash/redis': '__test__/types/fixtures/upstash-redis.d.ts',
      idioteque: '__test__/types/fixtures/idioteque.d.ts',
      ioredis: `node_modules/${ioredis}`,
    },
  })
}

describe('the documented examples', { skip }, () => {
  if (skip !== false) return
  const documents = documentedPackages.map((documented) => ({ documented, ...examplesOf(documented) }))
  const examples = documents.flatMap((document) => document.examples)

  for (const { documented, all, examples: checked } of documents) {
    it(`${documented.document} has the blocks we know`, () => {
      assert.equal(all.length, documented.blocks, 'TypeScript blocks in the document')
      assert.equal(checked.length, documented.checked, 'of them checked here')
    })
  }

  for (const ioredis of ['ioredis', 'ioredis-5']) {
    describe(`with ${ioredis}`, () => {
      let program: ts.Program
      before(() => {
        assert.ok(existsSync(INDEX), 'index.d.ts is missing: run `npm run build:types`')
        program = compileWith(ioredis, examples)
      })

      for (const { path, block, module } of examples) {
        it(`${block.document}:${block.line} ${block.headings.at(-1)}`, () => {
          const problems = diagnosticsOf(program, path).map(
            (diagnostic) => `${block.document}:${describeDiagnostic(diagnostic, module.documentLine)}`,
          )
          assert.equal(problems.join('\n'), '')
        })
      }

      it('is checked against our real types', () => {
        assert.deepEqual(program.getGlobalDiagnostics().concat(program.getOptionsDiagnostics()), [])
        const inIndex = diagnosticsOf(program, INDEX).map((diagnostic) => describeDiagnostic(diagnostic))
        assert.equal(inIndex.join('\n'), '', 'index.d.ts')
        for (const [path] of documentedPackages.map(canary))
          assert.deepEqual(
            diagnosticsOf(program, path).map(({ code }) => code),
            [2339],
            path,
          )
      })
    })
  }
})
