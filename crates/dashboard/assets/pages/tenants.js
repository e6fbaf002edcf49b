// The tenants of a node: quotas, use, and the apps of each.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { bytes, count, number, percent, rate } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Command, Empty, Failure, Field, Icon, Loading } from "../lib/parts.js";
import { setQuery } from "../lib/router.js";
import { TenantPanel } from "./tenant-panel.js";

/** The intervals in milliseconds at which tenants and metrics are read. */
const TENANTS_EVERY_MS = 5000;
const METRICS_EVERY_MS = 10_000;

/** The number of tenants that are shown at once. */
const SHOWN_MAX = 100;

/** Values from which a quota is unlimited, as for the only tenant of `isomer run`. */
const UNLIMITED = 2 ** 53;

/** The part of a quota from which its use is marked. */
const NEARLY_FULL = 0.9;

/** Sorts `tenant-9` before `tenant-10`. */
const NAMES = new Intl.Collator("en", { numeric: true });

const ORDERS = {
  name: (tenant) => tenant.name,
  memory: (tenant) => -part(tenant.usage.memory_bytes, tenant.quotas.memory_bytes),
  cpu: (tenant) => -(tenant.cpu ?? 0),
  storage: (tenant) => -part(tenant.usage.storage_bytes, tenant.quotas.storage_bytes),
  requests: (tenant) => -(tenant.rate ?? 0),
  refused: (tenant) => -tenant.refused,
};

/** @param {{route: import("../lib/router.js").Route}} props */
export function Tenants({ route }) {
  const { data, error, reload } = useData("/v1/tenants", TENANTS_EVERY_MS);
  const { data: live } = useData("/v1/metrics?name=isomer.instance.live", METRICS_EVERY_MS);
  const { data: dropped } = useData("/v1/metrics?name=isomer.telemetry.dropped", METRICS_EVERY_MS);
  const [text, setText] = useState("");
  const [order, setOrder] = useState("name");
  const [shownMax, setShownMax] = useState(SHOWN_MAX);
  const rates = useRates(data);
  const instances = useMemo(() => sums(live), [live]);
  if (error?.status === 404) return html`<${NoTenants} />`;
  const all = (data ?? []).map((tenant) => ({
    ...tenant,
    ...rates.get(tenant.name),
    instances: instances.get(tenant.name) ?? 0,
    refused: Object.values(tenant.usage.refused ?? {}).reduce((sum, value) => sum + value, 0),
  }));
  const wanted = text.trim().toLowerCase();
  const found = all.filter((tenant) => tenant.name.includes(wanted) || tenant.apps.some((app) => app.includes(wanted)));
  const key = ORDERS[order];
  found.sort((one, other) => compare(key(one), key(other)) || compare(one.name, other.name));
  const chosen = all.find((tenant) => tenant.name === route.query.tenant);
  const lost = [...(dropped?.metrics ?? [])].flatMap((metric) => metric.series).reduce((sum, series) => sum + series.value, 0);
  return html`
    <div class=${chosen ? "tenants with-panel" : "tenants"}>
      <${Failure} error=${error} retry=${reload} />
      ${!data && !error && html`<${Loading} />`}
      ${data && html`<${Summary} tenants=${all} dropped=${lost} />`}
      ${
        data &&
        html`
        <div class="filters" role="search">
          <${Field} wide label=${html`<${Icon} name="search" /><span class="hidden">Search</span>`} placeholder=${`Search ${count(all.length, "tenant")} and their apps`} data-search value=${text} onInput=${(event) => setText(event.currentTarget.value)} />
        </div>
      `
      }
      ${found.length > 0 && html`<${Table} tenants=${found.slice(0, shownMax)} order=${order} setOrder=${setOrder} chosen=${chosen} />`}
      ${data && found.length === 0 && html`<${Empty} icon="search" title="No tenant has this name"><p>Names of tenants and of their apps are searched.</p></${Empty}>`}
      ${found.length > shownMax && html`<div class="older-traces"><button class="button" onClick=${() => setShownMax(shownMax + SHOWN_MAX)}>Show ${number(Math.min(SHOWN_MAX, found.length - shownMax))} of ${number(found.length - shownMax)} more</button></div>`}
    </div>
    ${chosen && html`<${TenantPanel} tenant=${chosen} onClose=${() => setQuery({ tenant: undefined }, false)} />`}
  `;
}

const Summary = ({ tenants, dropped }) => {
  const sum = (of) => tenants.reduce((total, tenant) => total + of(tenant), 0);
  return html`
    <dl class="tiles inset">
      <div class="tile"><dt>Tenants</dt><dd>${number(tenants.length)}</dd></div>
      <div class="tile"><dt>Apps</dt><dd>${number(sum((tenant) => tenant.apps.length))}</dd></div>
      <div class="tile"><dt>Instances</dt><dd>${number(sum((tenant) => tenant.instances))}</dd></div>
      <div class="tile"><dt>Memory</dt><dd>${bytes(sum((tenant) => tenant.usage.memory_bytes))}</dd></div>
      <div class="tile"><dt>Requests</dt><dd>${rate(sum((tenant) => tenant.rate ?? 0))}</dd></div>
      <div class=${dropped > 0 ? "tile warn-tile" : "tile"}><dt>Dropped telemetry</dt><dd>${number(dropped)}</dd></div>
    </dl>
  `;
};

