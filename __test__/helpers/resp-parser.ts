/**
 * An incremental parser of RESP2 and RESP3, the protocol of Redis.
 *
 * It hands out every message together with its exact bytes, so that a proxy can forward what it has understood
 * without encoding it again. It never looks at a byte twice, however finely the stream is split: a large bulk string
 * that arrives in a thousand pieces is not searched a thousand times.
 */

/** One message, or one element of an aggregate. */
export type RespValue =
  | { type: 'simple-string'; text: string }
  | { type: 'error'; text: string }
  | { type: 'integer'; value: bigint }
  | { type: 'bulk-string'; bytes: Buffer }
  | { type: 'null' }
  | { type: 'array' | 'set' | 'push'; items: RespValue[] }
  | { type: 'map'; entries: [RespValue, RespValue][] }
  | { type: 'double'; value: number }
  | { type: 'boolean'; value: boolean }
  | { type: 'big-number'; value: bigint }
  | { type: 'bulk-error'; bytes: Buffer }
  | { type: 'verbatim-string'; format: string; bytes: Buffer }
  | { type: 'inline-command'; words: Buffer[] }

/** The bytes are not RESP. The stream cannot be followed any further. */
export class RespProtocolError extends Error {
  override readonly name = 'RespProtocolError'
}

export interface RespParserOptions {
  /** Called for every complete message; `raw` is the message's own copy of its bytes. */
  onMessage: (value: RespValue, raw: Buffer) => void
  /** Accept `PING\r\n` without an array around it, as a server does. Replies never have that form. */
  inlineCommands?: boolean
}

/** An aggregate that still waits for elements. */
interface OpenAggregate {
  marker: '*' | '~' | '>' | '%' | '|'
  missing: number
  items: RespValue[]
}

const CR = 13
const LF = 10
const BULK_MARKERS = new Set(['$', '!', '='])
const AGGREGATE_MARKERS = new Set(['*', '~', '>', '%', '|'])

/** A growing byte queue: doubling keeps the cost of many small pushes linear. */
class ByteQueue {
  #storage = Buffer.allocUnsafe(4096)
  /** Start of the first message that has not been handed out. */
  start = 0
  end = 0

  get storage(): Buffer {
    return this.#storage
  }

