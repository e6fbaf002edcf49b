// The log of the app: the newest lines, as they are written.

import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { withQuery } from "../lib/api.js";
import { clock, date, number, sentence } from "../lib/format.js";
import { useData, useStream } from "../lib/live.js";
import { Command, Empty, Failure, Field, Icon, Loading, Select } from "../lib/parts.js";
import { Link, pageOf, setQuery } from "../lib/router.js";

/** The number of existing lines that are read first. */
const LINES_FIRST = 500;

/** The maximum number of lines that the page keeps. */
const LINES_MAX = 5000;

/** The maximum number of lines that are shown at once. */
const SHOWN_MAX = 800;

/** The distance in pixels from the end within which the page follows new lines. */
const NEAR_END = 40;

const STREAMS = [
  ["", "all"],
  ["stdout", "stdout"],
  ["stderr", "stderr"],
  ["log", "log"],
  ["node", "platform"],
];

/** The levels of records, the least severe first. */
const LEVELS = ["trace", "debug", "info", "warning", "error", "critical"];

/** @param {{app: any, route: import("../lib/router.js").Route}} props */
export function Logs({ app, route: { query } }) {
  const isAccess = query.log === "access";
  const path = withQuery(`${app.base}/logs`, { lines: LINES_FIRST, follow: true, access: isAccess, request: query.request, trace: query.trace });
  const [state, setState] = useState({ path, lines: [], first: 0 });
  const [isPaused, setPaused] = useState(false);
  const [isPatient, setPatient] = useState(true);
  const { data: plan } = useData(`${app.base}/plan`);
  const receive = useCallback((arrived) => setState((before) => append(before, path, arrived)), [path]);
  const stream = useStream(isPaused ? undefined : path, receive);
  useEffect(() => setState({ path, lines: [], first: 0 }), [path]);
  useEffect(() => {
    const timer = setTimeout(() => setPatient(false), 1200);
    return () => clearTimeout(timer);
  }, [path]);
  const lines = state.path === path ? state.lines : [];
  const shown = useMemo(
    () => lines.filter((line) => matches(line, query)),
    [lines, query.text, query.component, query.stream, query.level, query.request, query.trace],
  );
  const components = (plan?.groups ?? []).flatMap((group) => group.components).sort();
  if (stream.error?.status === 404 && !isAccess) {
    return html`<${Empty} icon="logs" title="No log"><p>${sentence(stream.error.message)}</p></${Empty}>`;
  }
  return html`
    <div class="logs">
      <div class="filters" role="search">
        <${Field} wide label=${html`<${Icon} name="search" /><span class="hidden">Search</span>`} placeholder="Filter lines" data-search
          value=${query.text ?? ""} onInput=${(event) => setQuery({ text: event.currentTarget.value })} />
        <${Select} label="Component" value=${query.component ?? ""} onChange=${(component) => setQuery({ component })}
          options=${[["", "all"], ...components.map((name) => [name, name])]} />
        <${Select} label="Stream" value=${isAccess ? "access" : (query.stream ?? "")} options=${[...STREAMS, ["access", "access log"]]}
          onChange=${(stream) => setQuery(stream === "access" ? { log: "access", stream: "" } : { log: "", stream })} />
        ${!isAccess && html`<${Select} label="Level" value=${query.level ?? ""} onChange=${(level) => setQuery({ level })}
          options=${[["", "all"], ...LEVELS.map((level) => [level, level === "critical" ? level : `${level} or worse`])]} />`}
        ${query.request && html`<button class="button" onClick=${() => setQuery({ request: undefined })}>Request <span class="mono">${query.request}</span><${Icon} name="close" /></button>`}
        ${query.trace && html`<button class="button" onClick=${() => setQuery({ trace: undefined })}>Trace <span class="mono">${query.trace.slice(0, 16)}</span><${Icon} name="close" /></button>`}
        <div class="end">
          <span class="dim">${number(shown.length)} of ${number(lines.length)}</span>
          <span class=${stream.isOpen ? "live on" : "live"}>${stream.isOpen ? "live" : isPaused ? "paused" : "connecting"}</span>
          <button class="button icon-only" aria-label=${isPaused ? "Continue" : "Pause"} onClick=${() => setPaused(!isPaused)}><${Icon} name=${isPaused ? "play" : "pause"} /></button>
        </div>
      </div>
      ${stream.error && stream.error.status !== 404 && html`<div class="inset"><${Failure} error=${stream.error} /></div>`}
      <${Lines} lines=${shown} first=${state.first} />
      ${lines.length === 0 && (!stream.error || stream.error.status === 404) && (isPatient ? html`<${Loading} rows=${9} />` : html`<${NoLines} isAccess=${isAccess} />`)}
      ${
        lines.length > 0 &&
        shown.length === 0 &&
        html`
        <${Empty} icon="search" title="No line matches"><p>New lines that match the filters will appear here.</p>
          <${Link} class="button" href=${pageOf("/logs")}>Remove the filters</${Link}></${Empty}>
      `
      }
    </div>
  `;
}

