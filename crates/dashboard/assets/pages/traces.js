// The list of traces: search, live updates, and the choice of two traces to compare.

import { html, useCallback, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { call, withQuery } from "../lib/api.js";
import { clock, count, date, duration, sentence } from "../lib/format.js";
import { useData, useStream } from "../lib/live.js";
import { Command, Empty, Failure, Field, Icon, Loading, Select, Status } from "../lib/parts.js";
import { Link, go, pageOf, setQuery } from "../lib/router.js";
import { titleOf } from "../lib/trace-model.js";
import { Compare } from "./compare.js";
import { TraceOrder } from "./trace-order.js";
import { TracePage } from "./trace.js";

/** The number of traces of a page of the list. */
const PAGE_SIZE = 50;

/** The interval in milliseconds at which the list is read if new traces cannot be streamed. */
const LIST_EVERY_MS = 3000;

/** The maximum number of further requests that continue a search by themselves. */
const CONTINUATIONS_MAX = 32;

/** The maximum number of traces that stay in the list while new ones arrive. */
const LIVE_MAX = 500;

/** The number of pixels from the top beyond which new traces wait until the person asks for them. */
const SCROLLED_PX = 120;

const DURATIONS = [
  ["", "any"],
  ["1000", "1 ms"],
  ["10000", "10 ms"],
  ["100000", "100 ms"],
  ["1000000", "1 s"],
];
const OUTCOMES = [
  ["", "any"],
  ["failed", "failed"],
  ["500", "status 500"],
  ["404", "status 404"],
  ["200", "status 200"],
];

/** @param {{app: import("../shell.js").App, route: import("../lib/router.js").Route}} props */
export function Traces({ app, route }) {
  const [first, second, third] = route.rest;
  if (first === "compare" && second && third) return html`<${Compare} app=${app} left=${second} right=${third} />`;
  if (first) return html`<${TracePage} key=${first} app=${app} id=${first} route=${route} />`;
  return html`<${TraceList} app=${app} query=${route.query} />`;
}

/** The state of a list before older traces were read. */
const NOTHING_OLDER = { path: "", traces: [], next: undefined, isStopped: false, rounds: 0, isBusy: false, error: undefined };

/** Returns the query of the API for the filters in the address. @param {Record<string, string>} query */
function conditions({ text, component, route, min, outcome }) {
  const status = /^\d+$/.test(outcome ?? "") ? outcome : undefined;
  return { text, component, route, min_us: min, failed: outcome === "failed", status };
}

/** @param {{app: any, query: Record<string, string>}} props */
function TraceList({ app, query }) {
  const wanted = conditions(query);
  const path = withQuery(`${app.base}/traces`, { ...wanted, limit: PAGE_SIZE });
  const [isLive, setLive] = useState(true);
  // The stream has no spans, so conditions about spans are checked by reading the list again.
  const canFollow = !wanted.text && !wanted.component;
  const { data, error, reload } = useData(path, isLive && !canFollow ? LIST_EVERY_MS : 0);
  const [later, setLater] = useState({ path, traces: [], waiting: [] });
  const [older, setOlder] = useState({ ...NOTHING_OLDER, path });
  const [isOrdering, setOrdering] = useState(false);
  const [marked, setMarked] = useState([]);
  const { data: plan } = useData(`${app.base}/plan`);
  const receive = useCallback(
    (arrived) => {
      setLater((before) => {
        const { traces, waiting } = before.path === path ? before : { traces: [], waiting: [] };
        // While the list is scrolled down, new traces wait, so that the rows do not move.
        if (isScrolled()) return { path, traces, waiting: merge(arrived, waiting).slice(0, LIVE_MAX) };
        return { path, traces: merge(arrived, merge(waiting, traces)).slice(0, LIVE_MAX), waiting: [] };
      });
    },
    [path],
  );
  const stream = useStream(isLive && canFollow ? withQuery(`${app.base}/traces/follow`, wanted) : undefined, receive);
  const isOpen = canFollow ? stream.isOpen : isLive && !error;
  useEffect(() => {
    // The stream lacks traces that were recorded before it was opened, so read the list again.
    if (stream.isOpen) reload();
  }, [stream.isOpen]);
  const waiting = later.path === path ? later.waiting : [];
  const showWaiting = () => {
    setLater({ path, traces: merge(waiting, later.traces).slice(0, LIVE_MAX), waiting: [] });
    document.getElementById("page").scrollTop = 0;
  };
  const more = older.path === path ? older : NOTHING_OLDER;
  const traces = useMemo(
    () => merge(later.path === path ? later.traces : [], merge(data?.traces ?? [], more.traces)),
    [later, data, more.traces, path],
  );
  const hasMore = more.rounds > 0;
  const next = hasMore ? more.next : data?.next;
  const isStopped = hasMore ? more.isStopped : data?.stopped_early;
  const loadMore = async () => {
    setOlder({ ...more, path, isBusy: true });
    try {
      const page = await call(withQuery(`${app.base}/traces`, { ...wanted, limit: PAGE_SIZE, after: next }));
      const traces = [...more.traces, ...page.traces];
      setOlder({ path, traces, next: page.next, isStopped: page.stopped_early, rounds: more.rounds + 1, isBusy: false, error: undefined });
    } catch (error) {
      setOlder({ ...more, path, next, isBusy: false, error });
    }
  };
  // One request searches a bounded part of the traces. Continue until there is a page of traces.
  const isContinuing = Boolean(isStopped && next) && traces.length < PAGE_SIZE && more.rounds < CONTINUATIONS_MAX && !more.error;
  useEffect(() => {
    if (isContinuing && !more.isBusy) loadMore();
  }, [isContinuing, more.isBusy, path]);
  const mark = (id) => setMarked((before) => (before.includes(id) ? before.filter((other) => other !== id) : [...before, id].slice(-2)));
  const isFiltered = Object.values(wanted).some(Boolean);
  if (error?.status === 404) return html`<${Empty} icon="traces" title="No traces"><p>${sentence(error.message)}</p></${Empty}>`;
  return html`
    <div class="filters" role="search">
      <${SearchField} value=${query.text ?? ""} />
      <${Select} label="Component" value=${query.component ?? ""} onChange=${(component) => setQuery({ component })}
        options=${[["", "all"], ...components(plan).map((name) => [name, name])]} />
      <${Select} label="At least" value=${query.min ?? ""} options=${DURATIONS} onChange=${(min) => setQuery({ min })} />
      <${Select} label="Outcome" value=${query.outcome ?? ""} options=${OUTCOMES} onChange=${(outcome) => setQuery({ outcome })} />
      <div class="end">
        ${
          marked.length > 0 &&
          html`
          <button class="button primary" disabled=${marked.length < 2} onClick=${() => go(pageOf(`/traces/compare/${marked.join("/")}`))}>
            ${marked.length < 2 ? "Choose another" : "Compare"}
          </button>
        `
        }
        <button class="button" onClick=${() => setOrdering(true)}>Record the next</button>
        <span class=${isOpen ? "live on" : "live"}>${isOpen ? "live" : isLive ? "connecting" : "paused"}</span>
        <button class="button icon-only" aria-label=${isLive ? "Pause" : "Continue"} onClick=${() => setLive(!isLive)}>
          <${Icon} name=${isLive ? "pause" : "play"} />
        </button>
      </div>
    </div>
    ${waiting.length > 0 && html`<button class="button new-traces" onClick=${showWaiting}>${count(waiting.length, "new trace")}</button>`}
    ${isOrdering && html`<${TraceOrder} app=${app} onClose=${() => setOrdering(false)} />`}
    <${Failure} error=${error ?? more.error ?? (stream.error?.status === 404 ? undefined : stream.error)} retry=${reload} />
    ${!data && !error && html`<${Loading} rows=${9} />`}
    ${data && traces.length === 0 && next && html`<p class="older-traces dim" role="status">${isContinuing ? "Searching older traces…" : "No match in the newest traces."}</p>`}
    ${data && traces.length === 0 && !next && (isFiltered ? html`<${NoMatch} />` : html`<${NoTraces} />`)}
    ${traces.length > 0 && html`<${Table} traces=${traces} marked=${marked} mark=${mark} />`}
    ${
      next &&
      !isContinuing &&
      html`
      <div class="older-traces"><button class="button" disabled=${more.isBusy} onClick=${loadMore}>Show older traces</button></div>
    `
    }
  `;
}

/** The search field, which changes the address when the person stops typing. @param {{value: string}} props */
function SearchField({ value }) {
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (event) => {
    const text = event.currentTarget.value;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setQuery({ text }), 200);
  };
  return html`<${Field} wide label=${html`<${Icon} name="search" /><span class="hidden">Search</span>`} placeholder="Search names, failures, attributes" data-search value=${value} onInput=${change} />`;
}

