/** Finds a redis-server for the tests, and installs one where that can be done without asking. */
import { installQuietly, isInstallable } from './debian.mjs'
import { output, SetupError } from './step.mjs'

/** The version line of the server that the tests will start. */
export async function ensureRedisServer() {
  const named = process.env.FERROFLOW_REDIS_SERVER
  const found = await output(named || 'redis-server', ['--version'])
  if (found !== undefined) return found
  if (named) throw new SetupError(`FERROFLOW_REDIS_SERVER=${named} cannot be run`)
  if (!(await isInstallable())) throw new SetupError(howToInstall())
  await installQuietly(['redis-server'])
  const installed = await output('redis-server', ['--version'])
  if (installed === undefined) throw new SetupError(howToInstall())
  return installed
}

function howToInstall() {
  return [
    'redis-server is missing. Install it and run this again:',
    '  Debian, Ubuntu: sudo apt-get install redis-server      Fedora: sudo dnf install redis',
    '  macOS:          brew install redis                     Alpine: sudo apk add redis',
    'or name the program in FERROFLOW_REDIS_SERVER. Tests start servers of their own, no service is needed.',
  ].join('\n')
}
