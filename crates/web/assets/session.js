// The visitor's session, as the server reports it: the identity, and the public configuration of the components.
//
// The report is stored, so that a worker which was stopped starts without asking the server, also without a connection. A stored
// report may be outdated: then the server refuses calls, and the worker asks again.

import { description } from "./description.js";

/** The URL that returns the report. */
const SESSION_URL = "/_isomer/session";

/** The name of the cache that contains the report. */
const SESSION_CACHE = "isomer-session";

/** @typedef {{ identity: string, revision: string, cookie: string | null, config: Record<string, Record<string, string>> }} Session */

/** @type {Promise<Session> | null} */
let current = null;
/** @type {Promise<Session> | null} */
let refreshing = null;

/** Returns the session. */
export function session() {
  current ??= stored().then((found) => found ?? refreshSession());
  current.catch(() => {
    current = null;
  });
  return current;
}

/** Asks the server for the session, and stores its report. Requests at the same time share the report. */
export function refreshSession() {
  refreshing ??= ask().finally(() => {
    refreshing = null;
  });
  current = refreshing;
  return refreshing;
}

async function stored() {
  const cache = await caches.open(SESSION_CACHE);
  return (await cache.match(SESSION_URL))?.json();
}

async function ask() {
  const request = { method: "POST", body: "{}", headers: { "content-type": "application/json" } };
  const headers = { ...request.headers, "isomer-revision": description.plan };
  const response = await fetch(SESSION_URL, { ...request, headers, credentials: "same-origin", cache: "no-store", redirect: "error" });
  if (!response.ok) throw new Error(`the server reports no session (status ${response.status})`);
  return save(response);
}

/** Stores the report in a response of the server, and uses it from now on. */
export function storeSession(response) {
  current = save(response);
  return current;
}

async function save(response) {
  const cache = await caches.open(SESSION_CACHE);
  await cache.put(SESSION_URL, response.clone());
  return response.json();
}
