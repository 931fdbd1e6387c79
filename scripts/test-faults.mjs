/**
 * The long forms of the tests of faults: `npm run test:faults`. Numbers are those of a machine that does nothing else.
 *
 *   npm run test:faults -- --seconds 600     how long each fault lasts; default 60
 *   npm run test:faults -- --seed 42         the choices of an earlier run; each run prints its own
 *   npm run test:faults -- --only storm      only the files whose path contains this
 *   npm run test:faults -- --no-build        with what was built before
 */
import { parseArgs } from 'node:util'
import { findTestFiles, runTestFiles } from './lib/js-tests.mjs'
import { ensureRedisServer } from './lib/redis-server.mjs'
import { log, runMain, SetupError } from './lib/step.mjs'
import { prepare } from './lib/toolchain.mjs'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 32)) },
    only: { type: 'string', multiple: true },
    'no-build': { type: 'boolean', default: false },
  },
})

/** What a file needs besides the fault itself. */
const REST_MS = 5 * 60_000

await runMain(async () => {
  const seconds = wholeNumber('seconds', 1)
  const seed = wholeNumber('seed', 0)
  const files = findTestFiles(['__test__/faults/']).filter(
    (path) => options.only === undefined || options.only.some((part) => path.includes(part)),
  )
  if (files.length === 0) throw new SetupError(`No test file has ${options.only} in its path`)
  await prepare({ profile: 'debug', skipBuild: options['no-build'] })
  log(`✔ ${await ensureRedisServer()}`)
  const totals = { passed: 0, failed: 0, skipped: 0 }
  for (const file of files) {
    // oxlint-disable-next-line no-await-in-loop -- they measure, and would disturb each other
    const result = await runTestFiles(file, [file], {
      env: { FERROFLOW_FAULT_SECONDS: String(seconds), FERROFLOW_FAULT_SEED: String(seed) },
      timeoutMs: seconds * 1000 + REST_MS,
    })
    for (const key of Object.keys(totals)) totals[key] += result[key]
  }
  console.log(`--seconds ${seconds} --seed ${seed}`)
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`)
  return totals.failed === 0 && totals.passed > 0 ? 0 : 1
})

function wholeNumber(name, least) {
  const number = Number(options[name])
  if (Number.isSafeInteger(number) && number >= least) return number
  throw new SetupError(`--${name} is a whole number of at least ${least}`)
}
