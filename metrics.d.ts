/**
 * Metrics of ferroflow for Prometheus, counted in the core: of the whole process, worker threads included.
 *
 * @packageDocumentation
 */
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
export declare function registerMetrics(
  options?: MetricsTextOptions & {
    register?: undefined
  },
): CommonRegistry
export declare function registerMetrics<R extends MetricsRegistry>(options: RegisterMetricsOptions<R>): R
/**
 * The metrics in the text format of Prometheus, without prom-client. Its content type is
 * `text/plain; version=0.0.4; charset=utf-8`.
 *
 * @throws {@link ArgumentError} for an option that cannot be used
 */
export declare function metricsText(options?: MetricsTextOptions): Promise<string>
