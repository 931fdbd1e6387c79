/** YAML as plain values, read by the parser of prettier; as far as the files of this repository go. */
import { parsers } from 'prettier/plugins/yaml'

interface Node {
  type: string
  value?: string
  children?: (Node | null)[]
}

const parse = (parsers as Record<string, { parse(text: string, options: object): unknown }>)['yaml']!.parse

/** @throws a `SyntaxError` with the place */
export function parseYaml(text: string): any {
  return toValue(parse(text, {}) as Node)
}

function toValue(node: Node | null | undefined): any {
  if (node === null || node === undefined) return null
  const children = node.children ?? []
  switch (node.type) {
    case 'root':
    case 'mappingKey':
    case 'mappingValue':
    case 'sequenceItem':
    case 'flowSequenceItem':
      return toValue(children[0])
    case 'document':
      return toValue(children.find((child) => child?.type === 'documentBody'))
    case 'documentBody':
      return toValue(children[0])
    case 'mapping':
    case 'flowMapping':
      return Object.fromEntries(children.map((item) => (item?.children ?? []).map(toValue)))
    case 'sequence':
    case 'flowSequence':
      return children.map(toValue)
    case 'plain':
      return plain(node.value ?? '')
    case 'quoteSingle':
    case 'quoteDouble':
      return node.value
    default:
      throw new Error(`YAML with ${node.type} is not read here`)
  }
}

function plain(text: string): unknown {
  if (/^(?:true|false)$/.test(text)) return text === 'true'
  if (text === '' || text === 'null') return null
  return /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : text
}
