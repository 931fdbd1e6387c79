/** Installs packages of Debian and its relatives, for tests that need a program. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { log, output, requireStep, SetupError } from './step.mjs'

const POLICY = '/usr/sbin/policy-rc.d'

/** Whether packages can be installed without asking anybody. */
export async function isInstallable() {
  return isDebian() && (await rootPrefix()) !== undefined
}

/**
 * Installs packages without starting their services: a server on the default port would be one more thing that the
 * tests must not touch. Debian asks policy-rc.d before it starts a service, and 101 means no.
 */
export async function installQuietly(packages) {
  const sudo = (await rootPrefix()) ?? []
  const [command, ...prefix] = [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get']
  const names = packages.join(' ')
  log(`${names}: missing, will be installed (no service is started)`)
  const removePolicy = await forbidServices(sudo)
  try {
    await requireStep('apt-get update', command, [...prefix, 'update'])
    await requireStep(`apt-get install ${names}`, command, [
      ...prefix,
      'install',
      '-y',
      '--no-install-recommends',
      ...packages,
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
