/** The table of documented names: every test that it names exists, and no documented name is missing. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import ts from 'typescript'
import { readSpecBlocks, specPath, specSkipReason } from '../helpers/spec'
import { documentedPackages } from '../types/documents'

const repository = resolve(__dirname, '../..')
const table = readFileSync(join(repository, 'docs/compatibility.md'), 'utf8')

/** Rows of the section about a package; of all of them without one. */
function rowsOf(packageName?: string): string[][] {
  const sections = table.split(/^## /m).slice(1)
  const chosen = sections.filter((text) => packageName === undefined || text.startsWith(`${packageName}\n`))
  const lines = chosen.flatMap((text) => text.split('\n').filter((line) => line.startsWith('| ')))
  const rows = lines.map((line) => line.slice(1, -1).split('|'))
  return rows.filter(([first = '']) => !/^ (?:Documented|-+) *$/.test(first))
}

describe('docs/compatibility.md', () => {
  it('says of every name where it is tested', () => {
    const rows = rowsOf()
    assert.ok(rows.length > 70, `${rows.length} rows`)
    for (const row of rows) {
      assert.equal(row.length, 3, row.join('|'))
      assert.match(row[2] ?? '', /`__test__\/[^`]+` "[^"]+"/, row[0])
    }
  })

  it('names tests that exist', () => {
    const named = [...table.matchAll(/`(__test__\/[^`]+)` "([^"]+)"/g)]
    const missing = named.filter(([, path = '', title = '']) => {
      const file = join(repository, path)
      if (!existsSync(file)) return true
      return !readFileSync(file, 'utf8').replaceAll("\\'", "'").includes(title)
    })
    assert.deepEqual(
      missing.map(([text]) => text),
      [],
    )
  })

  const skip = specSkipReason()
  for (const { document, packageName } of documentedPackages)
    it(`has every name of ${document}`, { skip }, () => {
      const mentioned = rowsOf(packageName).map((row) => `${row[0]} ${row[1]}`)
      const missing = documentedNames(document).filter(
        (name) => !mentioned.some((text) => new RegExp(`\\b${name}\\b`).test(text)),
      )
      assert.deepEqual(missing, [])
    })
})

/** Members of the interfaces that a document writes out, and what its lists and headings begin with in code. */
function documentedNames(document: string): string[] {
  const path = specPath(document)
  const members = readSpecBlocks(path).flatMap(({ code }) =>
    ts
      .createSourceFile('block.ts', code, ts.ScriptTarget.ES2022)
      .statements.filter(ts.isInterfaceDeclaration)
      .flatMap((node) => node.members.map((member) => (member.name as ts.Identifier).text)),
  )
  const listed = [...readFileSync(path, 'utf8').matchAll(/^(?:\s*- |#+ )`(\w+)/gm)].map(
    ([, name = '']) => name,
  )
  const headed = [...readFileSync(path, 'utf8').matchAll(/^#+ (Redis\w+|create\w+)$/gm)].map(
    ([, name = '']) => name,
  )
  return [...new Set([...members, ...listed, ...headed])]
}
