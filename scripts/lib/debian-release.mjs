/**
 * Packages of another release of Debian than the installed one, through apt with folders of its own. Where they come
 * from is what this machine's own sources name.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { output, requireStep, SetupError } from './step.mjs'

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'

export class DebianRelease {
  #name
  #options

  constructor(name, options) {
    this.#name = name
    this.#options = options
  }

  /** Fetches the lists of a release, given by its code name, into a folder. */
  static async open(name, folder) {
    const uri = await archive()
    for (const path of ['state/lists/partial', 'cache/archives/partial'])
      mkdirSync(join(folder, path), { recursive: true })
    const sources = join(folder, 'sources.list')
    writeFileSync(sources, `deb [signed-by=${KEYRING}] ${uri} ${name} main\n`)
    const options = Object.entries({
      'Dir::Etc::sourcelist': sources,
      'Dir::Etc::sourceparts': '-',
      'Dir::State': join(folder, 'state'),
      // Nothing counts as installed.
      'Dir::State::status': '/dev/null',
      'Dir::Cache': join(folder, 'cache'),
      'APT::Sandbox::User': 'root',
      'Acquire::Languages': 'none',
      'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
      // The lists of old releases are signed no more, and stay as they are.
      'Acquire::Check-Valid-Until': 'false',
    }).flatMap(([key, value]) => ['-o', `${key}=${value}`])
    await requireStep(`apt-get update for ${name}`, 'apt-get', [...options, '--error-on=any', 'update'])
    return new DebianRelease(name, options)
  }

  /** A package and all libraries that it needs, and those that they need. */
  async withLibraries(root) {
    const found = new Set([root])
    for (let level = [root]; level.length > 0;) {
      // oxlint-disable-next-line no-await-in-loop -- each level names the next
      const text = await output('apt-cache', [...this.#options, 'depends', '--important', ...level])
      if (text === undefined) throw new SetupError(`${this.#name} has no package ${level.join(' or ')}`)
      const names = [...text.matchAll(/^ [ |](?:Pre)?Depends: ((?:lib|lua)[\w.+-]+)/gm)].map(
        ([, name]) => name,
      )
      level = [...new Set(names)].filter((name) => !found.has(name))
      for (const name of level) found.add(name)
    }
    return [...found]
  }

  /** Paths of the archives. */
  async download(packages, folder) {
    mkdirSync(folder, { recursive: true })
    // apt-get downloads into the current folder, whatever it is told.
    await requireStep(`download ${packages[0]} of ${this.#name} and ${packages.length - 1} libraries`, 'sh', [
      '-c',
      'cd "$0" && exec apt-get "$@"',
      folder,
      ...this.#options,
      'download',
      ...packages,
    ])
    return readdirSync(folder).map((file) => join(folder, file))
  }
}

/** Unpacks an archive into a folder, over what is there. */
export async function unpack(archiveFile, folder) {
  mkdirSync(folder, { recursive: true })
  if ((await output('dpkg-deb', ['-x', archiveFile, folder])) === undefined)
    throw new SetupError(`dpkg-deb cannot unpack ${archiveFile}`)
}

/** The archive of Debian that this machine uses. */
async function archive() {
  const text = await output('apt-get', [
    'indextargets',
    '--format',
    '$(ORIGIN) $(COMPONENT) $(REPO_URI)',
    'Created-By: Packages',
  ])
  // The lists of a fresh container are empty, and then the origin is unknown; the path tells as well.
  const uris = (text ?? '').split('\n').map((line) => /^\S* ?main (\S+\/debian\/?)$/.exec(line)?.[1])
  const uri = uris.find((found) => found !== undefined)
  if (uri === undefined)
    throw new SetupError('apt has no source of Debian here; --from images needs docker instead')
  return uri
}
