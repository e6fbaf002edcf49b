// The frame around all pages: navigation, the choice of the app, the theme, and keys.

import { html, useEffect, useState } from "./vendor/preact.js";
import { endSession } from "./lib/api.js";
import { AppPicker, appId } from "./lib/app-picker.js";
import { useData } from "./lib/live.js";
import { Command, Empty, Failure, Icon, Loading } from "./lib/parts.js";
import { Link, go, pageOf, useRoute } from "./lib/router.js";
import { Data } from "./pages/data.js";
import { Deployments } from "./pages/deployments.js";
import { Logs } from "./pages/logs.js";
import { MapPage } from "./pages/map.js";
import { Metrics } from "./pages/metrics.js";
import { Shape } from "./pages/shape.js";
import { Tenants } from "./pages/tenants.js";
import { Traces } from "./pages/traces.js";

/** The pages, each with the key that follows `g` to open it. */
const PAGES = [
  { id: "map", title: "Map", key: "m", page: MapPage },
  { id: "traces", title: "Traces", key: "t", page: Traces },
  { id: "logs", title: "Logs", key: "l", page: Logs },
  { id: "charts", title: "Metrics", key: "c", page: Metrics },
  { id: "data", title: "Data", key: "b", page: Data },
  { id: "shape", title: "Shape", key: "s", page: Shape },
  { id: "deployments", title: "Deployments", key: "d", page: Deployments },
  { id: "tenants", title: "Tenants", key: "n", page: Tenants },
];

const THEMES = { system: "light", light: "dark", dark: "system" };
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" };

/** The interval in milliseconds at which the list of apps is read. */
const APPS_EVERY_MS = 10_000;

/** @typedef {import("./lib/app-picker.js").App} App */

export function Shell() {
  const route = useRoute();
  const { data: list, error, reload } = useData("/v1/apps", APPS_EVERY_MS);
  const [isHelpShown, showHelp] = useState(false);
  useKeys(() => showHelp((shown) => !shown));
  const apps = list?.map((app) => ({ ...app, isOnly: list.length === 1, base: `/v1/tenants/${app.tenant}/apps/${app.name}` }));
  const app = apps?.find((app) => appId(app) === route.query.app) ?? apps?.[0];
  const current = PAGES.find((page) => page.id === route.page) ?? PAGES[0];
  useEffect(() => {
    document.title = app ? `${current.title} · ${app.name} · Isomer` : `${current.title} · Isomer`;
  }, [current, app?.name]);
  useEffect(() => {
    // On a narrow screen, the list of pages is scrolled.
    document.querySelector(".sidebar [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  }, [current]);
  return html`
    <a class="skip" href="#page">Skip to the content</a>
    <div class="shell">
      <nav class="sidebar" aria-label="Pages">
        <div class="brand"><img src="/assets/icon.svg" alt="" width="24" height="24" /><span>Isomer</span></div>
        <ul>
          ${PAGES.map(
            (page) => html`
              <li key=${page.id}>
                <${Link} href=${pageOf(`/${page.id}`)} aria-current=${page === current ? "page" : undefined}>
                  <${Icon} name=${page.id} /><span>${page.title}</span><kbd aria-hidden="true">g ${page.key}</kbd>
                </${Link}>
              </li>
            `,
          )}
        </ul>
        <div class="sidebar-foot">
          <button class="button quiet" onClick=${() => showHelp(true)}><${Icon} name="keyboard" /><span>Keys</span></button>
          <button class="button quiet" onClick=${signOut}><${Icon} name="out" /><span>Sign out</span></button>
        </div>
      </nav>
      <header class="topbar">
        <h1>${current.title}</h1>
        <${AppPicker} apps=${apps} app=${app} />
        <${ThemeSwitch} />
      </header>
      <main id="page" class="page" tabindex="-1">
        ${error && html`<${Failure} error=${error} retry=${reload} />`}
        ${app ? html`<${current.page} key=${appId(app)} app=${app} route=${route} />` : !error && html`<${NoApp} apps=${apps} />`}
      </main>
      ${isHelpShown && html`<${Help} onClose=${() => showHelp(false)} />`}
    </div>
  `;
}

/** @param {{apps?: App[]}} props */
const NoApp = ({ apps }) =>
  apps
    ? html`
        <${Empty} icon="deployments" title="No app yet">
          <p>An app that <code>isomer run</code> or <code>isomer dev</code> serves appears here as soon as it is ready.</p>
          <p>On a node, deploy one from its folder:</p>
          <${Command} text="isomer deploy" />
        </${Empty}>
      `
    : html`<${Loading} />`;

function ThemeSwitch() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "system");
  const change = () => {
    const next = THEMES[theme];
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("isomer-theme");
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem("isomer-theme", next);
    }
    setTheme(next);
    dispatchEvent(new Event("isomer-theme"));
  };
  const text = `Theme: ${theme}`;
  return html`<button class="button icon-only theme" onClick=${change} aria-label=${text} title=${text}><${Icon} name=${THEME_ICONS[theme]} /></button>`;
}

async function signOut() {
  await endSession();
  dispatchEvent(new Event("isomer-session-ended"));
}

/** Opens pages with `g` and a letter, focuses the search with `/`, and shows the keys with `?`. @param {() => void} toggleHelp */
function useKeys(toggleHelp) {
  useEffect(() => {
    let isAfterG = false;
    const press = (/** @type {KeyboardEvent} */ event) => {
      const isTyping = /** @type {HTMLElement} */ (event.target).matches?.("input, select, textarea");
      if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      const page = isAfterG && PAGES.find((page) => page.key === event.key);
      isAfterG = event.key === "g";
      if (page) go(pageOf(`/${page.id}`));
      else if (event.key === "?") toggleHelp();
      else if (event.key === "/") {
        const search = /** @type {HTMLElement | null} */ (document.querySelector("[data-search]"));
        search?.focus();
        if (search) event.preventDefault();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

/** @param {{onClose: () => void}} props */
function Help({ onClose }) {
  const keys = [
    ...PAGES.map((page) => [`g ${page.key}`, `Open ${page.title}`]),
    ["/", "Search"],
    ["↑ ↓", "Move in lists and traces"],
    ["Enter", "Open"],
    ["Esc", "Close details"],
    ["?", "Show or hide the keys"],
  ];
  useEffect(() => {
    const press = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && onClose();
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  return html`
    <div class="help" role="dialog" aria-label="Keys" onClick=${onClose}>
      <dl>${keys.map(([key, text]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl>
    </div>
  `;
}
