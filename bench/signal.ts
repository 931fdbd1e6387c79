import type { RedisServer } from '../__test__/helpers/redis-server.js'
import { RedisWakeSignaler } from '../index.js'

const SIGNALS = 5000

/** From `signal` to the handler of another connection, one after the other. */
export async function measureSignal(server: RedisServer): Promise<void> {
  const sender = new RedisWakeSignaler(server.url)
  const receiver = new RedisWakeSignaler(`${server.url}/1`)
  let heard: (() => void) | undefined
  await receiver.subscribe(() => heard?.())
  const times: number[] = []
  for (let index = 0; index < SIGNALS; index++) {
    const arrived = new Promise<void>((resolve) => {
      heard = resolve
    })
    const sent = performance.now()
    void sender.signal(`e${index}`)
    await arrived
    times.push(performance.now() - sent)
  }
  const sorted = times.slice(SIGNALS / 10).toSorted((a, b) => a - b)
  const at = (part: number): string => sorted[Math.floor(sorted.length * part)]!.toFixed(2)
  console.log(`Signal to handler: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms (goal: p99 5 ms)\n`)
  await Promise.all([sender.disconnect(), receiver.disconnect()])
}
