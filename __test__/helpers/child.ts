import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

const repository = join(__dirname, '../..')

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** A program of its own that uses ferroflow by `require('ferroflow')`. */
export class Child {
  readonly process: ChildProcess
  #stdout = ''
  #stderr = ''

  private constructor(script: string, args: string[]) {
    this.process = spawn(process.execPath, [...args, '--eval', script], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.process.stdout!.setEncoding('utf8').on('data', (text: string) => (this.#stdout += text))
    this.process.stderr!.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text))
  }

  /** Starts `script` with Node. */
  static start(script: string, ...args: string[]): Child {
    return new Child(script, args)
  }

  /** Waits for the end; a program that does not end in time is killed and fails. */
  async ended(withinMs = 20_000): Promise<Ended> {
    const timer = setTimeout(() => this.process.kill('SIGKILL'), withinMs)
    const [code, signal] = (await once(this.process, 'close')) as [number | null, NodeJS.Signals | null]
    clearTimeout(timer)
    return { code, signal, stdout: this.#stdout, stderr: this.#stderr }
  }
}
