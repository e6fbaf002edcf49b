// The metrics of an app over time, recorded while the dashboard is open.

import { useEffect, useState } from "../vendor/preact.js";
import { ApiError, call, withQuery } from "./api.js";
import { report } from "./live.js";
import { snapshot } from "./metrics-model.js";

/** The interval in milliseconds between two snapshots. */
const EVERY_MS = 2000;

/** The maximum number of snapshots: half an hour. */
const SNAPSHOTS_MAX = 900;

/** @typedef {import("./metrics-model.js").Snapshot} Snapshot */

/** The recording of the app that is shown. It continues when the person opens another page. */
const recording = {
  base: "",
  snapshots: /** @type {Snapshot[]} */ ([]),
  error: /** @type {any} */ (undefined),
  listeners: new Set(),
  timer: 0,
};

async function record(app) {
  clearTimeout(recording.timer);
  if (recording.base !== app.base) return;
  if (!document.hidden) {
    try {
      const response = await call(app.isOnly ? "/v1/metrics" : withQuery("/v1/metrics", { tenant: app.tenant, app: app.name }));
      if (recording.base !== app.base) return;
      recording.snapshots = [...recording.snapshots, snapshot(response, app, Date.now())].slice(-SNAPSHOTS_MAX);
      recording.error = undefined;
    } catch (error) {
      if (recording.base !== app.base) return;
      report(error);
      recording.error = error;
    }
    recording.listeners.forEach((listener) => listener({}));
    if (recording.error instanceof ApiError && (recording.error.isEnded || recording.error.status === 404)) return;
  }
  recording.timer = setTimeout(() => record(app), EVERY_MS);
}

/** Returns the snapshots of the app's metrics so far. @param {any} app */
export function useHistory(app) {
  const [, update] = useState({});
  useEffect(() => {
    recording.listeners.add(update);
    if (recording.base !== app.base) {
      Object.assign(recording, { base: app.base, snapshots: [], error: undefined });
      record(app);
    }
    return () => recording.listeners.delete(update);
  }, [app.base]);
  const isCurrent = recording.base === app.base;
  return { snapshots: isCurrent ? recording.snapshots : [], error: isCurrent ? recording.error : undefined };
}

/** Returns the newest snapshot, and the one about `seconds` before it. @param {Snapshot[]} snapshots @param {number} seconds */
export function window(snapshots, seconds) {
  const after = snapshots.at(-1);
  const before = after && snapshots.find((one) => one.at >= after.at - seconds * 1000);
  return { before, after, seconds: after && before ? (after.at - before.at) / 1000 : 0 };
}
