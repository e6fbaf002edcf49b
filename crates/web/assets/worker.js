// The service worker: it answers the app's requests with the group's components, or lets the server answer.

import { revisionEnded } from "./calls.js";
import { description } from "./description.js";
import { CallFailure } from "./frame.js";
import { compileModules, MODULE_CACHE, MODULE_CACHE_PREFIX, prepare, storeModules, TooManyRequests } from "./instance.js";
import { flushed, logLine } from "./logs.js";
import { RequestContext } from "./request.js";
import { BodyTooLarge, DeadlinePassed, readBody, respond, RevisionEnded, SAFE_METHODS, SessionOutdated } from "./respond.js";
import { markSessionOutdated, refreshSession, session } from "./session.js";

/** The prefix of the paths that the server answers itself. */
const RESERVED_PREFIX = "/_isomer/";

/** The message with which a worker lets the next one take over. */
const TAKE_OVER = "isomer-take-over";

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
/** Whether the server no longer runs the revision of this worker. Then the server answers all requests. */
let isRevisionEnded = false;
/** Whether the server has answered a request since the last page of the tab, so that it may have started another session. */
let isSessionUncertain = false;
revisionEnded.addEventListener("end", () => {
  isRevisionEnded = true;
  self.registration.update().catch(() => {});
});

async function install() {
  if (!isSupported) throw new Error("this browser cannot suspend WebAssembly, or has no store for cookies");
  // A tab that the server refuses stays with the server: without a session, no form could be sent. Each page tries again, so
  // this is found out before anything large is loaded.
  if (!self.registration.active) await refreshSession();
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
  if (url.origin !== location.origin || url.pathname.startsWith(RESERVED_PREFIX)) return;
  const isNavigation = request.mode === "navigate";
  const handler = handlerFor(request, url);
  if (!handler) {
    // The response may start another session, after a login for example.
    if (isNavigation || !SAFE_METHODS.has(request.method)) {
      isSessionUncertain = true;
      event.waitUntil(markSessionOutdated());
    }
    return;
  }
  if (isNavigation && isSessionUncertain) {
    // Another tab's request may have asked for the session before the server's response had arrived.
    isSessionUncertain = false;
    event.waitUntil(markSessionOutdated());
  }
  const answered = respondOrFallBack(request, handler);
  event.respondWith(answered.then(({ response }) => response));
  event.waitUntil(answered.then(({ done }) => done).then(flushed).catch(() => {}));
}

/** Returns the handler that answers a request in the tab, or `null` if the server answers the request. */
function handlerFor(request, url) {
  if (request.mode === "navigate") {
    // Another page may have sent this request. Only the server can tell, from the fields and cookies that the browser sends with it.
    // The same holds for frames: a component may refuse those of other sites.
    const isHarmless = SAFE_METHODS.has(request.method) && request.destination === "document";
    if (!isHarmless && !isFromOwnPage(request, url)) return null;
    if (self.registration.waiting) {
      // A new revision is ready. The server's copy of it answers this navigation, and its worker answers the next requests.
      self.registration.waiting.postMessage(TAKE_OVER);
      return null;
    }
  }
  if (isRevisionEnded || request.headers.has("range") || request.cache === "only-if-cached") return null;
  return handlerOf(url.pathname);
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

/**
 * Answers a request in the tab. If that fails, and if the request has no effect, or has had none until then, the server answers it.
 */
async function respondOrFallBack(request, handler) {
  // The body can be read once, and the server may have to read it.
  const forServer = request.clone();
  const { request_ms: allowedMs } = description.limits[handler.component];
  let context = new RequestContext(allowedMs);
  try {
    const body = await readBody(request, handler);
    try {
      return await respond(request, body, handler, context);
    } catch (error) {
      if (!(error instanceof SessionOutdated)) throw error;
      // The visitor has logged in or out in another way.
      await refreshSession();
      context = new RequestContext(allowedMs);
      return await respond(request, body, handler, context);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    report(request, handler, error);
    if (SAFE_METHODS.has(request.method) || !context.hasEffects) {
      try {
        const response = await fetch(forServer);
        return { response, done: markSessionOutdated() };
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
  const isExpected = [BodyTooLarge, CallFailure, RevisionEnded, TooManyRequests].some((kind) => error instanceof kind) || !navigator.onLine;
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
