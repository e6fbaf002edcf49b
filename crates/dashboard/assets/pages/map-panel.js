// The details of a component or a seam of the map, with the reasons from the plan.

import { html } from "../vendor/preact.js";
import { interfaceName, percent, rate, seconds } from "../lib/format.js";
import { Icon, Mode, Panel } from "../lib/parts.js";
import { Link, pageOf, setQuery } from "../lib/router.js";

/** @param {{plan: any, figures: any, query: Record<string, string>}} props */
export function MapPanel({ plan, figures, query }) {
  const close = () => setQuery({ node: undefined, seam: undefined });
  if (query.node)
    return html`<${Panel} title=${query.node} onClose=${close}><${Component} plan=${plan} figures=${figures} name=${query.node} /></${Panel}>`;
  const [importer, exporter] = query.seam.split("~");
  const seams = plan.seams.filter((seam) => seam.importer === importer && seam.exporter === exporter);
  return html`
    <${Panel} title=${`${importer} → ${exporter}`} onClose=${close}>
      <${Figures} now=${figures.edge(importer, exporter)} />
      ${seams.map((seam) => html`<${Seam} key=${seam.import} seam=${seam} />`)}
      ${seams.length === 0 && html`<p class="dim">The plan has no such seam any more.</p>`}
      <section><${Link} href=${pageOf("/traces", { component: exporter })}>Traces with ${exporter}</${Link}></section>
    </${Panel}>
  `;
}

function Figures({ now }) {
  if (!now || !(now.rate >= 0))
    return html`<p class="dim">No calls were measured in the last minute. Calls between fused components are measured only in sampled requests.</p>`;
  return html`
    <dl class="tiles">
      <div class="tile"><dt>Rate</dt><dd>${rate(now.rate)}</dd></div>
      <div class=${now.failed > 0 ? "tile bad" : "tile"}><dt>Failed</dt><dd>${percent(now.failed)}</dd></div>
      <div class="tile"><dt>p50</dt><dd>${seconds(now.p50)}</dd></div>
      <div class="tile"><dt>p99</dt><dd>${seconds(now.p99)}</dd></div>
    </dl>
    ${now.isSampled && html`<p class="dim">Only calls of sampled requests are measured.</p>`}
  `;
}

function Component({ plan, figures, name }) {
  const group = plan.groups.find((each) => each.components.includes(name));
  if (!group) return html`<p class="dim">The plan has no such component any more.</p>`;
  const access = plan.access.find((each) => each.component === name) ?? { granted: [], without_grant: [] };
  const routes = group.handlers.filter((handler) => handler.component === name).flatMap((handler) => handler.routes);
  const uses = plan.seams.filter((seam) => seam.importer === name);
  const usedBy = plan.seams.filter((seam) => seam.exporter === name);
  return html`
    <${Figures} now=${figures.node({ kind: "component", name })} />
    <dl class="facts">
      <dt>Group</dt><dd>${group.set_apart_from ?? group.name}${group.set_apart_from && html` <span class="dim">(isolated)</span>`}</dd>
      ${group.components.length > 1 && html`<dt>Fused with</dt><dd>${group.components.filter((other) => other !== name).join(", ")}</dd>`}
      ${routes.length > 0 && html`<dt>Routes</dt><dd class="mono">${routes.join(" ")}</dd>`}
    </dl>
    <section>
      <h3>Grants</h3>
      ${access.granted.length === 0 && html`<p class="dim">None: the component can reach nothing.</p>`}
      <ul class="grants">${access.granted.map((grant) => html`<li key=${grant}><code>${grant}</code></li>`)}</ul>
      ${access.without_grant.map(
        (missing) => html`
        <div key=${missing.interface} class="reason"><${Icon} name="warning" /> <code>${interfaceName(missing.interface)}</code> is imported without a grant: ${missing.consequence}. To grant it: <code>${missing.grant}</code></div>
      `,
      )}
    </section>
    <${SeamList} title="Calls" seams=${uses} other="exporter" />
    <${SeamList} title="Called by" seams=${usedBy} other="importer" />
    <section class="links">
      <${Link} href=${pageOf("/traces", { component: name })}>Traces</${Link}>
      <${Link} href=${pageOf("/logs", { component: name })}>Logs</${Link}>
    </section>
  `;
}

const SeamList = ({ title, seams, other }) =>
  seams.length > 0 &&
  html`
    <section>
      <h3>${title}</h3>
      <ul class="seam-list">
        ${seams.map(
          (seam) => html`
          <li key=${seam.importer + seam.exporter + seam.import}>
            <${Link} href=${pageOf("/map", { seam: `${seam.importer}~${seam.exporter}` })}>${seam[other]}</${Link}>
            <span class="dim cut">${interfaceName(seam.import)}</span><${Mode} mode=${seam.mode} />
          </li>
        `,
        )}
      </ul>
    </section>
  `;

const Seam = ({ seam }) => html`
  <section>
    <h3 class="mono">${seam.import}</h3>
    <div><${Mode} mode=${seam.mode} /></div>
    <div class="reason">${seam.reason}</div>
    <dl class="facts">
      <dt>Functions</dt><dd class="mono">${seam.functions.join(", ") || "–"}</dd>
      <dt>Values</dt><dd>${typeof seam.class === "string" ? seam.class : Object.keys(seam.class ?? {}).join(", ")}</dd>
    </dl>
  </section>
`;
