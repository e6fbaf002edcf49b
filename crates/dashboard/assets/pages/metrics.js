// Charts of the app's metrics. All charts share the time range, which a person chooses by dragging.

import { html, useMemo, useState } from "../vendor/preact.js";
import { bytes, number, rate, seconds, sentence } from "../lib/format.js";
import { useHistory } from "../lib/history.js";
import { Choice, Empty, Failure, Field, Icon, Loading } from "../lib/parts.js";
import { setQuery } from "../lib/router.js";
import { charts } from "../lib/series.js";
import { Chart } from "./chart.js";

const FORMATS = { rate, seconds, bytes, number };
const RANGES = [
  ["60", "1 min"],
  ["300", "5 min"],
  ["1800", "30 min"],
];

/** The minimum number of seconds that a chart shows, even if less was recorded: otherwise several marks have the same time. */
const SPAN_MIN = 30;

/** @param {{app: any, route: import("../lib/router.js").Route}} props */
export function Metrics({ app, route: { query } }) {
  const { snapshots, error } = useHistory(app);
  const [range, setRange] = useState(undefined);
  const span = Number(query.range ?? 300);
  const all = useMemo(() => charts(snapshots), [snapshots]);
  const now = snapshots.at(-1)?.at ?? Date.now();
  const recorded = (now - (snapshots[0]?.at ?? now)) / 1000;
  const shownRange = range ?? [now / 1000 - Math.min(span, Math.max(recorded, SPAN_MIN)), now / 1000];
  if (error && snapshots.length === 0) {
    return error.status === 404
      ? html`<${Empty} icon="charts" title="No metrics"><p>${sentence(error.message)}</p></${Empty}>`
      : html`<div class="inset"><${Failure} error=${error} /></div>`;
  }
  if (snapshots.length === 0) return html`<${Loading} rows=${9} />`;
  return html`
    <div class="filters">
      <${Choice} label="Time range" value=${range ? "" : String(span)} options=${RANGES} onChange=${(value) => (setRange(undefined), setQuery({ range: value }))} />
      ${range && html`<button class="button" onClick=${() => setRange(undefined)}><${Icon} name="close" />Follow the present</button>`}
      <div class="end"><span class="dim wide-only">Drag in a chart to choose a time range</span><span class=${error ? "live" : "live on"}>${error ? "connecting" : "live"}</span></div>
    </div>
    ${error && html`<div class="inset"><${Failure} error=${error} /></div>`}
    <div class="charts">
      ${all.map((chart) => html`<${Chart} key=${chart.id} chart=${chart} range=${shownRange} format=${FORMATS[chart.format]} onRange=${setRange} />`)}
    </div>
    <${AllMetrics} snapshot=${snapshots.at(-1)} />
  `;
}

/** The maximum number of series of a metric in the table. */
const SERIES_MAX = 50;

/** The current values of all metrics. */
function AllMetrics({ snapshot }) {
  const [text, setText] = useState("");
  const metrics = [...snapshot.metrics.values()].filter((metric) => metric.series.length > 0 && metric.name.includes(text.trim()));
  return html`
    <section class="all-metrics">
      <header><h2>All metrics</h2><${Field} label=${html`<${Icon} name="search" /><span class="hidden">Search</span>`} placeholder="Name" data-search value=${text} onInput=${(event) => setText(event.currentTarget.value)} /></header>
      ${metrics.map(
        (metric) => html`
        <details key=${metric.name}>
          <summary><code>${metric.name}</code> <span class="dim">${metric.help}</span></summary>
          <div class="table-frame"><table>
            ${metric.series.slice(0, SERIES_MAX).map(
              (series) => html`
              <tr key=${JSON.stringify(series.labels)}><td class="mono">${
                Object.entries(series.labels)
                  .map(([name, value]) => `${name}=${value}`)
                  .join("  ") || "–"
              }</td><td class="number">${valueOf(series, metric)}</td></tr>
            `,
            )}
          </table></div>
          ${metric.series.length > SERIES_MAX && html`<p class="dim">${number(metric.series.length - SERIES_MAX)} more series</p>`}
        </details>
      `,
      )}
      ${metrics.length === 0 && html`<p class="dim">No metric has this name.</p>`}
    </section>
  `;
}

function valueOf({ value, histogram }, { unit }) {
  if (histogram) {
    const count = histogram.counts.reduce((sum, each) => sum + each, 0);
    return `${number(count)} × ${seconds(histogram.sum / (count || 1))} on average`;
  }
  return unit === "By" || unit === "bytes" ? bytes(value) : unit === "s" || unit === "seconds" ? seconds(value) : number(value);
}
