/** Workstations for a suite: each in a place of its own, with a look at what it stores. */
import { after } from 'node:test'
import { type Target, type Workstation, type WorkstationOptions, createWorkstation } from '../../index.js'
import { type Backend, Data } from './backends'

export interface Place {
  target: Target
  workstation: Workstation
  data: Data
  /** Another one on the same data, as another process would have it. */
  another(options?: WorkstationOptions): Workstation
}

/** Places that are closed after the suite. */
export function placesOf(backend: Backend): (options?: WorkstationOptions) => Promise<Place> {
  const closing: (() => Promise<void>)[] = []
  after(async () => {
    await Promise.all(closing.map((close) => close()))
  })
  return async (options) => {
    const target = await backend.freshTarget()
    const another = (others: WorkstationOptions = {}): Workstation => {
      const workstation = createWorkstation({ redis: target, log: false, ...others })
      closing.push(() => workstation.close())
      return workstation
    }
    const data = new Data(target)
    closing.push(() => data.close())
    return { target, workstation: another(options), data, another }
  }
}
