/**
 * Other servers than the installed one, unpacked beside their own libraries into `target/servers`: nothing is
 * installed, and no service is started. They come from Debian's releases, through apt as it is set up on this machine,
 * or from container images, through docker.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DebianRelease, unpack } from './debian-release.mjs'
import { output, repository, requireStep, SetupError } from './step.mjs'

/**
 * @typedef {object} ServerVersion
 * @property {string} name
 * @property {string} program
 * @property {{ release: string, package: string }} [debian] a release that has it
 * @property {string} image
 */

/** @type {ServerVersion[]} */
export const serverVersions = [
  {
    name: 'redis-6.0',
    program: 'redis-server',
    debian: { release: 'bullseye', package: 'redis-tools' },
    image: 'redis:6.0',
  },
  // No release of Debian has it.
  { name: 'redis-6.2', program: 'redis-server', image: 'redis:6.2' },
  {
    name: 'redis-7.0',
    program: 'redis-server',
    debian: { release: 'bookworm', package: 'redis-tools' },
    image: 'redis:7.0',
  },
  {
    name: 'redis-8.0',
    program: 'redis-server',
    debian: { release: 'trixie', package: 'redis-tools' },
    image: 'redis:8.0',
  },
  {
    name: 'valkey-8.1',
    program: 'valkey-server',
    debian: { release: 'trixie', package: 'valkey-tools' },
    image: 'valkey/valkey:8.1',
  },
]

const CACHE = join(repository, 'target/servers')

/**
 * The path of a program that runs as this server. What was unpacked once is used again.
 *
 * @param {ServerVersion} version
 * @param {'packages' | 'images'} source
 */
export async function obtain(version, source) {
  const folder = join(CACHE, `${version.name}-${source}`)
  const launcher = join(folder, 'launch')
  if (!existsSync(launcher)) {
    // Only what is complete gets the final name.
    const partial = `${folder}.partial`
    rmSync(partial, { recursive: true, force: true })
    mkdirSync(partial, { recursive: true })
    if (source === 'packages') await fromPackages(version, partial)
    else await fromImage(version, partial)
    rmSync(folder, { recursive: true, force: true })
    renameSync(partial, folder)
    writeLauncher(version, folder, launcher)
  }
  if ((await output(launcher, ['--version'])) === undefined)
    throw new SetupError(`${launcher} cannot be run; remove ${folder} and try again`)
  return launcher
}

async function fromPackages({ name, debian }, folder) {
  if (debian === undefined) throw new SetupError(`no release of Debian has ${name}; --from images has`)
  const release = await DebianRelease.open(debian.release, join(CACHE, `apt-${debian.release}`))
  const packages = await release.withLibraries(debian.package)
  const archives = await release.download(packages, join(folder, 'archives'))
  for (const archive of archives) {
    // oxlint-disable-next-line no-await-in-loop -- dpkg-deb is done in no time
    await unpack(archive, join(folder, 'root'))
  }
  rmSync(join(folder, 'archives'), { recursive: true })
}

async function fromImage({ image }, folder) {
  await requireStep(`pull ${image}`, 'docker', ['pull', '--quiet', image])
  const container = await output('docker', ['create', image])
  if (container === undefined) throw new SetupError(`docker create ${image} failed`)
  const archive = join(folder, 'root.tar')
  const root = join(folder, 'root')
  mkdirSync(root)
  try {
    await requireStep(`unpack ${image}`, 'docker', ['export', '--output', archive, container])
  } finally {
    await output('docker', ['rm', container])
  }
  // The programs and their libraries are all that is wanted, and devices could not be made.
  const unwanted = ['dev', 'proc', 'sys'].flatMap((path) => ['--exclude', path])
  await requireStep(`extract ${image}`, 'tar', ['-xf', archive, '-C', root, ...unwanted])
  rmSync(archive)
}

/**
 * A script that becomes the server: the process keeps its id, so that signals reach it. The libraries belong to
 * another release of the system than this one's, and so does the loader.
 */
function writeLauncher({ name, program }, folder, launcher) {
  const root = join(folder, 'root')
  const files = regularFiles(root)
  const loader = files.find((path) => /\/ld-(?:linux[^/]*\.so\.\d+|\d[^/]*\.so)$/.test(path))
  // Debian links the server to the checker of dump files, which looks at the name it is called by.
  const checker = `${program.replace('-server', '')}-check-rdb`
  const binary = [program, checker]
    .map((file) => files.find((path) => path.endsWith(`/bin/${file}`)))
    .find((path) => path !== undefined)
  if (loader === undefined || binary === undefined)
    throw new SetupError(`${name}: no ${loader === undefined ? 'loader' : program} in ${root}`)
  const called = join(dirname(binary), `${program}-of-tests`)
  renameSync(binary, called)
  const libraries = files.filter((path) => /\/lib(?:\/[^/]+-linux-[^/]+)?\/[^/]+\.so(?:\.\d|$)/.test(path))
  const folders = new Set(libraries.map((path) => dirname(path)))
  // Redis 6.0 of Debian loads cjson as a module of Lua.
  const modules = join(dirname(libraries.find((path) => path.includes('/liblua5.1')) ?? root), 'lua/5.1')
  const script = [
    '#!/bin/sh',
    ...(existsSync(modules) ? [`export LUA_CPATH='${modules}/?.so'`] : []),
    `exec '${loader}' --library-path '${[...folders].join(':')}' '${called}' "$@"`,
    '',
  ]
  writeFileSync(launcher, script.join('\n'))
  chmodSync(launcher, 0o755)
}

/** Links are left out: those of another system may lead into this one. */
function regularFiles(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}
