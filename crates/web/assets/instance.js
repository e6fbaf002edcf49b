// Instances of the group, and the pool that they are in. An instance answers one request at a time.

import { wire } from "./calls.js";
import { description } from "./description.js";
import { instantiate } from "./group.js";
import "./http.js";
import { PROVIDERS } from "./wasi.js";

/** The maximum number of instances. Each has its own memory. */
const INSTANCES_MAX = 6;

/** The maximum number of requests that wait for an instance. */
const WAITING_MAX = 100;

/** The maximum time that a request waits for an instance, in milliseconds. All instances may send streams without an end. */
const WAITING_MS_MAX = 3000;

/** The maximum number of attempts to create an instance, and the time between them in milliseconds. */
const ATTEMPTS_MAX = 3;
const RETRY_MS = 50;

/** The number of requests after which an instance is replaced. The generated code keeps a few handles of each request. */
const REQUESTS_MAX = 100;

/** The name of the cache that contains the core modules. It contains the path of the modules, which contains their digest. */
export const MODULE_CACHE_PREFIX = "isomer-web:";
export const MODULE_CACHE = `${MODULE_CACHE_PREFIX}${new URL(".", import.meta.url).pathname}`;

/** The file that contains the core modules. */
const MODULES_URL = new URL("modules.bin", import.meta.url).href;

/** The compiled core modules by name. @type {Promise<Map<string, WebAssembly.Module>> | null} */
let modules = null;

/** The error of a request that found no instance. */
export class TooManyRequests extends Error {}

/** Stores the core modules in the cache, so that the group starts without a connection. */
export async function storeModules() {
  const cache = await caches.open(MODULE_CACHE);
  await cache.add(MODULES_URL);
}

/** Returns the compiled core modules. */
export function compileModules() {
  if (!modules) {
    modules = compile();
    modules.catch(() => {
      modules = null;
    });
  }
  return modules;
}

async function compile() {
  const cache = await caches.open(MODULE_CACHE);
  const response = (await cache.match(MODULES_URL)) ?? (await fetch(MODULES_URL));
  if (!response.ok) throw new Error(`the core modules cannot be loaded (status ${response.status})`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const entries = Object.entries(description.modules).map(async ([name, [start, end]]) => [name, await WebAssembly.compile(bytes.subarray(start, end))]);
  return new Map(await Promise.all(entries));
}

/** An instance of the group. */
class Instance {
  /** The request that the instance answers. @type {import("./request.js").RequestContext | null} */
  request = null;
  requests = 0;
  exports = null;
  life = { end() {} };

  constructor(session) {
    this.session = session;
  }

  async start() {
    // The generated code sets `end`.
    const imports = { life: this.life };
    for (const { key, interface: name, component } of description.imports) {
      const functions = name === "isomer:link/wire" ? wire(component, this) : PROVIDERS[name](component, this);
      imports[key] = { ...imports[key], ...functions };
    }
    const compiled = await compileModules();
    this.exports = await instantiate((name) => compiled.get(name), imports, WebAssembly.instantiate);
    return this;
  }
}

/** The instances that answer no request. @type {Instance[]} */
const idle = [];
/** The requests that wait for an instance. @type {{ resolve: (instance: Instance) => void, reject: (error: Error) => void, session: object, timer: number }[]} */
const waiting = [];
let count = 0;

/** Returns an instance, which `giveBack` returns to the pool. */
export async function take(session) {
  const instance = idle.pop();
  if (instance) {
    instance.session = session;
    return instance;
  }
  for (let attempt = 1; count < INSTANCES_MAX; attempt += 1) {
    try {
      return await create(session);
    } catch (error) {
      // The browser reclaims the memory of discarded instances late. While other instances exist, one of them will be free.
      if (count > 0) break;
      if (attempt === ATTEMPTS_MAX) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  if (waiting.length >= WAITING_MAX) throw new TooManyRequests("too many requests are waiting for an instance");
  return new Promise((resolve, reject) => {
    const request = { resolve, reject, session, timer: 0 };
    request.timer = setTimeout(() => {
      waiting.splice(waiting.indexOf(request), 1);
      reject(new TooManyRequests("no instance was free in time"));
    }, WAITING_MS_MAX);
    waiting.push(request);
  });
}

async function create(session) {
  count += 1;
  try {
    return await new Instance(session).start();
  } catch (error) {
    count -= 1;
    throw error;
  }
}

/** Creates an instance before the first request needs it. */
export async function prepare(session) {
  if (count === 0) giveBack(await create(session), true);
}

/** Returns an instance to the pool. An instance that has failed, or has answered enough requests, is replaced. */
export function giveBack(instance, isReusable) {
  instance.request = null;
  instance.requests += 1;
  const next = waiting.shift();
  if (next) clearTimeout(next.timer);
  if (isReusable && instance.requests < REQUESTS_MAX) {
    if (!next) {
      idle.push(instance);
      return;
    }
    instance.session = next.session;
    next.resolve(instance);
    return;
  }
  instance.life.end();
  count -= 1;
  if (next) create(next.session).then(next.resolve, next.reject);
  else if (isReusable) prepare(instance.session).catch(() => {});
}
