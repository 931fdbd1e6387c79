import { type JournalAttempt, type JournalList, Rows, toAttempt } from '../../journal.js'
import { type binding, settled } from '../../native.js'
import { checkName } from '../../validate.js'

/** Every attempt of every step of a run, in the order of their beginning. */
export async function readHistory(
  journal: binding.NativeJournal,
  prefix: string,
  runId: string,
): Promise<JournalList<JournalAttempt>> {
  const rows = new Rows<JournalAttempt>()
  for (const [name, from, entries] of await settled(journal.history(checkName('the run id', runId)))) {
    const key = `${prefix}:step-history of ${runId}:${name}`
    for (const entry of entries) rows.add(name, () => toAttempt(entry, from, key))
  }
  // Of the same millisecond, the steps stay in the order of their insertion.
  return rows.sorted((attempt) => attempt.createdAt.getTime())
}
