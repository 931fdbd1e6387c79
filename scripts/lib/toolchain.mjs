/** What must be there before anything can be built: Node, Rust, the npm packages. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { log, output, repository, requireStep, SetupError } from './step.mjs'

const MINIMUM_NODE = [20, 11]

export function checkNode(version = process.versions.node) {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [needMajor, needMinor] = MINIMUM_NODE
  if (major > needMajor || (major === needMajor && minor >= needMinor)) return
  throw new SetupError(
    `Node ${MINIMUM_NODE.join('.')} or later is needed; this is ${version}. See https://nodejs.org/`,
  )
}

export async function checkCargo() {
  const version = await output('cargo', ['--version'])
  if (version !== undefined) return void log(`✔ ${version}`)
  throw new SetupError(
    [
      'cargo, the build tool of Rust, is missing. Install Rust and run this again:',
      "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y",
      '  . "$HOME/.cargo/env"',
      'The version in rust-toolchain.toml is then fetched by itself. A C compiler is needed too (Debian: build-essential).',
    ].join('\n'),
  )
}

/** `npm ci`, unless what is installed is newer than the lock file. */
export async function installDependencies() {
  const installed = join(repository, 'node_modules/.package-lock.json')
  const lock = join(repository, 'package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return
  await requireStep('install npm packages', 'npm', ['ci', '--no-audit', '--no-fund'])
}

/** @param {'debug' | 'release'} profile */
export async function build(profile) {
  const script = profile === 'release' ? 'build' : 'build:debug'
  await requireStep(`build (${profile})`, 'npm', ['run', script])
}

/** Everything up to a built addon. */
export async function prepare({ profile, skipBuild = false }) {
  checkNode()
  await checkCargo()
  await installDependencies()
  if (!skipBuild) await build(profile)
}
