/**
 * Metrics of ferroflow for Prometheus, counted in the core: of the whole process, worker threads included.
 *
 * @packageDocumentation
 */

import { ArgumentError, ConfigError } from './errors.js'
import { type Definition, definitions, readSnapshot, type Sample } from './metrics/definitions.js'
import { checkObject, kindOf } from './validate.js'

/** What {@link registerMetrics} needs of a registry: a `Registry` of prom-client has it. */
export interface MetricsRegistry {
  registerMetric(metric: any): void
  getSingleMetric(name: string): unknown
}

/** The registry that prom-client uses where none is named, as far as it is needed to answer a scrape. */
export interface CommonRegistry extends MetricsRegistry {
  readonly contentType: string
  metrics(): Promise<string>
}

/** Options of {@link metricsText}. */
export interface MetricsTextOptions {
  /** Put before the name of every metric: letters, digits, `_` and `:`. Default: none. */
  prefix?: string
}

/** Options of {@link registerMetrics}. */
export interface RegisterMetricsOptions<R extends MetricsRegistry> extends MetricsTextOptions {
  /** Default: the common one of prom-client, which must be installed then. */
  register?: R
}

/** Common to all copies of this module, which count the same. */
const OURS = Symbol.for('ferroflow.metric.1')

/** A metric as a registry of prom-client sees it. Its numbers are read when they are asked for. */
class Metric {
  name: string
  readonly help: string
  readonly type: string
  readonly aggregator: string
  readonly labelNames: readonly string[]
  readonly #definition: Definition

  constructor(name: string, definition: Definition) {
    this.name = name
    this.help = definition.help
    this.type = definition.type
    this.aggregator = definition.aggregator
    this.labelNames = definition.labels
    this.#definition = definition
    Object.defineProperty(this, OURS, { value: true })
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator } = this
    const values = this.#definition.samples(readSnapshot()).map(({ suffix, labels, value }) => ({
      labels,
      value,
      // Without it, a registry that speaks OpenMetrics finds the name itself.
      ...(suffix !== undefined && { metricName: name + suffix }),
    }))
    return { name, help, type, aggregator, values }
  }

  /** Counters of the core only grow. */
  reset(): void {}
}

/**
 * Has a registry of prom-client show what the core counts, among them `redis_commands_total`,
 * `redis_commands_failed_total` and `redis_connection_status`. Called again for the same registry and prefix, it changes
 * nothing.
 *
 * @returns the registry
 * @throws {@link ConfigError} if the registry has another metric of one of the names, or prom-client is wanted and not
 * installed; {@link ArgumentError} for an option that cannot be used
 *
 * @example
 * const register = registerMetrics()
 * app.get('/metrics', async (_request, response) => {
 *   response.type(register.contentType).send(await register.metrics())
 * })
 */
export function registerMetrics(options?: MetricsTextOptions & { register?: undefined }): CommonRegistry
export function registerMetrics<R extends MetricsRegistry>(options: RegisterMetricsOptions<R>): R
export function registerMetrics(options: RegisterMetricsOptions<MetricsRegistry> = {}): MetricsRegistry {
  const prefix = prefixOf(options)
  const register = options.register ?? commonRegister()
  if (typeof register?.registerMetric !== 'function' || typeof register.getSingleMetric !== 'function') {
    throw new ArgumentError(
      'INVALID_ARGUMENT',
      `register must be a Registry of prom-client, not ${kindOf(register)}`,
    )
  }
  const known = definitions.map(({ name }) => register.getSingleMetric(prefix + name))
  const foreign = known.findIndex((metric) => metric !== undefined && !isOurs(metric))
  if (foreign !== -1) {
    const name = prefix + definitions[foreign]!.name
    throw new ConfigError(
      'CONFIG',
      `The registry has another metric ${name} already: give registerMetrics a prefix`,
    )
  }
  for (const [index, definition] of definitions.entries()) {
    if (known[index] === undefined) register.registerMetric(new Metric(prefix + definition.name, definition))
  }
  return register
}

/**
 * The metrics in the text format of Prometheus, without prom-client. Its content type is
 * `text/plain; version=0.0.4; charset=utf-8`.
 *
 * @throws {@link ArgumentError} for an option that cannot be used
 */
export async function metricsText(options: MetricsTextOptions = {}): Promise<string> {
  const prefix = prefixOf(options)
  const snapshot = readSnapshot()
  const blocks = definitions.map(({ name, help, type, samples }) => {
    const full = prefix + name
    const lines = samples(snapshot).map((sample) => toLine(full, sample))
    return [`# HELP ${full} ${help}`, `# TYPE ${full} ${type}`, ...lines].join('\n')
  })
  return `${blocks.join('\n\n')}\n`
}

function toLine(name: string, { suffix = '', labels, value }: Sample): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(String(text))}"`)
  return `${name}${suffix}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

function prefixOf(options: unknown): string {
  const { prefix = '' } = checkObject('The options', options) as { prefix?: unknown }
  if (typeof prefix !== 'string' || !/^(?:[a-zA-Z_:][a-zA-Z0-9_:]*)?$/.test(prefix)) {
    throw new ArgumentError(
      'INVALID_ARGUMENT',
      'prefix must be letters, digits, "_" and ":", and not begin with a digit',
    )
  }
  return prefix
}

function isOurs(metric: unknown): boolean {
  return typeof metric === 'object' && metric !== null && OURS in metric
}

function commonRegister(): MetricsRegistry {
  try {
    const { register } = require('prom-client') as typeof import('prom-client')
    return register
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'MODULE_NOT_FOUND') throw error
    throw new ConfigError(
      'CONFIG',
      'prom-client is not installed: add it to your dependencies, give registerMetrics a register, or use metricsText',
    )
  }
}
