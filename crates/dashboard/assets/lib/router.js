// Reads the page and its parameters from the address, and changes the address.

import { html, useEffect, useState } from "../vendor/preact.js";
import { withQuery } from "./api.js";

/** @typedef {{page: string, rest: string[], query: Record<string, string>}} Route */

const CHANGED = "isomer-route";

/** @returns {Route} */
function read() {
  const [page = "", ...rest] = location.pathname.split("/").slice(1).map(decodeURIComponent);
  return { page: page || "map", rest, query: Object.fromEntries(new URLSearchParams(location.search)) };
}

/** Returns the current route, and renders again when it changes. */
export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const update = () => setRoute(read());
    addEventListener("popstate", update);
    addEventListener(CHANGED, update);
    return () => {
      removeEventListener("popstate", update);
      removeEventListener(CHANGED, update);
    };
  }, []);
  return route;
}

/**
 * Shows another page, or the same page with other parameters.
 * @param {string} path
 * @param {{replace?: boolean}} [options]
 */
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", path);
  dispatchEvent(new Event(CHANGED));
}

/** Changes parameters of the current page. @param {Record<string, unknown>} changes @param {boolean} [replace] */
export function setQuery(changes, replace = true) {
  go(withQuery(location.pathname, { ...read().query, ...changes }), { replace });
}

/** Returns the address of a page for the app of the current page. @param {string} path @param {Record<string, unknown>} [query] */
export function pageOf(path, query = {}) {
  return withQuery(path, { app: read().query.app, ...query });
}

/** A link to a page of the dashboard. @param {any} props */
export function Link({ href, children, ...props }) {
  const follow = (/** @type {MouseEvent} */ event) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(href);
  };
  return html`<a href=${href} onClick=${follow} ...${props}>${children}</a>`;
}
