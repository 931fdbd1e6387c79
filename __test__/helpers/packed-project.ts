/** An empty project with ferroflow installed as users get it: packed, without a network, without install scripts. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { repository } from '../types/compile'

const run = promisify(execFile)

export class PackedProject {
  readonly folder = mkdtempSync(join(tmpdir(), 'ferroflow-pack-'))
  readonly root = join(this.folder, 'project')

  /** Installs the packed main package under each of `names`, and the package of this platform. */
  static async create(names: string[] = ['ferroflow']): Promise<PackedProject> {
    const project = new PackedProject()
    const main = await project.#pack(repository)
    const addon = await project.#pack(platformPackage(project.folder))
    const dependencies = Object.fromEntries([
      ...names.map((name) => [name, `file:${main}`]),
      [`ferroflow-${platform()}`, `file:${addon}`],
    ]) as Record<string, string>
    mkdirSync(project.root)
    const manifest = { name: 'user', version: '1.0.0', private: true, dependencies }
    writeFileSync(join(project.root, 'package.json'), JSON.stringify(manifest))
    await project.#npm(project.root, ['install', '--ignore-scripts', '--no-audit', '--no-fund'])
    return project
  }

  /** Runs a script in the project and reads the JSON that it prints. */
  async evaluate<T>(name: string, script: string): Promise<T> {
    writeFileSync(join(this.root, name), script)
    const options = { cwd: this.root, env: cleanEnv(), timeout: 30_000 }
    const { stdout } = await run(process.execPath, [name], options)
    return JSON.parse(stdout) as T
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  async #pack(source: string): Promise<string> {
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', this.folder]
    const [result] = JSON.parse(await this.#npm(source, args)) as { filename: string }[]
    return join(this.folder, result?.filename ?? '')
  }

  /** npm without a network and without a cache that might stand in for it. */
  async #npm(cwd: string, args: string[]): Promise<string> {
    const { stdout } = await run('npm', [...args, '--offline', '--cache', join(this.folder, 'cache')], {
      cwd,
      env: cleanEnv(),
      shell: process.platform === 'win32',
      timeout: 120_000,
    })
    return stdout
  }
}

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
export function platform(): string {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const abi = { linux: header.glibcVersionRuntime === undefined ? '-musl' : '-gnu', win32: '-msvc' }
  return `${process.platform}-${process.arch}${abi[process.platform as keyof typeof abi] ?? ''}`
}

/** Without what would let a process find the addon, or run it, in another way than a user's. */
function cleanEnv(): NodeJS.ProcessEnv {
  const { NAPI_RS_NATIVE_LIBRARY_PATH, NODE_OPTIONS, NODE_PATH, NODE_TEST_CONTEXT, ...rest } = process.env
  void [NAPI_RS_NATIVE_LIBRARY_PATH, NODE_OPTIONS, NODE_PATH, NODE_TEST_CONTEXT]
  return rest
}
