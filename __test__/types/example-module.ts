/**
 * Turns a documented example into a module that the compiler can check.
 *
 * The text of the example stays as it is, its imports included, at the same lines and columns. Around it comes what a
 * reader of the document adds in their mind: the imports of earlier examples, a function (for `await` and `return`),
 * and the variables that the document takes for granted.
 */
import ts from 'typescript'
import type { SpecBlock } from '../helpers/spec'

export interface ExampleModule {
  text: string
  /** The line of the document that corresponds to a line of `text`; both counted from 0. */
  documentLine(moduleLine: number): number
}

export interface ExampleContext {
  /** The document's blocks above this one. */
  earlier: SpecBlock[]
  /** Module with what the document takes for granted, and the names it exports. */
  fixture: { specifier: string; names: string[] }
  /** Statements that compare a documented interface with ours, by the interface's name. */
  interfaces: Record<string, string>
  /** Makes the function return what the example declared, by name. Default: false */
  returnsDeclared?: boolean
}

const SIGNATURE = /^new (\w+)(\([^]*\))\s*$/

export function toModule(block: SpecBlock, context: ExampleContext): ExampleModule {
  const source = parse(block.code)
  const known = new Set(source.statements.filter(ts.isImportDeclaration).flatMap(importedNames))
  const header = [
    ...inheritedImports(context.earlier, known),
    ...source.statements.filter(ts.isImportDeclaration).map((node) => node.getText(source)),
    importList(
      context.fixture.names.filter((name) => !known.has(name)),
      context.fixture.specifier,
    ),
    'export async function example() {',
  ].join('; ')
  const body = signatureAssertion(block.code) ?? blankImports(source)
  const ending = context.returnsDeclared === true ? `return { ${declaredNames(source).join(', ')} }\n` : ''
  const text = `${header}\n${body}\n${interfaceAssertions(source, context)}${ending}}\n`
  return { text, documentLine: (line) => block.line - 1 + Math.max(0, line - 1) }
}

/** Names of the variables, functions and classes at the top of an example. */
function declaredNames(source: ts.SourceFile): string[] {
  return source.statements.flatMap((node) => {
    if (ts.isVariableStatement(node))
      return node.declarationList.declarations.map(({ name }) => name.getText(source))
    const isNamed = ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node)
    return isNamed && node.name !== undefined ? [node.name.text] : []
  })
}

/** Names of the values, type aliases and export lists of a declaration file, without `export *`. */
export function exportedNames(text: string): string[] {
  return parse(text).statements.flatMap((node) => {
    if (ts.isExportDeclaration(node))
      return node.exportClause !== undefined && ts.isNamedExports(node.exportClause)
        ? node.exportClause.elements.map(({ name }) => name.text)
        : []
    if (ts.isVariableStatement(node))
      return node.declarationList.declarations.map(({ name }) => name.getText())
    const isNamed =
      ts.isClassDeclaration(node) || ts.isFunctionDeclaration(node) || ts.isTypeAliasDeclaration(node)
    return isNamed && node.name !== undefined ? [node.name.text] : []
  })
}

/**
 * A document is read from top to bottom: what an earlier example imported is known, unless it is imported anew.
 * Adds those names to `known`.
 */
function inheritedImports(earlier: SpecBlock[], known: Set<string>): string[] {
  const imports = new Map<string, string>()
  for (const block of earlier) {
    const source = parse(block.code)
    for (const node of source.statements.filter(ts.isImportDeclaration))
      for (const name of importedNames(node)) imports.set(name, importOf(name, node))
  }
  const inherited = [...imports].filter(([name]) => !known.has(name))
  for (const [name] of inherited) known.add(name)
  return inherited.map(([, text]) => text)
}

function importOf(name: string, node: ts.ImportDeclaration): string {
  const isDefault = node.importClause?.name?.text === name
  return `import ${isDefault ? name : `{ ${name} }`} from ${node.moduleSpecifier.getText()}`
}

function importedNames(node: ts.ImportDeclaration): string[] {
  const clause = node.importClause
  const bindings = clause?.namedBindings
  return [
    ...(clause?.name === undefined ? [] : [clause.name.text]),
    ...(bindings !== undefined && ts.isNamedImports(bindings)
      ? bindings.elements.map(({ name }) => name.text)
      : []),
  ]
}

function importList(names: string[], specifier: string): string {
  return `import { ${names.join(', ')} } from '${specifier}'`
}

/** The imports stand above the function; where they were there are blanks, so that nothing else moves. */
function blankImports(source: ts.SourceFile): string {
  let text = source.text
  for (const node of source.statements.filter(ts.isImportDeclaration)) {
    const blanks = node.getText(source).replaceAll(/[^\n]/g, ' ')
    text = text.slice(0, node.getStart(source)) + blanks + text.slice(node.end)
  }
  return text
}

/**
 * `new Name(a: A, b?: B)` is no expression but says what the constructor takes. A function with those parameters passes
 * all of them on, so that ours may neither want more, nor take fewer, nor refuse a documented type.
 */
function signatureAssertion(code: string): string | undefined {
  const [, name, parameters] = SIGNATURE.exec(code) ?? []
  if (name === undefined || syntaxErrors(code) === 0) return undefined
  const [signature] = parse(`function documented${parameters} {}`).statements
  if (signature === undefined || !ts.isFunctionDeclaration(signature)) return undefined
  const names = signature.parameters.map((parameter) => parameter.name.getText())
  return `;(${parameters} => new ${name}(${names.join(', ')}))`
}

function interfaceAssertions(source: ts.SourceFile, context: ExampleContext): string {
  const interfaces = source.statements.filter(ts.isInterfaceDeclaration)
  if (interfaces.length < source.statements.length) return ''
  return interfaces
    .map(({ name }) => {
      const assertion = context.interfaces[name.text]
      if (assertion === undefined)
        throw new Error(`Nothing is said about the documented interface ${name.text}`)
      return `${assertion}\n`
    })
    .join('')
}

function parse(text: string): ts.SourceFile {
  return ts.createSourceFile('example.ts', text, ts.ScriptTarget.ES2022, true)
}

function syntaxErrors(text: string): number {
  return (ts.transpileModule(text, { reportDiagnostics: true }).diagnostics ?? []).length
}
