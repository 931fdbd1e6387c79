/**
 * Writes the table of timeouts in docs/operations.md from the sources, so that it cannot say anything else.
 * `node scripts/timeouts.mjs --check` only says whether it would change anything.
 */
import { readFileSync, writeFileSync } from 'node:fs'

const PAGE = new URL('../docs/operations.md', import.meta.url)
const BEGIN = '<!-- timeouts: written by scripts/timeouts.mjs -->'
const END = '<!-- end of timeouts -->'

/** What happens in time, the option that changes it, the file, and the constant or fallback in it. */
const TIMEOUTS = [
  ['A call settles', '`commandTimeout`', 'ts/target.ts', 'commandTimeout'],
  ['A connection is made, TLS and login included', '`connectTimeout`', 'ts/target.ts', 'connectTimeout'],
  ['`close()` waits for calls in flight', '', 'src/connection/node.rs', 'CLOSE_TIMEOUT'],
  ['`close()` waits for the locks that it frees', '', 'src/lock/engine/closing.rs', 'CLOSE_TIMEOUT'],
  ['Redial after a loss, and between attempts at first', '`redialDelay`', 'ts/target.ts', 'redialDelay'],
  ['Between two attempts, at the latest', '', 'src/connection/redial.rs', 'MAX_DELAY'],
  [
    'A connection that lasted this long starts the redial delays anew',
    '',
    'src/connection/redial.rs',
    'STABLE_AFTER',
  ],
  ['TCP keepalive', '`keepAlive`', 'ts/target.ts', 'keepAlive'],
  [
    'Bytes that nobody acknowledges end the connection (`TCP_USER_TIMEOUT`, Linux)',
    '',
    'src/connection/dial.rs',
    'UNACKNOWLEDGED',
  ],
  [
    'Silence on a connection that only listens, until it is probed',
    '',
    'src/connection/drive.rs',
    'LOOK_EVERY_LISTENING',
  ],
  [
    'Silence that ends a connection on which somebody waited for an answer in vain',
    '',
    'src/connection/drive.rs',
    'SILENT_FOR',
  ],
  [
    'After a pause of the process longer than this, the server is probed before use',
    '`keepAlive`',
    'ts/target.ts',
    'keepAlive',
  ],
  [
    'It answers that probe, otherwise there is a new connection',
    '',
    'src/connection/drive.rs',
    'VALIDATE_WITHIN',
  ],
  ['The next Sentinel is asked as well', '', 'src/connection/sentinel.rs', 'NEXT_AFTER'],
  ['A Sentinel answers', '', 'src/connection/sentinel.rs', 'ANSWER_WITHIN'],
  [
    'The next node of a cluster is asked for the table of slots as well',
    '',
    'src/connection/cluster/table.rs',
    'NEXT_AFTER',
  ],
  ['A node of a cluster that is silent is doubted', '', 'src/connection/cluster/table.rs', 'SUSPICION'],
  ['A lock is tried again to be withdrawn', '', 'src/lock/engine.rs', 'WITHDRAW_RETRY'],
  ['A stray copy of an attempt is expected no longer', '', 'src/lock/mod.rs', 'STRAY_ATTEMPT'],
  ['A place in the fair queue of a lock without a sign of life', '', 'src/lock/mod.rs', 'QUEUE_LEASE'],
  ['A lock is held until the list has it', '', 'src/lock/index.rs', 'LISTED_AFTER'],
  ['A fence outlives the last write under it', '', 'src/fence.rs', 'LIFETIME'],
]

function millisOf(file, name) {
  const source = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
  const pattern = file.endsWith('.rs')
    ? new RegExp(
        `const ${name}: (?:Duration|Millis) = (?:Duration|Millis)::(new|from_millis|from_secs)\\(([\\d_* ]+)\\);`,
      )
    : new RegExp(`'${name}', \\{ fallback: (\\d[\\d_]*)`)
  const match = pattern.exec(source)
  if (match === null) throw new Error(`${file} has no ${name} any more`)
  const digits = (file.endsWith('.rs') ? match[2] : match[1]).replaceAll('_', '')
  const number = digits.split('*').reduce((product, factor) => product * Number(factor), 1)
  return match[1] === 'from_secs' ? number * 1000 : number
}

function inWords(millis) {
  if (millis % 86_400_000 === 0) return `${millis / 86_400_000} days`
  return millis % 1000 === 0 || millis > 1000 ? `${millis / 1000} s` : `${millis} ms`
}

function table() {
  const rows = TIMEOUTS.map(([what, option, file, name]) => [what, inWords(millisOf(file, name)), option])
  const all = [['What', 'Time', 'Option'], ...rows]
  const widths = [0, 1, 2].map((column) => Math.max(...all.map((row) => row[column].length)))
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`
  return [line(all[0]), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

const page = readFileSync(PAGE, 'utf8')
const start = page.indexOf(BEGIN)
const end = page.indexOf(END)
if (start < 0 || end < start) throw new Error('docs/operations.md has no place for the table of timeouts')
const wanted = `${page.slice(0, start)}${BEGIN}\n\n${table()}\n\n${page.slice(end)}`
if (process.argv.includes('--check')) {
  if (wanted !== page) {
    console.error('The table of timeouts in docs/operations.md is out of date: node scripts/timeouts.mjs')
    process.exitCode = 1
  }
} else {
  writeFileSync(PAGE, wanted)
}
