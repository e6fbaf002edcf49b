// A key-value store: its keys by prefix, and the value of one key as text, JSON or hexadecimal digits.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { call } from "../lib/api.js";
import { bytes, number } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Choice, Dialog, Empty, Failure, Field, Icon, Loading, Panel } from "../lib/parts.js";
import { bytesOf, hexDump, hexOf, prettyJson, textOf } from "../lib/values.js";

/** The number of keys of a page. */
const PAGE_SIZE = 100;

/**
 * Keys may be private, so they are neither in the address of the page nor in those of its requests.
 * @param {{app: any, store: import("./data.js").Store}} props
 */
export function KvStore({ app, store }) {
  const base = `${app.base}/stores/kv/${store.name}`;
  const [prefix, setPrefix] = useState("");
  const [chosen, choose] = useState(undefined);
  const query = { prefix, limit: PAGE_SIZE };
  const { data, error, reload } = useData(`${base}/keys`, 0, query);
  const [older, setMore] = useState({ prefix, keys: [], next: undefined, isBusy: false, error: undefined });
  const [isAdding, setAdding] = useState(false);
  useEffect(() => setMore({ prefix, keys: [], next: undefined, isBusy: false, error: undefined }), [data]);
  const more = older.prefix === prefix ? older : { prefix, keys: [], next: undefined, isBusy: false, error: undefined };
  const keys = [...(data?.keys ?? []), ...more.keys];
  const next = more.keys.length > 0 ? more.next : data?.next;
  const loadMore = async () => {
    setMore({ ...more, prefix, isBusy: true });
    try {
      const page = await call(`${base}/keys`, { method: "POST", body: { ...query, after: next } });
      setMore({ prefix, keys: [...more.keys, ...page.keys], next: page.next, isBusy: false, error: undefined });
    } catch (error) {
      setMore({ ...more, path, isBusy: false, error });
    }
  };
  const changed = () => {
    setAdding(false);
    reload();
  };
  return html`
    <div class="filters" role="search">
      <${PrefixField} value=${prefix} onChange=${(value) => (setPrefix(value), choose(undefined))} />
      <div class="end">
        ${store.writable && html`<button class="button" onClick=${() => setAdding(true)}>Set a key</button>`}
        <button class="button" onClick=${reload}>Read again</button>
      </div>
    </div>
    <div class="inset"><${Failure} error=${error ?? more.error} retry=${reload} /></div>
    ${!data && !error && html`<${Loading} rows=${8} />`}
    ${data && keys.length === 0 && html`<${Empty} icon="search" title=${prefix ? "No key begins with this" : "No keys"}><p>${prefix ? "Remove the prefix to see all keys." : "The store is empty."}</p></${Empty}>`}
    ${
      keys.length > 0 &&
      html`
      <div class="table-frame">
        <table class="keys" onKeyDown=${moveFocus}>
          <thead><tr><th>Key</th><th class="number">Size of the value</th></tr></thead>
          <tbody>
            ${keys.map(
              (each) => html`
              <tr key=${each.key} class=${each.key === chosen ? "chosen" : ""}>
                <td class="cut"><button class="link mono" onClick=${() => choose(each.key)}>${each.key}</button></td>
                <td class="number dim">${bytes(each.bytes)}</td>
              </tr>
            `,
            )}
          </tbody>
        </table>
      </div>
      <div class="older-traces">${next ? html`<button class="button" disabled=${more.isBusy} onClick=${loadMore}>Show more keys</button>` : html`<span class="dim">${number(keys.length)} ${keys.length === 1 ? "key" : "keys"}${prefix ? " with this prefix" : ""}</span>`}</div>
    `
    }
    ${chosen !== undefined && html`<${ValuePanel} key=${chosen} base=${base} store=${store} name=${chosen} onChanged=${changed} onClose=${() => choose(undefined)} />`}
    ${isAdding && html`<${SetDialog} base=${base} name="" text="" onDone=${changed} onClose=${() => setAdding(false)} />`}
  `;
}

/** The prefix, which changes when the person stops typing. @param {{value: string, onChange: (prefix: string) => void}} props */
function PrefixField({ value, onChange }) {
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (event) => {
    const prefix = event.currentTarget.value;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(prefix), 200);
  };
  return html`<${Field} wide label=${html`<${Icon} name="search" /><span class="hidden">Prefix</span>`} placeholder="Keys that begin with" data-search value=${value} onInput=${change} />`;
}

