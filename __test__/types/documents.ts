/**
 * Which TypeScript blocks of the documents are checked, and what each package name stands for.
 *
 * What the examples take for granted (a client, a queue, an engine) is declared in `fixtures/`, in a file named after
 * the document.
 */

export interface DocumentedPackage {
  document: string
  /** The name that the examples import. */
  packageName: string
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
]
