/** The TypeScript compiler, on modules that exist only in memory. */
import { dirname, join, resolve } from 'node:path'
import ts from 'typescript'

export const repository = resolve(__dirname, '../..')

export interface CompileOptions {
  /** Text by path. The paths decide where imports are looked up; the files need not exist. */
  modules: Map<string, string>
  /** Package names that stand for other files, as in a tsconfig. Targets are relative to the repository. */
  paths: Record<string, string>
}

/** Compiles everything at once, as the libraries are by far the largest part. */
export function compile(options: CompileOptions): ts.Program {
  const compilerOptions: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'],
    esModuleInterop: true,
    strict: true,
    // The documents write `catch (error) { … error.message … }`, which strict mode refuses whatever we export.
    useUnknownInCatchVariables: false,
    noEmit: true,
    paths: Object.fromEntries(
      Object.entries(options.paths).map(([name, target]) => [name, [join(repository, target)]]),
    ),
  }
  const host = ts.createCompilerHost(compilerOptions)
  const { fileExists, readFile, getSourceFile } = host
  const folders = new Set([...options.modules.keys()].map((path) => dirname(path)))
  host.getCurrentDirectory = () => repository
  host.fileExists = (path) => options.modules.has(path) || fileExists.call(host, path)
  host.readFile = (path) => options.modules.get(path) ?? readFile.call(host, path)
  host.directoryExists = (path) => folders.has(path) || ts.sys.directoryExists(path)
  host.getSourceFile = (path, languageVersion, ...rest) => {
    const text = options.modules.get(path)
    return text === undefined
      ? getSourceFile.call(host, path, languageVersion, ...rest)
      : ts.createSourceFile(path, text, languageVersion)
  }
  return ts.createProgram([...options.modules.keys()], compilerOptions, host)
}

/** Everything the compiler has to say about one file. */
export function diagnosticsOf(program: ts.Program, path: string): readonly ts.Diagnostic[] {
  const file = program.getSourceFile(path)
  if (file === undefined) throw new Error(`Not compiled: ${path}`)
  return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]
}

/** `3:14 message (TS2345)`, with the line mapped by the caller; lines and columns counted from 1. */
export function describeDiagnostic(
  diagnostic: ts.Diagnostic,
  mapLine: (line: number) => number = (line) => line,
): string {
  const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n  ')
  const place =
    diagnostic.file === undefined
      ? undefined
      : diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start ?? 0)
  const prefix = place === undefined ? '' : `${mapLine(place.line) + 1}:${place.character + 1} `
  return `${prefix}${message} (TS${diagnostic.code})`
}
