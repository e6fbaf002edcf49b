// The map: components and seams as a graph with live figures.

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { count, number, percent, rate, seconds } from "../lib/format.js";
import { curve, layoutOf } from "../lib/graph.js";
import { useHistory, window as windowOf } from "../lib/history.js";
import { useData } from "../lib/live.js";
import { Empty, Failure, Loading, Mode } from "../lib/parts.js";
import { Link, pageOf, setQuery } from "../lib/router.js";
import { traffic } from "../lib/traffic.js";
import { MapPanel } from "./map-panel.js";

/** The time in seconds over which rates and percentiles are computed. */
const WINDOW_S = 60;

/** The interval in milliseconds at which the plan is read, which changes with each deployment. */
const PLAN_EVERY_MS = 10_000;

/** The smallest scale at which the graph is shown. If it needs more space, it can be scrolled. */
const SCALE_MIN = 0.78;

/** @param {{app: any, route: import("../lib/router.js").Route}} props */
export function MapPage({ app, route }) {
  const { data: plan, error, reload } = useData(`${app.base}/plan`, PLAN_EVERY_MS);
  const { snapshots, error: metricsError } = useHistory(app);
  const isNarrow = useNarrow();
  const key = plan && JSON.stringify([plan.groups, plan.seams, plan.access]);
  const layout = useMemo(() => plan && layoutOf(plan, isNarrow), [key, isNarrow]);
  if (error && !plan) return html`<div class="inset"><${Failure} error=${error} retry=${reload} /></div>`;
  if (!layout) return html`<${Loading} />`;
  if (layout.nodes.length === 0) {
    return html`<${Empty} icon="map" title="No components"><p>Add a component to <code>isomer.toml</code>.</p></${Empty}>`;
  }
  const figures = traffic(windowOf(snapshots, WINDOW_S));
  const chosen = route.query.node ?? route.query.seam;
  return html`
    <div class=${chosen ? "map with-panel" : "map"}>
      <${Summary} plan=${plan} figures=${figures} />
      ${
        plan.warnings?.length > 0 &&
        html`<details class="warnings inset">
        <summary>${count(plan.warnings.length, "warning")} of the plan</summary>
        <ul>
          ${plan.warnings.map((warning) => html`<li key=${warning.message}>${warning.message}</li>`)}
        </ul>
      </details>`
      }
      ${metricsError && metricsError.status !== 404 && html`<div class="inset"><${Failure} error=${metricsError} /></div>`}
      <div class="map-canvas">
        <${Drawing} layout=${layout} figures=${figures} chosen=${chosen} />
      </div>
      <${Legend} plan=${plan} />
    </div>
    ${chosen && html`<${MapPanel} plan=${plan} figures=${figures} query=${route.query} />`}
  `;
}

/** The figures of the whole app. */
function Summary({ plan, figures }) {
  const { rate: perSecond, failed, p50, p99 } = figures.all;
  return html`
    <div class="map-summary">
      <dl class="tiles">
        <div class="tile"><dt>Requests</dt><dd>${rate(perSecond)}</dd></div>
        <div class=${failed > 0 ? "tile bad" : "tile"}><dt>Failed</dt><dd>${percent(failed)}</dd></div>
        <div class="tile"><dt>p50</dt><dd>${seconds(p50)}</dd></div>
        <div class="tile"><dt>p99</dt><dd>${seconds(p99)}</dd></div>
        <div class="tile"><dt>Shape</dt><dd class="cut">${plan.shape}</dd></div>
      </dl>
    </div>
  `;
}

