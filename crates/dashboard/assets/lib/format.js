// Numbers, durations and times as text.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** A duration in nanoseconds with three significant digits: `1.24 ms`. @param {number} ns */
export function duration(ns) {
  if (!Number.isFinite(ns)) return "–";
  if (ns === 0) return "0";
  if (ns < 1000) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${digits(ns / 1e3)} µs`;
  if (ns < 1e9) return `${digits(ns / 1e6)} ms`;
  if (ns < 60e9) return `${digits(ns / 1e9)} s`;
  return `${Math.floor(ns / 60e9)} min ${Math.round((ns % 60e9) / 1e9)} s`;
}

/** A duration in seconds. @param {number} s */
export const seconds = (s) => duration(s * 1e9);

/** @param {number} value */
function digits(value) {
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** A number: `1,234.5`. @param {number} value */
export const number = (value) => (Number.isFinite(value) ? NUMBER.format(value) : "–");

/** A rate per second. @param {number} value */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0/s";
  return value < 10 ? `${value.toFixed(value < 1 ? 2 : 1)}/s` : `${NUMBER.format(Math.round(value))}/s`;
}

/** A part as a percentage. @param {number} part */
export function percent(part) {
  if (!Number.isFinite(part)) return "–";
  const value = part * 100;
  return `${value === 0 || value >= 10 ? value.toFixed(0) : value.toFixed(value < 0.1 ? 2 : 1)} %`;
}

/** A size in bytes. @param {number} value */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return `${unit === 0 ? value.toFixed(0) : digits(value / 1024 ** unit)} ${units[unit]}`;
}

/** A time of day with milliseconds. @param {number} ms */
export function clock(ms) {
  const date = new Date(ms);
  return `${TIME.format(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** A time of day. @param {number} ms */
export const time = (ms) => TIME.format(new Date(ms));

/** A date with the time of day. @param {number} ms */
export const date = (ms) => DATE.format(new Date(ms));

/** The time since `ms`, roughly. @param {number} ms @param {number} now */
export function ago(ms, now = Date.now()) {
  const s = Math.max(0, (now - ms) / 1000);
  if (s < 45) return "just now";
  if (s < 3600) return `${Math.max(1, Math.round(s / 60))} min ago`;
  if (s < 86400) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} d ago`;
}

/** A number with a noun: `1 span`, `2 spans`. @param {number} value @param {string} noun */
export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/** A message of the API as a sentence. @param {string} message */
export const sentence = (message) => `${message.charAt(0).toUpperCase()}${message.slice(1).replace(/\.$/, "")}.`;

/** The name of an interface without its version: `boutique:shop/cart`. @param {string} name */
export const interfaceName = (name) => String(name).replace(/@[^/@]*$/, "");

/** The name of a span without the package and the version of its interface: `cart.get-cart`. @param {string} name */
export const spanName = (name) => name.replace(/^[\w-]+:[\w:-]+\/([\w/-]+)(@\d+\.\d+\.\d+(-[\w.]+)?)?\./, "$1.");

/** The first digits of an identifier, for places where it is only recognised and not copied. @param {string} id */
export const short = (id) =>
  String(id)
    .replace(/^sha256[:-]/, "")
    .slice(0, 12);
