/** Runs test files with node:test, two at a time, each in a process of its own. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, sep } from 'node:path'
import { forwardSignals, log, repository } from './step.mjs'

const CONCURRENCY = 2
/** A file that hangs must not hang the whole run. */
const FILE_TIMEOUT_MS = 5 * 60_000
const PROGRESS_MS = 10_000

/** All spec files, relative to the repository; with filters, those whose path contains one of them. */
export function findTestFiles(filters = []) {
  return readdirSync(join(repository, '__test__'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.spec.ts'))
    .map((entry) =>
      relative(repository, join(entry.parentPath ?? entry.path, entry.name))
        .split(sep)
        .join('/'),
    )
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .toSorted()
}

/**
 * @param {string} title
 * @param {string[]} files
 * @param {{ env?: NodeJS.ProcessEnv, timeoutMs?: number }} [options] env: added to the environment; timeoutMs: for one file
 * @returns {Promise<{ passed: number, failed: number, skipped: number }>}
 */
export async function runTestFiles(title, files, { env, timeoutMs = FILE_TIMEOUT_MS } = {}) {
  log(`▸ ${title}: ${files.length} files`)
  const begin = performance.now()
  const folder = mkdtempSync(join(tmpdir(), 'ferroflow-results-'))
  const results = join(folder, 'results.json')
  const code = await runNode(title, files, timeoutMs, { ...env, FERROFLOW_TEST_RESULTS: results })
  const totals = readResults(results)
  rmSync(folder, { recursive: true, force: true })
  const seconds = ((performance.now() - begin) / 1000).toFixed(1)
  if (totals === undefined) {
    log(`✖ ${title}: the test runner ended with ${code} and left no results (${seconds} s)`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  // The exit code may know of a failure that no test reported.
  if (code !== 0 && totals.failed === 0) {
    log(`✖ ${title}: the test runner ended with ${code} although no test failed`)
    totals.failed = 1
  }
  log(
    `${totals.failed === 0 ? '✔' : '✖'} ${title}: ${totals.passed} passed, ${totals.failed} failed (${seconds} s)`,
  )
  return totals
}

function runNode(title, files, timeoutMs, env) {
  const args = [
    '--import',
    'tsx',
    '--test',
    `--test-concurrency=${CONCURRENCY}`,
    `--test-timeout=${timeoutMs}`,
    '--test-reporter=./scripts/lib/test-reporter.mjs',
    '--test-reporter-destination=stdout',
    ...files,
  ]
  return new Promise((done) => {
    const child = spawn(process.execPath, args, {
      cwd: repository,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let lastOutput = performance.now()
    child.stdout.on('data', (chunk) => {
      lastOutput = performance.now()
      process.stdout.write(chunk)
    })
    const progress = setInterval(() => {
      if (performance.now() - lastOutput >= PROGRESS_MS) log(`  … ${title} still running`)
    }, PROGRESS_MS)
    const forget = forwardSignals(child)
    child.on('error', (error) => console.error(error))
    child.on('close', (code, signal) => {
      clearInterval(progress)
      forget()
      done(code ?? signal)
    })
  })
}

function readResults(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}
