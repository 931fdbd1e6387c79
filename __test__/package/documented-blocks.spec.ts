/**
 * Every TypeScript block of the five documents, run as it stands: in a project that has ferroflow under the names of
 * the documents, on a real Redis at the address that they name. What a block takes for granted, and what must work
 * once it has run, is in `documents/`, in a file named after the document.
 */
import assert from 'node:assert/strict'
import { cpSync, readFileSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import ts from 'typescript'
import { PackedProject } from '../helpers/packed-project'
import { RedisServer } from '../helpers/redis-server'
import { specSkipReason, type SpecBlock } from '../helpers/spec'
import { installStubs } from '../helpers/stub-packages'
import { repository } from '../types/compile'
import { blocksOf, documentedPackages, type DocumentedPackage } from '../types/documents'
import { exportedNames, toModule } from '../types/example-module'

/** The documents say `localhost:6379`. */
const PORT = 6379
const FILES = join(__dirname, 'documents')

interface Report {
  error?: { name: string; code?: string; message: string; stack: string }
  printed: string[]
  complaints: string[]
  unhandled: string[]
}

interface Expectation {
  /** `requirepass`, where the block has a password. */
  password?: string
  /** The block must end with this error. */
  error?: { name: string; code: string; message: RegExp }
  /** What the caller's own clients print, where they cannot reach what the block names. Default: nothing */
  complaints?: RegExp
}

/** Blocks that need or do something special, by document and innermost heading. */
const expectations: Record<string, Expectation> = {
  'saga-bus-store-redis.md With Existing Redis Client': { password: 'secret' },
  'saga-bus-store-redis.md Redis Cluster': {
    complaints: /ClusterAllFailedError|ENOTFOUND|EAI_AGAIN/,
  },
  'flowmonkey-redis.md Connection Options': {
    complaints: /sentinel|ClusterAllFailedError|ENOTFOUND|EAI_AGAIN/i,
  },
}

/** What is not shown here, and why. The blocks themselves run. */
const notRun: [what: string, reason: string][] = [
  [
    'flowmonkey-redis.md: stores through the Cluster of "Connection Options"',
    'redis-1 to redis-3 do not exist',
  ],
  ['flowmonkey-redis.md: stores through the Sentinel of "Connection Options"', 'sentinel-1 does not exist'],
  ['saga-bus-store-redis.md: the store of "Redis Cluster"', 'redis-1 to redis-3 do not exist'],
]

const skip = specSkipReason()

describe('the blocks of the documents run, installed by alias', { skip }, () => {
  if (skip !== false) return
  let server: RedisServer | undefined
  let project: PackedProject
  let noServer: string | undefined

  before(async () => {
    if (!(await isFree('127.0.0.1')) || !(await isFree('localhost'))) {
      noServer = `port ${PORT} is in use, and the documents name it`
      return
    }
    server = await RedisServer.start({ port: PORT })
    project = await PackedProject.create(documentedPackages.map(({ packageName }) => packageName))
    fillProject(project.root)
  })
  after(async () => {
    project?.remove()
    await server?.stop()
  })

  async function runBlock(
    block: SpecBlock,
    documented: DocumentedPackage,
    blocks: SpecBlock[],
  ): Promise<Report> {
    const name = block.document.replace(/\.md$/, '')
    const example = join(project.root, `${name}.line-${block.line}.mjs`)
    writeFileSync(example, toScript(block, documented, blocks))
    const about = {
      url: server?.url,
      example,
      fixture: join(project.root, `${name}.mjs`),
      heading: block.headings.at(-1),
    }
    const script = `import { run } from './run.mjs'\nawait run(${JSON.stringify(about)})`
    return project.evaluate<Report>('main.mjs', script)
  }

  for (const documented of documentedPackages) {
    const blocks = blocksOf(documented)

    it(`${documented.document} has the blocks we know`, () => {
      assert.equal(blocks.length, documented.blocks)
    })

    for (const block of blocks) {
      const heading = block.headings.at(-1) ?? ''
      const expected = expectations[`${block.document} ${heading}`] ?? {}
      it(`${block.document}:${block.line} ${heading}`, async (t) => {
        if (server === undefined) return t.skip(noServer ?? 'there is no server')
        await using _ = await emptyServer(server, expected.password)
        assertExpected(await runBlock(block, documented, blocks), expected)
      })
    }
  }

  for (const [what, reason] of notRun) it(what, { skip: reason }, () => {})
})

/** The block as JavaScript. Its types are taken away; nothing else is changed. */
function toScript(block: SpecBlock, documented: DocumentedPackage, blocks: SpecBlock[]): string {
  const name = block.document.replace(/\.md$/, '')
  const declarations = readFileSync(join(repository, `__test__/types/fixtures/${name}.d.ts`), 'utf8')
  const module = toModule(block, {
    earlier: blocks.slice(0, blocks.indexOf(block)),
    fixture: { specifier: `./${name}.mjs`, names: exportedNames(declarations) },
    interfaces: documented.interfaces,
    returnsDeclared: true,
  })
  const { outputText, diagnostics } = ts.transpileModule(module.text, {
    reportDiagnostics: true,
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  })
  assert.deepEqual(diagnostics, [])
  return outputText
}

/** Neither what it threw, nor what it left unhandled, nor what its clients complained of is a surprise. */
function assertExpected(report: Report, { error, complaints }: Expectation): void {
  assert.deepEqual(report.unhandled, [])
  if (error === undefined) assert.equal(report.error?.stack, undefined)
  else {
    assert.equal(report.error?.name, error.name, report.error?.stack)
    assert.equal(report.error.code, error.code)
    assert.match(report.error.message, error.message)
  }
  for (const complaint of report.complaints)
    if (complaints === undefined) assert.fail(complaint)
    else assert.match(complaint, complaints)
}

/** ioredis as it is here, small packages for those that cannot be had, and what the examples take for granted. */
function fillProject(root: string): void {
  // Its dependencies are found from where it really is.
  symlinkSync(
    realpathSync(join(repository, 'node_modules/ioredis')),
    join(root, 'node_modules/ioredis'),
    'junction',
  )
  installStubs(root, ['@upstash/redis', 'idioteque', '@saga-bus/core'])
  for (const file of readdirSync(FILES).filter((name) => name.endsWith('.mjs')))
    cpSync(join(FILES, file), join(root, file))
}

/** Nothing stored, and the password only as long as it is needed. */
async function emptyServer(server: RedisServer, password = ''): Promise<AsyncDisposable> {
  const admin = await server.client()
  await admin.command('FLUSHALL')
  await admin.command('CONFIG', 'SET', 'requirepass', password)
  return {
    async [Symbol.asyncDispose]() {
      await admin.command('CONFIG', 'SET', 'requirepass', '')
      admin[Symbol.dispose]()
    },
  }
}

async function isFree(host: string): Promise<boolean> {
  const probe = createServer()
  const listening = once(probe, 'listening').then(
    () => true,
    () => false,
  )
  probe.listen(PORT, host)
  const free = await listening
  if (free) await new Promise((resolve) => probe.close(resolve))
  return free
}
