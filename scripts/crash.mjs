/**
 * The crash matrix, with many more cases than `npm test` runs: `npm run test:crash`.
 *
 *   npm run test:crash                                   10,000 cases that were not tried before
 *   npm run test:crash -- --cases 1000 --seed 4711       these
 *   npm run test:crash -- --from 1000 --seed 4711        the 10,000 from this one on: a run may be had in pieces
 *   npm run test:crash -- --seed 4711 --case 17          one of them, alone
 *   npm run test:crash -- --no-build …                   with what was built before
 *
 * A case that goes wrong is printed with its seed and number.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { ensureRedisServer } from './lib/redis-server.mjs'
import { log, repository, runMain } from './lib/step.mjs'
import { prepare } from './lib/toolchain.mjs'

const SPEC = '__test__/faults/crash-matrix.spec.ts'

const { values: options } = parseArgs({
  options: {
    cases: { type: 'string', default: '10000' },
    from: { type: 'string', default: '0' },
    seed: { type: 'string', default: String(Math.floor(Date.now() / 1000)) },
    case: { type: 'string' },
    'no-build': { type: 'boolean', default: false },
  },
})

await runMain(async () => {
  await prepare({ profile: 'debug', skipBuild: options['no-build'] })
  log(`✔ ${await ensureRedisServer()}`)
  const env = {
    ...process.env,
    CRASH_CASES: options.cases,
    CRASH_FROM: options.from,
    CRASH_SEED: options.seed,
  }
  if (options.case !== undefined) env.CRASH_CASE = options.case
  const args = ['--import', 'tsx', '--test', '--test-reporter=spec', SPEC]
  return spawnSync(process.execPath, args, { cwd: repository, env, stdio: 'inherit' }).status ?? 1
})