function ValuePanel({ base, store, name, onChanged, onClose }) {
  const { data: value, error, reload } = useData(`${base}/value`, 0, { key: name });
  const shown = useMemo(() => value && viewsOf(value), [value]);
  const [chosen, choose] = useState("");
  const [asking, ask] = useState("");
  const view = shown?.views.find(([id]) => id === chosen)?.[0] ?? shown?.views[0][0];
  const done = () => {
    ask("");
    reload();
    onChanged();
  };
  return html`
    <${Panel} title=${name} onClose=${onClose}>
      <${Failure} error=${error} retry=${reload} />
      ${!value && !error && html`<${Loading} rows=${4} />`}
      ${
        value &&
        html`
        <div class="value-head"><${Choice} label="View" options=${shown.views} value=${view} onChange=${choose} /><span class="dim">${bytes(value.bytes)}</span></div>
        <pre class="value" tabindex="0">${shown.text[view]}</pre>
        ${value.truncated && html`<p class="dim">Only the first 256 KiB are shown.</p>`}
        ${
          store.writable &&
          html`
          <div class="value-actions">
            ${shown.text.text !== undefined && !value.truncated && html`<button class="button" onClick=${() => ask("set")}>Change</button>`}
            <button class="button" onClick=${() => ask("delete")}>Delete</button>
          </div>
        `
        }
      `
      }
      ${asking === "set" && html`<${SetDialog} base=${base} name=${name} text=${shown.text.text} onDone=${done} onClose=${() => ask("")} />`}
      ${asking === "delete" && html`<${DeleteDialog} base=${base} name=${name} onDone=${() => (onClose(), onChanged())} onClose=${() => ask("")} />`}
    </${Panel}>
  `;
}

/** The views of a value, the most readable first. */
function viewsOf(value) {
  const content = bytesOf(value.hex);
  const text = textOf(content, value.truncated);
  const json = value.truncated ? undefined : prettyJson(text);
  const all = { json, text, hex: hexDump(content) };
  const titles = { json: "JSON", text: "Text", hex: "Hex" };
  const views = Object.keys(all).filter((id) => all[id] !== undefined);
  return { text: all, views: views.map((id) => [id, titles[id]]) };
}

function SetDialog({ base, name, text, onDone, onClose }) {
  const [key, setKey] = useState(name);
  const [value, setValue] = useState(text);
  const [state, setState] = useState({ isBusy: false, error: undefined });
  const confirm = async () => {
    setState({ isBusy: true, error: undefined });
    try {
      await call(`${base}/set`, { method: "POST", body: { key, hex: hexOf(value) } });
      onDone();
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`
    <${Dialog} title=${name ? `Change ${name}` : "Set a key"} confirm="Set" isBusy=${state.isBusy || key === ""} onConfirm=${confirm} onClose=${onClose}>
      ${!name && html`<${Field} wide label="Key" value=${key} onInput=${(event) => setKey(event.currentTarget.value)} />`}
      <label class="area"><span>Value</span><textarea rows="8" spellcheck=${false} value=${value} onInput=${(event) => setValue(event.currentTarget.value)}></textarea></label>
      <${Failure} error=${state.error} />
    </${Dialog}>
  `;
}

function DeleteDialog({ base, name, onDone, onClose }) {
  const [state, setState] = useState({ isBusy: false, error: undefined });
  const confirm = async () => {
    setState({ isBusy: true, error: undefined });
    try {
      await call(`${base}/delete`, { method: "POST", body: { key: name } });
      onDone();
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`
    <${Dialog} title="Delete this key?" confirm="Delete" isBusy=${state.isBusy} onConfirm=${confirm} onClose=${onClose}>
      <p><code>${name}</code> and its value are removed.</p>
      <${Failure} error=${state.error} />
    </${Dialog}>
  `;
}

/** Moves the focus between the keys. @param {KeyboardEvent} event */
function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [.../** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("td button")];
  const target = buttons[buttons.indexOf(/** @type {any} */ (document.activeElement)) + step];
  if (target) {
    event.preventDefault();
    /** @type {HTMLElement} */ (target).focus();
  }
}
