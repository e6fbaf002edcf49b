// The shape of the app: choose another shape or move components, see what changes and what it costs, and apply it.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { advised, arrangementOf, groupOf, isolatedAs, manifestOf, moved, movesBetween, nameOf, requestOf } from "../lib/arrangement.js";
import { call } from "../lib/api.js";
import { duration, sentence } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Empty, Failure, Icon, Loading, Select } from "../lib/parts.js";
import { Advice } from "./advice.js";
import { Apply } from "./shape-apply.js";
import { Comparison } from "./shape-comparison.js";

/** The interval in milliseconds at which the shapes are read. */
const SHAPES_EVERY_MS = 5000;

/** The number of components from which a group is shown in two columns. */
const LARGE = 6;

/** The pause in milliseconds between the last edit and the comparison. */
const EDIT_PAUSE_MS = 150;

/** @param {{app: any}} props */
export function Shape({ app }) {
  const { data: shapes, error, reload } = useData(`${app.base}/shapes`, SHAPES_EVERY_MS);
  const { data: advice, error: adviceError } = useData(`${app.base}/advice`, SHAPES_EVERY_MS);
  // A process that keeps no plan answers 404, and has nothing to show.
  const { data: plan } = useData(`${app.base}/plan`, SHAPES_EVERY_MS);
  const [edited, edit] = useState(undefined);
  const [isApplying, setApplying] = useState(false);
  const [applied, setApplied] = useState(undefined);
  const current = shapes?.find((shape) => shape.current) ?? shapes?.[0];
  const key = current && JSON.stringify(current.processes);
  const initial = useMemo(() => current && arrangementOf(current.processes), [key]);
  if (error && !shapes) {
    return error.status === 404
      ? html`<${Empty} icon="shape" title="No shapes"><p>${sentence(error.message)}</p></${Empty}>`
      : html`<div class="inset"><${Failure} error=${error} retry=${reload} /></div>`;
  }
  if (!initial) return html`<${Loading} />`;
  if (initial.groups.length === 0) return html`<${Empty} icon="shape" title="No components"><p>Add a component to <code>isomer.toml</code>.</p></${Empty}>`;
  const arrangement = edited ?? initial;
  const change = (arrangement) => (setApplied(undefined), edit(arrangement));
  const finish = (report) => (setApplied(report), edit(undefined), reload());
  return html`
    <div class="shape">
      <header class="section-head">
        <div><h2>Arrangement</h2><p class="dim">The app runs in the shape <code>${current.name}</code>. Each column is a group${current.in_one_process ? "; on a node, all groups run in the node's process, isolated from each other" : ", which runs in its own process"}. The components of a group are fused, except isolated ones, which have a dashed border.</p></div>
        ${edited && html`<button class="button" disabled=${isApplying} onClick=${() => change(undefined)}>Discard</button>`}
      </header>
      ${applied && html`<${Applied} report=${applied} />`}
      <${Shapes} shapes=${shapes} chosen=${edited && nameOf(shapes, edited)} isDisabled=${isApplying} onChoose=${(shape) => change(shape.current ? undefined : arrangementOf(shape.processes))} />
      ${plan?.browser && plan.shape === current.name && html`<${BrowserGroup} group=${plan.browser.group} />`}
      <${Editor} arrangement=${arrangement} original=${initial} edit=${change} isDisabled=${isApplying} />
      ${edited && html`<${Preview} app=${app} shapes=${shapes} arrangement=${arrangement} isApplying=${isApplying} setApplying=${setApplying} onDone=${finish} />`}
      <${Failure} error=${adviceError?.status === 404 ? undefined : adviceError} />
      ${advice && html`<${Advice} advice=${advice} onTry=${(item) => change(advised(arrangement, item))} isDisabled=${isApplying} />`}
    </div>
  `;
}

/** The end of a change of the shape. It gets the focus, because the button that started the change is gone, and the page was scrolled down to it. */
function Applied({ report }) {
  const place = useRef(null);
  useEffect(() => {
    place.current?.focus({ preventScroll: true });
    place.current?.scrollIntoView({ block: "center" });
  }, [report]);
  const time = report.took_ms === undefined ? "" : ` The change took ${duration(report.took_ms * 1e6)}.`;
  return html`<p ref=${place} class="applied card" role="status" tabindex="-1"><${Icon} name="check" /><span>The app now runs in the shape <code>${report.shape}</code>.${time}</span></p>`;
}

/** The shapes of the manifest. */
const Shapes = ({ shapes, chosen, isDisabled, onChoose }) => html`
  <ul class="shape-list" aria-label="Shapes of the manifest">
    ${shapes.map(
      (shape) => html`
      <li key=${shape.name}><button class=${shape.current ? "shape-choice current" : "shape-choice"} aria-pressed=${shape.name === chosen} disabled=${isDisabled} onClick=${() => onChoose(shape)}>
        <b class="cut">${shape.name}</b>${shape.current && html`<span class="badge">runs now</span>`}
        <span class="dim">${plural(shape.processes.length, "group", "groups")}, ${plural(shape.processes.reduce((sum, process) => sum + process.compositions.length, 0), "composition", "compositions")}</span>
      </button></li>
    `,
    )}
  </ul>
`;

