// The start of the dashboard: gets a session, and shows the page that the address names.

import { html, render, useEffect, useState } from "./vendor/preact.js";
import { hasKey, openSession } from "./lib/api.js";
import { Command, Empty } from "./lib/parts.js";
import { Shell } from "./shell.js";

/** Exchanges the code in the address, if there is one, and removes it from the address. */
async function start() {
  const query = new URLSearchParams(location.search);
  const code = query.get("code");
  if (code === null) return;
  query.delete("code");
  history.replaceState(null, "", location.pathname + (query.size ? `?${query}` : ""));
  await openSession(code);
}

/** The page without a session. @param {{reason: string}} props */
const SignedOut = ({ reason }) => html`
  <main class="signed-out">
    <${Empty} icon="out" title=${reason}>
      <p>Open the dashboard from a terminal. In the folder of an app that <code>isomer run</code> or <code>isomer dev</code> serves:</p>
      <${Command} text="isomer dashboard" />
      <p>For a node, with a token of the node or of a tenant:</p>
      <${Command} text="isomer dashboard --node http://127.0.0.1:7171 --token-file FILE" />
    </${Empty}>
  </main>
`;

/** @param {{refused: string}} props */
function App({ refused }) {
  const [reason, setReason] = useState(refused || (hasKey() ? "" : "No session"));
  useEffect(() => {
    const ended = () => setReason("The session has ended");
    addEventListener("isomer-session-ended", ended);
    return () => removeEventListener("isomer-session-ended", ended);
  }, []);
  return reason ? html`<${SignedOut} reason=${reason} />` : html`<${Shell} />`;
}

start()
  .then(
    () => "",
    (error) => (hasKey() && error.status === 0 ? "" : "The link was used or has expired"),
  )
  .then((refused) => render(html`<${App} refused=${refused} />`, document.getElementById("root")));
