/** The example application as a process of its own. */
import { demoToken } from '../../examples/express-app/token'
import { Program } from './program'

const SECRET = 'the secret of the tests, 32 bytes at least'

export class ExpressApp implements AsyncDisposable {
  readonly program: Program
  readonly url: string
  /** Valid for every one that is started here. */
  readonly token = demoToken(SECRET)

  private constructor(program: Program, url: string) {
    this.program = program
    this.url = url
  }

  /** @param redis - `undefined`: without a server */
  static async start(
    redis: { host: string; port: number } | undefined,
    env: Record<string, string> = {},
  ): Promise<ExpressApp> {
    const program = Program.typescript('examples/express-app/main.ts', [], {
      env: {
        PORT: '0',
        STEP_MS: '200',
        JWT_SECRET: SECRET,
        NODE_ENV: undefined,
        REDIS_ENABLED: String(redis !== undefined),
        REDIS_HOST: redis?.host,
        REDIS_PORT: redis === undefined ? undefined : String(redis.port),
        REDIS_PASSWORD: undefined,
        REDIS_DB: undefined,
        ...env,
      },
    })
    try {
      const [, url = ''] = await program.printed(/Listening on (http:\S+)/)
      return new ExpressApp(program, url)
    } catch (error) {
      await program[Symbol.asyncDispose]()
      throw error
    }
  }

  get headers(): Record<string, string> {
    return { authorization: `Bearer ${this.token}` }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.program[Symbol.asyncDispose]()
  }
}
