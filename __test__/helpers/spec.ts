/**
 * The documents that describe the packages ferroflow replaces, read as tests: every TypeScript example in them must
 * keep working. They are not part of this repository; the environment variable SPEC_DIR names their folder.
 */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/** A fenced code block of a document. */
export interface SpecBlock {
  /** File name of the document. */
  document: string
  /** Line of the first line of code, counted from 1. */
  line: number
  /** The headings above the block, outermost first. */
  headings: string[]
  code: string
}

/** Why document tests do not run, or false if they do. For the `skip` option of a test. */
export function specSkipReason(): string | false {
  return process.env['SPEC_DIR'] ? false : 'SPEC_DIR is not set: it names the folder with the documents'
}

/** Path of a document. @throws if SPEC_DIR is not set */
export function specPath(document: string): string {
  const folder = process.env['SPEC_DIR']
  if (!folder) throw new Error('SPEC_DIR is not set')
  return join(folder, document)
}

/** Reads the fenced blocks of one language from a Markdown file. */
export function readSpecBlocks(path: string, language = 'typescript'): SpecBlock[] {
  return extractBlocks(readFileSync(path, 'utf8'), basename(path), language)
}

export function extractBlocks(markdown: string, document: string, language: string): SpecBlock[] {
  const blocks: SpecBlock[] = []
  const headings: { level: number; text: string }[] = []
  let fence: { marker: string; language: string; line: number; code: string[] } | undefined
  for (const [index, text] of markdown.split(/\r?\n/).entries()) {
    if (fence !== undefined) {
      // A fence ends with at least as many of its characters, and nothing after them.
      if (!text.startsWith(fence.marker) || /[^`~\s]/.test(text)) fence.code.push(text)
      else {
        if (fence.language === language)
          blocks.push({
            document,
            line: fence.line,
            headings: headings.map((heading) => heading.text),
            code: fence.code.join('\n'),
          })
        fence = undefined
      }
      continue
    }
    const opening = /^(`{3,}|~{3,})\s*(\S*)/.exec(text)
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(text)
    if (opening !== null) {
      fence = { marker: opening[1] ?? '', language: opening[2] ?? '', line: index + 2, code: [] }
    } else if (heading !== null) {
      const level = (heading[1] ?? '').length
      while ((headings.at(-1)?.level ?? 0) >= level) headings.pop()
      headings.push({ level, text: heading[2] ?? '' })
    }
  }
  if (fence !== undefined) throw new Error(`${document}:${fence.line - 1}: the code block is not closed`)
  return blocks
}
