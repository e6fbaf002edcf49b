// The context of a request that the group answers.

/** A request, with what its calls need. */
export class RequestContext {
  /**
   * @param {number} allowedMs the time until the request's deadline, in milliseconds
   */
  constructor(allowedMs) {
    /** The deadline, on the clock of `performance.now()`. */
    this.deadline = performance.now() + allowedMs;
    /** The id of the request, which is never 0. */
    this.id = crypto.getRandomValues(new BigUint64Array(1))[0] | 1n;
    this.trace = new TraceContext();
    this.end = new AbortController();
    /** Whether the server has refused a call because the session has changed. */
    this.isSessionOutdated = false;
    /** Whether the server has refused a call because it no longer runs the revision of this worker. */
    this.isRevisionEnded = false;
    /** The maximum size of the arguments of a call in bytes, which the server states with the session. */
    this.imageBytesMax = 0;
    /** Whether the request may have had an effect outside of the tab, so that it must not run again. */
    this.hasEffects = false;
  }

  /** The signal that ends the request's calls. */
  get signal() {
    return this.end.signal;
  }
}

/** The W3C trace context of a request. */
class TraceContext {
  constructor() {
    this.trace = hex(16);
  }

  /** Returns the value of `traceparent` for a call. The server decides whether it records the call. */
  child() {
    return `00-${this.trace}-${hex(8)}-00`;
  }
}

function hex(count) {
  return Array.from(crypto.getRandomValues(new Uint8Array(count)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
