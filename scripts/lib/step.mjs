/**
 * Runs a command as a step with a title: says that it began, that it still runs, and how it ended. What it printed is
 * shown in full when it failed, and not at all otherwise, so that a failure is never lost in a wall of text.
 */
import { spawn } from 'node:child_process'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of package.json. */
export const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..')

const PROGRESS_MS = 10_000
const startedAt = performance.now()

/** Tells the user that they have to do something; printed without a stack. */
export class SetupError extends Error {}

/**
 * @typedef {object} StepResult
 * @property {string} title
 * @property {boolean} ok
 * @property {string} output standard output and standard error together
 * @property {number} seconds
 */

/**
 * @param {string} title
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, stream?: boolean }} [options] stream: show the output while it comes
 * @returns {Promise<StepResult>}
 */
export async function runStep(title, command, args, options = {}) {
  const begin = performance.now()
  const seconds = () => (performance.now() - begin) / 1000
  const chunks = []
  let last = ''
  log(`▸ ${title}`)
  const progress = setInterval(() => {
    if (!options.stream) log(`  … ${title}: ${seconds().toFixed(0)} s${last === '' ? '' : `, at: ${last}`}`)
  }, PROGRESS_MS)
  const ok = await new Promise((done) => {
    const child = spawn(program(command), args, {
      cwd: repository,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', options.stream ? 'inherit' : 'pipe', options.stream ? 'inherit' : 'pipe'],
      shell: needsShell(command),
    })
    const forget = forwardSignals(child)
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk) => {
        chunks.push(chunk)
        last = lastLine(chunk.toString()) || last
      })
    child.on('error', (error) => {
      forget()
      chunks.push(Buffer.from(`${command} could not be started: ${error.message}\n`))
      done(false)
    })
    child.on('close', (code) => {
      forget()
      done(code === 0)
    })
  })
  clearInterval(progress)
  const result = { title, ok, output: Buffer.concat(chunks).toString(), seconds: seconds() }
  log(`${ok ? '✔' : '✖'} ${title} (${result.seconds.toFixed(1)} s)`)
  if (!ok && result.output !== '') console.log(`${indent(result.output.trimEnd())}\n`)
  return result
}

/** A step without which nothing that follows makes sense. */
export async function requireStep(title, command, args, options) {
  const result = await runStep(title, command, args, options)
  if (!result.ok) throw new SetupError(`"${command} ${args.join(' ')}" failed`)
  return result
}

/** The output of a command that takes no time, or undefined if it fails or is missing. */
export async function output(command, args) {
  return new Promise((done) => {
    let text = ''
    const child = spawn(program(command), args, {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'ignore'],
      shell: needsShell(command),
    })
    child.stdout.on('data', (chunk) => (text += chunk))
    child.on('error', () => done(undefined))
    child.on('close', (code) => done(code === 0 ? text.trim() : undefined))
  })
}

/** A line with the time since the start. */
export function log(text) {
  const seconds = Math.floor((performance.now() - startedAt) / 1000)
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
  console.log(`[${clock}] ${text}`)
}

/** Passes signals on to a child, so that it can end in order; returns a function that ends this. */
export function forwardSignals(child) {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  const forward = (signal) => {
    // A terminal sends the other two to the child as well, and many programs take a second one as "at once".
    if (signal === 'SIGTERM' || !process.stdin.isTTY) child.kill(signal)
  }
  for (const signal of signals) process.on(signal, forward)
  return () => {
    for (const signal of signals) process.off(signal, forward)
  }
}

/** Runs the main function of a script, and turns what it throws into an exit code. */
export async function runMain(main) {
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(error instanceof SetupError ? `\n✖ ${error.message}` : error)
    process.exitCode = 1
  }
}

export function indent(text) {
  return text.replaceAll(/^(?=.)/gm, '    ')
}

function lastLine(text) {
  const line =
    text
      .trimEnd()
      .split(/[\r\n]/)
      .at(-1) ?? ''
  return line.trim().slice(0, 100)
}

/** npm and npx are command files on Windows, which only a shell can run. */
function needsShell(command) {
  return process.platform === 'win32' && (command === 'npm' || command === 'npx')
}

function program(command) {
  return command === 'node' ? process.execPath : command
}
