/**
 * Which TypeScript blocks of the documents are checked, and what each package name stands for.
 *
 * What the examples take for granted (a client, a queue, an engine) is declared in `fixtures/`, in a file named after
 * the document.
 */

import { readSpecBlocks, specPath, type SpecBlock } from '../helpers/spec'

export interface DocumentedPackage {
  document: string
  /** The name that the examples import. */
  packageName: string
  /** Files of the application that its examples import, and for which the package stands. Default: none */
  files?: string[]
  /** The file that the name stands for, relative to the repository. */
  entry: string
  /** All TypeScript blocks of the document, checked or not, so that a changed document is noticed. */
  blocks: number
  /** How many blocks that are. */
  checked: number
  /** For each interface that the document writes out: a statement that compiles only if ours agrees with it. */
  interfaces: Record<string, string>
}

export const documentedPackages: DocumentedPackage[] = [
  {
    document: 'pikku-workflows-redis.md',
    packageName: '@pikku-workflows/redis',
    entry: 'index.d.ts',
    blocks: 6,
    checked: 6,
    interfaces: {},
  },
  {
    document: 'saga-bus-store-redis.md',
    packageName: '@saga-bus/store-redis',
    entry: 'index.d.ts',
    blocks: 9,
    checked: 9,
    interfaces: {
      // The second statement notices an option that ours does not know: as a value it would be accepted silently.
      RedisSagaStoreOptions: `((documented: RedisSagaStoreOptions) => new RedisSagaStore(documented));
        ((name: keyof RedisSagaStoreOptions): KeysOf<ConstructorParameters<typeof RedisSagaStore>[0]> => name)`,
    },
  },
  {
    document: 'flowmonkey-redis.md',
    packageName: '@flowmonkey/redis',
    entry: 'index.d.ts',
    blocks: 13,
    checked: 13,
    interfaces: {
      LockManager: '((ours: RedisLockManager): LockManager => ours)',
      ExecutionCache: '((ours: RedisExecutionCache<Execution>): ExecutionCache => ours)',
    },
  },
  {
    document: 'idioteque-redis.md',
    packageName: '@idioteque/redis',
    entry: 'index.d.ts',
    blocks: 5,
    checked: 5,
    interfaces: { RedisImpl: '((documented: RedisImpl) => createRedisStore(documented))' },
  },
  {
    document: 'workstation-redis.md',
    packageName: 'workstation-redis',
    files: ['./services/redis', './services/workflow-state-manager'],
    entry: 'index.d.ts',
    blocks: 6,
    checked: 6,
    interfaces: {
      WorkflowState: '((documented: WorkflowState): typeof ours => documented); ((): WorkflowState => ours)',
    },
  },
]

/** The TypeScript blocks of a document, with the name of the package for the files that it stands for. */
export function blocksOf({ document, files = [], packageName }: DocumentedPackage): SpecBlock[] {
  return readSpecBlocks(specPath(document)).map((block) => ({
    ...block,
    code: files.reduce((code, file) => code.replaceAll(`'${file}'`, `'${packageName}'`), block.code),
  }))
}