/** Adds lines to those of the same path, each with a number that does not change. */
function append(before, path, arrived) {
  const old = before.path === path ? before : { lines: [], first: 0 };
  let next = old.lines.length > 0 ? old.lines.at(-1).number + 1 : old.first;
  // After the stream is reopened, its first lines are already shown, so add only the others.
  const newest = old.lines.at(-1)?.at_ms ?? 0;
  const known = new Set(old.lines.filter((line) => line.at_ms >= (arrived[0]?.at_ms ?? 0)).map(identity));
  const added = arrived.filter((line) => line.at_ms > newest || !known.has(identity(line))).map((line) => ({ ...line, number: next++ }));
  const lines = [...old.lines, ...added].slice(-LINES_MAX);
  return { path, lines, first: lines[0]?.number ?? 0 };
}

const identity = (line) => `${line.at_ms} ${line.component ?? ""} ${line.stream} ${line.request ?? ""} ${line.text}`;

/** @param {any} line @param {Record<string, string>} query */
function matches(line, { text, component, stream, level, request, trace }) {
  // Messages of the platform have no level and report failures.
  const isSevere = !level || line.stream === "node" || LEVELS.indexOf(line.level) >= LEVELS.indexOf(level);
  return (
    isSevere &&
    (!component || line.component === component) &&
    (!stream || line.stream === stream) &&
    (!request || line.request === request) &&
    (!trace || line.trace_id === trace) &&
    (!text || `${line.text} ${fieldsOf(line)}`.toLowerCase().includes(text.toLowerCase()))
  );
}

/** The fields of a record as text. */
const fieldsOf = (line) =>
  Object.entries(line.attributes ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");

/** The lines. The view stays at the end until the person scrolls up. */
function Lines({ lines }) {
  const list = useRef(null);
  const [isAtEnd, setAtEnd] = useState(true);
  const [open, setOpen] = useState(() => new Set());
  const shown = lines.slice(-SHOWN_MAX);
  const toEnd = () => {
    list.current.scrollTop = list.current.scrollHeight;
  };
  useLayoutEffect(() => {
    if (isAtEnd) toEnd();
  }, [shown.at(-1)?.number, isAtEnd]);
  const scroll = ({ currentTarget: element }) => setAtEnd(element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END);
  const toggle = (number) =>
    setOpen((before) => {
      const after = new Set(before);
      after.delete(number) || after.add(number);
      return after;
    });
  return html`
    <div class="lines-frame" hidden=${shown.length === 0}>
      <div class="lines mono" ref=${list} onScroll=${scroll} tabindex="0" role="log" aria-live="off" aria-label="Lines of the log">
        ${lines.length > shown.length && html`<div class="dim older">${number(lines.length - shown.length)} older lines match; narrow the filters to see them</div>`}
        ${shown.map((line) => html`<${Line} key=${line.number} line=${line} isOpen=${open.has(line.number)} toggle=${toggle} />`)}
      </div>
      ${!isAtEnd && html`<button class="button to-end" onClick=${toEnd}><${Icon} name="down" />Newest</button>`}
    </div>
  `;
}

function Line({ line, isOpen, toggle }) {
  const isTrouble = (line.backtrace?.length ?? 0) > 0 || LEVELS.indexOf(line.level) >= LEVELS.indexOf("error");
  const fields = fieldsOf(line);
  // Lines that earlier versions wrote name only their request.
  const trace = line.trace_id ?? line.request;
  return html`
    <div class=${`line stream-${line.stream} ${isTrouble ? "trouble" : ""}`}>
      <time title=${date(line.at_ms)}>${clock(line.at_ms)}</time>
      <span class="line-source" title=${line.stream}>${line.component ?? (line.stream === "access" ? "access" : "platform")}</span>
      <span class="line-text">${line.level && html`<span class=${`line-level level-${line.level}`}>${line.level}</span> `}${line.text}${fields && html` <span class="dim">${fields}</span>`}
        ${line.backtrace?.length > 0 && html` <button class="link" aria-expanded=${isOpen} onClick=${() => toggle(line.number)}>${isOpen ? "hide" : "show"} the call stack</button>${isOpen && html`<pre>${line.backtrace.join("\n")}</pre>`}`}
      </span>
      ${trace ? html`<${Link} class="line-request" href=${pageOf(`/traces/${trace}`)} title=${`Trace of the request ${line.request ?? trace}`}>trace</${Link}>` : html`<span></span>`}
    </div>
  `;
}

const NoLines = ({ isAccess }) =>
  isAccess
    ? html`<${Empty} icon="logs" title="No access log"><p>A node records the requests of its apps if it runs with</p><${Command} text="isomer node --access-log" /></${Empty}>`
    : html`<${Empty} icon="logs" title="No lines yet"><p>Everything that the components print appears here, with messages of the platform about the app.</p><p>In a terminal:</p><${Command} text="isomer logs --follow" /></${Empty}>`;
