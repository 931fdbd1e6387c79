/** Finds a redis-server for the tests, and installs one where that can be done without asking. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { log, output, requireStep, SetupError } from './step.mjs'

const POLICY = '/usr/sbin/policy-rc.d'

/** The version line of the server that the tests will start. */
export async function ensureRedisServer() {
  const named = process.env.FERROFLOW_REDIS_SERVER
  const found = await output(named || 'redis-server', ['--version'])
  if (found !== undefined) return found
  if (named) throw new SetupError(`FERROFLOW_REDIS_SERVER=${named} cannot be run`)
  const sudo = await rootPrefix()
  if (!isDebian() || sudo === undefined) throw new SetupError(howToInstall())
  await installQuietly(sudo)
  const installed = await output('redis-server', ['--version'])
  if (installed === undefined) throw new SetupError(howToInstall())
  return installed
}

/**
 * Installs the package without starting its service: a server on the default port would be one more thing that the
 * tests must not touch. Debian asks policy-rc.d before it starts a service, and 101 means no.
 */
async function installQuietly(sudo) {
  const [command, ...prefix] = [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get']
  log('redis-server is missing and will be installed (without starting it as a service)')
  const removePolicy = await forbidServices(sudo)
  try {
    await requireStep('apt-get update', command, [...prefix, 'update'])
    await requireStep('apt-get install redis-server', command, [
      ...prefix,
      'install',
      '-y',
      '--no-install-recommends',
      'redis-server',
    ])
  } finally {
    await removePolicy()
  }
}

async function forbidServices(sudo) {
  // Somebody else's policy stays as it is; containers usually have one that says no.
  if (existsSync(POLICY)) return async () => {}
  if (sudo.length === 0) {
    writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
    return async () => rmSync(POLICY, { force: true })
  }
  const write = `printf '#!/bin/sh\\nexit 101\\n' > ${POLICY} && chmod 755 ${POLICY}`
  if ((await output(sudo[0], [...sudo.slice(1), 'sh', '-c', write])) === undefined)
    throw new SetupError(`${POLICY} could not be written, and without it a service would be started`)
  return async () => void (await output(sudo[0], [...sudo.slice(1), 'rm', '-f', POLICY]))
}

/** How to become root without a question: not at all, by sudo, or not possible (undefined). */
async function rootPrefix() {
  if (process.getuid?.() === 0) return []
  return (await output('sudo', ['-n', 'true'])) === undefined ? undefined : ['sudo', '-n']
}

function isDebian() {
  try {
    return /^ID(?:_LIKE)?=.*\b(?:debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'))
  } catch {
    return false
  }
}

function howToInstall() {
  return [
    'redis-server is missing. Install it and run this again:',
    '  Debian, Ubuntu: sudo apt-get install redis-server      Fedora: sudo dnf install redis',
    '  macOS:          brew install redis                     Alpine: sudo apk add redis',
    'or name the program in FERROFLOW_REDIS_SERVER. Tests start servers of their own, no service is needed.',
  ].join('\n')
}
