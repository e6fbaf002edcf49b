// Recording the next requests, whatever the sampling policy of the app.

import { html, useState } from "../vendor/preact.js";
import { call } from "../lib/api.js";
import { Dialog, Failure } from "../lib/parts.js";

/** The maximum number of requests of an order, as in the API. */
const REQUESTS_MAX = 1000;

/** @param {{app: any, onClose: () => void}} props */
export function TraceOrder({ app, onClose }) {
  const [requests, setRequests] = useState("5");
  const [path, setPath] = useState("");
  const [state, setState] = useState({ isBusy: false, error: undefined });
  const confirm = async () => {
    setState({ isBusy: true, error: undefined });
    try {
      await call(`${app.base}/trace-orders`, { method: "POST", body: { path: path.trim(), requests: Number(requests) } });
      onClose();
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`
    <${Dialog} title="Record the next requests" confirm="Record" isBusy=${state.isBusy} onConfirm=${confirm} onClose=${onClose}>
      <p>The next requests are recorded in full, with the calls between fused components.</p>
      <label class="field wide"><span>Requests</span><input type="number" min="1" max=${REQUESTS_MAX} value=${requests} onInput=${(event) => setRequests(event.currentTarget.value)} /></label>
      <label class="field wide"><span>Path</span><input placeholder="all paths" spellcheck=${false} value=${path} onInput=${(event) => setPath(event.currentTarget.value)} /></label>
      <${Failure} error=${state.error} />
    </${Dialog}>
  `;
}
