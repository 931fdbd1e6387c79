/**
 * What users get: the packages are packed as they would be published, installed into an empty project without a
 * network, and used there from CommonJS and from ES modules.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import ts from 'typescript'
import { PackedProject, platform } from '../helpers/packed-project'
import { compile, repository } from '../types/compile'

describe('the packed packages', () => {
  let project: PackedProject
  before(async () => {
    project = await PackedProject.create()
  })
  after(() => project.remove())

  it('install to nothing but the package and its platform', () => {
    const installed = readdirSync(join(project.root, 'node_modules')).filter((name) => !name.startsWith('.'))
    assert.deepEqual(installed.toSorted(), ['ferroflow', `ferroflow-${platform()}`])
  })

  it('keep the addon and the sources out of the main package', () => {
    const files = filesOf(join(project.root, 'node_modules/ferroflow'))
    for (const needed of ['index.js', 'index.mjs', 'index.d.ts', 'js-binding.js', 'package.json', 'LICENSE'])
      assert.ok(files.includes(needed), `${needed} is packed`)
    const unwanted = files.filter((file) =>
      /\.(?:node|rs|tgz)$|(?<!\.d)\.ts$|^(?:__test__|scripts)\//.test(file),
    )
    assert.deepEqual(unwanted, [])
  })

  it('are found by TypeScript', () => {
    for (const [file, mode] of [
      ['user.mts', ts.ModuleKind.ESNext],
      ['user.cts', ts.ModuleKind.CommonJS],
    ] as const) {
      const options = { module: ts.ModuleKind.Node16, moduleResolution: ts.ModuleResolutionKind.Node16 }
      const from = join(project.root, file)
      const { resolvedModule } = ts.resolveModuleName(
        'ferroflow',
        from,
        options,
        ts.sys,
        undefined,
        undefined,
        mode,
      )
      assert.ok(resolvedModule?.resolvedFileName.endsWith('ferroflow/index.d.ts'), file)
    }
  })

  it('give the same objects to require and import', async () => {
    const names = valueExports()
    assert.ok(names.includes('connect'), 'index.d.ts was read')
    const problems = await project.evaluate<string[]>(
      'same.mjs',
      `import * as imported from 'ferroflow'
       import { createRequire } from 'node:module'
       const required = createRequire(import.meta.url)('ferroflow')
       const problems = ${JSON.stringify(names)}.flatMap((name) => [
         ...(name in imported ? [] : [name + ' cannot be imported']),
         ...(name in required ? [] : [name + ' cannot be required']),
         ...(imported[name] === required[name] ? [] : [name + ' exists twice']),
       ])
       console.log(JSON.stringify(problems))`,
    )
    assert.deepEqual(problems, [])
  })

  it('export nothing that has no type', async () => {
    const names = new Set(valueExports())
    const required = await project.evaluate<string[]>(
      'names.cjs',
      `console.log(JSON.stringify(Object.keys(require('ferroflow'))))`,
    )
    assert.deepEqual(
      required.filter((name) => !names.has(name) && name !== 'default'),
      [],
    )
  })

  const roundTrip = `
    await c.command('SET', 'k', 'v')
    console.log(JSON.stringify(await c.command('GET', 'k')))`

  // The scripts do not close anything: an idle connection must not keep a process alive.
  it('work from CommonJS', async () => {
    const script = `
      const { connect } = require('ferroflow')
      const c = connect('memory://')
      void (async () => {${roundTrip}})()`
    assert.equal(await project.evaluate('use.cjs', script), 'v')
  })

  it('work from an ES module', async () => {
    const script = `
      import { connect } from 'ferroflow'
      const c = connect('memory://')
      ${roundTrip}`
    assert.equal(await project.evaluate('use.mjs', script), 'v')
  })
})

/** Names in index.d.ts that exist at run time: classes, functions, constants, enums. */
function valueExports(): string[] {
  const path = join(repository, '__test__/package/exports.ts')
  const program = compile({ modules: new Map([[path, `export * from '../../index'\n`]]), paths: {} })
  const checker = program.getTypeChecker()
  const file = program.getSourceFile(path)
  const module = file === undefined ? undefined : checker.getSymbolAtLocation(file)
  assert.ok(module !== undefined)
  return checker
    .getExportsOfModule(module)
    .filter((symbol) => {
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
      return (target.flags & ts.SymbolFlags.Value) !== 0
    })
    .map(({ name }) => name)
    .toSorted()
}

function filesOf(root: string): string[] {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' })
  return paths.map((path) => path.replaceAll('\\', '/'))
}
