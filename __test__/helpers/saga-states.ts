/** States of sagas as tests need them, and where they are stored. */
export interface Metadata {
  sagaId: string
  version: number
  createdAt: Date
  updatedAt: Date
  isCompleted: boolean
  archivedAt: Date | null
  timeoutExpiresAt: Date | null
}

/** A state in the form of the saga runtime. */
export interface Counter {
  n: number
  text?: string
  metadata: Metadata
}

export const EPOCH = new Date(0)

export function counter(sagaId: string, n = 0, metadata: Partial<Metadata> = {}): Counter {
  return {
    n,
    metadata: {
      sagaId,
      version: 0,
      createdAt: EPOCH,
      updatedAt: EPOCH,
      isCompleted: false,
      archivedAt: null,
      timeoutExpiresAt: null,
      ...metadata,
    },
  }
}

/** The same state as the next version, as the runtime makes it. */
export function next(state: Counter, change: Partial<Omit<Counter, 'metadata'>> = {}): Counter {
  return { ...state, ...change, metadata: { ...state.metadata, version: state.metadata.version + 1 } }
}

export const stateKey = (name: string, correlationId: string): string =>
  `saga-bus:saga:${name}:${correlationId}`

export const indexKey = (name: string, sagaId: string): string => `saga-bus:saga:${name}:idx:id:${sagaId}`
