/** A headless Chromium, where the machine has one. FERROFLOW_CHROMIUM names its program. */
import { accessSync, constants } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { type Browser, chromium } from 'playwright-core'

const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']

function find(program: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const paths = isAbsolute(program) ? [program] : folders.map((folder) => join(folder, program))
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

const named = process.env['FERROFLOW_CHROMIUM']
const program = (named ? [named] : PROGRAMS).map(find).find((path) => path !== undefined)

/** Why tests of pages do not run, or false if they do. */
export const browserSkipReason: string | false =
  program === undefined && `there is no ${named ?? PROGRAMS.join(', ')}`

export function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: program,
    // Its sandbox cannot be had by root, nor in most containers; the only page is our own.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  })
}
