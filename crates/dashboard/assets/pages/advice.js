// Advice about the shape, with its evidence.

import { html } from "../vendor/preact.js";
import { count, duration } from "../lib/format.js";
import { change } from "./shape-comparison.js";

const KINDS = { fuse: "Fuse", isolate: "Isolate", move: "Move" };
const CONFIDENCE = { high: "many samples", low: "few samples" };

/** @param {{advice: any, onTry: (item: any) => void, isDisabled?: boolean}} props */
export const Advice = ({ advice, onTry, isDisabled = false }) => html`
  <section class="advice" aria-label="Advice">
    <header class="section-head">
      <div><h2>Advice</h2><p class="dim">${advice.requests > 0 ? `From ${count(advice.requests, "request")} in the current shape${advice.request_us === undefined ? "" : `, ${duration(advice.request_us * 1000)} on average`}.` : "From measured traffic."} Seams that were not measured often enough get no advice.</p></div>
    </header>
    ${advice.items.length === 0 && html`<p class="card advice-none dim">${advice.notes.length > 0 ? marked(advice.notes[0]) : "The measurements support no change of the shape."}</p>`}
    <ol class="advice-items">
      ${advice.items.map(
        (item) => html`
        <li key=${`${item.kind} ${item.caller} ${item.component}`} class="card advice-item">
          <div class="advice-main">
            <div class="advice-head"><span class="badge">${KINDS[item.kind]}</span><b>${marked(item.summary)}</b></div>
            <ul class="evidence">${item.evidence.map((line) => html`<li key=${line}>${marked(line)}</li>`)}</ul>
          </div>
          <div class="advice-side"><b class=${item.cost_us_per_request > 0 ? "slower" : "faster"}>${change(item.cost_us_per_request)}</b><span class="dim">per request</span><span class="dim">${CONFIDENCE[item.confidence]}</span>
            <button class="button small" disabled=${isDisabled} onClick=${() => onTry(item)}>Try it</button></div>
        </li>
      `,
      )}
    </ol>
    ${
      advice.items.length > 0 &&
      advice.notes.length > 0 &&
      advice.notes.map((note) => html`<p key=${note} class="dim">${marked(note)}</p>`)
    }
  </section>
`;

/** A sentence whose names in backticks are code. @param {string} text */
const marked = (text) => text.split("`").map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part));