const COLUMNS = [
  ["name", "Tenant", ""],
  ["memory", "Memory", "col-quota"],
  ["cpu", "CPU", "col-quota"],
  ["storage", "Storage", "col-quota"],
  ["requests", "Requests", "number"],
  ["refused", "Refused", "number"],
];

const Table = ({ tenants, order, setOrder, chosen }) => html`
  <div class="table-frame">
    <table class="tenant-table">
      <thead>
        <tr>
          ${COLUMNS.map(([id, title, kind]) => html`<th key=${id} class=${kind} aria-sort=${order === id ? (id === "name" ? "ascending" : "descending") : undefined}><button class="sort" onClick=${() => setOrder(id)}>${title}${order === id ? html`<span aria-hidden="true"> ${id === "name" ? "↑" : "↓"}</span>` : ""}</button></th>`)}
          <th class="number col-wide">Instances</th><th class="number col-wide">Apps</th>
        </tr>
      </thead>
      <tbody>
        ${tenants.map((tenant) => {
          const { usage, quotas } = tenant;
          return html`
            <tr key=${tenant.name} class=${tenant === chosen ? "chosen" : ""}>
              <td class="cut"><button class="link strong" onClick=${() => setQuery({ tenant: tenant.name }, false)}>${tenant.name}</button></td>
              <td class="col-quota"><${Use} text=${bytes(usage.memory_bytes)} of=${limit(quotas.memory_bytes, bytes)} part=${part(usage.memory_bytes, quotas.memory_bytes)} /></td>
              <td class="col-quota"><${Use} text=${tenant.cpu === undefined ? "–" : cores(tenant.cpu)} of=${limit(quotas.cpu_ms_per_second, (ms) => cores(ms / 1000))} part=${part((tenant.cpu ?? 0) * 1000, quotas.cpu_ms_per_second)} /></td>
              <td class="col-quota"><${Use} text=${bytes(usage.storage_bytes)} of=${limit(quotas.storage_bytes, bytes)} part=${part(usage.storage_bytes, quotas.storage_bytes)} /></td>
              <td class="number">${tenant.rate === undefined ? "–" : rate(tenant.rate)}</td>
              <td class=${tenant.refused > 0 ? "number warned" : "number dim"}>${number(tenant.refused)}</td>
              <td class="number dim col-wide">${number(tenant.instances)}</td><td class="number dim col-wide">${number(tenant.apps.length)}</td>
            </tr>
          `;
        })}
      </tbody>
    </table>
  </div>
`;

/** A use of a quota, as text and as a bar. */
const Use = ({ text, of, part: used }) => html`
  <span class="use-text">${text}<span class="dim use-of"> of ${of}</span></span>
  <span class="use" aria-hidden="true" title=${percent(used)}><span class=${used >= NEARLY_FULL ? "use-bar full" : "use-bar"} style=${{ width: `${Math.min(100, used * 100)}%` }}></span></span>
`;

/** @param {number} value @param {number} quota */
export const part = (value, quota) => (quota > 0 && quota < UNLIMITED ? value / quota : 0);

/** A quota as text. @param {number} value @param {(value: number) => string} text */
export const limit = (value, text) => (value >= UNLIMITED ? "no limit" : text(value));

/** @param {number} value */
export const cores = (value) => `${Number(value.toFixed(2))} ${value === 1 ? "core" : "cores"}`;

/** @param {string | number} one @param {string | number} other */
const compare = (one, other) => (typeof one === "string" ? NAMES.compare(one, String(other)) : one - Number(other));

/** The sums of a gauge by tenant. */
function sums(report) {
  const sums = new Map();
  for (const series of (report?.metrics ?? []).flatMap((metric) => metric.series)) {
    const tenant = series.labels.tenant ?? "";
    sums.set(tenant, (sums.get(tenant) ?? 0) + series.value);
  }
  return sums;
}

/** The requests per second and the cores of each tenant, between the last two readings. */
function useRates(tenants) {
  const last = useRef({ at: 0, totals: new Map() });
  const [rates, setRates] = useState(new Map());
  useEffect(() => {
    if (!tenants) return;
    const now = Date.now();
    const seconds = (now - last.current.at) / 1000;
    const totals = new Map(tenants.map(({ name, usage }) => [name, { requests: usage.requests, cpu: usage.cpu_us / 1e6 }]));
    if (last.current.at > 0 && seconds > 0.5) {
      const entries = [...totals].flatMap(([name, total]) => {
        const before = last.current.totals.get(name);
        if (!before || total.requests < before.requests) return [];
        return [[name, { rate: (total.requests - before.requests) / seconds, cpu: Math.max(0, total.cpu - before.cpu) / seconds }]];
      });
      setRates(new Map(entries));
    }
    last.current = { at: now, totals };
  }, [tenants]);
  return rates;
}

const NoTenants = () => html`
  <${Empty} icon="tenants" title="One app, no tenants">
    <p>This process serves one app for you. A node serves the apps of many tenants, each within its quotas:</p>
    <${Command} text="isomer tenant set acme --memory 256MiB --cpu 0.5" />
  </${Empty}>
`;
