/** A program of this repository as a child process, with what it printed. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

const repository = resolve(__dirname, '../..')

export interface ProgramOptions {
  /** Added to the environment; `undefined` takes a variable away. */
  env?: Record<string, string | undefined>
  /** Default: the repository */
  cwd?: string
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
}

export class Program implements AsyncDisposable {
  /** Standard output and standard error together, so far. */
  output = ''
  readonly #process: ChildProcess
  readonly #ended: Promise<Ended>

  /** Starts `node` with these arguments. */
  constructor(args: string[], { env = {}, cwd = repository }: ProgramOptions = {}) {
    this.#process = spawn(process.execPath, args, {
      cwd,
      env: { ...process.env, NODE_OPTIONS: undefined, NODE_TEST_CONTEXT: undefined, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString()))
    this.#ended = once(this.#process, 'close').then(([code, signal]) => ({ code, signal }) as Ended)
  }

  /** Starts a TypeScript program, given by its path from the repository. */
  static typescript(path: string, args: string[] = [], options?: ProgramOptions): Program {
    return new Program(['--import', 'tsx', join(repository, path), ...args], options)
  }

  /** Waits until it has printed something that matches. */
  async printed(pattern: RegExp, timeoutMs = 15_000): Promise<RegExpExecArray> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const match = pattern.exec(this.output)
      if (match !== null) return match
      if (Date.now() > deadline || this.#process.exitCode !== null || this.#process.signalCode !== null)
        throw new Error(`The program did not print ${pattern}. Its output:\n${this.output}`)
      // oxlint-disable-next-line no-await-in-loop -- polling
      await delay(10)
    }
  }

  /** Waits for its end. */
  async ended(timeoutMs = 15_000): Promise<Ended> {
    const late = delay(timeoutMs, undefined, { ref: false })
    const ended = await Promise.race([this.#ended, late])
    if (ended === undefined) throw new Error(`The program goes on. Its output:\n${this.output}`)
    return ended
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** Ends it at once if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}
