// Small parts that several pages use.

import { html, useEffect, useRef } from "../vendor/preact.js";

const ICONS = {
  map: "M4 4h6v5H4zM14 15h6v5h-6zM14 4h6v5h-6zM7 9v8.5h7M10 6.5h4",
  traces: "M4 6h10M7 12h9M11 18h9",
  logs: "M4 5h16v14H4zM8 9.5l2.5 2.5L8 14.5M13 15h3.5",
  charts: "M4 4v16h16M8 15l3.5-4.5 3 2.5L19 7",
  deployments: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  data: "M5 6c0-1.7 3.1-3 7-3s7 1.3 7 3-3.1 3-7 3-7-1.3-7-3zM5 6v12c0 1.7 3.1 3 7 3s7-1.3 7-3V6M5 12c0 1.7 3.1 3 7 3s7-1.3 7-3",
  kv: "M16 4a4 4 0 100 8 4 4 0 000-8zM13 11l-9 9M7.5 16.5L10 19",
  sql: "M4 5h16v14H4zM4 10h16M10 10v9",
  tenants: "M9 11a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM3 20c0-3.3 2.7-6 6-6s6 2.7 6 6M16 4.5a3.5 3.5 0 010 6.5M17.5 14.3c2 .8 3.5 3 3.5 5.7",
  shape: "M4 4h7v7H4zM14 4h6v6h-6zM4 14h7v6H4zM14 13h6v7h-6z",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  moon: "M19.5 14.5A8 8 0 019.5 4.5a8 8 0 1010 10z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  search: "M10.5 4.5a6 6 0 100 12 6 6 0 000-12zM15 15l5 5",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14 6l-6 6 6 6",
  out: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
  check: "M5 12.5l4.5 4.5L19 7.5",
  warning: "M12 4l9 16H3zM12 10v4.5M12 17.2v.1",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.5l11 6.5-11 6.5z",
  down: "M12 5v14M6 13l6 6 6-6",
  keyboard: "M3 6h18v12H3zM7 10h.1M11 10h.1M15 10h.1M8 14h8",
};

/** An icon, which is decoration: its button or link has a text. @param {{name: keyof typeof ICONS}} props */
export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>
`;

/** The explanation of an empty page: what is missing, and what to do. @param {any} props */
export const Empty = ({ icon, title, children }) => html`
  <div class="empty">
    <div class="empty-icon"><${Icon} name=${icon} /></div>
    <h2>${title}</h2>
    <div class="empty-text">${children}</div>
  </div>
`;

/** A command to be typed into a terminal. @param {{text: string}} props */
export const Command = ({ text }) => html`<code class="command"><span aria-hidden="true">$ </span>${text}</code>`;

/** An error of a request, with its hint. @param {{error: import("./api.js").ApiError | undefined, retry?: () => void}} props */
export function Failure({ error, retry }) {
  if (!error || error.isEnded) return null;
  return html`
    <div class="failure" role="alert">
      <${Icon} name="warning" />
      <div>
        <strong>${error.message}</strong>
        ${error.hint && html`<div>${error.hint}</div>`}
        ${error.detail && html`<pre>${error.detail}</pre>`}
      </div>
      ${retry && html`<button class="button small" onClick=${retry}>Try again</button>`}
    </div>
  `;
}

/** Grey lines that keep the space of data that has not arrived. @param {{rows?: number}} props */
export const Loading = ({ rows = 6 }) => html`
  <div class="loading" role="status" aria-label="Loading">
    ${Array.from({ length: rows }, (_, index) => html`<div key=${index}></div>`)}
  </div>
`;

/** A mode of a seam: fused, isolated or remote. @param {{mode: string}} props */
export const Mode = ({ mode }) => html`<span class=${`mode mode-${mode}`}>${mode}</span>`;

/** A status code of HTTP, or the failure of a trace. @param {{status?: number, failed?: boolean}} props */
export function Status({ status, failed }) {
  const kind = failed || (status ?? 0) >= 500 ? "bad" : (status ?? 0) >= 400 ? "warn" : "good";
  return html`<span class=${`status status-${kind}`}>${status ?? (failed ? "failed" : "–")}</span>`;
}

/** A choice between a few values. @param {{label: string, options: [string, string][], value: string, onChange: (value: string) => void}} props */
export const Choice = ({ label, options, value, onChange }) => html`
  <div class="choice" role="group" aria-label=${label}>
    ${options.map(
      ([id, text]) => html`
        <button key=${id} aria-pressed=${id === value} onClick=${() => onChange(id)}>${text}</button>
      `,
    )}
  </div>
`;

/** A text field of a filter. @param {any} props */
export const Field = ({ label, wide = false, ...props }) => html`
  <label class=${wide ? "field wide" : "field"}><span>${label}</span><input autocomplete="off" spellcheck=${false} ...${props} /></label>
`;

/** A list of values of a filter. @param {{label: string, value: string, options: [string, string][], onChange: (value: string) => void}} props */
export const Select = ({ label, value, options, onChange }) => html`
  <label class="field">
    <span>${label}</span>
    <select aria-label=${label} value=${value} onChange=${(event) => onChange(event.currentTarget.value)}>
      ${options.map(([id, text]) => html`<option key=${id} value=${id} selected=${id === value}>${text}</option>`)}
    </select>
  </label>
`;

/** A panel at the side of a page. Escape closes it. @param {any} props */
export function Panel({ title, onClose, children }) {
  const panel = useRef(null);
  useEffect(() => panel.current?.focus(), [title]);
  const close = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && onClose();
  return html`
    <aside class="panel" ref=${panel} tabindex="-1" aria-label=${title} onKeyDown=${close}>
      <header>
        <h2>${title}</h2>
        <button class="button icon-only" onClick=${onClose} aria-label="Close"><${Icon} name="close" /></button>
      </header>
      <div class="panel-body">${children}</div>
    </aside>
  `;
}

/** A question before a change. @param {any} props */
export function Dialog({ title, confirm, isBusy, onConfirm, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current?.showModal(), []);
  return html`
    <dialog ref=${dialog} aria-label=${title} onClose=${onClose}>
      <h2>${title}</h2>
      <div class="dialog-text">${children}</div>
      <footer>
        <button class="button" onClick=${onClose}>Cancel</button>
        <button class="button primary" disabled=${isBusy} onClick=${onConfirm}>${confirm}</button>
      </footer>
    </dialog>
  `;
}
