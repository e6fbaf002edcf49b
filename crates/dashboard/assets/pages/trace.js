// One trace: its spans on a time axis, and the details of the chosen span.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { clock, count, date, duration, percent, spanName } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Empty, Failure, Icon, Loading, Mode, Panel, Status } from "../lib/parts.js";
import { Link, pageOf, setQuery } from "../lib/router.js";
import { CATEGORIES, breakdown, category, extent, parents, ticks, titleOf, visible } from "../lib/trace-model.js";

/** The maximum number of components in the summary of own times. The others are added up. */
const PARTS_MAX = 5;

/** @param {{app: any, id: string, route: import("../lib/router.js").Route}} props */
export function TracePage({ app, id, route }) {
  const { data: trace, error, reload } = useData(`${app.base}/traces/${encodeURIComponent(id)}`);
  const chosen = trace?.spans.find((span) => span.id === route.query.span);
  if (error?.status === 404) {
    return html`<${Empty} icon="traces" title="This trace is not stored"><p>It was never recorded, or newer traces have replaced it.</p>
      <${Link} class="button" href=${pageOf("/traces")}>All traces</${Link}></${Empty}>`;
  }
  return html`
    <div class=${chosen ? "trace with-panel" : "trace"}>
      <${Link} class="back" href=${pageOf("/traces")}><${Icon} name="back" />All traces</${Link}>
      <${Failure} error=${error} retry=${reload} />
      ${!trace && !error && html`<${Loading} rows=${10} />`}
      ${trace && html`<${Head} trace=${trace} /><${Parts} spans=${trace.spans} /><${Waterfall} trace=${trace} chosen=${chosen} />`}
    </div>
    ${chosen && html`<${SpanPanel} span=${chosen} trace=${trace} />`}
  `;
}

function Head({ trace }) {
  const { summary } = trace;
  const start = summary.start_us / 1000;
  return html`
    <header class="trace-head">
      <h2><${Status} status=${summary.status} failed=${summary.failed} /> ${titleOf(summary)}</h2>
      <div class="trace-facts">
        <span><b>${duration(summary.duration_ns)}</b></span>
        <span>${date(start).split(",")[0]}, ${clock(start)}</span>
        <span>${count(trace.spans.length, "span")}</span>
        <span class="mono id">${summary.id}</span>
        <${Link} href=${pageOf("/logs", { trace: summary.id })}>Logs of the trace</${Link}>
      </div>
      ${notes(trace).map((note) => html`<p key=${note} class="note"><${Icon} name="warning" />${note}</p>`)}
    </header>
  `;
}

/** What the trace may lack. @returns {string[]} */
function notes({ summary, spans, spans_dropped, stopped_early }) {
  // A component's own spans, which have a scope, state nothing about the platform.
  const lacksFused = spans.some(({ attributes }) => attributes?.["isomer.fused_calls"] === "missing" && !("otel.scope.name" in attributes));
  return [
    !summary.sampled && "Not sampled: stored because it failed or was slow. Calls between fused components are missing.",
    lacksFused &&
      "Calls between fused components are missing: the code that reports them was not ready yet when the request arrived, or could not be used. Later requests have them, unless the log states a reason.",
    summary.partial && "The first span is missing: it was lost, or another machine has stored it.",
    spans_dropped > 0 && `${count(spans_dropped, "span")} were not stored, because the request had too many.`,
    stopped_early && "Spans may be missing: the search read as much as one query may read.",
  ].filter(Boolean);
}

/** Where the time went: the own time of each component. */
function Parts({ spans }) {
  const all = breakdown(spans);
  const rest = all.slice(PARTS_MAX);
  const time = rest.reduce((sum, part) => sum + part.time, 0);
  const shown = [
    ...all.slice(0, PARTS_MAX),
    ...(rest.length ? [{ name: count(rest.length, "other"), time, part: rest.reduce((sum, part) => sum + part.part, 0) }] : []),
  ];
  return html`
    <figure class="parts" aria-label="Own time by component">
      <div class="parts-bar">${shown.map((part, index) => html`<span key=${part.name} class=${`shade-${index}`} style=${{ flexGrow: part.part }}></span>`)}</div>
      <figcaption>
        ${shown.map((part, index) => html`<span key=${part.name}><i class=${`shade-${index}`}></i>${part.name} <b>${duration(part.time)}</b> <span class="dim">${percent(part.part)}</span></span>`)}
      </figcaption>
    </figure>
  `;
}

