/** What docs/locks.md says is true: its examples compile and print what they say, its tables miss nothing. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { after, before, describe, it } from 'node:test'
import ts from 'typescript'
import { Program } from '../helpers/program'
import { RedisServer } from '../helpers/redis-server'
import { extractBlocks, type SpecBlock } from '../helpers/spec'
import { compile, describeDiagnostic, diagnosticsOf } from '../types/compile'

const repository = resolve(__dirname, '../..')
const guide = readFileSync(join(repository, 'docs/locks.md'), 'utf8')
const declarations = readFileSync(join(repository, 'index.d.ts'), 'utf8')
const blocks = extractBlocks(guide, 'docs/locks.md', 'ts')
const [first] = blocks
assert.ok(first !== undefined)

/** The address in the examples. */
const ADDRESS = 'redis://localhost:6379'
/** What the first example leaves for the others. */
const LOCKS = `import { RedisLockManager } from 'ferroflow'
const locks = new RedisLockManager('${ADDRESS}', { defaultTTL: 10_000 })
`
/** Uses what the first example defines: a later holder has written when an earlier one comes. */
const PAYMENTS = `
const row = { paid: 0, fence: 0 }
const db: Database = {
  async query(_sql, [fence, id, cents]) {
    if (id !== '7' || row.fence > Number(fence)) return { rowCount: 0 }
    Object.assign(row, { paid: cents, fence })
    return { rowCount: 1 }
  },
}
await payOrder(db, '7', async () => 100)
console.log(row.paid, row.fence > 1e15)
const steps = new EventTarget()
const step = (name: string) => new Promise((resolve) => steps.addEventListener(name, resolve, { once: true }))
const inside = step('inside')
const late = payOrder(db, '7', async () => {
  const resumed = step('resumed')
  steps.dispatchEvent(new Event('inside'))
  await resumed
  return 300
})
await inside
await locks.forceRelease('order:7')
await payOrder(db, '7', async () => 200)
steps.dispatchEvent(new Event('resumed'))
console.log(await late.catch((error) => error.code + ', ' + error.cause.message), row.paid)
`

function toModule(block: SpecBlock): string {
  const [head, tail] = block === first ? ['', PAYMENTS] : [LOCKS, '']
  return `${head}${block.code}${tail}\nawait locks.close()\n`
}

/** What the comments behind calls of \`console.log\` say that these print. */
function expectedOutput(block: SpecBlock): string[] {
  if (block === first) return ['100 true', 'LOCK_LOST, Order 7 was written by a later holder of its lock 200']
  return [...block.code.matchAll(/console\.log\(.*\/\/ (.+)$/gm)].map(([, text = '']) => text)
}

/** The names that begin the rows of a section's table. */
function namesIn(heading: string): string[] {
  const [, section = ''] = guide.split(`\n## ${heading}\n`)
  const [table = ''] = section.split('\n## ')
  return [...table.matchAll(/^\| `(\w+)`/gm)].map(([, name = '']) => name)
}

describe('the examples of docs/locks.md', () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.stop())

  it('compile', () => {
    const folder = join(repository, '__test__/types/fixtures')
    const inReadme = extractBlocks(readFileSync(join(repository, 'README.md'), 'utf8'), 'README.md', 'ts')
    const summary = inReadme.filter(({ headings }) => headings.at(-1) === 'Locks')
    assert.equal(summary.length, 1)
    const modules = [
      ...summary.map(({ line, code }): [string, string] => [join(folder, `readme.line-${line}.mts`), code]),
      ...blocks.map((block): [string, string] => [
        join(folder, `locks.line-${block.line}.mts`),
        toModule(block),
      ]),
    ]
    const program = compile({ modules: new Map(modules), paths: { ferroflow: 'index.d.ts' } })
    assert.ok(program.getSourceFile(join(repository, 'index.d.ts')) !== undefined)
    const problems = modules.flatMap(([path]) =>
      diagnosticsOf(program, path).map((diagnostic) => `${path}:${describeDiagnostic(diagnostic)}`),
    )
    assert.deepEqual(problems, [])
  })

  for (const block of blocks) {
    it(`line ${block.line}, ${block.headings.at(-1)}: runs and prints what it says`, async () => {
      const { outputText } = ts.transpileModule(toModule(block).replaceAll(ADDRESS, server.url), {
        compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
      })
      await using child = new Program(['--input-type=module', '--eval', outputText])
      assert.deepEqual(await child.ended(), { code: 0, signal: null }, child.output)
      assert.deepEqual(child.output.split('\n').slice(0, -1), expectedOutput(block))
      using client = await server.client()
      const left = (await client.command('KEYS', 'fm:lock:*')) as string[]
      const locks = left.filter((key) => !key.startsWith('fm:lock:ferroflow:'))
      assert.deepEqual(locks, [], 'no lock is left behind')
    })
  }
})

describe('docs/locks.md', () => {
  it('has every error code of locks', () => {
    const named = namesIn('Errors')
    const codes = [...declarations.matchAll(/^ {2}\| '(LOCK_\w+|ABORTED|STALE_FENCE)'/gm)].map(
      ([, code]) => code!,
    )
    assert.ok(codes.length >= 7, codes.join())
    assert.deepEqual(
      codes.filter((code) => !named.includes(code)),
      [],
    )
  })

  it('has every option once, and no other', () => {
    const names = ['WaitOptions', 'HoldOptions', 'LockOptions', 'RedisLockManagerOptions'].flatMap((name) => {
      const [, body = ''] = new RegExp(`interface ${name}\\b[^{]*{([^]*?)\n}`).exec(declarations) ?? []
      return [...body.matchAll(/^ {2}(\w+)\?:/gm)].map(([, option = '']) => option)
    })
    assert.ok(names.length > 15, names.join())
    assert.deepEqual(namesIn('Options').toSorted(), [...new Set(names)].toSorted())
  })
})
