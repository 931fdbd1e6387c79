/**
 * The contract suites on other servers than the installed one: `npm run test:servers`. Ends with a line for each.
 *
 *   npm run test:servers -- --server valkey-8.1     only this one; may be given several times
 *   npm run test:servers -- --only contract/saga    only the test files whose path contains this
 *   npm run test:servers -- --from images           container images in place of Debian's packages; needs docker
 *   npm run test:servers -- --no-build              with what was built before
 */
import { parseArgs } from 'node:util'
import { findTestFiles, runTestFiles } from './lib/js-tests.mjs'
import { obtain, serverVersions } from './lib/server-versions.mjs'
import { log, output, runMain, SetupError } from './lib/step.mjs'
import { prepare } from './lib/toolchain.mjs'

const SUITES = ['__test__/contract/', '__test__/topology/', '__test__/runtime/']

/** No file takes a quarter of this; one that hangs shall not cost more. */
const FILE_TIMEOUT_MS = 4 * 60_000

const { values: options } = parseArgs({
  options: {
    server: { type: 'string', multiple: true },
    only: { type: 'string', multiple: true },
    from: { type: 'string', default: 'packages' },
    'no-build': { type: 'boolean', default: false },
  },
})

await runMain(async () => {
  const versions = chosenVersions()
  const files = findTestFiles(options.only ?? SUITES)
  if (files.length === 0) throw new SetupError(`No test file has ${options.only} in its path`)
  await prepare({ profile: 'debug', skipBuild: options['no-build'] })
  const reports = []
  for (const version of versions) {
    // oxlint-disable-next-line no-await-in-loop -- one server after the other
    reports.push(await testOn(version, files))
  }
  console.log()
  for (const { ok, text } of reports) console.log(`${ok ? '✔' : '✖'} ${text}`)
  return reports.every(({ ok }) => ok) ? 0 : 1
})

function chosenVersions() {
  if (options.from !== 'packages' && options.from !== 'images')
    throw new SetupError('--from is packages or images')
  // What no release has is not a failure, unless it was asked for by name.
  if (options.server === undefined)
    return serverVersions.filter(({ debian }) => options.from === 'images' || debian !== undefined)
  return options.server.map((name) => {
    const version = serverVersions.find((known) => known.name === name)
    if (version !== undefined) return version
    throw new SetupError(`--server is one of ${serverVersions.map((known) => known.name).join(', ')}`)
  })
}

/** A server that cannot be had is a failure: nobody shall believe that it was tested. */
async function testOn(version, files) {
  let program
  try {
    program = await obtain(version, options.from)
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    return { ok: false, text: `${version.name}: not tested: ${error.message}` }
  }
  const exact = /v=([\w.-]+)/.exec((await output(program, ['--version'])) ?? '')?.[1]
  const title = `${version.name} (${exact})`
  log(`✔ ${title} from ${options.from}`)
  const { passed, failed, skipped } = await runTestFiles(title, files, {
    env: { FERROFLOW_REDIS_SERVER: program },
    timeoutMs: FILE_TIMEOUT_MS,
  })
  return {
    ok: failed === 0 && passed > 0,
    text: `${title}: ${passed} passed, ${failed} failed, ${skipped} skipped`,
  }
}
