/** The process in which one client acquires and releases: a child of `locks.ts`. */
import { type LockClient, PAIR_CLIENTS } from './lock-clients.js'

export const IN_FLIGHT = 64
const ROUND_MS = 200

export interface Round {
  name: string
  /** Pairs a second. */
  rate: number
  /** CPU time of this process, all threads, microseconds a pair. */
  cpu: number
}

async function measure(client: LockClient): Promise<Round> {
  let pairs = 0
  const cpu = process.cpuUsage()
  const start = performance.now()
  const end = start + ROUND_MS
  const caller = async (_: unknown, index: number): Promise<void> => {
    while (performance.now() < end) {
      // oxlint-disable-next-line no-await-in-loop -- one pair after the other
      const release = await client.acquire(`pair ${index}`)
      // oxlint-disable-next-line no-await-in-loop
      await release()
      pairs++
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { name: client.name, rate: pairs / seconds, cpu: (user + system) / pairs }
}

if (require.main === module) {
  const client = PAIR_CLIENTS[Number(process.argv[3])]!(process.argv[2]!)
  process.on('message', () => void measure(client).then((round) => process.send!(round)))
  process.on('disconnect', () => void client.close())
}
