// The figures of the map: rates, failures and percentiles of components and seams.

import { NAMES, added, changes, isFailure, percentile, total } from "./metrics-model.js";

/** @typedef {{rate: number, failed: number, p50: number, p99: number, calls: number}} Figures */

/**
 * Returns the figures between two snapshots.
 * @param {{before?: import("./metrics-model.js").Snapshot, after?: import("./metrics-model.js").Snapshot, seconds: number}} window
 */
export function traffic({ before, after, seconds }) {
  const none = { rate: NaN, failed: NaN, p50: NaN, p99: NaN, calls: 0 };
  if (!before || !after || seconds === 0) return { all: none, node: () => undefined, edge: () => undefined };
  const of = (name, key) => figures(before, after, seconds, name, key);
  const all = of(NAMES.requests, () => "");
  const handlers = of(NAMES.requests, (labels) => labels.component);
  const callees = of(NAMES.calls, (labels) => labels.callee);
  const edges = of(NAMES.calls, (labels) => `${labels.caller}\n${labels.callee}`);
  const seams = of(NAMES.calls, (labels) => `${labels.caller}\n${labels.callee}\n${labels.interface}`);
  return {
    all: all.get("") ?? none,
    node: (node) => (node.kind === "client" ? all.get("") : node.kind === "component" ? (handlers.get(node.name) ?? callees.get(node.name)) : undefined),
    edge: (caller, callee) => (caller === "client" ? handlers.get(callee) : edges.get(`${caller}\n${callee}`)),
    seam: (caller, callee, name) => seams.get(`${caller}\n${callee}\n${name}`),
  };
}

/** @returns {Map<string, Figures>} */
function figures(before, after, seconds, name, key) {
  const good = changes(before, after, name, (labels) => (isFailure(labels) ? undefined : key(labels)));
  const bad = changes(before, after, name, (labels) => (isFailure(labels) ? key(labels) : undefined));
  const keys = new Set([...good.keys(), ...bad.keys()]);
  return new Map([...keys].map((each) => {
    const histogram = added([good.get(each), bad.get(each)].filter(Boolean));
    const calls = total(histogram);
    const failures = bad.has(each) ? total(bad.get(each)) : 0;
    return [each, { rate: calls / seconds, failed: calls === 0 ? 0 : failures / calls, p50: percentile(histogram, 0.5), p99: percentile(histogram, 0.99), calls }];
  }));
}
