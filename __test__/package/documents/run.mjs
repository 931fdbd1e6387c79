// Runs one example in a process of its own, checks what it leaves, and reports on standard output.
import { pathToFileURL } from 'node:url'

const LIMIT_MS = 10_000
/** For rejections that nobody handles, and for what clients report of their connections. */
const AFTERMATH_MS = 50

export async function run({ url, example, fixture, heading }) {
  // The examples ask the environment where Redis is.
  process.env.REDIS_URL = url
  delete process.env.REDIS_PASSWORD
  const report = { printed: [], complaints: [], unhandled: [] }
  console.log = (...words) => report.printed.push(words.join(' '))
  console.error = console.warn = (...words) => report.complaints.push(words.join(' '))
  for (const event of ['unhandledRejection', 'uncaughtException'])
    process.on(event, (error) => report.unhandled.push(String(error?.stack ?? error)))
  try {
    await Promise.race([runAndCheck(example, fixture, heading), tooLate()])
  } catch (error) {
    report.error = { name: error?.name, code: error?.code, message: String(error?.message ?? error) }
    report.error.stack = String(error?.stack)
  }
  await new Promise((resolve) => setTimeout(resolve, AFTERMATH_MS))
  process.stdout.write(JSON.stringify(report), () => process.exit(0))
}

async function runAndCheck(example, fixture, heading) {
  const { prepare, checks } = await load(fixture)
  await prepare?.(heading)
  const made = await (await load(example)).example()
  if (made === undefined) throw new Error('The example returned before its end')
  for (const [name, value] of Object.entries(made)) await checks[name]?.(value)
  await checks[heading]?.(made)
}

const load = (path) => import(pathToFileURL(path).href)

function tooLate() {
  const error = new Error(`The example takes more than ${LIMIT_MS} ms`)
  return new Promise((_, reject) => setTimeout(reject, LIMIT_MS, error))
}
