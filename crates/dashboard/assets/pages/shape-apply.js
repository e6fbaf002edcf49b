// Applies another shape to the running app, and shows the progress.

import { html, useCallback, useEffect, useState } from "../vendor/preact.js";
import { call } from "../lib/api.js";
import { useStream } from "../lib/live.js";
import { Failure } from "../lib/parts.js";

/** The maximum number of lines of progress that are shown. */
const LINES_MAX = 6;

/** @param {{app: any, comparison: any, manifest: string, isApplying: boolean, setApplying: (value: boolean) => void, onDone: (report: any) => void}} props */
export function Apply({ app, comparison, manifest, isApplying, setApplying, onDone }) {
  const { from, to, problems } = comparison;
  const [error, setError] = useState(undefined);
  const apply = async () => {
    setApplying(true);
    setError(undefined);
    try {
      const report = await call(`${app.base}/reshape`, { method: "POST", body: { shape: to } });
      setApplying(false);
      onDone({ shape: to, ...report });
    } catch (caught) {
      setError(caught);
      setApplying(false);
    }
  };
  if (!to) {
    return html`
      <div class="custom card">
        <p>The manifest defines no shape like this. To apply it, add these lines to <code>isomer.toml</code>, and ${app.isOnly ? "start the app again" : "deploy the app"}:</p>
        <pre class="command">${manifest}</pre>
      </div>
    `;
  }
  if (to === from) return html`<p class="dim">This is the shape in which the app runs.</p>`;
  return html`
    <div class="apply">
      <button class="button primary" disabled=${isApplying || problems.length > 0} onClick=${apply}>${isApplying ? "Changing the shape…" : `Run as ${to}`}</button>
      <span class="dim">The new arrangement starts next to the old one and takes over; requests in flight finish. If it does not start, nothing changes.</span>
    </div>
    ${isApplying && html`<${Progress} app=${app} />`}
    ${error && html`<${Failure} error=${error} /><p class="dim">The app still runs in the shape <code>${from}</code>.</p>`}
  `;
}

/** The messages of the platform about the app, and the time since the start. */
function Progress({ app }) {
  const [lines, setLines] = useState([]);
  const [seconds, setSeconds] = useState(0);
  const receive = useCallback((arrived) => {
    const own = arrived.filter((line) => line.stream === "node").map((line) => line.text);
    setLines((before) => [...before, ...own].slice(-LINES_MAX));
  }, []);
  useStream(`${app.base}/logs?lines=0&follow=true`, receive);
  useEffect(() => {
    const began = Date.now();
    const timer = setInterval(() => setSeconds((Date.now() - began) / 1000), 200);
    return () => clearInterval(timer);
  }, []);
  return html`
    <div class="progress card" role="status">
      <span class="live on">starting the new arrangement</span><span class="dim number">${seconds.toFixed(1)} s</span>
      ${lines.map((line, index) => html`<p key=${index} class="dim">${line}</p>`)}
    </div>
  `;
}
