/** Installs and builds what is missing, then starts the demo. Arguments and REDIS_URL are passed on to it. */
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { forwardSignals, log, repository, runMain } from './lib/step.mjs'
import { prepare } from './lib/toolchain.mjs'

const DEMO = ['--import', 'tsx', 'examples/order-app/main.ts', ...process.argv.slice(2)]

await runMain(async () => {
  await prepare({ profile: 'release' })
  log(`▸ node ${DEMO.join(' ')}`)
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, DEMO, { cwd: repository, stdio: 'inherit' })
    const forget = forwardSignals(child)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      forget()
      // As a shell reports it: 128 and the number of the signal.
      resolve(code ?? 128 + (constants.signals[signal] ?? 0))
    })
  })
})
