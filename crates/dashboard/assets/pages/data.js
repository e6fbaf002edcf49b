// The stores of the app: a list of all stores, and the content of one.

import { html } from "../vendor/preact.js";
import { bytes, sentence } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Empty, Failure, Icon, Loading, Select } from "../lib/parts.js";
import { Link, go, pageOf } from "../lib/router.js";
import { KvStore } from "./kv-store.js";
import { SqlStore } from "./sql-store.js";

/** The interval in milliseconds at which the list of stores is read. */
const STORES_EVERY_MS = 10_000;

export const KINDS = { kv: "key-value", sql: "SQL" };

/** @typedef {{kind: "kv" | "sql", name: string, bytes: number, components: string[], group?: string, writable?: boolean}} Store */

/** @param {{app: any, route: import("../lib/router.js").Route}} props */
export function Data({ app, route }) {
  const { data: stores, error, reload } = useData(`${app.base}/stores`, STORES_EVERY_MS);
  if (error && !stores) {
    return error.status === 404
      ? html`<${Empty} icon="data" title="No stores"><p>${sentence(error.message)}</p></${Empty}>`
      : html`<div class="inset"><${Failure} error=${error} retry=${reload} /></div>`;
  }
  if (!stores) return html`<${Loading} />`;
  if (stores.length === 0) {
    return html`
      <${Empty} icon="data" title="No stores">
        <p>A component gets a key-value or SQL store with a grant in <code>isomer.toml</code>:</p>
        <code class="command">grants = { kv = ["carts"], sql = ["orders"] }</code>
      </${Empty}>
    `;
  }
  const [kind, name] = route.rest;
  const store = stores.find((each) => each.kind === kind && each.name === name) ?? stores[0];
  const id = idOf(store);
  return html`
    <div class="data">
      <nav class="stores" aria-label="Stores">
        <ul>
          ${stores.map(
            (each) => html`
            <li key=${idOf(each)}><${Link} href=${pageOf(`/data/${idOf(each)}`)} aria-current=${each === store ? "true" : undefined}>
              <${Icon} name=${each.kind} /><span class="store-name cut">${each.name}</span><span class="dim number">${each.group ? "" : bytes(each.bytes)}</span>
            </${Link}></li>
          `,
          )}
        </ul>
      </nav>
      <div class="stores-narrow"><${Select} label="Store" value=${id} options=${stores.map((each) => [idOf(each), `${each.name} (${KINDS[each.kind]})`])} onChange=${(value) => go(pageOf(`/data/${value}`))} /></div>
      <section class="store" aria-label=${`Store ${store.name}`}>
        <header class="store-head">
          <h2>${store.name}</h2>
          <span class="dim">${KINDS[store.kind]} store of ${store.components.length > 0 ? store.components.join(", ") : "an earlier revision"}${store.group ? "" : ` · ${bytes(store.bytes)}`}</span>
          ${store.writable && html`<span class="badge">can be changed</span>`}
        </header>
        ${store.group ? html`<${InProcess} store=${store} />` : html`<${store.kind === "kv" ? KvStore : SqlStore} key=${id} app=${app} store=${store} />`}
      </section>
    </div>
  `;
}

/** @param {Store} store */
const idOf = (store) => `${store.kind}/${store.name}`;

/** A store that only another process can read. @param {{store: Store}} props */
const InProcess = ({ store }) => html`
  <${Empty} icon="data" title=${`Open in group ${store.group}`}>
    <p>The process of group <code>${store.group}</code> has opened this store, and only this process can read it. In the shape <code>monolith</code>, the dashboard shows its data.</p>
  </${Empty}>
`;
