/** Finds a browser for the tests of pages, and installs one where that can be done without asking. */
import { installQuietly, isInstallable } from './debian.mjs'
import { log, output, SetupError } from './step.mjs'

const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']

/** The program of a browser, or undefined. */
export async function findChromium() {
  const named = process.env.FERROFLOW_CHROMIUM
  for (const program of named ? [named] : PROGRAMS) {
    // oxlint-disable-next-line no-await-in-loop -- the first one wins
    if ((await output(program, ['--version'])) !== undefined) return program
  }
  if (named) throw new SetupError(`FERROFLOW_CHROMIUM=${named} cannot be run`)
  return undefined
}

/** The program of a browser, installed if need be; undefined where that is not possible: its tests are then skipped. */
export async function ensureChromium() {
  const found = await findChromium()
  if (found !== undefined) return found
  if (!(await isInstallable())) return undefined
  try {
    await installQuietly(['chromium'])
  } catch (error) {
    // Some relatives of Debian have it under another name, or not at all.
    if (!(error instanceof SetupError)) throw error
    log(error.message)
  }
  return findChromium()
}
