// The frames of calls and replies, as `docs/reference/wire.md` describes them.

/** The version of both kinds of heads. */
const VERSION = 2;

/** The size of a call's head without the trace context, in bytes. */
const CALL_HEAD_BYTES = 56;

/** The size of a reply's head in bytes. */
const REPLY_HEAD_BYTES = 8;

/** The maximum size of the image of a result in bytes. The server states the maximum of arguments. */
const IMAGE_BYTES_MAX = 16 << 20;

/** The maximum length of a failure's reason in bytes. */
const REASON_BYTES_MAX = 4096;

/** The cases of `call-error`. On the wire, they are numbered from 1. */
const CALL_ERRORS = ["unreachable", "deadline", "overloaded", "refused"];

/** The failure of a call. */
export class CallFailure extends Error {
  /**
   * @param {"trap" | "lost"} kind
   * @param {string} reason
   * @param {{ error?: string, hasNotRun?: boolean }} details `error` is a case of `call-error`.
   */
  constructor(kind, reason, { error = undefined, hasNotRun = false } = {}) {
    super(kind === "trap" ? `the callee trapped: ${reason}` : reason);
    this.kind = kind;
    this.error = error;
    this.hasNotRun = hasNotRun;
  }
}

/** Returns the failure of a call that ended without a result. */
export function lost(error, reason, hasNotRun = false) {
  return new CallFailure("lost", reason, { error, hasNotRun });
}

/**
 * Returns the frame of a call.
 *
 * @param {{ key: Uint8Array, plan: Uint8Array, remainingMs: number, request: bigint, traceparent: string, image: Uint8Array, imageBytesMax: number }} call
 */
export function encodeCall({ key, plan, remainingMs, request, traceparent, image, imageBytesMax }) {
  if (image.length > imageBytesMax) {
    throw lost("refused", `the arguments have ${image.length} bytes, at most ${imageBytesMax} are allowed`, true);
  }
  const trace = new TextEncoder().encode(traceparent);
  const frame = new Uint8Array(CALL_HEAD_BYTES + trace.length + image.length);
  const view = new DataView(frame.buffer);
  view.setUint8(0, VERSION);
  view.setUint16(2, trace.length, true);
  view.setUint32(4, image.length, true);
  view.setBigUint64(8, BigInt(Math.max(0, Math.floor(remainingMs * 1000))), true);
  frame.set(key, 16);
  frame.set(plan, 32);
  view.setBigUint64(48, request, true);
  frame.set(trace, CALL_HEAD_BYTES);
  frame.set(image, CALL_HEAD_BYTES + trace.length);
  return frame;
}

/**
 * Returns the image of a reply's result. Throws the failure that the reply represents. A reply that is not a valid frame is the
 * failure `refused`.
 *
 * @param {Uint8Array} frame
 */
export function decodeReply(frame) {
  const invalid = (reason) => lost("refused", `malformed reply frame: ${reason}`);
  if (frame.length < REPLY_HEAD_BYTES) throw invalid(`it has ${frame.length} bytes`);
  const [version, status, error, hasNotRun] = frame;
  if (version !== VERSION) throw invalid(`it has version ${version}, not ${VERSION}`);
  const body = frame.subarray(REPLY_HEAD_BYTES);
  const bytes = new DataView(frame.buffer, frame.byteOffset).getUint32(4, true);
  if (body.length !== bytes) throw invalid(`its body has ${body.length} bytes instead of ${bytes}`);
  if (error > CALL_ERRORS.length) throw invalid(`${error} is not the number of an error`);
  if (hasNotRun > (status === 2 ? 1 : 0)) throw invalid(`the value ${hasNotRun} is invalid`);
  if (status === 0 && error === 0) {
    if (bytes > IMAGE_BYTES_MAX) throw invalid(`the image has ${bytes} bytes`);
    return body;
  }
  if (bytes > REASON_BYTES_MAX) throw invalid(`the reason has ${bytes} bytes`);
  const reason = new TextDecoder().decode(body);
  if (status === 1) throw new CallFailure("trap", reason, { error: CALL_ERRORS[error - 1] });
  if (status === 2 && error > 0) throw lost(CALL_ERRORS[error - 1], reason, hasNotRun === 1);
  throw invalid(`status ${status} with error ${error} is invalid`);
}
