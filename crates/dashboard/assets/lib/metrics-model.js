// Metrics as values over time: rates and percentiles from the totals that the API returns.

/**
 * @typedef {{counts: number[], bounds: number[], sum: number}} Histogram
 * @typedef {{trace: string, value: number, at: number}} Exemplar
 * @typedef {{labels: Record<string, string>, value: number, histogram?: Histogram, exemplars: Exemplar[]}} Series
 * @typedef {{name: string, unit: string, kind: string, help: string, series: Series[]}} Metric
 * @typedef {{at: number, metrics: Map<string, Metric>}} Snapshot
 */

/** The names of the metrics that pages use. */
export const NAMES = {
  requests: "http.server.request.duration",
  active: "http.server.active_requests",
  calls: "rpc.client.call.duration",
  stores: "db.client.operation.duration",
  live: "isomer.instance.live",
  idle: "isomer.instance.idle",
  starts: "isomer.instance.start.duration",
  memory: "process.memory.usage",
  cpu: "process.cpu.time",
};

/** Returns the change of a histogram between two times. @param {Series | undefined} before @param {Series} after @returns {Histogram} */
export function change(before, after) {
  const { counts, bounds, sum } = after.histogram;
  const old = before?.histogram;
  // A total that has decreased shows that the process was restarted.
  const isRestarted = old && counts.some((count, index) => count < (old.counts[index] ?? 0));
  if (!old || isRestarted) return { counts, bounds, sum };
  return { counts: counts.map((count, index) => count - (old.counts[index] ?? 0)), bounds, sum: sum - old.sum };
}

/** Adds up histograms with the same bounds. @param {Histogram[]} all @returns {Histogram} */
export function added(all) {
  const total = { counts: all[0]?.counts.map(() => 0) ?? [], bounds: all[0]?.bounds ?? [], sum: 0 };
  for (const { counts, sum } of all) {
    counts.forEach((count, index) => {
      total.counts[index] += count;
    });
    total.sum += sum;
  }
  return total;
}

/** The number of values in a histogram. @param {Histogram} histogram */
export const total = ({ counts }) => counts.reduce((sum, count) => sum + count, 0);

/**
 * Estimates the value below which `part` of the values are, by interpolation in the bucket. NaN without values.
 * @param {Histogram} histogram
 * @param {number} part
 */
export function percentile({ counts, bounds }, part) {
  const wanted = counts.reduce((sum, count) => sum + count, 0) * part;
  if (wanted === 0) return NaN;
  let below = 0;
  for (let index = 0; index < counts.length; index++) {
    if (below + counts[index] >= wanted) {
      const low = index === 0 ? 0 : bounds[index - 1];
      const high = bounds[index] ?? low;
      return low + (high - low) * ((wanted - below) / counts[index]);
    }
    below += counts[index];
  }
  return bounds.at(-1) ?? NaN;
}

/** The identity of a series in its metric. @param {Series} series */
export const seriesKey = ({ labels }) => JSON.stringify(Object.entries(labels).sort());

/**
 * Returns, for the series of a metric that `select` accepts, the totals of the change between two snapshots, grouped by
 * `group`.
 * @param {Snapshot | undefined} before
 * @param {Snapshot} after
 * @param {string} name
 * @param {(labels: Record<string, string>) => string | undefined} group
 * @returns {Map<string, Histogram>}
 */
export function changes(before, after, name, group) {
  const old = new Map((before?.metrics.get(name)?.series ?? []).map((series) => [seriesKey(series), series]));
  /** @type {Map<string, Histogram[]>} */
  const groups = new Map();
  for (const series of after.metrics.get(name)?.series ?? []) {
    const key = series.histogram && group(series.labels);
    if (key === undefined) continue;
    const list = groups.get(key) ?? [];
    list.push(change(old.get(seriesKey(series)), series));
    groups.set(key, list);
  }
  return new Map([...groups].map(([key, list]) => [key, added(list)]));
}

/** Whether labels describe failed requests or calls. @param {Record<string, string>} labels */
export const isFailure = ({ status, outcome }) =>
  status === "5xx" || status === "failed" || status === "cut_off" || (outcome !== undefined && outcome !== "ok");

/**
 * Converts the response of the API.
 * @param {any} response
 * @param {{tenant: string, name: string}} app
 * @param {number} at
 * @returns {Snapshot}
 */
export function snapshot(response, app, at) {
  const isOwn = (labels) => (!labels.tenant || labels.tenant === app.tenant) && (!labels.app || labels.app === app.name);
  const metrics = (response.metrics ?? []).map((metric) => {
    const series = metric.series.map((one) => read(one, metric)).filter(({ labels }) => isOwn(labels));
    return [metric.name, { name: metric.name, unit: metric.unit, kind: metric.kind, help: metric.help, series }];
  });
  return { at, metrics: new Map(metrics) };
}

/** @param {any} one @param {any} metric @returns {Series} */
function read(one, metric) {
  // For a histogram, `value` is the sum of all values.
  const histogram = one.counts && { counts: one.counts, bounds: metric.bounds, sum: one.value };
  const exemplars = (one.exemplars ?? []).map((each) => ({ trace: each.trace_id, value: each.value, at: each.at_ms }));
  return { labels: one.labels ?? {}, value: one.value ?? 0, histogram, exemplars };
}
