// The choice of the app in the top bar: a list with a search field, for nodes with many apps.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { number } from "./format.js";
import { Icon } from "./parts.js";
import { setQuery } from "./router.js";

/** The maximum number of apps that the list shows at once. */
const SHOWN_MAX = 60;

/** @typedef {{tenant: string, name: string, base: string, isOnly: boolean, state: string, version: string, revision: string, hosts: string[]}} App */

/** The name of an app in addresses. @param {{tenant: string, name: string}} app */
export const appId = (app) => `${app.tenant}/${app.name}`;

/** @param {{apps?: App[], app?: App}} props */
export function AppPicker({ apps, app }) {
  const [isOpen, setOpen] = useState(false);
  if (!apps || !app) return html`<span class="app-name"></span>`;
  const hasTenants = apps.some((each) => each.tenant !== app.tenant);
  const title = (each) => (hasTenants ? `${each.tenant} / ${each.name}` : each.name);
  return html`
    <div class="picker">
      ${
        apps.length === 1
          ? html`<span class="app-name">${app.name}</span>`
          : html`<button class="button quiet app-name" aria-haspopup="dialog" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}><span class="cut">${title(app)}</span><span class="dim" aria-hidden="true">▾</span></button>`
      }
      ${isOpen && html`<${List} apps=${apps} app=${app} title=${title} onClose=${() => setOpen(false)} />`}
    </div>
    <span class=${`app-state state-${app.state}`}>${app.state}</span><span class="app-version">${app.version}</span>
  `;
}

function List({ apps, app, title, onClose }) {
  const [text, setText] = useState("");
  const frame = useRef(null);
  const found = apps.filter((each) => title(each).includes(text.trim().toLowerCase()));
  const choose = (each) => {
    onClose();
    setQuery({ app: appId(each), node: undefined, seam: undefined, span: undefined, request: undefined }, false);
  };
  useEffect(() => {
    frame.current.querySelector("input").focus();
    const outside = (event) => !frame.current?.parentElement.contains(event.target) && onClose();
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, []);
  const press = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") onClose();
    else if (event.key === "Enter" && event.target.matches("input") && found[0]) choose(found[0]);
    else if (step) {
      const places = [...frame.current.querySelectorAll("input, li button")];
      places[places.indexOf(document.activeElement) + step]?.focus();
    } else return;
    event.preventDefault();
  };
  return html`
    <div class="picker-list" ref=${frame} role="dialog" aria-label="Choose an app" onKeyDown=${press}>
      <label class="field wide"><span><${Icon} name="search" /><span class="hidden">Search apps</span></span>
        <input placeholder=${`Search ${number(apps.length)} apps`} autocomplete="off" spellcheck=${false} value=${text} onInput=${(event) => setText(event.currentTarget.value)} /></label>
      <ul>
        ${found.slice(0, SHOWN_MAX).map(
          (each) => html`
          <li key=${appId(each)}><button aria-current=${each === app} onClick=${() => choose(each)}><span class="cut">${title(each)}</span><span class=${`app-state state-${each.state}`}>${each.state}</span></button></li>
        `,
        )}
      </ul>
      ${found.length > SHOWN_MAX && html`<p class="dim">${number(found.length - SHOWN_MAX)} more</p>`}
      ${found.length === 0 && html`<p class="dim">No app has this name.</p>`}
    </div>
  `;
}
