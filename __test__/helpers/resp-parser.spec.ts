import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RespParser, RespProtocolError, type RespValue } from './resp-parser'

interface Message {
  value: RespValue
  raw: string
}

/** Parses a stream that arrives in the given pieces. */
function parse(pieces: Buffer[], inlineCommands = false): Message[] {
  const messages: Message[] = []
  const parser = new RespParser({
    inlineCommands,
    onMessage: (value, raw) => messages.push({ value, raw: raw.toString('latin1') }),
  })
  for (const piece of pieces) parser.push(piece)
  assert.equal(parser.pendingBytes, 0, 'nothing is left over')
  return messages
}

const bulk = (text: string): RespValue => ({ type: 'bulk-string', bytes: Buffer.from(text) })
const integer = (value: number): RespValue => ({ type: 'integer', value: BigInt(value) })

const cases: [name: string, wire: string, value: RespValue][] = [
  ['simple string', '+OK\r\n', { type: 'simple-string', text: 'OK' }],
  ['empty simple string', '+\r\n', { type: 'simple-string', text: '' }],
  ['error', '-ERR no such key\r\n', { type: 'error', text: 'ERR no such key' }],
  ['integer', ':-42\r\n', integer(-42)],
  ['integer beyond 2^53', ':9223372036854775807\r\n', { type: 'integer', value: 9223372036854775807n }],
  ['bulk string', '$5\r\nhello\r\n', bulk('hello')],
  ['bulk string with CRLF inside', '$6\r\na\r\n$1\n\r\n', bulk('a\r\n$1\n')],
  ['empty bulk string', '$0\r\n\r\n', bulk('')],
  ['bulk string in UTF-8', '$4\r\n\xf0\x9f\xa6\x80\r\n', bulk('🦀')],
  ['null bulk string', '$-1\r\n', { type: 'null' }],
  ['null array', '*-1\r\n', { type: 'null' }],
  ['empty array', '*0\r\n', { type: 'array', items: [] }],
  ['array', '*2\r\n$1\r\na\r\n:1\r\n', { type: 'array', items: [bulk('a'), integer(1)] }],
  [
    'nested arrays',
    '*3\r\n*1\r\n*0\r\n$-1\r\n*1\r\n+x\r\n',
    {
      type: 'array',
      items: [
        { type: 'array', items: [{ type: 'array', items: [] }] },
        { type: 'null' },
        { type: 'array', items: [{ type: 'simple-string', text: 'x' }] },
      ],
    },
  ],
  ['RESP3 null', '_\r\n', { type: 'null' }],
  ['RESP3 boolean', '#t\r\n', { type: 'boolean', value: true }],
  ['RESP3 double', ',-1.5e3\r\n', { type: 'double', value: -1500 }],
  ['RESP3 infinity', ',-inf\r\n', { type: 'double', value: -Infinity }],
  [
    'RESP3 big number',
    '(3492890328409238509324850943850\r\n',
    { type: 'big-number', value: 3492890328409238509324850943850n },
  ],
  ['RESP3 bulk error', '!5\r\nERR x\r\n', { type: 'bulk-error', bytes: Buffer.from('ERR x') }],
  [
    'RESP3 verbatim string',
    '=8\r\ntxt:a\r\nb\r\n',
    { type: 'verbatim-string', format: 'txt', bytes: Buffer.from('a\r\nb') },
  ],
  ['RESP3 set', '~2\r\n:1\r\n:2\r\n', { type: 'set', items: [integer(1), integer(2)] }],
  ['RESP3 push', '>2\r\n+message\r\n+x\r\n', pushOf('message', 'x')],
  [
    'RESP3 map',
    '%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n_\r\n',
    {
      type: 'map',
      entries: [
        [
          { type: 'simple-string', text: 'a' },
          { type: 'array', items: [integer(1)] },
        ],
        [{ type: 'simple-string', text: 'b' }, { type: 'null' }],
      ],
    },
  ],
  ['RESP3 attribute before a value', '|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n', bulk('v')],
  [
    'RESP3 attribute inside an array',
    '*2\r\n|1\r\n+a\r\n:0\r\n:1\r\n:2\r\n',
    { type: 'array', items: [integer(1), integer(2)] },
  ],
]

function words(...texts: string[]): RespValue {
  return { type: 'inline-command', words: texts.map((text) => Buffer.from(text)) }
}