function Waterfall({ trace, chosen }) {
  const [collapsed, setCollapsed] = useState(() => new Set());
  const rows = useRef(null);
  const { spans } = trace;
  const end = extent(trace);
  const hasChildren = useMemo(() => new Map(parents(spans).map((is, index) => [spans[index].id, is])), [spans]);
  const shown = visible(spans, collapsed);
  const marks = ticks(end, 5);
  const at = (ns) => `${(ns / end) * 100}%`;
  const toggle = (id) =>
    setCollapsed((before) => {
      const after = new Set(before);
      after.delete(id) || after.add(id);
      return after;
    });
  const choose = (span) => setQuery({ span: span.id });
  const press = (event) => {
    const index = shown.findIndex((span) => span.id === event.target.closest("[data-span]")?.dataset.span);
    const span = shown[index];
    if (!span) return;
    const focus = (to) => to && rows.current.querySelector(`[data-span="${to.id}"]`)?.focus();
    const parent = shown.slice(0, index).findLast((other) => other.depth < span.depth);
    if (event.key === "ArrowDown") focus(shown[index + 1]);
    else if (event.key === "ArrowUp") focus(shown[index - 1]);
    else if (event.key === "ArrowLeft") hasChildren.get(span.id) && !collapsed.has(span.id) ? toggle(span.id) : focus(parent);
    else if (event.key === "ArrowRight") collapsed.has(span.id) ? toggle(span.id) : hasChildren.get(span.id) && focus(shown[index + 1]);
    else if (event.key === "Enter") choose(span);
    else if (event.key === "Escape") setQuery({ span: undefined });
    else return;
    event.preventDefault();
  };
  useEffect(() => {
    if (chosen) rows.current?.querySelector(`[data-span="${chosen.id}"]`)?.scrollIntoView({ block: "nearest" });
  }, [chosen?.id]);
  return html`
    <div class="waterfall" ref=${rows} onKeyDown=${press} role="tree" aria-label="Spans">
      <div class="axis" aria-hidden="true">
        <span class="axis-name">Operation</span>
        <div class="axis-marks">${marks.map((mark) => html`<span key=${mark} style=${{ left: at(mark) }}>${mark === 0 ? "0" : duration(mark)}</span>`)}</div>
      </div>
      ${shown.map(
        (span) => html`
        <div key=${span.id} class=${`row ${span.failure === undefined ? "" : "failed"} ${span.id === chosen?.id ? "chosen" : ""}`}
          role="treeitem" aria-level=${span.depth + 1} aria-selected=${span.id === chosen?.id} tabindex=${span === (chosen ?? shown[0]) ? 0 : -1}
          aria-expanded=${hasChildren.get(span.id) ? !collapsed.has(span.id) : undefined}
          aria-label=${`${span.name}, ${span.component ?? "platform"}, ${duration(span.duration_ns)}${span.failure === undefined ? "" : ", failed"}`}
          data-span=${span.id} onClick=${() => choose(span)}>
          <div class="row-name" style=${{ paddingLeft: `${Math.min(span.depth, 12) * 14}px` }}>
            ${
              hasChildren.get(span.id)
                ? html`<button class="fold" tabindex="-1" aria-hidden="true" onClick=${(event) => (event.stopPropagation(), toggle(span.id))}>${collapsed.has(span.id) ? "▸" : "▾"}</button>`
                : html`<span class="fold"></span>`
            }
            <span class="cut" title=${span.name}>${spanName(span.name)}</span>
            ${span.component && html`<span class="row-component">${span.component}</span>`}
          </div>
          <div class="row-bar">
            ${marks.map((mark) => html`<i key=${mark} style=${{ left: at(mark) }}></i>`)}
            <span class=${`span span-${category(span)}`} style=${{ left: at(span.offset_ns), width: at(span.duration_ns) }}></span>
            <${RowTime} start=${span.offset_ns / end} stop=${(span.offset_ns + span.duration_ns) / end} text=${duration(span.duration_ns)} />
          </div>
        </div>
      `,
      )}
    </div>
    <div class="legend">${Object.entries(CATEGORIES)
      .filter(([id]) => spans.some((span) => category(span) === id))
      .map(([id, name]) => html`<span key=${id}><i class=${`span-${id}`}></i>${name}</span>`)}</div>
  `;
}

/** The duration of a span, where there is space: after its bar, before it, or inside of it. */
function RowTime({ start, stop, text }) {
  if (stop < 0.86) return html`<span class="row-time" style=${{ left: `${stop * 100}%` }}>${text}</span>`;
  if (start > 0.14) return html`<span class="row-time" style=${{ right: `${(1 - start) * 100}%` }}>${text}</span>`;
  return html`<span class="row-time inside" style=${{ right: `${(1 - stop) * 100}%` }}>${text}</span>`;
}

function SpanPanel({ span, trace }) {
  const attributes = Object.entries(span.attributes ?? {});
  const mode = span.attributes?.["isomer.seam.mode"];
  return html`
    <${Panel} title=${span.name} onClose=${() => setQuery({ span: undefined })}>
      ${span.failure !== undefined && html`<div class="failure"><${Icon} name="warning" /><div>${span.failure || "failed"}</div></div>`}
      <dl class="facts">
        <dt>Duration</dt><dd>${duration(span.duration_ns)}</dd>
        <dt>Own time</dt><dd>${duration(span.self_ns)} <span class="dim">${percent(span.self_ns / (span.duration_ns || 1))}</span></dd>
        <dt>Start</dt><dd>+${duration(span.offset_ns)}</dd>
        <dt>Component</dt><dd>${span.component ?? "the platform"}</dd>
        ${mode && html`<dt>Mode</dt><dd><${Mode} mode=${mode} /></dd>`}
        ${span.process && html`<dt>Group</dt><dd>${span.process}</dd>`}
        <dt>Kind</dt><dd>${span.kind}</dd>
        ${span.moved_ns !== undefined && html`<dt>Clock</dt><dd>moved by ${duration(Math.abs(span.moved_ns))}, because the clocks of the processes differ</dd>`}
        <dt>Span</dt><dd class="mono">${span.id}</dd>
        ${span.parent_missing && html`<dt>Parent</dt><dd class="mono">${span.parent} <span class="dim">(not stored)</span></dd>`}
      </dl>
      ${attributes.length > 0 && html`<section><h3>Attributes</h3><dl class="facts mono">${attributes.map(([key, value]) => html`<dt key=${key}>${key}</dt><dd>${String(value)}</dd>`)}</dl></section>`}
      <section><${Link} href=${pageOf("/logs", { trace: trace.summary.id })}>Logs of the trace</${Link}></section>
    </${Panel}>
  `;
}
