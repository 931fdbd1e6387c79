/** What docs/metrics.md says is true: its examples compile and run, and its tables are what there is. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { metricsText } from 'ferroflow/metrics'
import ts from 'typescript'
import { tracedOperations } from '../../index.js'
import { Program } from '../helpers/program'
import { extractBlocks } from '../helpers/spec'
import { compile, describeDiagnostic, diagnosticsOf } from '../types/compile'

const repository = resolve(__dirname, '../..')
const guide = readFileSync(join(repository, 'docs/metrics.md'), 'utf8')
const blocks = extractBlocks(guide, 'docs/metrics.md', 'ts')

/** What is done with an example once it has run, and what the two print. */
const USES: Record<string, [code: string, output: RegExp]> = {
  registerMetrics: [
    `await new Promise((resolve) => server.once('listening', resolve))
     const answer = await fetch('http://localhost:' + server.address().port)
     console.log(answer.headers.get('content-type'), /^redis_commands_total 0$/m.test(await answer.text()))
     server.close()`,
    /^text\/plain; version=0.0.4; charset=utf-8 true\n$/,
  ],
  metricsText: ['', /^true\n$/],
  tracedOperations: [
    `import { RedisLockManager } from 'ferroflow'
     const locks = new RedisLockManager('memory://')
     const later = () => new Promise((resolve) => setTimeout(resolve, 110))
     await locks.withLock('id-x', later)`,
    /^RedisLockManager.withLock took \d+ ms\n/,
  ],
  traceOperations: ['stop()', /^$/],
}

/** Rows of the table of a section, cell by cell. */
function tableOf(heading: string): string[][] {
  const [, section = ''] = guide.split(`\n## ${heading}\n`)
  const [text = ''] = section.split('\n## ')
  const rows = text.split('\n').filter((line) => line.startsWith('|'))
  return rows.slice(2).map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )
}

function inCode(cell: string | undefined): string[] {
  return [...(cell ?? '').matchAll(/`(\w+)`/g)].map(([, word = '']) => word)
}

describe('the examples of docs/metrics.md', () => {
  it('compile', () => {
    const folder = join(repository, '__test__/types/fixtures')
    const modules = blocks.map(({ line, code }): [string, string] => [
      join(folder, `metrics.line-${line}.mts`),
      code,
    ])
    const paths = {
      ferroflow: 'index.d.ts',
      'ferroflow/metrics': 'metrics.d.ts',
      'ferroflow/otel': 'otel.d.ts',
    }
    const program = compile({ modules: new Map(modules), paths })
    const problems = modules.flatMap(([path]) =>
      diagnosticsOf(program, path).map((diagnostic) => `${path}:${describeDiagnostic(diagnostic)}`),
    )
    assert.deepEqual(problems, [])
  })

  it('are all used below', () => {
    assert.equal(blocks.length, Object.keys(USES).length)
  })

  for (const [name, [use, output]] of Object.entries(USES))
    it(`${name} runs`, async () => {
      const block = blocks.find(({ code }) => new RegExp(`import .*\\b${name}\\b`).test(code))
      assert.ok(block !== undefined)
      const code = `${block.code.replace('9464', '0')}\n${use}`
      const { outputText } = ts.transpileModule(code, {
        compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
      })
      await using child = new Program(['--input-type=module', '--eval', outputText])
      assert.deepEqual(await child.ended(), { code: 0, signal: null }, child.output)
      assert.match(child.output, output)
    })
})

describe('docs/metrics.md', () => {
  it('has every metric with its type and meaning, and no other', async () => {
    const text = await metricsText()
    const types = new Map(
      [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, type]) => [name!, type!]),
    )
    const helps = [...text.matchAll(/^# HELP (\w+) (.+)$/gm)].map(([, name, help]) => [
      `\`${name}\``,
      types.get(name!),
      help,
    ])
    assert.ok(helps.length > 10)
    assert.deepEqual(
      tableOf('Metrics').map(([name, type, , help]) => [name, type, help]),
      helps,
    )
  })

  it('has the labels of every metric', async () => {
    const { connect, createWorkstation } = await import('../../index.js')
    const connection = connect({ host: '127.0.0.1', port: 1 })
    await connect('memory://').command('PING')
    // Its metrics are there once there is one.
    const workstation = createWorkstation({ redis: false })
    await workstation.getSession('u')
    const found = new Map<string, string[]>()
    for (const [, name = '', labels = ''] of (await metricsText()).matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
      const words = [...labels.matchAll(/(\w+)="/g)].map(([, label = '']) => label)
      found.set(
        name.replace(/_(?:bucket|sum|count)$/, ''),
        words.filter((label) => label !== 'le'),
      )
    }
    await Promise.all([connection.close(), workstation.close()])
    for (const [name = '', , labels] of tableOf('Metrics'))
      assert.deepEqual(inCode(labels), found.get(inCode(name)[0]!), name)
  })

  it('has every operation of the core, and no other', () => {
    const binding = join(repository, 'src/binding')
    const sources = readdirSync(binding).map((file) => readFileSync(join(binding, file), 'utf8'))
    const named = sources.flatMap((source) =>
      [...source.matchAll(/operation!\("([\w.]+)"\)/g)].map(([, name = '']) => name),
    )
    const documented = tableOf('Operations of the core').flatMap(([domain, , names]) =>
      inCode(names).map((name) => `${inCode(domain)[0]}.${name}`),
    )
    assert.ok(named.length > 50)
    assert.deepEqual(documented, [...new Set(named)].toSorted())
  })

  it('has every operation that is traced, and no other', () => {
    const documented = tableOf('Traces').flatMap(([owner, names]) =>
      inCode(names).map((name) => `${inCode(owner)[0]}.${name}`),
    )
    assert.deepEqual(documented, tracedOperations)
  })

  it('has every option of traceOperations, and no other', () => {
    const declarations = readFileSync(join(repository, 'otel.d.ts'), 'utf8')
    const [, body = ''] = /interface TraceOptions {([^]*?)\n}/.exec(declarations) ?? []
    const names = [...body.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name = '']) => name)
    assert.deepEqual(
      tableOf('OpenTelemetry').flatMap(([name]) => inCode(name)),
      names,
    )
  })
})
