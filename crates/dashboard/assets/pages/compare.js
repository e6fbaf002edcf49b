// Two traces side by side: which operations took longer, ran more often, or failed.

import { html } from "../vendor/preact.js";
import { clock, duration, spanName } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Failure, Icon, Loading, Status } from "../lib/parts.js";
import { Link, pageOf } from "../lib/router.js";
import { compare, titleOf } from "../lib/trace-model.js";

/** @param {{app: any, left: string, right: string}} props */
export function Compare({ app, left, right }) {
  const first = useData(`${app.base}/traces/${encodeURIComponent(left)}`);
  const second = useData(`${app.base}/traces/${encodeURIComponent(right)}`);
  const error = first.error ?? second.error;
  return html`
    <div class="trace">
      <${Link} class="back" href=${pageOf("/traces")}><${Icon} name="back" />All traces</${Link}>
      <${Failure} error=${error} retry=${first.error ? first.reload : second.reload} />
      ${!error && (!first.data || !second.data) && html`<${Loading} />`}
      ${first.data && second.data && html`<${Comparison} left=${first.data} right=${second.data} />`}
    </div>
  `;
}

function Comparison({ left, right }) {
  const rows = compare(left.spans, right.spans);
  const most = Math.max(...rows.map((row) => Math.abs(row.difference)), 1);
  const total = right.summary.duration_ns - left.summary.duration_ns;
  return html`
    <div class="pair">
      <${Side} letter="A" trace=${left} />
      <${Side} letter="B" trace=${right} />
      <div class="card pair-total"><span class="dim">B compared with A</span><b class=${toneOf(total)}>${signed(total)}</b></div>
    </div>
    <div class="table-frame">
      <table class="comparison">
        <thead><tr><th>Operation</th><th class="number">Own time A</th><th class="number">Own time B</th><th class="number">Difference</th><th class="col-bar"><span class="hidden">Difference as a bar</span></th></tr></thead>
        <tbody>
          ${rows.map(
            (row) => html`
            <tr key=${row.key}>
              <td><span title=${row.name}>${spanName(row.name)}</span> <span class="row-component">${row.component ?? "platform"}</span></td>
              <td class="number"><${Part} side=${row.left} /></td>
              <td class="number"><${Part} side=${row.right} /></td>
              <td class=${`number ${toneOf(row.difference)}`}>${signed(row.difference)}</td>
              <td class="col-bar"><span class=${`difference ${row.difference > 0 ? "more" : "less"}`} style=${{ width: `${(Math.abs(row.difference) / most) * 50}%` }}></span></td>
            </tr>
          `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

const Side = ({ letter, trace, trace: { summary } }) => html`
  <div class="card">
    <span class="letter">${letter}</span>
    <div><${Link} href=${pageOf(`/traces/${summary.id}`)}>${titleOf(summary)}</${Link}>
      <div class="dim"><${Status} status=${summary.status} failed=${summary.failed} /> ${duration(summary.duration_ns)} · ${clock(summary.start_us / 1000)}</div></div>
  </div>
`;

const Part = ({ side }) =>
  side.calls === 0
    ? html`<span class="dim">–</span>`
    : html`${duration(side.self)}${side.calls > 1 && html` <span class="dim">× ${side.calls}</span>`}${side.failed > 0 && html` <span class="slower">failed</span>`}`;

/** The class with the colour of a difference. @param {number} ns */
const toneOf = (ns) => (ns === 0 ? "dim" : ns > 0 ? "slower" : "faster");

/** A difference with its sign. @param {number} ns */
const signed = (ns) => (ns === 0 ? "0" : `${ns > 0 ? "+" : "−"}${duration(Math.abs(ns))}`);
