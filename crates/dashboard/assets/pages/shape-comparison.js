// The difference between two shapes: seams, their cost, processes and isolation.

import { html } from "../vendor/preact.js";
import { count, duration, interfaceName, number } from "../lib/format.js";
import { Icon, Mode } from "../lib/parts.js";

/** @param {{comparison: any}} props */
export function Comparison({ comparison }) {
  const { seams, cost_us_per_request: cost, unmeasured, unchanged, before, after, isolation, problems, requests, is_lower_bound: isLowerBound } = comparison;
  return html`
    <section class="comparison-of-shapes" aria-label="What changes">
      <dl class="tiles">
        <div class=${cost > 0 ? "tile slower-tile" : "tile"}><dt>Per request</dt><dd>${change(cost, isLowerBound)}</dd></div>
        <div class="tile"><dt>Seams that change</dt><dd>${number(seams.length)}<small class="dim"> of ${number(seams.length + unchanged)}</small></dd></div>
        <div class="tile"><dt>Processes</dt><dd>${before.length} → ${after.length}</dd></div>
        <div class="tile"><dt>Wasmtime stores</dt><dd>${stores(before)} → ${stores(after)}</dd></div>
      </dl>
      ${problems.map((problem) => html`<p key=${problem} class="note"><${Icon} name="warning" /><span>${problem}</span></p>`)}
      ${seams.length === 0 && html`<p class="dim">Every seam keeps its mode.</p>`}
      ${seams.length > 0 && html`<${Seams} seams=${seams} />`}
      <p class="dim">
        ${requests > 0 ? `Calls per request are those of ${count(requests, "request")} in the current shape. ` : "No request was measured yet, so the cost per request is not known. "}
        The cost of a call is that of a small record in the published benchmarks; larger arguments cost more.
        ${isLowerBound ? " Calls of fused seams are measured only in sampled requests, so there were more calls." : ""}
        ${unmeasured > 0 && requests > 0 ? ` ${count(unmeasured, "seam")} without measured calls ${unmeasured === 1 ? "is" : "are"} not included.` : ""}
      </p>
      ${isolation.length > 0 && html`<${Isolation} isolation=${isolation} />`}
    </section>
  `;
}

/** @param {{compositions: string[][]}[]} processes */
const stores = (processes) => processes.reduce((sum, process) => sum + process.compositions.length, 0);

/** A change of a time in microseconds, with its sign. @param {number | undefined} us @param {boolean} [isLowerBound] */
export function change(us, isLowerBound) {
  if (us === undefined || us === null) return "not measured";
  if (Math.abs(us) < 0.05 && !isLowerBound) return "no change";
  return `${isLowerBound ? "at least " : ""}${us > 0 ? "+" : "−"}${duration(Math.abs(us) * 1000)}`;
}

/** The cost of a seam per request, for sorting: the largest change first, and unmeasured seams last. */
const weight = (seam) => (seam.calls_per_request === undefined ? -1 : Math.abs(seam.calls_per_request * seam.cost_us_per_call));

const Seams = ({ seams }) => html`
  <div class="table-frame">
    <table class="seam-changes">
      <thead><tr><th>Seam</th><th class="col-wide">Interface</th><th>Mode</th><th class="number col-wide">Calls per request</th><th class="number">Per request</th></tr></thead>
      <tbody>
        ${[...seams].sort((one, other) => weight(other) - weight(one)).map(
          (seam) => html`
          <tr key=${`${seam.importer} ${seam.interface}`}>
            <td class="cut">${seam.importer} → ${seam.exporter}</td>
            <td class="col-wide dim cut"><code>${interfaceName(seam.interface)}</code></td>
            <td class="modes"><${Mode} mode=${seam.before} /><span class="dim" aria-label="becomes">→</span><${Mode} mode=${seam.after} /></td>
            <td class="number col-wide dim">${seam.calls_per_request === undefined ? "–" : `${seam.is_lower_bound ? "≥ " : ""}${seam.calls_per_request.toFixed(2)}`}</td>
            <td class=${`number ${seam.cost_us_per_call > 0 ? "slower" : "faster"}`}>${seam.calls_per_request === undefined ? html`<span class="dim">–</span>` : change(seam.calls_per_request * seam.cost_us_per_call, seam.is_lower_bound)}</td>
          </tr>
        `,
        )}
      </tbody>
    </table>
  </div>
`;

/** What each component shares before and after. */
const Isolation = ({ isolation }) => html`
  <details class="isolation">
    <summary>What ${count(isolation.length, "component")} ${isolation.length === 1 ? "shares" : "share"} with others</summary>
    <p class="dim">A trap in a component ends the instances in the same wasmtime store. A process that ends stops all components in it, and its memory belongs to it.</p>
    <ul>
      ${isolation.map(
        (each) => html`
        <li key=${each.component}><b>${each.component}</b>
          <span class="dim">${shares("wasmtime store", each.store_before, each.store_after)}${each.store_before !== each.store_after && each.process_before !== each.process_after ? "; " : ""}${shares("process", each.process_before, each.process_after)}</span></li>
      `,
      )}
    </ul>
  </details>
`;

/** @param {string} what @param {number} before @param {number} after */
function shares(what, before, after) {
  if (before === after) return "";
  return `${what} shared with ${count(before, "component")} before, ${after === 0 ? "none" : number(after)} after`;
}