  push(chunk: Buffer): number {
    const length = this.end - this.start
    let moved = 0
    if (this.end + chunk.length > this.#storage.length) {
      const needed = length + chunk.length
      const target =
        needed * 2 > this.#storage.length ? Buffer.allocUnsafe(Math.max(4096, needed * 2)) : this.#storage
      this.#storage.copy(target, 0, this.start, this.end)
      moved = this.start
      this.#storage = target
      this.start = 0
      this.end = length
    }
    chunk.copy(this.#storage, this.end)
    this.end += chunk.length
    return moved
  }

  /** The bytes from `start` up to `offset`, copied, because the storage is used again. */
  take(offset: number): Buffer {
    const raw = Buffer.from(this.#storage.subarray(this.start, offset))
    this.start = offset
    return raw
  }
}

export class RespParser {
  readonly #onMessage: RespParserOptions['onMessage']
  readonly #inlineCommands: boolean
  readonly #queue = new ByteQueue()
  readonly #open: OpenAggregate[] = []
  /** Where the next unread element starts. */
  #offset = 0
  /** How far the search for the end of the current line has come. */
  #searched = 0
  /** The marker and length of a bulk string whose body has not arrived yet. */
  #bulk: { marker: string; length: number } | undefined

  constructor(options: RespParserOptions) {
    this.#onMessage = options.onMessage
    this.#inlineCommands = options.inlineCommands ?? false
  }

  /** Bytes of the message that is still incomplete. */
  get pendingBytes(): number {
    return this.#queue.end - this.#queue.start
  }

  /** A copy of the incomplete message, for those who must pass on even a torn message. */
  pending(): Buffer {
    return Buffer.from(this.#queue.storage.subarray(this.#queue.start, this.#queue.end))
  }

  /** Takes the next bytes of the stream, split anywhere. @throws RespProtocolError */
  push(chunk: Buffer): void {
    const moved = this.#queue.push(chunk)
    this.#offset -= moved
    this.#searched -= moved
    while (this.#readElement());
  }

  /** Reads one element if all of it has arrived. */
  #readElement(): boolean {
    if (this.#bulk !== undefined) return this.#readBulk(this.#bulk)
    const line = this.#readLine()
    if (line === undefined) return false
    const marker = line.charAt(0)
    const rest = line.slice(1)
    if (BULK_MARKERS.has(marker)) {
      const length = parseLength(rest, line)
      if (length < 0) this.#accept({ type: 'null' })
      else this.#bulk = { marker, length }
    } else if (AGGREGATE_MARKERS.has(marker)) {
      const length = parseLength(rest, line)
      if (length < 0) this.#accept({ type: 'null' })
      else this.#openAggregate(marker as OpenAggregate['marker'], length)
    } else {
      this.#accept(this.#scalar(marker, rest, line))
    }
    return true
  }

  /** A line without its CRLF. Latin-1 keeps every byte; texts are decoded later. */
  #readLine(): string | undefined {
    const { storage, end } = this.#queue
    const newline = storage.subarray(0, end).indexOf(LF, Math.max(this.#searched, this.#offset))
    if (newline < 0) {
      this.#searched = end
      return undefined
    }
    const hasReturn = newline > this.#offset && storage[newline - 1] === CR
    const line = storage.toString('latin1', this.#offset, hasReturn ? newline - 1 : newline)
    if (!hasReturn && !this.#mayBeInline(line))
      throw new RespProtocolError(`A line ends without CR: ${show(line)}`)
    this.#offset = newline + 1
    this.#searched = this.#offset
    return line
  }

  #mayBeInline(line: string): boolean {
    return this.#inlineCommands && this.#open.length === 0 && !line.startsWith('*')
  }

  #readBulk(bulk: { marker: string; length: number }): boolean {
    const { storage, end } = this.#queue
    const bodyEnd = this.#offset + bulk.length
    if (end < bodyEnd + 2) return false
    if (storage[bodyEnd] !== CR || storage[bodyEnd + 1] !== LF)
      throw new RespProtocolError(`A bulk string of ${bulk.length} bytes is not followed by CRLF`)
    const bytes = Buffer.from(storage.subarray(this.#offset, bodyEnd))
    this.#offset = bodyEnd + 2
    this.#searched = this.#offset
    this.#bulk = undefined
    if (bulk.marker === '$') this.#accept({ type: 'bulk-string', bytes })
    else if (bulk.marker === '!') this.#accept({ type: 'bulk-error', bytes })
    else
      this.#accept({
        type: 'verbatim-string',
        format: bytes.toString('latin1', 0, 3),
        bytes: bytes.subarray(4),
      })
    return true
  }

  #scalar(marker: string, rest: string, line: string): RespValue {
    const text = (): string => Buffer.from(rest, 'latin1').toString('utf8')
    switch (marker) {
      case '+':
        return { type: 'simple-string', text: text() }
      case '-':
        return { type: 'error', text: text() }
      case ':':
        return { type: 'integer', value: parseBigInt(rest, line) }
      case '(':
        return { type: 'big-number', value: parseBigInt(rest, line) }
      case '_':
        return { type: 'null' }
      case '#':
        if (rest !== 't' && rest !== 'f') break
        return { type: 'boolean', value: rest === 't' }
      case ',':
        return { type: 'double', value: parseDouble(rest, line) }
      default:
        if (this.#mayBeInline(line)) return { type: 'inline-command', words: splitWords(line) }
    }
    throw new RespProtocolError(`Not a RESP message: ${show(line)}`)
  }

  #openAggregate(marker: OpenAggregate['marker'], length: number): void {
    const missing = marker === '%' || marker === '|' ? length * 2 : length
    this.#open.push({ marker, missing, items: [] })
    if (missing === 0) this.#closeAggregate()
  }

  #closeAggregate(): void {
    const { marker, items } = this.#open.pop() as OpenAggregate
    // An attribute describes the element that follows it and is none itself: its bytes stay with that element.
    if (marker === '|') return
    if (marker === '%') {
      const entries: [RespValue, RespValue][] = []
      for (let i = 0; i < items.length; i += 2)
        entries.push([items[i] as RespValue, items[i + 1] as RespValue])
      this.#accept({ type: 'map', entries })
    } else {
      this.#accept({ type: marker === '*' ? 'array' : marker === '~' ? 'set' : 'push', items })
    }
  }

  /** An element is complete: it belongs to the innermost open aggregate, or it is a whole message. */
  #accept(value: RespValue): void {
    const parent = this.#open.at(-1)
    if (parent !== undefined) {
      parent.items.push(value)
      parent.missing -= 1
      if (parent.missing === 0) this.#closeAggregate()
      return
    }
    this.#onMessage(value, this.#queue.take(this.#offset))
  }
}

function parseLength(text: string, line: string): number {
  if (!/^(?:-1|\d{1,15})$/.test(text)) throw new RespProtocolError(`Not a length: ${show(line)}`)
  return Number(text)
}

function parseBigInt(text: string, line: string): bigint {
  if (!/^[+-]?\d+$/.test(text)) throw new RespProtocolError(`Not an integer: ${show(line)}`)
  return BigInt(text.replace('+', ''))
}

function parseDouble(text: string, line: string): number {
  if (text === 'inf') return Infinity
  if (text === '-inf') return -Infinity
  if (text === 'nan' || text === '-nan') return NaN
  const value = Number(text)
  if (text === '' || Number.isNaN(value)) throw new RespProtocolError(`Not a double: ${show(line)}`)
  return value
}

function splitWords(line: string): Buffer[] {
  return line
    .split(/\s+/)
    .filter((word) => word !== '')
    .map((word) => Buffer.from(word, 'latin1'))
}

function show(line: string): string {
  return JSON.stringify(line.length > 60 ? `${line.slice(0, 60)}…` : line)
}
