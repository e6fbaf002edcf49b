// An SQL store: its tables, and statements that only read. Under `isomer dev`, statements can also change the store.

import { html, useRef, useState } from "../vendor/preact.js";
import { call } from "../lib/api.js";
import { bytes, count, duration } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Dialog, Empty, Failure, Icon, Loading } from "../lib/parts.js";
import { cellOf } from "../lib/values.js";

/** The number of rows that a click on a table reads. */
const TABLE_ROWS = 100;

/** The maximum number of characters of a cell in the table of results. */
const CELL_CHARS = 200;

/** @param {{app: any, store: import("./data.js").Store}} props */
export function SqlStore({ app, store }) {
  const base = `${app.base}/stores/sql/${store.name}`;
  const { data: schema, error, reload } = useData(`${base}/schema`);
  const [statement, setStatement] = useState("");
  const [state, setState] = useState({ isBusy: false, error: undefined, rows: undefined, changed: undefined });
  const [isAsking, ask] = useState(false);
  const editor = useRef(null);
  const run = async (text) => {
    if (!text.trim()) return editor.current?.focus();
    setState({ isBusy: true, error: undefined, rows: undefined, changed: undefined });
    try {
      const rows = await call(`${base}/query`, { method: "POST", body: { statement: text } });
      setState({ isBusy: false, error: undefined, rows, changed: undefined });
    } catch (error) {
      setState({ isBusy: false, error, rows: undefined, changed: undefined });
    }
    return undefined;
  };
  const open = (name) => {
    const text = `SELECT * FROM "${name.replaceAll('"', '""')}" LIMIT ${TABLE_ROWS}`;
    setStatement(text);
    run(text);
  };
  const changed = (result) => {
    ask(false);
    setState({ isBusy: false, error: undefined, rows: undefined, changed: result.changed });
    reload();
  };
  const press = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run(statement);
    }
  };
  return html`
    <div class="sql">
      <${Failure} error=${error} retry=${reload} />
      ${!schema && !error && html`<${Loading} rows=${3} />`}
      ${schema && html`<${Schema} objects=${schema.objects} open=${open} />`}
      <label class="area">
        <span class="hidden">Statement</span>
        <textarea ref=${editor} data-search rows="4" spellcheck=${false} maxlength="32768" placeholder="SELECT …" value=${statement} onInput=${(event) => setStatement(event.currentTarget.value)} onKeyDown=${press}></textarea>
      </label>
      <div class="sql-actions">
        <button class="button primary" disabled=${state.isBusy} onClick=${() => run(statement)}><${Icon} name="play" />${state.isBusy ? "Running…" : "Run"}</button>
        ${store.writable && html`<button class="button" disabled=${state.isBusy || !statement.trim()} onClick=${() => ask(true)}>Run as a change</button>`}
        <span class="dim">Statements only read, for at most 2 seconds.<span class="wide-only"> Ctrl and Enter run them.</span></span>
      </div>
      <${Failure} error=${state.error} />
      ${state.changed !== undefined && html`<p role="status">${count(state.changed, "row")} changed.</p>`}
      ${state.rows && html`<${Rows} result=${state.rows} />`}
      ${isAsking && html`<${ChangeDialog} base=${base} statement=${statement} onDone=${changed} onClose=${() => ask(false)} />`}
    </div>
  `;
}

/** The tables and views, each with its columns. */
function Schema({ objects, open }) {
  const tables = objects.filter((object) => object.kind === "table" || object.kind === "view");
  // The record of migrations is rarely what a person looks for.
  tables.sort((one, other) => Number(one.name.startsWith("_isomer_")) - Number(other.name.startsWith("_isomer_")));
  const of = (table) => objects.filter((object) => object.table === table.name && object !== table);
  if (tables.length === 0) {
    return html`<${Empty} icon="sql" title="No tables"><p>A migration creates the tables of the store. The store is created when the app starts.</p></${Empty}>`;
  }
  return html`
    <div class="tables">
      ${tables.map(
        (table) => html`
        <details key=${table.name} class="table-card card">
          <summary><${Icon} name="sql" /><b class="cut">${table.name}</b><span class="dim">${table.kind === "view" ? "view" : count(table.columns?.length ?? 0, "column")}</span>
            <button class="button small" onClick=${(event) => (event.preventDefault(), open(table.name))} aria-label=${`Show the rows of ${table.name}`}>Rows</button></summary>
          <dl class="facts">
            ${table.columns?.map((column) => html`<div key=${column.name} class="column"><dt><code>${column.name}</code></dt><dd class="dim">${column.type.toLowerCase() || "any"}${column.primary_key ? ", primary key" : ""}${column.not_null ? ", not null" : ""}</dd></div>`)}
          </dl>
          ${of(table).map((object) => html`<p key=${object.name} class="dim">${object.kind} <code>${object.name}</code></p>`)}
          ${table.sql && html`<pre class="reason">${table.sql}</pre>`}
        </details>
      `,
      )}
    </div>
  `;
}

/** The result of a statement. */
function Rows({ result }) {
  const { columns, rows, truncated, took_us } = result;
  return html`
    <p class="dim" role="status">${count(rows.length, "row")}${truncated ? ", and more that are not shown" : ""} · ${duration(took_us * 1000)}</p>
    <div class="table-frame result">
      <table>
        <thead><tr>${columns.map((column, index) => html`<th key=${index}>${column}</th>`)}</tr></thead>
        <tbody>
          ${rows.map((row, index) => html`<tr key=${index}>${row.map((cell, at) => html`<${Cell} key=${at} cell=${cell} />`)}</tr>`)}
        </tbody>
      </table>
    </div>
  `;
}

function Cell({ cell }) {
  const { kind, text, more } = cellOf(cell);
  const [isOpen, open] = useState(false);
  const isLong = text.length > CELL_CHARS;
  const shown = isLong && !isOpen ? `${text.slice(0, CELL_CHARS)}…` : text;
  return html`
    <td class=${`cell cell-${kind}`}>
      ${shown}${more !== undefined && html`<span class="dim"> ${bytes(more)}</span>`}
      ${isLong && html` <button class="link" onClick=${() => open(!isOpen)}>${isOpen ? "less" : "more"}</button>`}
    </td>
  `;
}

function ChangeDialog({ base, statement, onDone, onClose }) {
  const [state, setState] = useState({ isBusy: false, error: undefined });
  const confirm = async () => {
    setState({ isBusy: true, error: undefined });
    try {
      onDone(await call(`${base}/execute`, { method: "POST", body: { statement } }));
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`
    <${Dialog} title="Change the store?" confirm="Run" isBusy=${state.isBusy} onConfirm=${confirm} onClose=${onClose}>
      <pre class="reason">${statement}</pre>
      <p>The statement runs once, outside a transaction of the app.</p>
      <${Failure} error=${state.error} />
    </${Dialog}>
  `;
}
