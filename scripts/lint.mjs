/** Everything that can be said about the sources without running them. */
import { pathToFileURL } from 'node:url'
import { sourceRules, violations } from './lib/source-rules.mjs'
import { indent, log, runMain, runStep } from './lib/step.mjs'

/** @type {[title: string, command: string, args: string[]][]} */
const TOOLS = [
  ['cargo fmt', 'cargo', ['fmt', '--check']],
  ['cargo clippy', 'cargo', ['clippy', '--all-targets', '--', '-D', 'warnings']],
  ['tsc', 'npx', ['--no-install', 'tsc', '--noEmit', '-p', 'tsconfig.json']],
  ['oxlint', 'npx', ['--no-install', 'oxlint', '--deny-warnings']],
  ['prettier', 'npx', ['--no-install', 'prettier', '--check', '.']],
  ['timeouts', 'node', ['scripts/timeouts.mjs', '--check']],
]

/** @returns {Promise<{ title: string, ok: boolean }[]>} one result a step, in order */
export async function lint() {
  const results = []
  // One after the other: they compete for the processor, and a failure is easier to read.
  // oxlint-disable-next-line no-await-in-loop
  for (const [title, command, args] of TOOLS) results.push(await runStep(title, command, args))
  for (const rule of sourceRules) {
    const found = violations(rule)
    log(`${found.length === 0 ? '✔' : '✖'} ${rule.title}`)
    if (found.length > 0) console.log(indent(found.join('\n')))
    results.push({ title: rule.title, ok: found.length === 0 })
  }
  return results
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  await runMain(async () => {
    const failed = (await lint()).filter(({ ok }) => !ok)
    console.log(
      failed.length === 0 ? 'lint: ok' : `lint: failed: ${failed.map(({ title }) => title).join(', ')}`,
    )
    return failed.length === 0 ? 0 : 1
  })
