// Answers a request with an instance of the group.

import { cookieHeader, setCookies, withoutStrict } from "./cookies.js";
import { description } from "./description.js";
import { methodOf, Fields, Request as GroupRequest } from "./http.js";
import { giveBack, take } from "./instance.js";
import { refreshSession, session } from "./session.js";
import { bytesOf } from "./wasi.js";

/** The methods of requests that have no effect, so that they can run again, and the server can answer them if the tab fails. */
export const SAFE_METHODS = new Set(["GET", "HEAD"]);

/** The number of bytes that are read at once from the body of a response. */
const CHUNK_BYTES = 65536;

/** The field that tells tests and users that the tab has answered. */
const ANSWERED_BY = ["isomer-answered-by", "tab"];

/** The fields of a response that only a connection has. */
const CONNECTION_FIELDS = new Set(["connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

/** The content type of streams of server-sent events, which may take longer than other responses. */
const EVENT_STREAM = "text/event-stream";

/** The statuses of responses without a body. */
const WITHOUT_BODY = new Set([101, 204, 205, 304]);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The error of a request whose body is too large. */
export class BodyTooLarge extends Error {}

/** The error of a request that was not answered before its deadline. */
export class DeadlinePassed extends Error {}

/** The error of a request that the server has refused to serve for this session. The request can be repeated. */
export class SessionOutdated extends Error {}

/** The error of a request that needs a revision which the server no longer runs. The server can answer the request. */
export class RevisionEnded extends Error {}

/**
 * Returns the body of a request, so that it can be answered more than once.
 *
 * @param {Request} request
 * @param {{ component: string }} handler
 */
export async function readBody(request, handler) {
  if (SAFE_METHODS.has(request.method)) return undefined;
  const body = new Uint8Array(await request.arrayBuffer());
  if (body.length > description.limits[handler.component].body_bytes) throw new BodyTooLarge("the request's body is too large");
  return body;
}

/**
 * Answers a request. The response's body may still arrive when the response is returned; `done` is fulfilled when it is complete.
 *
 * @param {Request} request
 * @param {Uint8Array | undefined} body the result of `readBody`
 * @param {{ export: string, component: string }} handler the handler that serves the request's path
 * @param {import("./request.js").RequestContext} context
 * @returns {Promise<{ response: Response, done: Promise<void> }>}
 */
export async function respond(request, body, handler, context) {
  const limits = description.limits[handler.component];
  const url = new URL(request.url);
  const current = await ownSession();
  context.imageBytesMax = current.limits.image_bytes_max;
  const received = await groupRequest(request, body, url, current);
  const instance = await take(current);
  instance.request = context;
  const exchange = new Exchange(instance, context, request.signal);
  try {
    const answer = await exchange.race(instance.exports[handler.export].handle(received));
    // A component can hide that a call failed, and return a page without the call's result.
    const refusal = refusalOf(request, context);
    if (refusal) throw refusal;
    const headers = await responseHeaders(answer, current, url, context);
    if (headers.get("content-type")?.startsWith(EVENT_STREAM)) exchange.extend(limits.stream_ms);
    const isOmitted = request.method === "HEAD" || WITHOUT_BODY.has(answer.status);
    const content = bodyOf(answer, exchange, isOmitted);
    return { response: new Response(content, { status: answer.status, headers }), done: exchange.done };
  } catch (error) {
    exchange.end(false);
    throw refusalOf(request, context) ?? error;
  }
}

/** Returns why the answer of the tab is not used, although nothing is wrong with the request; `null` if it is used. */
function refusalOf(request, context) {
  if (context.hasEffects && !SAFE_METHODS.has(request.method)) return null;
  if (context.isRevisionEnded) return new RevisionEnded("the server no longer runs this revision");
  return context.isSessionOutdated ? new SessionOutdated("the session has changed") : null;
}

/** A request that an instance answers, until the instance is no longer used. */
class Exchange {
  constructor(instance, context, signal) {
    this.instance = instance;
    this.context = context;
    this.signal = signal;
    this.isEnded = false;
    /** Fulfilled when the instance is no longer used. @type {Promise<void>} */
    this.done = new Promise((resolve) => {
      this.finish = resolve;
    });
    /** Rejected when the request fails from the outside: it was cancelled, or its deadline has passed. @type {Promise<never>} */
    this.failed = new Promise((_, reject) => {
      this.fail = (error) => {
        reject(error);
        // Perhaps nothing reads the body, so this may be the only place that notices.
        this.end(false);
      };
    });
    this.failed.catch(() => {});
    this.cancel = () => this.fail(new DOMException("the request was cancelled", "AbortError"));
    signal.addEventListener("abort", this.cancel, { once: true });
    this.extend(context.deadline - performance.now());
    if (signal.aborted) this.cancel();
  }

  /** Lets the request fail after this time. */
  extend(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fail(new DeadlinePassed("the request was not answered before its deadline")), ms);
  }

  /** Returns the result of `promise`, unless the request fails before. */
  race(promise) {
    return Promise.race([promise, this.failed]);
  }

  /** Returns the instance to the pool, or discards it. */
  end(isReusable) {
    if (this.isEnded) return;
    this.isEnded = true;
    clearTimeout(this.timer);
    this.signal.removeEventListener("abort", this.cancel);
    if (!isReusable) this.context.end.abort();
    giveBack(this.instance, isReusable);
    this.finish();
  }
}

/** Returns the session with the configuration of this revision. The stored report may be that of an earlier one. */
async function ownSession() {
  const found = await session();
  return found.revision === description.plan ? found : refreshSession();
}

/** Returns a request of `wasi:http` with the fields that the server's copy of the component would receive. */
async function groupRequest(request, body, url, current) {
  const fields = new Map([...request.headers].filter(([name]) => name !== "cookie"));
  fields.set("host", url.host);
  const referrer = URL.canParse(request.referrer) ? new URL(request.referrer) : null;
  if (referrer) fields.set("referer", referrer.href);
  fields.set("sec-fetch-mode", request.mode);
  fields.set("sec-fetch-dest", request.destination || "empty");
  // Without a referrer, the visitor may have typed the address, or another site may hide itself: only the latter must not be mistaken.
  const isOwn = request.mode !== "navigate" || referrer?.origin === url.origin;
  fields.set("sec-fetch-site", isOwn ? "same-origin" : "cross-site");
  if (body) {
    fields.set("origin", url.origin);
    fields.set("content-length", String(body.length));
  }
  const all = await cookieHeader(current);
  const cookies = isOwn ? all : await withoutStrict(all);
  if (cookies) fields.set("cookie", cookies);
  const headers = new Fields([...fields].map(([name, value]) => [name, encoder.encode(value)]), true);
  const received = new GroupRequest(headers, body);
  received.method = methodOf(request.method);
  received.path = url.pathname + url.search;
  received.scheme = { tag: url.protocol === "https:" ? "HTTPS" : "HTTP" };
  received.authority = url.host;
  return received;
}

/** Sets the response's cookies, and returns its other fields. */
async function responseHeaders(answer, current, url, context) {
  const headers = new Headers();
  const cookies = [];
  for (const [name, value] of answer.headers.copyAll()) {
    const text = decoder.decode(value);
    if (name === "set-cookie") cookies.push(text);
    else if (!CONNECTION_FIELDS.has(name)) headers.append(name, text);
  }
  headers.set(...ANSWERED_BY);
  if (cookies.length > 0) {
    context.hasEffects = true;
    await setCookies(cookies, current, url);
  }
  return headers;
}

/** Returns the body of a response. The exchange ends when the body is complete. */
function bodyOf(answer, exchange, isOmitted) {
  const complete = async () => {
    // If the trailers are not read, the component waits for ever for their reader.
    await exchange.race(answer.trailers);
    answer.reportSent();
    exchange.end(true);
  };
  if (!answer.contents || isOmitted) {
    if (answer.contents) exchange.end(false);
    else complete().catch(() => exchange.end(false));
    return null;
  }
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await exchange.race(answer.contents.read({ count: CHUNK_BYTES }));
        if (value !== undefined) controller.enqueue(bytesOf(value));
        if (!done) return;
        controller.close();
        await complete();
      } catch (error) {
        exchange.end(false);
        controller.error(error);
      }
    },
    cancel: () => exchange.end(false),
  });
}
