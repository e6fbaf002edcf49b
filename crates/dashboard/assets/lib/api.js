// Requests to the admin API, with the rights of the browser's session.

/** The key in the local storage under which the key of the session is stored. */
const KEY = "isomer-dashboard-key";

/** The maximum number of characters of an incomplete line of a stream. */
const LINE_CHARS_MAX = 1 << 20;

/** An error of a request: the problem that the server reported, or a failure of the connection. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, hint?: string, detail?: string}} [more]
   */
  constructor(message, { status = 0, hint = "", detail = "" } = {}) {
    super(message);
    this.status = status;
    this.hint = hint;
    this.detail = detail;
  }

  /** Whether the session has ended. */
  get isEnded() {
    return this.status === 401;
  }
}

/** Whether this browser has, or had, a session. */
export const hasKey = () => localStorage.getItem(KEY) !== null;

/**
 * Exchanges a one-time code for a session.
 * @param {string} code
 */
export async function openSession(code) {
  const headers = { "x-isomer-dashboard-code": code };
  const response = await send("/dashboard/session", { method: "POST", headers });
  localStorage.setItem(KEY, (await response.json()).key);
}

/** Ends the session. */
export async function endSession() {
  await call("/dashboard/session", { method: "DELETE" }).catch(() => {});
  localStorage.removeItem(KEY);
}

/**
 * Sends a request and returns the JSON of the response.
 * @param {string} path
 * @param {{method?: string, body?: unknown, signal?: AbortSignal}} [options]
 */
export async function call(path, { method = "GET", body, signal } = {}) {
  const headers = keyHeaders();
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await send(path, { method, headers, signal, body: body && JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
}

/** Sends bytes. @param {string} path @param {ArrayBuffer} body */
export async function upload(path, body) {
  await send(path, { method: "PUT", body, headers: { ...keyHeaders(), "content-type": "application/octet-stream" } });
}

/**
 * Yields the objects of a stream with one JSON object per line.
 * @param {string} path
 * @param {AbortSignal} signal
 */
export async function* lines(path, signal) {
  const response = await send(path, { headers: keyHeaders(), signal });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      if (rest.length > LINE_CHARS_MAX) throw new ApiError("a line of the stream is too long");
      for (const part of parts) {
        const text = part.replace(/^data: ?/, "");
        if (text.startsWith("{")) yield JSON.parse(text);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Returns a path with a query, without absent and empty values.
 * @param {string} path
 * @param {Record<string, unknown>} query
 */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

/** @returns {Record<string, string>} */
function keyHeaders() {
  return { "x-isomer-dashboard-key": localStorage.getItem(KEY) ?? "" };
}

/** @param {string} path @param {RequestInit} init */
async function send(path, init) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", redirect: "error", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("The process does not respond.", { hint: "Check that it is still running." });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const { title = `the server responded with status ${response.status}`, hints = [], detail } = problem;
  throw new ApiError(title, { status: response.status, hint: hints.join("; "), detail });
}
