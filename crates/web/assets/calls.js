// Calls over the seams between the tab and the server: the functions of `isomer:link/wire`, which stubs import.

import { description } from "./description.js";
import { CallFailure, decodeReply, encodeCall, lost } from "./frame.js";
import { ValueError } from "./values.js";

/** The URL that receives calls. */
const CALL_URL = "/_isomer/call";

/** The media type of frames. It is not one that a page of another origin may send without asking. */
const MEDIA_TYPE = "application/vnd.isomer.call";

/** The maximum number of times that a call of an idempotent function is sent. */
const ATTEMPTS_MAX = 2;

/** The answers that the server gives before a call runs. A proxy may give the others after a call has run. */
const NOT_RUN = new Set([400, 401, 403, 405, 410, 413, 415, 429]);

/** The time that a reply may take beyond the deadline of its call before the call is given up, in milliseconds. */
const REPLY_GRACE_MS = 250;

/** The answers to calls whose frame the server did not read. The others have a frame as their body. */
const STATUS_ERRORS = { 408: "deadline", 413: "refused", 429: "overloaded", 503: "overloaded", 504: "deadline" };

/** The answers of a server that has no longer the revision, and of one whose app has no browser group. 0 is a redirection. */
const ENDED = new Set([0, 404, 405, 410]);

/** Receives the event `end` when the server no longer runs this revision. */
export const revisionEnded = new EventTarget();

const bytesOfHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));

const PLAN = bytesOfHex(description.plan);

/**
 * Returns the functions of `isomer:link/wire` for the stub of one component.
 *
 * @param {string} component
 * @param {{ request: import("./request.js").RequestContext | null }} instance
 */
export function wire(component, instance) {
  const functions = description.stubs[component] ?? [];
  /** The results of calls that have ended, by their tickets. */
  const results = new Map();
  const target = (number) => {
    const found = functions[number];
    if (!found) throw new Error(`the stub of ${component} has no function ${number}`);
    return found;
  };
  /** Throws a failed call as a value if the function's error type can represent it, and otherwise as a trap. */
  const fail = (called, failure) => {
    if (failure instanceof CallFailure && failure.kind === "lost" && called.catches) throw new ValueError(failure.error);
    throw failure;
  };
  return {
    async call(number, image) {
      const called = target(number);
      try {
        return await send(called, image, instance);
      } catch (failure) {
        return fail(called, failure);
      }
    },
    async begin(ticket, number, image) {
      const called = target(number);
      let result;
      try {
        result = { called, image: await send(called, image, instance) };
      } catch (failure) {
        result = { called, failure };
      }
      results.set(ticket, result);
    },
    take(ticket) {
      const result = results.get(ticket);
      if (!result) throw new Error(`no result is pending under ticket ${ticket}`);
      results.delete(ticket);
      return result.failure ? fail(result.called, result.failure) : result.image;
    },
    refuse(number) {
      throw new Error(`${target(number).seam}: the reply is not an image of the function's result`);
    },
  };
}

/** Sends a call and returns the image of its result. */
async function send(called, image, instance) {
  const request = instance.request;
  if (!request) throw new Error(`${called.seam}: a call outside of a request`);
  // The image is in the memory of the stub, which the next call overwrites.
  const copy = new Uint8Array(image);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await sendOnce(called, copy, request);
    } catch (failure) {
      const mayRepeat = failure instanceof CallFailure && failure.error === "unreachable" && (called.idempotent || failure.hasNotRun);
      if (!mayRepeat || attempt === ATTEMPTS_MAX || request.signal.aborted || !navigator.onLine) {
        failure.message = `${called.seam}: ${failure.message}`;
        throw failure;
      }
    }
  }
}

async function sendOnce(called, image, request) {
  const remainingMs = request.deadline - performance.now();
  if (remainingMs <= 0) throw lost("deadline", "the deadline of the request has passed", true);
  const traceparent = request.trace.child();
  const frame = encodeCall({ key: called.keyBytes ??= bytesOfHex(called.key), plan: PLAN, remainingMs, request: request.id, traceparent, image, imageBytesMax: request.imageBytesMax });
  const end = new AbortController();
  const abort = () => end.abort();
  request.signal.addEventListener("abort", abort, { once: true });
  const timer = setTimeout(abort, remainingMs + REPLY_GRACE_MS);
  try {
    const headers = { "content-type": MEDIA_TYPE, "isomer-revision": description.plan, traceparent };
    const options = { method: "POST", headers, body: frame, credentials: "same-origin", cache: "no-store", redirect: "manual" };
    const response = await fetch(CALL_URL, { ...options, signal: end.signal });
    const reply = new Uint8Array(await response.arrayBuffer());
    if (response.headers.get("content-type") === MEDIA_TYPE) {
      const image = decodeReply(reply);
      request.hasEffects = true;
      return image;
    }
    const failure = refusal(response, request);
    if (!request.isRevisionEnded) failure.hasNotRun = NOT_RUN.has(response.status);
    throw failure;
  } catch (error) {
    if (!(error instanceof CallFailure && error.hasNotRun)) request.hasEffects = true;
    if (error instanceof CallFailure) throw error;
    if (request.signal.aborted) throw lost("unreachable", "the request was cancelled");
    if (end.signal.aborted) throw lost("deadline", "the server has not answered before the deadline");
    throw lost("unreachable", `the server cannot be reached: ${error.message}`);
  } finally {
    clearTimeout(timer);
    request.signal.removeEventListener("abort", abort);
  }
}

/**
 * Returns whether an answer to a request of the worker shows that the server no longer runs this revision. `type` is the media type of
 * the answers that the server gives otherwise: in another shape, a component may answer any request with a page.
 */
export function endsRevision({ status, ok, headers }, type) {
  if (!ENDED.has(status) && !(ok && headers.get("content-type") !== type)) return false;
  revisionEnded.dispatchEvent(new Event("end"));
  return true;
}

/** Returns the failure of a call whose answer is not a frame. */
function refusal(response, request) {
  const { status } = response;
  const reason = `the server has answered with status ${status}`;
  if (status === 401) request.isSessionOutdated = true;
  if (endsRevision(response, MEDIA_TYPE)) {
    request.isRevisionEnded = true;
    return lost("refused", reason, true);
  }
  if (status === 502) return lost("unreachable", reason);
  return lost(STATUS_ERRORS[status] ?? "refused", reason, status !== 504 && status !== 408);
}
