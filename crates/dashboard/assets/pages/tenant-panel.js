// One tenant: its quotas with their use, its apps, host names and secrets.

import { html } from "../vendor/preact.js";
import { bytes, count, number, rate } from "../lib/format.js";
import { Command, Panel } from "../lib/parts.js";
import { Link } from "../lib/router.js";
import { cores, limit } from "./tenants.js";

/** The maximum number of apps and host names that are listed. */
const LISTED_MAX = 60;

/** @param {{tenant: any, onClose: () => void}} props */
export function TenantPanel({ tenant, onClose }) {
  const { usage, quotas, refused, apps, hosts, secrets } = tenant;
  const rows = [
    ["Memory", bytes(usage.memory_bytes), limit(quotas.memory_bytes, bytes), "memory"],
    ["of it for the platform", bytes(usage.host_memory_bytes ?? 0), "", ""],
    ["CPU", tenant.cpu === undefined ? "–" : cores(tenant.cpu), limit(quotas.cpu_ms_per_second, (ms) => cores(ms / 1000)), "cpu"],
    ["Storage", bytes(usage.storage_bytes), limit(quotas.storage_bytes, bytes), "storage"],
    ["Requests in flight", number(usage.requests_now), limit(quotas.requests_concurrent, number), "concurrent-requests"],
    ["Requests per second", tenant.rate === undefined ? "–" : rate(tenant.rate), limit(quotas.requests_per_second, (value) => `${number(value)}/s`), "request-rate"],
    ["Log per hour", "", limit(quotas.log_bytes_per_hour, bytes), "log"],
    ["Apps", number(apps.length), limit(quotas.apps, number), "apps"],
  ];
  const list = (names) => [names.slice(0, LISTED_MAX), Math.max(0, names.length - LISTED_MAX)];
  const [shownApps, moreApps] = list(apps);
  const [shownHosts, moreHosts] = list(hosts);
  return html`
    <${Panel} title=${tenant.name} onClose=${onClose}>
      <section><h3>Use and quotas</h3>
        <table class="quota-table"><thead><tr><th>Quota</th><th class="number">Used</th><th class="number">Limit</th><th class="number">Refused</th></tr></thead>
          <tbody>${rows.map(([name, used, of, quota]) => html`<tr key=${name} class=${quota ? "" : "dim"}><td>${name}</td><td class="number">${used}</td><td class="number dim">${of}</td><td class=${usage.refused?.[quota] > 0 ? "number warned" : "number dim"}>${quota ? number(usage.refused?.[quota] ?? 0) : ""}</td></tr>`)}</tbody></table>
        <p class="dim">${count(usage.requests, "request")} since the node started, ${count(refused, "refusal")} because of quotas.</p>
      </section>
      <section><h3>Apps</h3>
        ${apps.length === 0 && html`<p class="dim">No apps.</p>`}
        <ul class="chips">${shownApps.map((app) => html`<li key=${app}><${Link} class="chip" href=${`/map?app=${encodeURIComponent(`${tenant.name}/${app}`)}`}>${app}</${Link}></li>`)}${moreApps > 0 && html`<li class="dim">${number(moreApps)} more</li>`}</ul>
      </section>
      <section><h3>Host names</h3>
        ${hosts.length === 0 && html`<p class="dim">No reserved host names.</p>`}
        <ul class="chips">${shownHosts.map((host) => html`<li key=${host} class="chip">${host}</li>`)}${moreHosts > 0 && html`<li class="dim">${number(moreHosts)} more</li>`}</ul>
      </section>
      <section><h3>Secrets</h3><p class="dim">${secrets.length === 0 ? "No secrets." : secrets.join(", ")}</p></section>
      <section><h3>Change quotas</h3><${Command} text=${`isomer tenant set ${tenant.name} --memory 512MiB`} /></section>
    </${Panel}>
  `;
}
