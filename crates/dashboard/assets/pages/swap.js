// Replaces a component of the serving revision with one from a file.

import { html, useState } from "../vendor/preact.js";
import { ApiError, call, upload } from "../lib/api.js";
import { bytes } from "../lib/format.js";
import { useData } from "../lib/live.js";
import { Dialog, Failure, Select } from "../lib/parts.js";

/** The maximum size of a component, as in the API. */
const BYTES_MAX = 256 << 20;

/** @param {{app: any, onDone: (report: any) => void, onClose: () => void}} props */
export function SwapDialog({ app, onDone, onClose }) {
  const { data: plan } = useData(`${app.base}/plan`);
  const names = (plan?.groups ?? []).flatMap((group) => group.components).sort();
  const [chosen, choose] = useState("");
  const [file, setFile] = useState(/** @type {File | undefined} */ (undefined));
  const [message, setMessage] = useState("");
  const [state, setState] = useState({ step: "", error: undefined });
  const name = chosen || names[0];
  const confirm = async () => {
    if (!file || !name) return setState({ step: "", error: new ApiError("choose the file of the new component") });
    try {
      setState({ step: "Uploading…", error: undefined });
      const digest = await store(file);
      setState({ step: "Deploying…", error: undefined });
      const body = { components: { [name]: { digest, bytes: file.size } }, ...(message.trim() && { message: message.trim() }) };
      onDone(await call(`${app.base}/swap`, { method: "POST", body }));
    } catch (error) {
      setState({ step: "", error });
    }
    return undefined;
  };
  return html`
    <${Dialog} title="Replace a component" confirm=${state.step || "Replace"} isBusy=${state.step !== ""} onConfirm=${confirm} onClose=${onClose}>
      <p>The node makes a new revision with this component, and the new revision takes over after its health check passes.</p>
      <${Select} label="Component" value=${name ?? ""} options=${names.map((each) => [each, each])} onChange=${choose} />
      <label class="file"><span class="hidden">File of the component</span><input type="file" accept=".wasm" onChange=${(event) => setFile(event.currentTarget.files[0])} />${file && html`<span class="dim">${bytes(file.size)}</span>`}</label>
      <label class="field wide"><span>Message</span><input maxlength="1000" placeholder="Why (optional)" value=${message} onInput=${(event) => setMessage(event.currentTarget.value)} /></label>
      <${Failure} error=${state.error} />
    </${Dialog}>
  `;
}

/** Uploads a file. Returns its digest. @param {File} file */
async function store(file) {
  if (file.size > BYTES_MAX) throw new ApiError("the file is larger than 256 MiB");
  if (!crypto.subtle) {
    throw new ApiError("this browser computes digests only for pages of this machine or with TLS", {
      hint: "Use `isomer swap` in a terminal.",
    });
  }
  const content = await file.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const digest = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await upload(`/v1/blobs/${digest}`, content);
  return digest;
}
