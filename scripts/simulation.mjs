/**
 * Random histories of locks, many more than `cargo test` runs: `npm run test:simulation`.
 *
 *   npm run test:simulation                                a million seeds that were not tried before
 *   npm run test:simulation -- --seeds 1000 --first 4711   these
 *
 * Optimised and on all cores. A history that goes wrong is printed with its seed.
 */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000000' },
    first: { type: 'string', default: String(Date.now()) },
  },
})

const TEST = 'lock::simulation::every_history_keeps_the_promises'

// Linked in seconds instead of minutes; what is measured here is not for users.
const environment = {
  ...process.env,
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
  CARGO_TARGET_DIR: 'target/simulation',
  LOCK_SEEDS: options.seeds,
  LOCK_SEED: options.first,
  LOCK_THREADS: String(availableParallelism()),
}

const build = run(['test', '--release', '--lib', '--no-run'])
if (build === 0) {
  const began = performance.now()
  process.exitCode = run(['test', '--release', '--lib', '--', '--exact', TEST, '--nocapture'])
  const seconds = (performance.now() - began) / 1000
  const rate = Math.round(Number(options.seeds) / seconds)
  console.log(`seeds from ${options.first}: ${options.seeds} in ${seconds.toFixed(1)} s, ${rate} a second`)
} else {
  process.exitCode = build
}

function run(args) {
  return spawnSync('cargo', args, { stdio: 'inherit', env: environment }).status ?? 1
}
