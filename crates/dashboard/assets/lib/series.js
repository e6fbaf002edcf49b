// The lines of the charts, computed from the recorded metrics.

import { NAMES, added, changes, isFailure, percentile, total } from "./metrics-model.js";

/** The maximum number of lines of a chart. */
const LINES_MAX = 6;

/** The colours of classes of status codes. The other lines have the colours of their positions. */
const TONES = { "4xx": "warn", "5xx": "bad", failed: "bad", cut_off: "bad" };

/** The time in milliseconds over which each point of a line is computed. Longer times make smoother lines. */
const POINT_MS = 10_000;

/**
 * @typedef {{name: string, values: (number | null)[], tone?: string}} ChartLine
 * @typedef {{at: number, value: number, trace: string}} Dot
 * @typedef {{id: string, title: string, format: string, times: number[], lines: ChartLine[], dots: Dot[]}} ChartData
 */

/** Returns all charts. @param {import("./metrics-model.js").Snapshot[]} snapshots @returns {ChartData[]} */
export function charts(snapshots) {
  const times = snapshots.map((one) => one.at / 1000);
  const pairs = snapshots.map((after, index) => ({ before: earlier(snapshots, index), after }));
  const chart = (id, title, format, lines, dots = []) => ({ id, title, format, times, lines, dots });
  return [
    chart(
      "requests",
      "Requests",
      "rate",
      rates(pairs, NAMES.requests, ({ status }) => status),
    ),
    chart("latency", "Response time", "seconds", percentiles(pairs, NAMES.requests), exemplars(snapshots, NAMES.requests)),
    chart(
      "routes",
      "Requests by component",
      "rate",
      rates(pairs, NAMES.requests, ({ component }) => component || "none"),
    ),
    chart(
      "active",
      "Requests in progress",
      "number",
      gauges(snapshots, NAMES.active, () => "in progress"),
    ),
    chart(
      "seams",
      "Seam calls",
      "rate",
      rates(pairs, NAMES.calls, ({ caller, callee }) => `${caller} → ${callee}`),
    ),
    chart("calls", "Seam call time", "seconds", percentiles(pairs, NAMES.calls), exemplars(snapshots, NAMES.calls)),
    chart(
      "stores",
      "Store operations",
      "rate",
      rates(pairs, NAMES.stores, ({ store, operation }) => `${store} ${operation}`),
    ),
    chart(
      "instances",
      "Live instances",
      "number",
      gauges(snapshots, NAMES.live, ({ group }) => group),
    ),
    chart(
      "memory",
      "Memory of the process",
      "bytes",
      gauges(snapshots, NAMES.memory, () => "resident"),
    ),
    chart("cpu", "Processor time", "number", cores(pairs)),
  ].filter(({ lines, id }) => lines.length > 0 || id === "requests" || id === "latency");
}

/** The newest snapshot that is at least `POINT_MS` older, or the first one. */
function earlier(snapshots, index) {
  for (let at = index - 1; at >= 0; at--) if (snapshots[at].at <= snapshots[index].at - POINT_MS || at === 0) return snapshots[at];
  return undefined;
}

/** Lines from a value for each group at each time; the groups with the largest values. @param {Map<string, number>[]} points @returns {ChartLine[]} */
function linesOf(points) {
  const sums = new Map();
  for (const point of points) for (const [group, value] of point) sums.set(group, (sums.get(group) ?? 0) + value);
  const groups = [...sums]
    .filter(([, sum]) => sum > 0)
    .sort((a, b) => b[1] - a[1])
    .slice(0, LINES_MAX)
    .map(([group]) => group);
  // Sort the names, so that each line keeps its colour when the chart is drawn again.
  return groups.sort().map((name) => ({ name, values: points.map((point) => point.get(name) ?? null), tone: TONES[name] }));
}

function rates(pairs, name, group) {
  const points = pairs.map(({ before, after }) => {
    if (!before) return new Map();
    const seconds = (after.at - before.at) / 1000;
    return new Map([...changes(before, after, name, group)].map(([key, histogram]) => [key, total(histogram) / seconds]));
  });
  return linesOf(points);
}

function percentiles(pairs, name) {
  const values = pairs.map(({ before, after }) => (before ? added([...changes(before, after, name, () => "").values()]) : undefined));
  if (!values.some((histogram) => histogram && total(histogram) > 0)) return [];
  const line = (label, part) => ({ name: label, values: values.map((histogram) => finite(histogram ? percentile(histogram, part) : NaN)) });
  return [line("p50", 0.5), line("p90", 0.9), line("p99", 0.99)];
}

function gauges(snapshots, name, group) {
  const points = snapshots.map((snapshot) => {
    const point = new Map();
    for (const { labels, value } of snapshot.metrics.get(name)?.series ?? [])
      point.set(group(labels), (point.get(group(labels)) ?? 0) + value);
    return point;
  });
  return linesOf(points);
}

function cores(pairs) {
  const read = (snapshot) => snapshot?.metrics.get(NAMES.cpu)?.series[0]?.value;
  const values = pairs.map(({ before, after }) =>
    finite(((read(after) ?? NaN) - (read(before) ?? NaN)) / ((after.at - (before?.at ?? 0)) / 1000)),
  );
  return values.some((value) => value !== null) ? [{ name: "cores", values }] : [];
}

/** The recorded requests whose traces are stored, as dots. @returns {Dot[]} */
function exemplars(snapshots, name) {
  const dots = new Map();
  for (const snapshot of snapshots.slice(-30)) {
    for (const series of snapshot.metrics.get(name)?.series ?? []) {
      for (const { trace, value, at } of series.exemplars)
        dots.set(trace, { at: at / 1000, value, trace, isBad: isFailure(series.labels) });
    }
  }
  return [...dots.values()].sort((a, b) => a.at - b.at);
}

/** @param {number} value */
const finite = (value) => (Number.isFinite(value) ? value : null);
