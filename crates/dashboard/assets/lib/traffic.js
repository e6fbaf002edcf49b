// The figures of the map: rates, failures and percentiles of components and seams.

import { NAMES, added, changes, isFailure, percentile, total } from "./metrics-model.js";

/**
 * `isSampled` states that only sampled requests were measured, as for calls between fused components.
 * @typedef {{rate: number, failed: number, p50: number, p99: number, calls: number, isSampled: boolean}} Figures
 */

/**
 * Returns the figures between two snapshots.
 * @param {{before?: import("./metrics-model.js").Snapshot, after?: import("./metrics-model.js").Snapshot, seconds: number}} window
 */
export function traffic({ before, after, seconds }) {
  const none = { rate: NaN, failed: NaN, p50: NaN, p99: NaN, calls: 0, isSampled: false };
  if (!before || !after || seconds === 0) return { all: none, node: () => undefined, edge: () => undefined };
  const of = (name, key) => figures(before, after, seconds, name, key);
  const all = of(NAMES.requests, () => "");
  const handlers = of(NAMES.requests, (labels) => labels.component);
  const callees = of(NAMES.calls, (labels) => labels.callee);
  const edges = of(NAMES.calls, (labels) => `${labels.caller}\n${labels.callee}`);
  const stores = of(NAMES.stores, (labels) => `${labels.system}\n${labels.store}`);
  return {
    all: all.get("") ?? none,
    node: ({ kind, name, system }) => {
      if (kind === "client") return all.get("");
      return kind === "store" ? stores.get(`${system}\n${name}`) : (handlers.get(name) ?? callees.get(name));
    },
    edge: (caller, callee) => (caller === "client" ? handlers.get(callee) : edges.get(`${caller}\n${callee}`)),
  };
}

/** @returns {Map<string, Figures>} */
function figures(before, after, seconds, name, key) {
  const good = changes(before, after, name, (labels) => (isFailure(labels) ? undefined : key(labels)));
  const bad = changes(before, after, name, (labels) => (isFailure(labels) ? key(labels) : undefined));
  const all = after.metrics.get(name)?.series ?? [];
  const sampled = new Set(all.filter(({ labels }) => labels.sampled === "true").map(({ labels }) => key(labels)));
  const keys = new Set([...good.keys(), ...bad.keys()]);
  return new Map(
    [...keys].map((each) => {
      const histogram = added([good.get(each), bad.get(each)].filter(Boolean));
      const calls = total(histogram);
      const failures = bad.has(each) ? total(bad.get(each)) : 0;
      return [
        each,
        {
          rate: calls / seconds,
          failed: calls === 0 ? 0 : failures / calls,
          p50: percentile(histogram, 0.5),
          p99: percentile(histogram, 0.99),
          calls,
          isSampled: sampled.has(each),
        },
      ];
    }),
  );
}
