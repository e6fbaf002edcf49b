// The visitor's session, as the server reports it: the identity, and the public configuration of the components.
//
// The report is stored, so that a worker which was stopped starts without asking the server, also without a connection. A stored
// report may be outdated: the server may have started another session for a request that it answered itself, or another browser
// window may have done so. In the first case, the worker marks the report. In the second case, the server refuses calls. In both
// cases, the worker asks again.

import { endsRevision } from "./calls.js";
import { description } from "./description.js";

/** The URL that returns the report. */
const SESSION_URL = "/_isomer/session";

/** The name of the cache that contains the report, and the mark. */
const SESSION_CACHE = "isomer-session";

/** The key of the mark in the cache. */
const MARK_URL = `${SESSION_URL}?outdated`;

/** @typedef {{ identity: string, revision: string, cookie: string | null, config: Record<string, Record<string, string>> }} Session */

/** The report, as long as nothing indicates that it is outdated. @type {Promise<Session> | null} */
let current = null;
/** @type {Promise<Session> | null} */
let refreshing = null;
/** Whether the stored report is marked. The mark in the cache is written later. */
let isMarked = false;
/** The number of times that the report was marked. */
let marks = 0;

/** Returns the session. */
export async function session() {
  const found = (current ??= find());
  try {
    return await found;
  } catch (error) {
    if (current === found) current = null;
    throw error;
  }
}

/** Asks the server for the session, and stores its report. */
export function refreshSession() {
  const asked = refresh();
  asked.catch(() => {
    if (current === asked) current = null;
  });
  current = asked;
  return asked;
}

/** Marks the stored report, because the server may have started another session. */
export async function markSessionOutdated() {
  isMarked = true;
  marks += 1;
  current = null;
  refreshing = null;
  const cache = await caches.open(SESSION_CACHE);
  await cache.put(MARK_URL, new Response());
}

/** Returns the stored report, or asks the server if there is none or if it is marked. */
async function find() {
  const cache = await caches.open(SESSION_CACHE);
  const stored = await (await cache.match(SESSION_URL))?.json();
  const isOutdated = isMarked || (await cache.match(MARK_URL)) !== undefined;
  if (stored && !isOutdated) return stored;
  try {
    return await refresh();
  } catch (error) {
    // Without a connection (`fetch` throws a `TypeError`), the report is used, but only for this request.
    if (!stored || !(error instanceof TypeError)) throw error;
    current = null;
    return stored;
  }
}

/** Asks the server. Requests at the same time share the report. */
function refresh() {
  if (!refreshing) {
    const asked = ask().finally(() => {
      if (refreshing === asked) refreshing = null;
    });
    refreshing = asked;
  }
  return refreshing;
}

async function ask() {
  const marksBefore = marks;
  const request = { method: "POST", body: "{}", headers: { "content-type": "application/json" } };
  const headers = { ...request.headers, "isomer-revision": description.plan };
  const response = await fetch(SESSION_URL, { ...request, headers, credentials: "same-origin", cache: "no-store", redirect: "manual" });
  endsRevision(response, "application/json");
  if (!response.ok) throw new Error(`the server reports no session (status ${response.status})`);
  return save(response, marksBefore);
}

/** Stores the report in a response of the server, and uses it from now on. */
export function storeSession(response) {
  current = save(response, marks);
  return current;
}

async function save(response, marksBefore) {
  const copy = response.clone();
  const report = await response.json();
  // A report from before the last mark may be outdated, too.
  if (marksBefore !== marks) return report;
  const cache = await caches.open(SESSION_CACHE);
  await cache.put(SESSION_URL, copy);
  if (marksBefore !== marks) return report;
  isMarked = false;
  await cache.delete(MARK_URL);
  return report;
}
