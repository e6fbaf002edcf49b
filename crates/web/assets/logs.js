// Lines that components log. They are sent to the server in batches, and stored in the log of the app's tabs.

import { revisionEnded } from "./calls.js";
import { description } from "./description.js";
import { session } from "./session.js";

/** The URL that receives batches. */
const LOGS_URL = "/_isomer/logs";

/** The maximum number of lines that wait for being sent. If there are more, the oldest are dropped. */
const LINES_MAX = 200;

/** The maximum length of a line in characters. A longer line is cut off. */
const LINE_LENGTH_MAX = 2048;

/** The number of bytes of a batch without its lines: `{"lines":[]}`. */
const BATCH_FRAME_BYTES = 12;

/** The time after the first line until the batch is sent, in milliseconds. */
const DELAY_MS = 500;

const encoder = new TextEncoder();

/** @type {{ component: string, stream?: string, level?: string, message: string }[]} */
let waiting = [];
let dropped = 0;
/** @type {Promise<void> | null} */
let sending = null;

/** Adds a line of a component to the next batch. */
export function logLine(line) {
  waiting.push({ ...line, message: line.message.slice(0, LINE_LENGTH_MAX) });
  while (waiting.length > LINES_MAX) {
    waiting.shift();
    dropped += 1;
  }
  sending ??= send().finally(() => {
    sending = null;
  });
}

/** Returns when all lines were sent, or could not be sent. */
export async function flushed() {
  await sending;
}

async function send() {
  await new Promise((resolve) => setTimeout(resolve, DELAY_MS));
  while (waiting.length > 0) {
    let batch = [];
    try {
      batch = nextBatch((await session()).limits);
      const headers = { "content-type": "application/json", "isomer-revision": description.plan };
      const request = { method: "POST", body: JSON.stringify({ lines: batch }), headers };
      const response = await fetch(LOGS_URL, { ...request, credentials: "same-origin", cache: "no-store" });
      if (response.status === 410) revisionEnded.dispatchEvent(new Event("end"));
      // 503 and 429: the server accepts no lines now. Other errors would occur again.
      if (response.status === 429 || response.status === 503) throw new Error("try again later");
    } catch {
      // The server cannot be reached: the lines are sent with the next one.
      waiting = [...batch, ...waiting].slice(-LINES_MAX);
      return;
    }
  }
}

/** Removes as many lines as a batch may have, in lines and in bytes of JSON. */
function nextBatch({ log_batch_bytes_max: bytesMax, log_lines_max: linesMax }) {
  if (dropped > 0) {
    waiting[0] = { ...waiting[0], message: `(${dropped} lines before this one were dropped) ${waiting[0].message}` };
    dropped = 0;
  }
  let [bytes, count] = [BATCH_FRAME_BYTES, 0];
  while (count < Math.min(waiting.length, linesMax)) {
    bytes += encoder.encode(JSON.stringify(waiting[count])).length + 1;
    if (count > 0 && bytes > bytesMax) break;
    count += 1;
  }
  return waiting.splice(0, count);
}

/** Splits what a component writes to an output stream into lines. */
export class OutputLines {
  constructor(component, stream) {
    this.component = component;
    this.stream = stream;
    this.decoder = new TextDecoder();
    this.rest = "";
  }

  write(bytes) {
    const lines = (this.rest + this.decoder.decode(bytes, { stream: true })).split("\n");
    this.rest = lines.pop() ?? "";
    if (this.rest.length > LINE_LENGTH_MAX) {
      lines.push(this.rest);
      this.rest = "";
    }
    for (const message of lines) logLine({ component: this.component, stream: this.stream, message });
  }
}
