/** The process that waits for the lock of another: a child of `locks.ts`. */
import { lockClients } from './lock-clients.js'

const clients = lockClients(process.argv[2]!)

process.on('message', ({ client, key }: { client: number; key: string }) => {
  void enter(client, key)
})

async function enter(client: number, key: string): Promise<void> {
  const acquired = clients[client]!.acquire(key)
  process.send!('waiting')
  const release = await acquired
  const entered = process.hrtime.bigint()
  await release()
  process.send!(String(entered))
}
