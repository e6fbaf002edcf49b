// The types and the client of `wasi:http` 0.3.

import { description } from "./description.js";
import { chunks, PROVIDERS } from "./wasi.js";
import { dispose, ValueError } from "./values.js";

const METHODS = new Set(["get", "head", "post", "put", "delete", "connect", "options", "trace", "patch"]);
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** The maximum size of the fields of a message in bytes. */
const FIELDS_BYTES_MAX = 65536;

/** The maximum size of a body that a component sends to another server, in bytes. */
const CLIENT_BODY_BYTES_MAX = 16 << 20;

const ok = (val) => ({ tag: "ok", val });
const decoder = new TextDecoder();

/** The names of fields that only the browser sets. */
const FORBIDDEN = new Set(["connection", "host", "http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"]);

export class Fields {
  /** @param {[string, Uint8Array][]} entries */
  constructor(entries = [], isImmutable = false) {
    this.entries = entries;
    this.isImmutable = isImmutable;
  }
  static fromList(list) {
    const fields = new Fields();
    for (const [name, value] of list) fields.append(name, value);
    return fields;
  }
  get(name) {
    return this.entries.filter(([other]) => other === name.toLowerCase()).map(([, value]) => value);
  }
  has(name) {
    return this.get(name).length > 0;
  }
  set(name, values) {
    this.delete(name);
    for (const value of values) this.append(name, value);
  }
  delete(name) {
    this.change(name);
    this.entries = this.entries.filter(([other]) => other !== name.toLowerCase());
  }
  getAndDelete(name) {
    const values = this.get(name);
    this.delete(name);
    return values;
  }
  append(name, value) {
    this.change(name);
    if (value.some((byte) => byte === 0 || byte === 10 || byte === 13)) throw new ValueError({ tag: "invalid-syntax" });
    this.entries.push([name.toLowerCase(), new Uint8Array(value)]);
    if (this.entries.reduce((sum, [key, bytes]) => sum + key.length + bytes.length, 0) > FIELDS_BYTES_MAX) {
      throw new ValueError({ tag: "size-exceeded" });
    }
  }
  copyAll() {
    return this.entries.map(([name, value]) => [name, value]);
  }
  clone() {
    return new Fields(this.copyAll());
  }
  change(name) {
    if (this.isImmutable) throw new ValueError({ tag: "immutable" });
    if (!TOKEN.test(name)) throw new ValueError({ tag: "invalid-syntax" });
    if (FORBIDDEN.has(name.toLowerCase())) throw new ValueError({ tag: "forbidden" });
  }
  [dispose]() {}
}

/** A body: either bytes from the browser, or a stream of the component. */
class Message {
  constructor(headers, contents, trailers) {
    this.headers = headers;
    this.contents = contents;
    this.trailers = trailers;
    /** The future that tells the component whether its body was sent. */
    this.sent = new Promise((resolve) => {
      this.reportSent = () => resolve(ok(undefined));
    });
  }
  getHeaders() {
    return new Fields(this.headers.copyAll(), true);
  }
  static consumeBody(self, result) {
    // The component reports here whether it has read the body, which has no consequence.
    Promise.resolve(result).catch(() => {});
    const contents = self.contents;
    const stream = new ReadableStream({
      async start(controller) {
        if (contents instanceof Uint8Array) {
          if (contents.length > 0) controller.enqueue(contents);
        } else if (contents) {
          for await (const chunk of chunks(contents)) controller.enqueue(chunk);
        }
        controller.close();
      },
    });
    return [stream, Promise.resolve(ok(undefined))];
  }
  [dispose]() {}
}

export class Request extends Message {
  method = { tag: "get" };
  path = undefined;
  scheme = undefined;
  authority = undefined;
  options = undefined;

  static new(headers, contents, trailers, options) {
    const request = new Request(headers, contents, trailers);
    request.options = options;
    return [request, request.sent];
  }
  getMethod() {
    return this.method;
  }
  setMethod(method) {
    if (method.tag === "other" && !TOKEN.test(method.val)) throw new ValueError(undefined);
    this.method = method;
  }
  getPathWithQuery() {
    return this.path;
  }
  setPathWithQuery(path) {
    this.path = path;
  }
  getScheme() {
    return this.scheme;
  }
  setScheme(scheme) {
    this.scheme = scheme;
  }
  getAuthority() {
    return this.authority;
  }
  setAuthority(authority) {
    this.authority = authority;
  }
  getOptions() {
    return this.options;
  }
}

