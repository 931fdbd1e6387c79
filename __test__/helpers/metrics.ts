/** Metrics as a scrape shows them, and what a piece of work adds to them. */
import { metricsText } from 'ferroflow/metrics'

/** Numbers by series: the name with its labels, as in the text. */
export type Series = Map<string, number>

export function parse(text: string): Series {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const end = line.lastIndexOf(' ')
      return [line.slice(0, end), Number(line.slice(end + 1))]
    }),
  )
}

/** All metrics now. */
export async function scrape(): Promise<Series> {
  return parse(await metricsText())
}

/** By how much `run` changed each series; without those that stayed. */
export async function added(run: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = await scrape()
  await run()
  const after = await scrape()
  const changes = [...after].map(([series, value]) => [series, value - (before.get(series) ?? 0)] as const)
  return Object.fromEntries(changes.filter(([, change]) => change !== 0))
}