function pushOf(...texts: string[]): RespValue {
  return { type: 'push', items: texts.map((text) => ({ type: 'simple-string', text })) }
}

describe('RespParser', () => {
  for (const [name, wire, value] of cases) {
    it(`reads: ${name}`, () => {
      const bytes = Buffer.from(wire, 'latin1')
      const expected = [{ value, raw: wire }]
      assert.deepEqual(parse([bytes]), expected, 'in one piece')
      for (let cut = 1; cut < bytes.length; cut += 1)
        assert.deepEqual(
          parse([bytes.subarray(0, cut), bytes.subarray(cut)]),
          expected,
          `split at byte ${cut}`,
        )
      assert.deepEqual(parse(eachByte(bytes)), expected, 'byte by byte')
    })
  }

  it('reads a pipeline of everything, however it is split', () => {
    const bytes = Buffer.from(cases.map(([, wire]) => wire).join(''), 'latin1')
    const expected = cases.map(([, wire, value]) => ({ value, raw: wire }))
    assert.deepEqual(parse(eachByte(bytes)), expected)
    for (let cut = 1; cut < bytes.length; cut += 1)
      assert.deepEqual(parse([bytes.subarray(0, cut), bytes.subarray(cut)]), expected, `split at byte ${cut}`)
  })

  it('reads a bulk string of 32 MB in pieces of 64 KB in linear time', () => {
    const body = Buffer.alloc(32 * 1024 * 1024, 'x')
    const wire = Buffer.concat([Buffer.from(`$${body.length}\r\n`), body, Buffer.from('\r\n+OK\r\n')])
    const messages: { value: RespValue; raw: Buffer }[] = []
    const parser = new RespParser({ onMessage: (value, raw) => messages.push({ value, raw }) })
    for (let at = 0; at < wire.length; at += 65536) parser.push(wire.subarray(at, at + 65536))
    assert.equal(messages.length, 2)
    const [first] = messages
    assert.ok(first?.value.type === 'bulk-string' && first.value.bytes.equals(body))
    assert.ok(first.raw.equals(wire.subarray(0, wire.length - 5)))
  })

  it('keeps its bytes when the storage is reused', () => {
    const raws: Buffer[] = []
    const parser = new RespParser({ onMessage: (_value, raw) => raws.push(raw) })
    for (let i = 0; i < 5000; i += 1) parser.push(Buffer.from(`$4\r\n${1000 + i}\r\n`))
    assert.deepEqual(
      raws.map((raw) => raw.toString()),
      Array.from({ length: 5000 }, (_, i) => `$4\r\n${1000 + i}\r\n`),
    )
  })

  it('shows what is incomplete', () => {
    const parser = new RespParser({ onMessage: () => assert.fail('the message is incomplete') })
    parser.push(Buffer.from('*2\r\n$1\r\na\r\n$3\r\nb'))
    assert.equal(parser.pending().toString(), '*2\r\n$1\r\na\r\n$3\r\nb')
    assert.equal(parser.pendingBytes, 16)
  })

  it('reads inline commands where they are allowed', () => {
    assert.deepEqual(
      parse([Buffer.from('PING\r\nget  a\n\r\n*1\r\n$1\r\nx\r\n')], true).map(({ value }) => value),
      [words('PING'), words('get', 'a'), words(), { type: 'array', items: [bulk('x')] }],
    )
  })

  const broken: [wire: string, message: RegExp][] = [
    ['PING\r\n', /Not a RESP message: "PING"/],
    ['$x\r\n', /Not a length: "\$x"/],
    ['*-2\r\n', /Not a length/],
    ['$?\r\n', /Not a length/],
    [':1a\r\n', /Not an integer/],
    [',\r\n', /Not a double/],
    ['#x\r\n', /Not a RESP message/],
    ['+OK\n', /ends without CR/],
    ['$1\r\nabc', /not followed by CRLF/],
  ]
  for (const [wire, message] of broken) {
    it(`refuses ${JSON.stringify(wire)}`, () => {
      const parser = new RespParser({ onMessage: () => assert.fail('nothing to read') })
      assert.throws(
        () => parser.push(Buffer.from(wire)),
        (error: unknown) => {
          assert.ok(error instanceof RespProtocolError)
          assert.match(error.message, message)
          return true
        },
      )
    })
  }
})

function eachByte(bytes: Buffer): Buffer[] {
  return Array.from(bytes, (_, index) => bytes.subarray(index, index + 1))
}