class RequestOptions {
  timeouts = {};
  getConnectTimeout() {
    return this.timeouts.connect;
  }
  setConnectTimeout(duration) {
    this.timeouts.connect = duration;
  }
  getFirstByteTimeout() {
    return this.timeouts.firstByte;
  }
  setFirstByteTimeout(duration) {
    this.timeouts.firstByte = duration;
  }
  getBetweenBytesTimeout() {
    return this.timeouts.betweenBytes;
  }
  setBetweenBytesTimeout(duration) {
    this.timeouts.betweenBytes = duration;
  }
  clone() {
    const copy = new RequestOptions();
    copy.timeouts = { ...this.timeouts };
    return copy;
  }
  [dispose]() {}
}

export class Response extends Message {
  status = 200;

  static new(headers, contents, trailers) {
    const response = new Response(headers, contents, trailers);
    return [response, response.sent];
  }
  getStatusCode() {
    return this.status;
  }
  setStatusCode(status) {
    if (status < 100 || status > 599) throw new ValueError(undefined);
    this.status = status;
  }
}

/** Returns a method of `wasi:http` by its name. */
export function methodOf(name) {
  const tag = name.toLowerCase();
  return METHODS.has(tag) ? { tag } : { tag: "other", val: name };
}

/** Returns whether one of the granted hosts (a name, `*.suffix` or `*`) allows `url`. */
export function isGranted(hosts, url) {
  const port = Number(url.port || (url.protocol === "https:" ? 443 : 80));
  return hosts.some(({ host, port: granted }) => {
    if (granted !== null && granted !== port) return false;
    const suffix = host.startsWith("*.") ? host.slice(1) : null;
    return host === "*" || (suffix ? url.hostname.endsWith(suffix) && url.hostname.length > suffix.length : url.hostname === host);
  });
}

/** Returns the client of a component. It reaches only the hosts that the component's grants name. */
function client(component, instance) {
  const hosts = description.outbound[component] ?? [];
  return async (request) => {
    const denied = new ValueError({ tag: "HTTP-request-denied" });
    const scheme = request.scheme?.tag === "HTTP" ? "http" : "https";
    const url = URL.parse(`${scheme}://${request.authority ?? ""}${request.path ?? "/"}`);
    if (!url || url.origin === location.origin || !isGranted(hosts, url)) throw denied;
    const method = (request.method.val ?? request.method.tag).toUpperCase();
    const headers = new Headers();
    for (const [name, value] of request.headers.copyAll()) headers.append(name, decoder.decode(value));
    const body = request.contents ? await collect(request.contents) : undefined;
    request.reportSent();
    const signal = instance.request?.signal;
    if (instance.request) instance.request.hasEffects = true;
    try {
      const options = { method, headers, body: ["GET", "HEAD"].includes(method) ? undefined : body, credentials: "omit", signal };
      const found = await fetch(url, { ...options, redirect: "error", referrerPolicy: "no-referrer" });
      const fields = new Fields([...found.headers].map(([name, value]) => [name, new TextEncoder().encode(value)]), true);
      const response = new Response(fields, new Uint8Array(await found.arrayBuffer()));
      response.status = found.status;
      return response;
    } catch (error) {
      throw new ValueError({ tag: "internal-error", val: String(error.message) });
    }
  };
}

async function collect(stream) {
  const parts = [];
  let length = 0;
  for await (const chunk of chunks(stream)) {
    length += chunk.length;
    if (length > CLIENT_BODY_BYTES_MAX) throw new ValueError({ tag: "HTTP-request-body-size", val: BigInt(length) });
    parts.push(chunk);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

PROVIDERS["wasi:http/types"] = () => ({ Fields, Request, RequestOptions, Response });
PROVIDERS["wasi:http/client"] = (component, instance) => ({ send: client(component, instance) });
PROVIDERS["wasi:http/handler"] = (component, instance) => ({ handle: client(component, instance) });
