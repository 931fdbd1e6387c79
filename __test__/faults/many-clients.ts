/**
 * A process with so many connections to one target. Prints `ready` when all are there, and again after each loss, and
 * for how many milliseconds it stood still at most since the last time.
 */
import { type Target, connect } from '../../index.js'
import { watchStandstill } from './standstill'

const [target = '', countText, name] = process.argv.slice(2)
const count = Number(countText)
let ready = 0
const lateMs = watchStandstill()

// Equal connections would be one.
const connections = Array.from({ length: count }, (_, number) =>
  connect({ ...(JSON.parse(target) as object), connectionName: `${name}-${number}` } as Target),
)
for (const connection of connections)
  connection.on('status', (status) => {
    if (status === 'reconnecting') ready -= 1
    if (status !== 'ready') return
    ready += 1
    if (ready !== count) return
    console.log(`ready ${lateMs()}`)
  })

/** Keeps the process alive, and the connections: one that nobody knows any more is closed. */
setInterval(() => connections.length, 60_000)
