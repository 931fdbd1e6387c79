/**
 * What users get: the packages are packed as they would be published, installed into an empty project without a
 * network, and used there from CommonJS and from ES modules.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import ts from 'typescript'
import { compile, repository } from '../types/compile'

const run = promisify(execFile)

describe('the packed packages', () => {
  let folder: string
  let project: string

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ferroflow-pack-'))
    project = join(folder, 'project')
    const tarballs = [await pack(repository), await pack(platformPackage(folder))]
    mkdirSync(project)
    writeFileSync(join(project, 'package.json'), '{ "name": "user", "version": "1.0.0", "private": true }')
    await npm(project, ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...tarballs])
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  it('install to nothing but the package and its platform', () => {
    const installed = readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))
    assert.deepEqual(installed.toSorted(), ['ferroflow', `ferroflow-${platform()}`])
  })

  it('keep the addon and the sources out of the main package', () => {
    const files = filesOf(join(project, 'node_modules/ferroflow'))
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
      const from = join(project, file)
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
    const problems = await evaluate<string[]>(
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
    const required = await evaluate<string[]>(
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
    assert.equal(await evaluate('use.cjs', script), 'v')
  })

  it('work from an ES module', async () => {
    const script = `
      import { connect } from 'ferroflow'
      const c = connect('memory://')
      ${roundTrip}`
    assert.equal(await evaluate('use.mjs', script), 'v')
  })

  /** Runs a script in the project and reads the JSON that it prints. */
  async function evaluate<T>(name: string, script: string): Promise<T> {
    writeFileSync(join(project, name), script)
    const { stdout } = await run(process.execPath, [name], { cwd: project, env: cleanEnv(), timeout: 30_000 })
    return JSON.parse(stdout) as T
  }

  async function pack(source: string): Promise<string> {
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]
    const [result] = JSON.parse(await npm(source, args)) as { filename: string }[]
    return join(folder, result?.filename ?? '')
  }

  /** npm without a network and without a cache that might stand in for it. */
  async function npm(cwd: string, args: string[]): Promise<string> {
    const { stdout } = await run('npm', [...args, '--offline', '--cache', join(folder, 'cache')], {
      cwd,
      env: cleanEnv(),
      shell: process.platform === 'win32',
      timeout: 120_000,
    })
    return stdout
  }
})

/** The package of this machine's platform with the addon in it, in a copy, because npm/ is in git. */
function platformPackage(folder: string): string {
  const addon = `ferroflow.${platform()}.node`
  assert.ok(existsSync(join(repository, addon)), `${addon} is missing: run \`npm run build:debug\``)
  const copy = join(folder, platform())
  cpSync(join(repository, 'npm', platform()), copy, { recursive: true })
  cpSync(join(repository, addon), join(copy, addon))
  return copy
}

/** `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`: as the napi CLI names them. */
function platform(): string {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const abi = { linux: header.glibcVersionRuntime === undefined ? '-musl' : '-gnu', win32: '-msvc' }
  return `${process.platform}-${process.arch}${abi[process.platform as keyof typeof abi] ?? ''}`
}

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

/** Without what would let a process find the addon, or run it, in another way than a user's. */
function cleanEnv(): NodeJS.ProcessEnv {
  const { NAPI_RS_NATIVE_LIBRARY_PATH, NODE_OPTIONS, NODE_PATH, NODE_TEST_CONTEXT, ...rest } = process.env
  void [NAPI_RS_NATIVE_LIBRARY_PATH, NODE_OPTIONS, NODE_PATH, NODE_TEST_CONTEXT]
  return rest
}
