// The service worker: it answers the app's requests with the group's components, or lets the server answer.

import { revisionEnded } from "./calls.js";
import { description } from "./description.js";
import { CallFailure } from "./frame.js";
import { compileModules, MODULE_CACHE, MODULE_CACHE_PREFIX, prepare, storeModules, TooManyRequests } from "./instance.js";
import { flushed, logLine } from "./logs.js";
import { BodyTooLarge, DeadlinePassed, readBody, respond, SessionOutdated } from "./respond.js";
import { refreshSession, session } from "./session.js";

/** The prefix of the paths that the server answers itself. */
const RESERVED_PREFIX = "/_isomer/";

/** The message with which a worker lets the next one take over. */
const TAKE_OVER = "isomer-take-over";

/** The methods of requests that have no effect, so that they can be sent to the server if the tab cannot answer them. */
const SAFE_METHODS = new Set(["GET", "HEAD"]);

const isSupported = "Suspending" in WebAssembly && "cookieStore" in self;

if (isSupported && self.registration.active) {
  // The worker was stopped, and was started for a request.
  compileModules().catch(() => {});
  session().then(prepare).catch(() => {});
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("message", (event) => {
  if (event.data === TAKE_OVER) self.skipWaiting();
});
self.addEventListener("fetch", answer);
let isRevisionEnded = false;
revisionEnded.addEventListener("end", () => {
  isRevisionEnded = true;
  self.registration.update().catch(() => {});
});

async function install() {
  if (!isSupported) throw new Error("this browser cannot suspend WebAssembly, or has no store for cookies");
  await storeModules();
  await compileModules();
  // The first worker controls the pages that are open. A later one waits for the next navigation.
  if (!self.registration.active) await self.skipWaiting();
}

async function activate() {
  const outdated = (await caches.keys()).filter((name) => name.startsWith(MODULE_CACHE_PREFIX) && name !== MODULE_CACHE);
  await Promise.all(outdated.map((name) => caches.delete(name)));
  // The stored session may have the configuration of an earlier revision.
  const current = await refreshSession().catch(session);
  await self.clients.claim();
  await prepare(current);
}

/** Decides whether the tab answers a request. If it does nothing, the browser sends the request to the server. */
function answer(event) {
  const { request } = event;
  const url = new URL(request.url);
  const handler = url.origin === location.origin && !url.pathname.startsWith(RESERVED_PREFIX) ? handlerOf(url.pathname) : null;
  if (!handler) return;
  if (request.headers.has("range") || request.cache === "only-if-cached") return;
  if (request.mode === "navigate") {
    // Another page may have sent this request. Only the server can tell, from the fields and cookies that the browser sends with it.
    // The same holds for frames: a component may refuse those of other sites.
    const isHarmless = SAFE_METHODS.has(request.method) && request.destination === "document";
    if (!isHarmless && !isFromOwnPage(request, url)) return;
    if (self.registration.waiting) {
      // A new revision is ready. The server's copy of it answers this navigation, and its worker answers the next requests.
      self.registration.waiting.postMessage(TAKE_OVER);
      return;
    }
  }
  const answered = respondOrFallBack(request, handler);
  event.respondWith(answered.then(({ response }) => response));
  event.waitUntil(answered.then(({ done }) => done).then(flushed).catch(() => {}));
}

/** Returns whether a page of this app has sent a navigation. */
function isFromOwnPage(request, url) {
  return URL.canParse(request.referrer) && new URL(request.referrer).origin === url.origin;
}

/** Returns the handler in the group that serves the path, or `null` if only the server serves it. */
function handlerOf(written) {
  const path = normal(written);
  const isServed = ({ path: route, is_prefix: isPrefix }) => path === route || (isPrefix && path.startsWith(`${route}/`));
  return description.routes.find(isServed)?.handler ?? null;
}

/** Returns a path in the notation of routes: characters that need no encoding are not encoded, and digits are in upper case. */
function normal(path) {
  return path.replace(/%[0-9a-f]{2}/gi, (code) => {
    const character = String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return /[A-Za-z0-9._~-]/.test(character) ? character : code.toUpperCase();
  });
}

async function respondOrFallBack(request, handler) {
  const isSafe = SAFE_METHODS.has(request.method);
  // The body can be read once, and the server may have to read it.
  const forServer = isSafe ? request : null;
  try {
    const body = await readBody(request, handler);
    try {
      return await respond(request, body, handler);
    } catch (error) {
      if (!(error instanceof SessionOutdated)) throw error;
      // Nothing has happened yet: the visitor has logged in or out in another way.
      await refreshSession();
      return await respond(request, body, handler);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    report(request, handler, error);
    if (forServer) {
      try {
        return { response: await fetch(forServer), done: Promise.resolve() };
      } catch {
        // There is no connection.
      }
    }
    return { response: failure(error), done: Promise.resolve() };
  }
}

/** Reports why a request failed in the tab. If the cause is the component, the app's log gets the reason, too. */
function report(request, handler, error) {
  const message = `${request.method} ${new URL(request.url).pathname} failed in the tab: ${error.message}`;
  console.debug(`isomer: ${message}`);
  const isExpected = [BodyTooLarge, CallFailure, TooManyRequests].some((kind) => error instanceof kind) || !navigator.onLine;
  if (!isExpected) logLine({ component: handler.component, level: "error", message });
}

/** Returns the page that tells the visitor that the request has failed. */
function failure(error) {
  const [status, title] = statusOf(error);
  const text = status === 503 && !isRevisionEnded ? "The server cannot be reached, or has too much to do. Try again in a moment." : "Load the page again in a moment.";
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><h1>${title}</h1><p>${text}</p></html>`;
  const headers = { "content-type": "text/html; charset=utf-8", "cache-control": "no-store", "isomer-answered-by": "tab", "content-security-policy": "default-src 'none'" };
  return new Response(page, { status, headers });
}

function statusOf(error) {
  if (isRevisionEnded) return [503, "This page has a new version"];
  if (error instanceof BodyTooLarge) return [413, "Content too large"];
  if (error instanceof DeadlinePassed) return [504, "No answer in time"];
  if (error instanceof TooManyRequests || error.error === "overloaded" || error.error === "unreachable" || !navigator.onLine) return [503, "Not available"];
  if (error.error === "deadline") return [504, "No answer in time"];
  return [500, "Something went wrong"];
}