/** @param {{traces: import("../lib/trace-model.js").TraceSummary[], marked: string[], mark: (id: string) => void}} props */
function Table({ traces, marked, mark }) {
  const longest = Math.max(...traces.map((trace) => trace.duration_ns), 1);
  return html`
    <div class="table-frame">
      <table class="traces" onKeyDown=${moveFocus}>
        <thead>
          <tr><th class="col-mark"><span class="hidden">Compare</span></th><th>Time</th><th>Status</th><th>Request</th><th class="col-wide">Component</th>
            <th class="col-wide number">Spans</th><th class="number">Duration</th><th class="col-bar"><span class="hidden">Duration as a bar</span></th></tr>
        </thead>
        <tbody>
          ${traces.map(
            (trace) => html`
            <tr key=${trace.id + trace.request} class=${trace.failed ? "failed" : ""}>
              <td class="col-mark"><input type="checkbox" aria-label=${`Compare ${titleOf(trace)}`} checked=${marked.includes(trace.id)} onChange=${() => mark(trace.id)} /></td>
              <td class="dim" title=${date(trace.start_us / 1000)}>${clock(trace.start_us / 1000)}</td>
              <td><${Status} status=${trace.status} failed=${trace.failed} /></td>
              <td class="cut name" title=${trace.name}><${Link} href=${pageOf(`/traces/${trace.id}`)}>${titleOf(trace)}</${Link}></td>
              <td class="col-wide dim cut">${trace.component ?? "–"}</td>
              <td class="col-wide number dim">${trace.spans}</td>
              <td class="number">${duration(trace.duration_ns)}</td>
              <td class="col-bar"><span class="bar" style=${{ width: `${bar(trace.duration_ns, longest)}%` }}></span></td>
            </tr>
          `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

/** The length of a bar. The square root keeps short traces visible next to long ones. @param {number} value @param {number} longest */
const bar = (value, longest) => Math.max(1, Math.sqrt(value / longest) * 100);

/** Moves the focus between the links of the rows. @param {KeyboardEvent} event */
function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const links = [.../** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("td.name a")];
  const target = links[links.indexOf(/** @type {any} */ (document.activeElement)) + step];
  if (target) {
    event.preventDefault();
    /** @type {HTMLElement} */ (target).focus();
  }
}

const NoTraces = () => html`
  <${Empty} icon="traces" title="No traces yet">
    <p>Each request to the app becomes a trace. Send one, and it appears here.</p>
    <p>A node records only a part of the requests. To record the next ones, use the button above, or a terminal:</p>
    <${Command} text="isomer trace --next 5" />
  </${Empty}>
`;

const NoMatch = () => html`
  <${Empty} icon="search" title="No trace matches">
    <p>Traces that match the filters will appear here.</p>
    <${Link} class="button" href=${pageOf("/traces")}>Remove the filters</${Link}>
  </${Empty}>
`;

/** Whether the person has scrolled down, so that the first rows are not visible. */
const isScrolled = () => (document.getElementById("page")?.scrollTop ?? 0) > SCROLLED_PX;

/** Joins two lists of traces without duplicates, the newest first. */
function merge(newer, older) {
  const known = new Set(newer.map((trace) => trace.id + trace.request));
  const all = [...newer, ...older.filter((trace) => !known.has(trace.id + trace.request))];
  return all.sort((a, b) => b.start_us - a.start_us);
}

/** The names of the components of a plan. @param {any} plan @returns {string[]} */
const components = (plan) => (plan?.groups ?? []).flatMap((group) => group.components).sort();
