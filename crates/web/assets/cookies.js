// The app's cookies. The browser keeps them, so the copies of the app in the tab and on the server see the same cookies.
//
// A worker neither receives the field `cookie`, nor is `set-cookie` of its responses obeyed. Cookies that scripts may read are read
// and written with `cookieStore`. Cookies with `HttpOnly` are set by the server, and are not visible in the tab. The cookie that
// identifies the visitor has the identity as its value, which the server derives from the session.

import { description } from "./description.js";
import { storeSession } from "./session.js";

/** The URL that sets cookies which a script cannot set. */
const COOKIES_URL = "/_isomer/cookies";

/**
 * Returns the value of the field `cookie` for a component, or `null` if there are no cookies.
 *
 * @param {import("./session.js").Session} session
 */
export async function cookieHeader(session) {
  const isIdentity = ({ name }) => name.toLowerCase() === session.cookie?.toLowerCase();
  const pairs = (await cookieStore.getAll()).filter((cookie) => !isIdentity(cookie)).map(({ name, value }) => (name ? `${name}=${value}` : value));
  // As on the server, the identity is the first cookie, so that an unfinished quote in another one cannot hide it.
  if (session.cookie) pairs.unshift(`${session.cookie}=${session.identity}`);
  return pairs.length > 0 ? pairs.join("; ") : null;
}

/**
 * Removes the cookies that browsers do not send with a navigation from another site, those with `SameSite=Strict`. Some browsers do not
 * tell the attribute to scripts: there, nothing is removed.
 *
 * @param {string | null} value the result of `cookieHeader`
 */
export async function withoutStrict(value) {
  const strict = (await cookieStore.getAll()).filter(({ sameSite }) => sameSite === "strict");
  const removed = new Set(strict.map(({ name, value }) => (name ? `${name}=${value}` : value)));
  return value?.split("; ").filter((pair) => !removed.has(pair)).join("; ") || null;
}

/**
 * Sets the cookies of a component's response. Returns when they are set, so that the next request sees them.
 *
 * @param {string[]} lines the values of `set-cookie`
 * @param {import("./session.js").Session} session
 * @param {URL} url the URL of the request
 */
export async function setCookies(lines, session, url) {
  const forServer = [];
  for (const line of lines) {
    const cookie = parse(line, url);
    if (cookie === null) continue;
    if (cookie.name === session.cookie) {
      // The component renews the cookie without a change.
      if (cookie.value === session.identity && !cookie.isExpired) continue;
      forServer.push(line);
    } else if (cookie.isHttpOnly && cookie.domain) {
      console.warn(`isomer: the cookie ${cookie.name} is ignored: a tab cannot set a cookie with both HttpOnly and Domain`);
    } else if (cookie.isHttpOnly) {
      forServer.push(line);
    } else {
      await set(cookie);
    }
  }
  if (forServer.length === 0) return;
  const request = { method: "POST", body: JSON.stringify({ set_cookie: forServer }), headers: { "content-type": "application/json", "isomer-revision": description.plan } };
  const response = await fetch(COOKIES_URL, { ...request, credentials: "same-origin", cache: "no-store", redirect: "error" });
  if (!response.ok) console.warn(`isomer: the server has refused cookies (status ${response.status})`);
  // A login or a logout starts another session, which the response describes.
  if (response.status === 200) await storeSession(response);
}

async function set({ name, value, path, domain, sameSite, expires, isExpired }) {
  try {
    if (isExpired) {
      await cookieStore.delete({ name, path, ...(domain && { domain }) });
    } else {
      await cookieStore.set({ name, value, path, sameSite, expires, ...(domain && { domain }) });
    }
  } catch (error) {
    // The browser would also ignore such a cookie of a server.
    console.warn(`isomer: the cookie ${name} is ignored: ${error.message}`);
  }
}

/** Parses a value of `set-cookie` (RFC 6265, section 5.2). Returns `null` if a browser ignores it. */
export function parse(line, url) {
  const [pair, ...rest] = line.split(";");
  const separator = pair.indexOf("=");
  const name = separator < 0 ? "" : pair.slice(0, separator).trim();
  const value = pair.slice(separator + 1).trim();
  if (name === "" && value === "") return null;
  const cookie = { name, value, path: defaultPath(url), domain: null, sameSite: "lax", expires: null, isExpired: false, isHttpOnly: false };
  let hasMaxAge = false;
  const expireAt = (ms) => {
    cookie.expires = ms;
    cookie.isExpired = ms <= Date.now();
  };
  for (const attribute of rest) {
    const [key, ...parts] = attribute.split("=");
    const text = parts.join("=").trim();
    switch (key.trim().toLowerCase()) {
      case "path":
        cookie.path = text.startsWith("/") ? text : defaultPath(url);
        break;
      case "domain":
        cookie.domain = text.replace(/^\./, "").toLowerCase() || null;
        break;
      case "samesite":
        if (["strict", "lax", "none"].includes(text.toLowerCase())) cookie.sameSite = text.toLowerCase();
        break;
      case "httponly":
        cookie.isHttpOnly = true;
        break;
      case "max-age":
        if (/^-?\d+$/.test(text)) {
          hasMaxAge = true;
          expireAt(Date.now() + Number(text) * 1000);
        }
        break;
      case "expires":
        if (!hasMaxAge && !Number.isNaN(Date.parse(text))) expireAt(Date.parse(text));
        break;
      default:
    }
  }
  return cookie;
}

function defaultPath(url) {
  const end = url.pathname.lastIndexOf("/");
  return end <= 0 ? "/" : url.pathname.slice(0, end);
}
