/**
 * All tests: `npm test`. Installs what is missing, builds, and ends with a line `N passed, N failed`.
 *
 *   npm test -- --only contract/lock    only the test files whose path contains this; no lint, no Rust tests
 *   npm test -- --no-build              with what was built before
 *
 * No test is ever repeated: one that fails now and then is a failure.
 */
import { parseArgs } from 'node:util'
import { lint } from './lint.mjs'
import { ensureChromium } from './lib/chromium.mjs'
import { findTestFiles, runTestFiles } from './lib/js-tests.mjs'
import { ensureRedisServer } from './lib/redis-server.mjs'
import { indent, log, output, runMain, runStep, SetupError } from './lib/step.mjs'
import { prepare } from './lib/toolchain.mjs'

const GENERATED = [
  'index.d.ts',
  'express.d.ts',
  'metrics.d.ts',
  'otel.d.ts',
  'pikku.d.mts',
  'js-binding.js',
  'js-binding.d.ts',
]

const { values: options } = parseArgs({
  options: { only: { type: 'string', multiple: true }, 'no-build': { type: 'boolean' } },
})

const totals = { passed: 0, failed: 0, skipped: 0 }

await runMain(async () => {
  try {
    await prepare({ profile: 'debug', skipBuild: options['no-build'] ?? false })
    log(`✔ ${await ensureRedisServer()}`)
    if (options.only === undefined) await runSourceTests()
    await runJsTests()
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    console.error(`\n✖ ${error.message}`)
    totals.failed += 1
  }
  const { passed, failed, skipped } = totals
  if (passed + failed === 0) console.error('✖ No test ran')
  if (skipped > 0) console.log(`${skipped} skipped, each named above with its reason`)
  console.log(`${passed} passed, ${failed} failed`)
  return failed > 0 || passed === 0 ? 1 : 0
})

async function runSourceTests() {
  if (!options['no-build']) await checkGenerated()
  for (const { ok } of await lint()) count({ passed: ok ? 1 : 0, failed: ok ? 0 : 1 })
  await runRustTests()
}

async function runJsTests() {
  const files = findTestFiles(options.only)
  if (files.some((path) => path.endsWith('browser.spec.ts')))
    log(`${(await ensureChromium()) ?? 'There is no browser'}: for the tests of pages`)
  const groups = [
    ['type tests', files.filter(isTypeTest)],
    ['tests', files.filter((path) => !isTypeTest(path))],
  ]
  for (const [title, group] of groups) {
    // oxlint-disable-next-line no-await-in-loop -- one group after the other
    if (group.length > 0) count(await runTestFiles(title, group))
  }
}

function isTypeTest(path) {
  return path.startsWith('__test__/types/')
}

/** What users install must be what the sources say: generated files are in git and equal to what was just built. */
async function checkGenerated() {
  if ((await output('git', ['rev-parse', '--is-inside-work-tree'])) !== 'true') return
  const title = 'generated files are current'
  const tracked = await output('git', ['ls-files', '--error-unmatch', '--', ...GENERATED])
  const difference = await output('git', ['diff', '--exit-code', '--stat', '--', ...GENERATED])
  const ok = tracked !== undefined && difference !== undefined
  log(`${ok ? '✔' : '✖'} ${title}`)
  if (!ok)
    console.log(indent(`The build wrote something else than git has. Add these: ${GENERATED.join(', ')}`))
  count({ passed: ok ? 1 : 0, failed: ok ? 0 : 1 })
}

async function runRustTests() {
  const result = await runStep('cargo test', 'cargo', ['test'])
  const lines = [...result.output.matchAll(/^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored/gm)]
  for (const [, passed, failed, skipped] of lines)
    count({ passed: Number(passed), failed: Number(failed), skipped: Number(skipped) })
  const failedTests = lines.reduce((sum, [, , failed]) => sum + Number(failed), 0)
  // It may not have compiled, or a test may have ended the process.
  if (!result.ok && failedTests === 0) count({ failed: 1 })
  for (const [, name] of result.output.matchAll(/^test (.+) \.\.\. ignored/gm)) log(`  skipped: ${name}`)
}

function count({ passed = 0, failed = 0, skipped = 0 }) {
  totals.passed += passed
  totals.failed += failed
  totals.skipped += skipped
}
