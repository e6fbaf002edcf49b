// Hooks that read data from the API, once, regularly or as a stream.

import { useEffect, useRef, useState } from "../vendor/preact.js";
import { ApiError, call, lines } from "./api.js";

/** The pauses in milliseconds before a failed stream is opened again. The last one is repeated. */
const PAUSES = [500, 1000, 2000, 5000];

/** @template T @typedef {{data: T | undefined, error: ApiError | undefined, reload: () => void}} Loaded */

/**
 * Reads `path`, and again every `everyMs` while the page is visible. The previous data stays until the next arrives.
 * @param {string | undefined} path
 * @param {number} [everyMs]
 * @param {unknown} [body] The body of a POST request, for queries that must not be in an address.
 * @returns {Loaded<any>}
 */
export function useData(path, everyMs = 0, body = undefined) {
  const [state, setState] = useState({ request: "", data: undefined, error: undefined });
  const request = path && body !== undefined ? `${path} ${JSON.stringify(body)}` : path;
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!path) return undefined;
    const control = new AbortController();
    let timer = 0;
    const load = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      try {
        const options = body === undefined ? {} : { method: "POST", body };
        const data = await call(path, { ...options, signal: control.signal });
        if (!control.signal.aborted) setState({ request, data, error: undefined });
      } catch (error) {
        if (control.signal.aborted) return;
        report(error);
        setState((before) => ({ request, data: before.request === request ? before.data : undefined, error }));
      }
      if (everyMs) timer = setTimeout(load, everyMs);
    };
    const shown = () => everyMs && !document.hidden && load();
    document.addEventListener("visibilitychange", shown);
    load();
    return () => {
      control.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [request, everyMs, round]);
  const isCurrent = state.request === request;
  const reload = () => setRound((before) => before + 1);
  return { data: isCurrent ? state.data : undefined, error: isCurrent ? state.error : undefined, reload };
}

/**
 * Passes the objects of the stream at `path` to `receive`, in batches. Opens the stream again if it ends. Closes it while
 * the page is hidden, because a browser opens only a few connections to one server.
 * @param {string | undefined} path
 * @param {(items: any[]) => void} receive
 * @returns {{isOpen: boolean, error: ApiError | undefined}}
 */
export function useStream(path, receive) {
  const [state, setState] = useState({ isOpen: false, error: undefined });
  const latest = useRef(receive);
  latest.current = receive;
  const isHidden = useHidden();
  useEffect(() => {
    setState({ isOpen: false, error: undefined });
    if (!path || isHidden) return undefined;
    const control = new AbortController();
    let batch = [];
    let frame = 0;
    const flush = () => {
      frame = 0;
      const items = batch;
      batch = [];
      latest.current(items);
    };
    const follow = async () => {
      for (let failures = 0; !control.signal.aborted; failures++) {
        let error;
        try {
          setState({ isOpen: true, error: undefined });
          for await (const item of lines(path, control.signal)) {
            failures = 0;
            batch.push(item);
            frame ||= setTimeout(flush, 50);
          }
        } catch (caught) {
          error = caught;
        }
        if (control.signal.aborted) return;
        setState({ isOpen: false, error });
        if (error) report(error);
        if (error?.status >= 400 && error.status < 500 && error.status !== 429) return;
        await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(failures, PAUSES.length - 1)]));
      }
    };
    follow();
    return () => {
      control.abort();
      clearTimeout(frame);
    };
  }, [path, isHidden]);
  return state;
}

/** Whether the page is hidden, for example because another tab is shown. */
function useHidden() {
  const [isHidden, setHidden] = useState(document.hidden);
  useEffect(() => {
    const update = () => setHidden(document.hidden);
    document.addEventListener("visibilitychange", update);
    return () => document.removeEventListener("visibilitychange", update);
  }, []);
  return isHidden;
}

/** Tells the shell that the session has ended. @param {unknown} error */
export function report(error) {
  if (error instanceof ApiError && error.isEnded) dispatchEvent(new Event("isomer-session-ended"));
}
