// The revisions of the app: shows what changed in each, rolls back, and replaces components.

import { html, useState } from "../vendor/preact.js";
import { call } from "../lib/api.js";
import { ago, bytes, count, date, short } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Command, Dialog, Empty, Failure, Loading } from "../lib/parts.js";
import { Link, pageOf } from "../lib/router.js";
import { SwapDialog } from "./swap.js";

/** The interval in milliseconds at which the revisions are read. */
const REVISIONS_EVERY_MS = 5000;

const HOW = { deploy: "Deployed", swap: "Swapped", rollback: "Rolled back", reshape: "Reshaped" };

/** @param {{app: any}} props */
export function Deployments({ app }) {
  const { data: revisions, error, reload } = useData(`${app.base}/revisions`, REVISIONS_EVERY_MS);
  const [chosen, choose] = useState(undefined);
  const [isSwapping, setSwapping] = useState(false);
  const [report, setReport] = useState(undefined);
  if (error?.status === 404) return html`<${NoRevisions} />`;
  const done = (result) => {
    choose(undefined);
    setSwapping(false);
    setReport(result);
    reload();
  };
  return html`
    <div class="deployments">
      <header class="section-head">
        <div><h2>Revisions</h2><p class="dim">${app.hosts?.length ? `Served at ${app.hosts.join(", ")}` : ""}</p></div>
        ${revisions && html`<button class="button" onClick=${() => setSwapping(true)}>Replace a component</button>`}
      </header>
      <${Failure} error=${error} retry=${reload} />
      ${report && html`<${Report} report=${report} onClose=${() => setReport(undefined)} />`}
      ${!revisions && !error && html`<${Loading} />`}
      ${revisions?.length === 0 && html`<${Empty} icon="deployments" title="No revisions"><p>Deploy the app from its folder:</p><${Command} text="isomer deploy" /></${Empty}>`}
      <ol class="revisions">${revisions?.map((revision) => html`<${Revision} key=${revision.revision} revision=${revision} onRollBack=${() => choose(revision)} />`)}</ol>
      ${chosen && html`<${RollBack} app=${app} revision=${chosen} onDone=${done} onClose=${() => choose(undefined)} />`}
      ${isSwapping && html`<${SwapDialog} app=${app} onDone=${done} onClose=${() => setSwapping(false)} />`}
    </div>
  `;
}

function Revision({ revision, onRollBack }) {
  const { origin, current, snapshot } = revision;
  const by = origin && (origin.by.token === "node" ? "the node's token" : `token ${origin.by.name}`);
  const at = revision.deployed_at * 1000;
  return html`
    <li class=${current ? "card revision current" : "card revision"}>
      <div class="revision-main">
        <div class="revision-title">
          <b>${origin?.message?.split("\n")[0] ?? `Version ${revision.version}`}</b>
          ${current && html`<span class="badge">serving</span>`}
        </div>
        <div class="dim">${origin ? HOW[origin.how] : "Deployed"} <time title=${date(at)}>${ago(at)}</time>${by && ` with ${by}`} · version ${revision.version} · <code title=${revision.revision}>${short(revision.revision)}</code>${origin?.trace && html` · <${Link} href=${pageOf(`/traces/${origin.trace}`)}>trace</${Link}>`}</div>
        ${origin?.first_message && html`<div class="dim">First deployed with the message “${origin.first_message.split("\n")[0]}”</div>`}
        ${origin?.changes && html`<${Changes} changes=${origin.changes} />`}
        ${snapshot && html`<div class="dim">Snapshot of ${snapshot.stores.map((store) => `${store.store} (${bytes(store.bytes)})`).join(", ")}, ${ago(snapshot.taken_at * 1000)}</div>`}
      </div>
      ${!current && html`<button class="button small" onClick=${onRollBack}>Roll back to this</button>`}
    </li>
  `;
}

/** What differs from the previous revision. */
function Changes({ changes }) {
  const chips = [
    ...(changes.added ?? []).map((name) => ["added", `+ ${name}`]),
    ...(changes.changed ?? []).map((name) => ["changed", name]),
    ...(changes.removed ?? []).map((name) => ["removed", `− ${name}`]),
    ...(changes.more ? [["changed", `${changes.more} more`]] : []),
    ...(changes.manifest ? [["other", "isomer.toml"]] : []),
    ...(changes.shape ? [["other", "shape"]] : []),
    ...(changes.files ? [["other", count(changes.files, "file")]] : []),
  ];
  return html`<ul class="chips" aria-label="Changes">${chips.map(([kind, text]) => html`<li key=${text} class=${`chip chip-${kind}`}>${text}</li>`)}${chips.length === 0 && html`<li class="dim">no differences</li>`}</ul>`;
}

function RollBack({ app, revision, onDone, onClose }) {
  const [message, setMessage] = useState("");
  const [toSnapshot, setToSnapshot] = useState(false);
  const [state, setState] = useState({ isBusy: false, error: undefined });
  const confirm = async () => {
    setState({ isBusy: true, error: undefined });
    const body = {
      revision: revision.revision,
      ...(toSnapshot && { to_snapshot: true }),
      ...(message.trim() && { message: message.trim() }),
    };
    try {
      onDone(await call(`${app.base}/rollback`, { method: "POST", body }));
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`
    <${Dialog} title=${`Roll back ${app.name}?`} confirm=${state.isBusy ? "Rolling back…" : "Roll back"} isBusy=${state.isBusy} onConfirm=${confirm} onClose=${onClose}>
      <p>Version ${revision.version}, <code>${short(revision.revision)}</code>, will serve all requests after its health check passes. Requests in flight finish.</p>
      ${
        revision.snapshot &&
        html`
        <label class="check"><input type="checkbox" checked=${toSnapshot} onChange=${(event) => setToSnapshot(event.currentTarget.checked)} />
          <span>Restore the SQL stores to ${date(revision.snapshot.taken_at * 1000)}. Data that was written later is lost to the app.</span></label>
      `
      }
      <label class="field wide"><span>Message</span><input maxlength="1000" placeholder="Why (optional)" value=${message} onInput=${(event) => setMessage(event.currentTarget.value)} /></label>
      <${Failure} error=${state.error} />
    </${Dialog}>
  `;
}

/** The result of a deployment. */
const Report = ({ report, onClose }) => html`
  <div class="report card" role="status">
    <div><b>Revision <code>${short(report.revision)}</code> serves requests</b> <span class="dim">after ${report.took_ms} ms${report.compiled ? ", with compiling" : ""}</span>
      ${report.warnings.map((warning) => html`<div key=${warning} class="dim">${warning}</div>`)}</div>
    <button class="button small" onClick=${onClose}>Close</button>
  </div>
`;

const NoRevisions = () => html`
  <${Empty} icon="deployments" title="Served from its folder">
    <p>This process serves the app from a folder, so it has no revisions. <code>isomer dev</code> replaces the app whenever a file changes.</p>
    <p>A node keeps the revisions of its apps:</p>
    <${Command} text="isomer deploy --node ADDRESS" />
  </${Empty}>
`;
