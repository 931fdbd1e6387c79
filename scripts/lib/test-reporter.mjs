/**
 * Reporter for `node --test`: a line for every file, failures and skips in full. Counts go to the file that
 * FERROFLOW_TEST_RESULTS names.
 *
 * Only what really ran is counted: a suite or a parent counts by what is inside it, a file that ran nothing is a
 * failure (a test that silently disappears must not look like success), and a file that ends badly is one as well.
 */
import { writeFileSync } from 'node:fs'
import { relative, resolve } from 'node:path'
import { inspect } from 'node:util'
import { indent } from './step.mjs'

export default async function* testReporter(source) {
  const totals = { passed: 0, failed: 0, skipped: 0 }
  let file
  for await (const { type, data } of source) {
    if (data?.file === undefined) {
      // Node reports an error after the end of a test this way, and fails the file besides.
      if (type === 'test:diagnostic' && data.message.startsWith('Error')) yield `    ${data.message}\n`
      continue
    }
    if (type === 'test:stdout' || type === 'test:stderr') outputOf(data.file).push(data.message)
    if (type !== 'test:start' && type !== 'test:pass' && type !== 'test:fail') continue
    if (file?.path !== data.file) {
      if (file !== undefined) yield file.summary(totals)
      file = new FileReport(data.file)
    }
    if (type === 'test:start') file.start(data)
    else file.add(type === 'test:pass', data)
  }
  if (file !== undefined) yield file.summary(totals)
  const results = process.env.FERROFLOW_TEST_RESULTS
  if (results) writeFileSync(results, JSON.stringify(totals))
}

/** What the files printed, until it is known whether somebody wants to read it. */
const printed = new Map()

function outputOf(path) {
  if (!printed.has(path)) printed.set(path, [])
  return printed.get(path)
}

class FileReport {
  #passed = 0
  #milliseconds = 0
  /** @type {string[]} */
  #failures = []
  /** @type {string[]} */
  #skips = []
  /** Whether something was reported at a depth since the last report above it. */
  #seen = []
  /** The names of the suites and tests that have begun, by depth. */
  #names = []

  constructor(path) {
    this.path = path
  }

  start({ name, nesting }) {
    this.#names[nesting] = name
  }

  add(passed, data) {
    const { name, nesting, skip, todo, details } = data
    if (nesting === 0 && resolve(name) === this.path) return this.#addFile(passed, data)
    if (nesting === 0) this.#milliseconds += details.duration_ms
    const isParent = details.type === 'suite' || this.#seen[nesting + 1] === true
    this.#seen[nesting + 1] = false
    this.#seen[nesting] = true
    const fullName = [...this.#names.slice(0, nesting), name].join(' › ')
    if (skip !== undefined || todo !== undefined) {
      this.#skips.push(`${fullName}${reason(skip, todo)}`)
    } else if (details.error?.failureType === 'cancelledByParent') {
      // The parent's own failure says why; here is only that this test did not run.
      this.#failures.push(`${fullName}: cancelled`)
    } else if (!passed && details.error?.failureType !== 'subtestsFailed') {
      this.#failures.push(`${fullName}\n${indent(describe(details.error))}`)
    } else if (passed && !isParent) {
      this.#passed += 1
    }
  }

  /** Node reports the file itself when nothing in it ran, or when its process ended badly. */
  #addFile(passed, { details }) {
    this.#milliseconds ||= details.duration_ms
    if (!passed) this.#failures.push(`the file\n${indent(describe(details.error))}`)
    else if (this.#passed + this.#skips.length + this.#failures.length === 0)
      this.#failures.push('the file contains no test')
  }

  summary(totals) {
    totals.passed += this.#passed
    totals.failed += this.#failures.length
    totals.skipped += this.#skips.length
    const failed = this.#failures.length
    const counts = [
      `${this.#passed} passed`,
      ...(failed > 0 ? [`${failed} failed`] : []),
      ...(this.#skips.length > 0 ? [`${this.#skips.length} skipped`] : []),
    ].join(', ')
    const name = relative(process.cwd(), this.path)
    const lines = [
      `  ${failed > 0 ? '✖' : '✔'} ${name}: ${counts} (${(this.#milliseconds / 1000).toFixed(1)} s)`,
    ]
    lines.push(...this.#skips.map((skip) => `      skipped: ${skip}`))
    lines.push(...this.#failures.map((failure) => `\n    ✖ ${indent(failure).trimStart()}\n`))
    const output = outputOf(this.path).join('').trimEnd()
    if (failed > 0 && output !== '') lines.push(`    output of ${name}:\n${indent(output)}\n`)
    printed.delete(this.path)
    return `${lines.join('\n')}\n`
  }
}

function reason(skip, todo) {
  const text = [skip, todo].find((value) => typeof value === 'string')
  return text === undefined || text === ''
    ? ` (${skip === undefined ? 'todo' : 'no reason given'})`
    : ` (${text})`
}

/** Node wraps what was thrown. A stack that lacks the message is of no use, so both are shown. */
function describe(wrapper) {
  const error = wrapper?.cause ?? wrapper
  if (!(error instanceof Error)) return typeof error === 'string' ? error : inspect(error)
  const stack = error.stack ?? ''
  const text = stack.includes(error.message) ? stack : `${error.message}\n${stack}`
  return error.cause === undefined ? text : `${text}\ncaused by ${inspect(error.cause)}`
}
