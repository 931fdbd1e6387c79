import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { extractBlocks } from './spec'

const document = [
  '# Title', // 1
  '```typescript', // 2
  'const a = 1', // 3
  '', // 4
  'const b = 2', // 5
  '```', // 6
  '## Part *one* ##', // 7
  '### Detail', // 8
  '```bash', // 9
  '# not a heading', // 10
  '```', // 11
  '~~~typescript', // 12
  '``` inside', // 13
  '~~~', // 14
  '## Part two', // 15
  '````typescript', // 16
  '```', // 17
  '````', // 18
  '```typescript', // 19
  '```', // 20
].join('\n')

describe('extractBlocks', () => {
  it('finds the blocks of a language with headings and line', () => {
    assert.deepEqual(extractBlocks(document, 'x.md', 'typescript'), [
      { document: 'x.md', line: 3, headings: ['Title'], code: 'const a = 1\n\nconst b = 2' },
      { document: 'x.md', line: 13, headings: ['Title', 'Part *one*', 'Detail'], code: '``` inside' },
      { document: 'x.md', line: 17, headings: ['Title', 'Part two'], code: '```' },
      { document: 'x.md', line: 20, headings: ['Title', 'Part two'], code: '' },
    ])
  })

  it('reads documents with CRLF', () => {
    const blocks = extractBlocks(document.replaceAll('\n', '\r\n'), 'x.md', 'typescript')
    assert.equal(blocks[0]?.code, 'const a = 1\n\nconst b = 2')
    assert.equal(blocks.length, 4)
  })

  it('refuses a block that is not closed', () => {
    assert.throws(
      () => extractBlocks('a\n```typescript\nb', 'x.md', 'typescript'),
      /x\.md:2: the code block is not closed/,
    )
  })
})
