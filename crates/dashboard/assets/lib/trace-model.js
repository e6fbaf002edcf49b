// Pure functions over the spans of a trace.

/**
 * @typedef {{id: string, parent?: string, depth: number, name: string, kind: string, component?: string,
 *   process?: string, offset_ns: number, duration_ns: number, self_ns: number, failure?: string,
 *   attributes?: Record<string, string | number | boolean>}} Span
 * @typedef {{id: string, request: string, name: string, component?: string, start_us: number, duration_ns: number,
 *   path?: string, status?: number, spans: number, failed: boolean, sampled: boolean, partial?: boolean}} TraceSummary
 */

/** The kinds of work that a trace shows, with their names. */
export const CATEGORIES = { request: "Request", seam: "Seam call", data: "Store", outbound: "Outbound", wait: "Instance", other: "Other" };

/** Returns the kind of work that a span describes. @param {Span} span */
export function category(span) {
  const attributes = span.attributes ?? {};
  if ("isomer.seam.mode" in attributes || "rpc.service" in attributes) return "seam";
  if ("db.system.name" in attributes || "db.operation.name" in attributes) return "data";
  if (span.name === "wait for instance" || span.name === "start instance") return "wait";
  if ("http.request.method" in attributes) return span.kind === "client" ? "outbound" : "request";
  return "other";
}

/** Returns whether each span has children, by the index. @param {Span[]} spans */
export const parents = (spans) => spans.map((span, index) => (spans[index + 1]?.depth ?? 0) > span.depth);

/**
 * Returns the spans that no collapsed ancestor hides.
 * @param {Span[]} spans
 * @param {Set<string>} collapsed
 */
export function visible(spans, collapsed) {
  let hiddenBelow = Infinity;
  return spans.filter((span) => {
    if (span.depth > hiddenBelow) return false;
    hiddenBelow = collapsed.has(span.id) ? span.depth : Infinity;
    return true;
  });
}

/** Returns the end of the last span, or the duration of the trace if that is longer. @param {{summary: TraceSummary, spans: Span[]}} trace */
export function extent({ summary, spans }) {
  return spans.reduce((end, span) => Math.max(end, span.offset_ns + span.duration_ns), summary.duration_ns) || 1;
}

/** Returns round positions of about `count` marks between 0 and `end`. @param {number} end @param {number} count */
export function ticks(end, count) {
  const rough = end / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5].find((factor) => factor * unit >= rough) ?? 10);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => index * step).filter((at) => at < end * 0.97);
}

/** Returns the own time of each component, the longest first. @param {Span[]} spans */
export function breakdown(spans) {
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const span of spans) {
    const name = category(span) === "wait" ? "waiting for instances" : (span.component ?? "the platform");
    times.set(name, (times.get(name) ?? 0) + span.self_ns);
  }
  const total = [...times.values()].reduce((sum, time) => sum + time, 0) || 1;
  const parts = [...times].map(([name, time]) => ({ name, time, part: time / total }));
  return parts.sort((a, b) => b.time - a.time);
}

/**
 * Compares two traces by operation: spans with the same component and name are one operation.
 * @param {Span[]} left
 * @param {Span[]} right
 */
export function compare(left, right) {
  const rows = new Map();
  const add = (side, spans) => {
    for (const span of spans) {
      const key = `${span.component ?? ""}\n${span.name}`;
      const empty = () => ({ calls: 0, self: 0, failed: 0 });
      const row = rows.get(key) ?? { key, name: span.name, component: span.component, left: empty(), right: empty() };
      row[side].calls += 1;
      row[side].self += span.self_ns;
      row[side].failed += span.failure === undefined ? 0 : 1;
      rows.set(key, row);
    }
  };
  add("left", left);
  add("right", right);
  const all = [...rows.values()].map((row) => ({ ...row, difference: row.right.self - row.left.self }));
  return all.sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference));
}

/** The method and the path of a trace's request, or the name of the trace. The name has the route, which may be `/...`. @param {TraceSummary} summary */
export function titleOf({ name, path }) {
  const method = name.split(" ", 1)[0];
  return path === undefined || method === name ? name : `${method} ${path}`;
}