/** The components of which each visitor's tab runs a copy. They cannot be moved here, because the manifest must also name the functions that tabs call. */
const BrowserGroup = ({ group }) => html`
  <p class="card browser-group"><${Icon} name="shape" /><span>The tabs of visitors run copies of the components of the browser group <code>${group.name}</code>: ${group.components.join(", ")}. The groups below run on the server.</span></p>
`;

/** @param {number} value @param {string} one @param {string} many */
const plural = (value, one, many) => `${value} ${value === 1 ? one : many}`;

/** The groups with their components, which can be dragged, or chosen and moved with the fields below. */
function Editor({ arrangement, original, edit, isDisabled }) {
  const [chosen, choose] = useState(undefined);
  const [over, setOver] = useState(-1);
  const { groups, isolated } = arrangement;
  const drop = (index) => (event) => {
    event.preventDefault();
    setOver(-1);
    const component = event.dataTransfer.getData("text/plain");
    if (!isDisabled && groupOf(arrangement, component) >= 0) edit(moved(arrangement, component, index));
  };
  const lane = (index) => ({
    onDragOver: (event) => (event.preventDefault(), setOver(index)),
    onDragLeave: () => setOver(-1),
    onDrop: drop(index),
  });
  const press = (component) => (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || isDisabled) return;
    event.preventDefault();
    const index = groupOf(arrangement, component) + step;
    if (index >= 0) edit(moved(arrangement, component, index));
  };
  const moves = movesBetween(original, arrangement);
  useEffect(() => {
    document.querySelector(`[data-component="${CSS.escape(chosen ?? "")}"]`)?.focus();
  }, [arrangement]);
  return html`
    <div class="lanes" role="group" aria-label="Groups">
      ${groups.map(
        (group, index) => html`
        <section key=${group.name} class=${`lane ${over === index ? "over" : ""} ${group.members.length > LARGE ? "large" : ""}`} aria-label=${`Group ${group.name}`} ...${lane(index)}>
          <h3 class="cut">${group.name}</h3>
          <ul>
            ${group.members.map(
              (component) => html`
              <li key=${component}><button data-component=${component} draggable=${!isDisabled} aria-pressed=${component === chosen}
                class=${`piece ${isolated.includes(component) && group.members.length > 1 ? "isolated" : ""} ${moves.has(component) ? "moved" : ""}`}
                onDragStart=${(event) => event.dataTransfer.setData("text/plain", component)} onKeyDown=${press(component)}
                onClick=${() => choose(component === chosen ? undefined : component)}><span class="cut">${component}</span></button></li>
            `,
            )}
          </ul>
        </section>
      `,
      )}
      <section class=${over === groups.length ? "lane new over" : "lane new"} aria-label="Another group" ...${lane(groups.length)}><p class="dim">Drag a component here to give it its own group.</p></section>
    </div>
    <div class="piece-actions">
      ${
        chosen && groupOf(arrangement, chosen) >= 0
          ? html`
        <b class="cut">${chosen}</b>
        <${Select} label="Group" value=${String(groupOf(arrangement, chosen))} onChange=${(index) => edit(moved(arrangement, chosen, Number(index)))}
          options=${[...groups.map((group, index) => [String(index), group.name]), [String(groups.length), "its own"]]} />
        <label class="check"><input type="checkbox" disabled=${isDisabled} checked=${isolated.includes(chosen)} onChange=${(event) => edit(isolatedAs(arrangement, chosen, event.currentTarget.checked))} /><span>isolated from its group</span></label>
      `
          : html`<span class="dim">Drag a component to another group, or choose it. The arrow keys move it too.</span>`
      }
    </div>
  `;
}

/** What changes, and the button that applies it. */
function Preview({ app, shapes, arrangement, isApplying, setApplying, onDone }) {
  const [state, setState] = useState({ comparison: undefined, error: undefined });
  const request = JSON.stringify(requestOf(arrangement));
  useEffect(() => {
    const control = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const comparison = await call(`${app.base}/shapes/compare`, { method: "POST", body: JSON.parse(request), signal: control.signal });
        setState({ comparison, error: undefined });
      } catch (error) {
        if (!control.signal.aborted) setState({ comparison: undefined, error });
      }
    }, EDIT_PAUSE_MS);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [app.base, request]);
  const { comparison, error } = state;
  const apply = (compared) =>
    html`<${Apply} app=${app} comparison=${compared} manifest=${manifestOf(arrangement, "custom")} isApplying=${isApplying} setApplying=${setApplying} onDone=${onDone} />`;
  if (error) {
    // Without a plan, nothing can be compared, but a shape can still be applied.
    const from = shapes.find((shape) => shape.current)?.name;
    const known = error.status === 404 && apply({ from, to: nameOf(shapes, arrangement), problems: [] });
    return html`<${Failure} error=${error} />${known}`;
  }
  if (!comparison) return html`<${Loading} rows=${3} />`;
  return html`
    <${Comparison} comparison=${comparison} />
    ${apply(comparison)}
  `;
}
