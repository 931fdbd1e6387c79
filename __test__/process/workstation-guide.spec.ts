/** What docs/workstation.md says: its example compiles and runs, and its table has every option with its default. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { Program } from '../helpers/program'
import { extractBlocks } from '../helpers/spec'
import { compile, describeDiagnostic, diagnosticsOf } from '../types/compile'

const repository = resolve(__dirname, '../..')
const read = (path: string): string => readFileSync(join(repository, path), 'utf8')

/** What a program prints that does without Redis. */
async function run(code: string): Promise<string> {
  await using child = new Program(['--input-type=module', '--eval', code], {
    env: { REDIS_ENABLED: 'false' },
  })
  assert.deepEqual(await child.ended(), { code: 0, signal: null }, child.output)
  return child.output
}

describe('docs/workstation.md', () => {
  const guide = read('docs/workstation.md')
  const [example, ...others] = extractBlocks(guide, 'docs/workstation.md', 'ts')

  it('has an example that compiles', () => {
    assert.ok(example !== undefined && others.length === 0)
    const path = join(repository, '__test__/types/fixtures/workstation.mts')
    const program = compile({ modules: new Map([[path, example.code]]), paths: { ferroflow: 'index.d.ts' } })
    assert.deepEqual(
      diagnosticsOf(program, path).map((diagnostic) => describeDiagnostic(diagnostic)),
      [],
    )
  })

  it('has an example that notices a logout', async () => {
    const [imports = '', body = ''] = example!.code.split('\n\n')
    const login = `${imports.replace('{ ', '{ deleteSession, ')}\nawait setSession('user123', { role: 'admin' })\n`
    assert.equal(await run(`${login}${body}`), '')
    const logout = body.replace('if (entry', "await deleteSession('user123')\nif (entry")
    assert.equal(await run(`${login}${logout}`), 'logged out, or changed, meanwhile\n')
  })

  it('has every option, with the default that its documentation names', () => {
    const [, options = ''] = /interface WorkstationOptions \{\n([^]*?)\n\}/.exec(read('index.d.ts')) ?? []
    const documented = new Map<string, string>()
    let group: string | undefined
    let comment = ''
    for (const line of options.split('\n')) {
      const [, name, opens] = /^\s+(\w+)\?: ?(\{)?/.exec(line) ?? []
      if (name === undefined) {
        comment = /^\s+\}/.test(line) ? '' : comment + line
        if (/^\s+\}/.test(line)) group = undefined
      } else if (opens !== undefined) [group, comment] = [name, '']
      else {
        documented.set(group === undefined ? name : `${group}.${name}`, comment)
        comment = ''
      }
    }
    const rows = [...guide.matchAll(/^\| `([a-z][\w.]+)` +\|.*\| (.*?) +\|$/gm)].map(
      ([, name = '', value = '']) => [name, value],
    )
    assert.deepEqual(
      rows.map(([name]) => name),
      [...documented.keys()],
    )
    const numbers = rows.filter(([, value = '']) => /^[\d,]+$/.test(value))
    assert.ok(numbers.length >= 5)
    for (const [name = '', value = ''] of numbers) {
      const said = documented.get(name) ?? ''
      const mebibytes = `${Number(value.replaceAll(',', '')) / 1024 / 1024} MiB`
      assert.ok(
        said.includes(`Default: ${value}`) || said.includes(`Default: ${mebibytes}`),
        `${name}: ${said}`,
      )
    }
  })
})
