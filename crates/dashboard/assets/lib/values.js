// Values of stores as text: bytes as text, JSON or hexadecimal digits, and cells of results.

/** The number of bytes of a line of a hex dump. */
const LINE_BYTES = 16;

/** The maximum number of lines of a hex dump. */
const LINES_MAX = 2048;

/** @param {string} hex @returns {Uint8Array} */
export const bytesOf = (hex) => Uint8Array.from({ length: hex.length / 2 }, (_, index) => Number.parseInt(hex.slice(2 * index, 2 * index + 2), 16));

/** @param {string} text */
export const hexOf = (text) => [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The text of bytes, or undefined if they are not UTF-8. A part of a character at the end is left out if bytes are missing. @param {Uint8Array} bytes @param {boolean} isCut */
export function textOf(bytes, isCut) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isCut });
  } catch {
    return undefined;
  }
}

/** The maximum depth of JSON that is shown with indentation. Deeper JSON would need much more room than its text. */
const JSON_DEPTH_MAX = 64;

/** A string, a mark, or a number or word of JSON. */
const JSON_TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** JSON with indentation, or undefined if the text is not JSON or is nested too deeply. All numbers, names and strings stay as they are written. @param {string | undefined} text */
export function prettyJson(text) {
  try {
    if (text === undefined) return undefined;
    JSON.parse(text);
  } catch {
    return undefined;
  }
  const tokens = text.match(JSON_TOKEN) ?? [];
  const parts = [];
  let depth = 0;
  const line = () => parts.push("\n", "  ".repeat(depth));
  for (const [index, token] of tokens.entries()) {
    const isEmpty = /^[}\]]$/.test(tokens[index + 1] ?? "");
    if (token === "{" || token === "[") {
      parts.push(token);
      if (++depth > JSON_DEPTH_MAX) return undefined;
      if (!isEmpty) line();
    } else if (token === "}" || token === "]") {
      depth--;
      if (!/^[{[]$/.test(tokens[index - 1])) line();
      parts.push(token);
    } else {
      parts.push(token === ":" ? ": " : token);
      if (token === ",") line();
    }
  }
  return parts.join("");
}

/** Lines with a position, hexadecimal digits and characters. @param {Uint8Array} bytes */
export function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length && lines.length < LINES_MAX; at += LINE_BYTES) {
    const part = [...bytes.subarray(at, at + LINE_BYTES)];
    const digits = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const characters = part.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(3 * LINE_BYTES - 1)}  ${characters}`);
  }
  return lines.join("\n");
}

/** The kind and the text of a value in a row of a result. @param {any} cell @returns {{kind: string, text: string, more?: number}} */
export function cellOf(cell) {
  if (cell === null) return { kind: "null", text: "NULL" };
  if (typeof cell === "number") return { kind: "number", text: String(cell) };
  if (typeof cell === "string") return { kind: "text", text: cell };
  if (cell.integer !== undefined) return { kind: "number", text: cell.integer };
  if (cell.hex !== undefined) return { kind: "blob", text: `x'${cell.hex.slice(0, 64)}${cell.hex.length > 64 ? "…" : ""}'`, more: cell.bytes };
  return { kind: "text", text: `${cell.text}…`, more: cell.bytes };
}