function Drawing({ layout, figures, chosen }) {
  const { nodes, edges, boxes, width, height } = layout;
  const open = (change) => () => setQuery({ node: undefined, seam: undefined, ...change }, false);
  const press = (change) => (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(change)();
    }
  };
  const ofEdge = (edge) => figures.edge(nameOf(edge.from), nameOf(edge.to));
  return html`
    <svg class="graph" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} style=${{ minWidth: `${width * SCALE_MIN}px`, minHeight: `${height * SCALE_MIN}px` }} role="group" aria-label="Components and seams">
      <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8 7 4 0 7.2z" /></marker></defs>
      ${boxes.map(
        (box) => html`
        <g key=${`box ${box.name}`} class="box"><rect x=${box.x - box.width / 2} y=${box.y - box.height / 2} width=${box.width} height=${box.height} rx="14" /></g>
      `,
      )}
      ${edges.map((edge) => {
        const id = edge.seams.length > 0 ? `${nameOf(edge.from)}~${nameOf(edge.to)}` : undefined;
        const now = ofEdge(edge);
        const isActive = now !== undefined && now.rate > 0;
        const attributes = id && {
          role: "button",
          tabindex: 0,
          onClick: open({ seam: id }),
          onKeyDown: press({ seam: id }),
          "aria-label": `Seam from ${nameOf(edge.from)} to ${nameOf(edge.to)}, ${edge.mode}`,
        };
        return html`
          <g key=${`${edge.from} ${edge.to}`} ...${attributes} class=${`edge edge-${edge.mode} ${isActive ? "active" : ""} ${now?.failed > 0 ? "failing" : ""} ${id && id === chosen ? "chosen" : ""}`}>
            ${id && html`<path class="edge-area" d=${curve(edge.points)} />`}
            <path class="edge-line" d=${curve(edge.points)} marker-end="url(#arrow)" />
          </g>
        `;
      })}
      ${nodes.map((node) => html`<${NodeBox} key=${node.id} node=${node} now=${figures.node(node)} isChosen=${chosen === node.name && node.kind === "component"} open=${node.kind === "component" ? { onClick: open({ node: node.name }), onKeyDown: press({ node: node.name }) } : undefined} />`)}
      ${edges.map((edge) => {
        const now = ofEdge(edge);
        if (now === undefined || !(now.rate > 0)) return null;
        return html`<g key=${`label ${edge.from} ${edge.to}`} class=${now.failed > 0 ? "edge-label failing" : "edge-label"} transform=${`translate(${edge.x} ${edge.y})`}>
          <rect x="-26" y="-15" width="52" height="30" rx="6" /><text y="-2">${rate(now.rate)}</text><text class="second" y="10.5">${seconds(now.p99)}</text></g>`;
      })}
      ${boxes.map((box) => html`<text key=${`name ${box.name}`} class="box-name" x=${box.x - box.width / 2 + 12} y=${box.y - box.height / 2 - 7}>${box.name}</text>`)}
    </svg>
  `;
}

function NodeBox({ node, now, isChosen, open }) {
  const [left, top] = [node.x - node.width / 2, node.y - node.height / 2];
  const line = now && now.rate > 0 ? `${rate(now.rate)} · ${seconds(now.p99)}` : node.note;
  const attributes = open && { ...open, role: "button", tabindex: 0, "aria-label": `Component ${node.name}` };
  return html`
    <g ...${attributes} class=${`node node-${node.kind} ${isChosen ? "chosen" : ""} ${now?.failed > 0 ? "failing" : ""}`}>
      <title>${node.name}${node.note ? `: ${node.note}` : ""}</title>
      <rect x=${left} y=${top} width=${node.width} height=${node.height} rx=${node.kind === "store" ? 23 : 9} />
      <text class="node-name" x=${node.x} y=${line ? node.y - 4 : node.y + 4}>${fit(node.name, node.width)}</text>
      <text class="node-note" x=${node.x} y=${node.y + 12}>${fit(line, node.width)}</text>
    </g>
  `;
}

/** Shortens a text to the width of its node. @param {string} text @param {number} width */
function fit(text, width) {
  const most = Math.floor((width - 16) / 6.3);
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/** The modes of the plan's seams, and a list of all seams for screen readers and narrow screens. */
function Legend({ plan }) {
  const counts = ["fused", "isolated", "remote"].map((mode) => [mode, plan.seams.filter((seam) => seam.mode === mode).length]);
  return html`
    <footer class="map-legend">
      ${counts.filter(([, count]) => count > 0).map(([mode, count]) => html`<span key=${mode}><${Mode} mode=${mode} /> ${number(count)}</span>`)}
      <span class="dim">Calls per second and p99 of the last minute</span>
      <${Link} href=${pageOf("/charts")}>All metrics</${Link}>
    </footer>
  `;
}

/** @param {string} id */
const nameOf = (id) => id.replace(/^component /, "");

/** Whether the screen is narrow, so that the graph needs less space. */
function useNarrow() {
  const query = useMemo(() => matchMedia("(max-width: 760px)"), []);
  const [isNarrow, setNarrow] = useState(query.matches);
  useEffect(() => {
    const update = () => setNarrow(query.matches);
    query.addEventListener("change", update);
    return () => query.removeEventListener("change", update);
  }, []);
  return isNarrow;
}
