// An admin API with fixed data, for tests of the pages. Requests for files and sessions go to a real dashboard.
"use strict";

const http = require("node:http");
const stored = require("./store-fixtures.cjs");

/** The time at which all data was recorded. */
const NOW = Date.UTC(2026, 10, 30, 17, 0, 0);

const SHOP = "boutique:shop";
const SEAMS = [
  ["frontend", "catalog"],
  ["frontend", "cart"],
  ["frontend", "currency"],
  ["frontend", "recommendation"],
  ["frontend", "shipping"],
  ["frontend", "checkout"],
  ["frontend", "ads"],
  ["frontend", "orders"],
  ["checkout", "cart"],
  ["checkout", "catalog"],
  ["checkout", "currency"],
  ["checkout", "shipping"],
  ["checkout", "payment"],
  ["checkout", "email"],
  ["checkout", "orders"],
  ["recommendation", "catalog"],
];
const COMPONENTS = [...new Set(SEAMS.flat())].sort();
const ISOLATED = ["payment"];
const REMOTE = ["email", "orders"];

/** A generator of the same numbers in each run. */
function numbers(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

const hex = (random, digits) => Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join("");

function mode(callee) {
  return ISOLATED.includes(callee) ? "isolated" : REMOTE.includes(callee) ? "remote" : "fused";
}

const REASONS = {
  fused: "both components are in the group `pages`, and share one memory",
  isolated: "the shape isolates `payment`",
  remote: "the components are in different groups of the shape",
};

function plan() {
  const group = (name, components, more = {}) => ({ name, components, links: [], imports: [], handlers: [], ...more });
  const pages = COMPONENTS.filter((name) => mode(name) === "fused");
  return {
    app: "boutique",
    version: "0.1.0",
    shape: "guarded",
    groups: [
      group("pages", pages, { handlers: [{ component: "frontend", interface: "wasi:http/handler@0.3.0", http: "0.3", routes: ["/..."] }] }),
      group("payment", ["payment"], { set_apart_from: "pages" }),
      group("services", REMOTE),
    ],
    seams: SEAMS.map(([importer, exporter]) => ({
      importer,
      exporter,
      import: `${SHOP}/${exporter}@0.1.0`,
      export: `${SHOP}/${exporter}@0.1.0`,
      mode: mode(exporter),
      reason: REASONS[mode(exporter)],
      class: "values",
      functions: [`get-${exporter}`, "list"],
    })),
    access: COMPONENTS.map((component) => ({
      component,
      granted: { cart: ["kv carts"], orders: ["sql orders"], payment: ["secret card-key", "http api.cards.example"] }[component] ?? [],
      without_grant:
        component === "email"
          ? [{ interface: "wasi:http/outgoing-handler@0.2.6", consequence: "requests fail", grant: 'grants = { http = ["smtp.example"] }' }]
          : [],
    })),
    notes: [],
    warnings: [],
  };
}

const PATHS = ["/", "/", "/product/OLJCESPC7Z", "/cart", "/cart/checkout", "/product/66VCHSJNUP", "/_healthz"];

function summaries(count) {
  const random = numbers(7);
  return Array.from({ length: count }, (_, index) => {
    const path = PATHS[Math.floor(random() * PATHS.length)];
    const isFailed = path === "/cart/checkout" && random() < 0.4;
    return {
      id: hex(random, 32),
      request: hex(random, 16),
      tenant: "local",
      app: "boutique",
      name: `${path === "/cart/checkout" ? "POST" : "GET"} ${path}`,
      component: "frontend",
      start_us: (NOW - index * 830 - Math.floor(random() * 400)) * 1000,
      duration_ns: Math.floor((0.4 + random() ** 4 * 40) * 1e6),
      status: isFailed ? 500 : random() < 0.04 ? 404 : 200,
      spans: 4 + Math.floor(random() * 24),
      failed: isFailed,
      sampled: true,
    };
  });
}

function trace(summary) {
  const random = numbers(summary.id.charCodeAt(3) + summary.id.charCodeAt(5) * 7);
  const spans = [];
  const add = (parent, name, component, start, length, attributes, more = {}) => {
    const span = {
      id: hex(random, 16),
      parent: parent?.id,
      depth: parent ? parent.depth + 1 : 0,
      name,
      kind: "client",
      component,
      offset_ns: Math.floor(start),
      duration_ns: Math.floor(length),
      self_ns: Math.floor(length),
      attributes,
      ...more,
    };
    if (parent) parent.self_ns = Math.max(0, parent.self_ns - span.duration_ns);
    spans.push(span);
    return span;
  };
  const total = summary.duration_ns;
  const root = add(
    undefined,
    summary.name,
    "frontend",
    0,
    total,
    {
      "http.request.method": summary.name.split(" ")[0],
      "http.route": "/...",
      "url.path": summary.name.split(" ")[1],
      "http.response.status_code": summary.status,
      "client.address": "127.0.0.1",
    },
    { id: summary.request, kind: "server" },
  );
  add(root, "start instance", undefined, total * 0.01, total * 0.05, { "isomer.instance.cold": true }, { kind: "internal" });
  let at = total * 0.08;
  const calls = summary.name.startsWith("POST")
    ? ["cart", "catalog", "currency", "shipping", "payment", "email", "orders"]
    : ["currency", "catalog", "cart", "recommendation", "ads"];
  const parent = summary.name.startsWith("POST")
    ? add(root, `${SHOP}/checkout.place-order`, "frontend", at, total * 0.86, seam("frontend", "checkout"))
    : root;
  for (const callee of calls) {
    const length = ((total * 0.8) / calls.length) * (0.5 + random() * 0.5);
    const isLast = callee === "orders" && summary.failed;
    const call = add(
      parent,
      `${SHOP}/${callee}.get-${callee}`,
      parent === root ? "frontend" : "checkout",
      at,
      length,
      seam(parent === root ? "frontend" : "checkout", callee),
      isLast ? { failure: "the callee trapped: unreachable" } : {},
    );
    if (callee === "cart")
      add(call, "kv get", "cart", at + length * 0.2, length * 0.5, {
        "db.system.name": "redb",
        "db.namespace": "carts",
        "db.operation.name": "get",
      });
    if (callee === "orders") {
      const served = add(call, `${SHOP}/orders.get-orders`, "orders", at + length * 0.1, length * 0.85, seam("checkout", "orders"), {
        kind: "server",
        process: "services",
      });
      add(served, "sql query", "orders", at + length * 0.2, length * 0.6, {
        "db.system.name": "sqlite",
        "db.namespace": "orders",
        "db.operation.name": "query",
        "db.query.text": "INSERT INTO orders (id, total, currency) VALUES (?1, ?2, ?3)",
        "db.response.returned_rows": 0,
      });
    }
    if (callee === "payment")
      add(call, "POST", "payment", at + length * 0.3, length * 0.5, {
        "http.request.method": "POST",
        "server.address": "api.cards.example",
        "server.port": 443,
        "http.response.status_code": 200,
      });
    at += length + total * 0.01;
  }
  return { summary: { ...summary, spans: spans.length }, spans, spans_dropped: 0 };
}

const seam = (caller, callee) => ({
  "rpc.system": "isomer",
  "rpc.service": `${SHOP}/${callee}@0.1.0`,
  "rpc.method": `get-${callee}`,
  "isomer.seam.mode": mode(callee),
  "isomer.seam.caller": caller,
  "isomer.seam.callee": callee,
  ...(mode(callee) === "fused" ? {} : { "isomer.seam.argument_bytes": 184, "isomer.seam.result_bytes": 912 }),
});

function logLines(traces) {
  const texts = [
    ["frontend", "stdout", "rendered the home page with 9 products"],
    ["cart", "stdout", "loaded a cart with 3 items"],
    ["checkout", "stderr", "warning: the shipping quote is older than a minute"],
    ["orders", "stdout", "order 8e2f-11ac stored: total 143.20 EUR"],
    ["payment", "stdout", '{"level":"info","message":"charged","amount":143.2,"currency":"EUR"}'],
  ];
  return traces
    .slice(0, 120)
    .reverse()
    .flatMap((summary, index) => {
      const [component, stream, text] = texts[index % texts.length];
      const line = { at_ms: Math.floor(summary.start_us / 1000), component, stream, request: summary.request, trace_id: summary.id, text };
      const failure = {
        at_ms: line.at_ms + 3,
        stream: "node",
        request: summary.request,
        trace_id: summary.id,
        text: "the request failed: `orders` trapped: unreachable",
        backtrace: ["orders::store::insert (store.rs:41)", "orders::place (lib.rs:88)", "checkout::place_order (lib.rs:120)"],
      };
      return summary.failed ? [line, failure] : [line];
    });
}

const BOUNDS = Array.from({ length: 22 }, (_, index) => 16e-6 * 2 ** index);

/** The counts of a histogram after `requests` requests, most of them near the bucket `middle`. */
function histogram(requests, middle) {
  const shape = [0.02, 0.1, 0.34, 0.3, 0.14, 0.06, 0.03, 0.01];
  const counts = Array(BOUNDS.length + 1).fill(0);
  shape.forEach((part, index) => {
    counts[middle - 2 + index] = Math.floor(requests * part);
  });
  return { counts, value: requests * BOUNDS[middle] * 1.3 };
}

function metrics(step, traces) {
  const own = { tenant: "local", app: "boutique" };
  const wave = (phase) => Math.floor(step * 96 + 40 * Math.sin(step / 4 + phase) * 3 + 600);
  const exemplars = traces
    .slice(step % 20, (step % 20) + 2)
    .map((summary) => ({ trace_id: summary.id, value: summary.duration_ns / 1e9, at_ms: Date.now() - 300 }));
  const request = (component, status, requests) => ({
    labels: { ...own, component, route: "/*", method: "GET", status },
    ...histogram(requests, 7),
    exemplars: status === "2xx" ? exemplars : [],
  });
  return {
    metrics: [
      {
        name: "http.server.request.duration",
        unit: "seconds",
        kind: "histogram",
        help: "The time from the arrival of a request's head to the last byte of its response.",
        bounds: BOUNDS,
        series: [
          request("frontend", "2xx", wave(0)),
          request("frontend", "4xx", Math.floor(step * 2)),
          request("frontend", "5xx", Math.floor(step * 1.1)),
        ],
      },
      {
        name: "http.server.active_requests",
        unit: "requests",
        kind: "gauge",
        help: "The number of requests in progress.",
        series: [{ labels: { ...own, component: "frontend", route: "/*" }, value: 3 + (step % 4) }],
      },
      {
        name: "rpc.client.call.duration",
        unit: "seconds",
        kind: "histogram",
        help: "The duration of calls across seams, measured by the caller.",
        bounds: BOUNDS,
        series: SEAMS.flatMap(([caller, callee], index) => {
          const labels = { ...own, caller, callee, interface: `${SHOP}/${callee}@0.1.0`, mode: mode(callee), sampled: "false" };
          const rows = [
            {
              labels: { ...labels, outcome: "ok" },
              ...histogram(Math.floor(wave(index) * (0.2 + ((index * 7) % 5) / 6)), 4 + (index % 4)),
            },
          ];
          return callee === "orders" && caller === "checkout"
            ? [...rows, { labels: { ...labels, outcome: "trap" }, ...histogram(step * 2, 5) }]
            : rows;
        }),
      },
      {
        name: "db.client.operation.duration",
        unit: "seconds",
        kind: "histogram",
        help: "The duration of operations on stores.",
        bounds: BOUNDS,
        series: [
          { labels: { ...own, store: "carts", system: "redb", operation: "get", outcome: "ok" }, ...histogram(wave(2), 3) },
          { labels: { ...own, store: "orders", system: "sqlite", operation: "query", outcome: "ok" }, ...histogram(wave(3) / 4, 6) },
        ],
      },
      {
        name: "isomer.instance.live",
        unit: "instances",
        kind: "gauge",
        help: "The number of live instances.",
        series: [
          { labels: { ...own, group: "pages" }, value: 6 + (step % 3) },
          { labels: { ...own, group: "payment" }, value: 2 },
        ],
      },
      {
        name: "process.memory.usage",
        unit: "bytes",
        kind: "gauge",
        help: "The resident memory of the process.",
        series: [{ labels: {}, value: 148e6 + 4e6 * Math.sin(step / 6) }],
      },
      {
        name: "process.cpu.time",
        unit: "seconds",
        kind: "counter",
        help: "The processor time of the process.",
        series: [{ labels: {}, value: step * 0.9 + 3 }],
      },
    ],
  };
}

const digest = (number) => hex(numbers(number), 64);

function revisions() {
  const at = (minutes) => Math.floor(Date.now() / 1000) - minutes * 60;
  const none = { manifest: false, shape: false, more: 0, files: 0 };
  return [
    {
      revision: digest(1),
      version: "0.3.0",
      deployed_at: at(12),
      current: true,
      origin: {
        how: "deploy",
        by: { token: "tenant", name: "ci", id: "1111111111111111" },
        message: "Show the delivery date in the cart",
        changes: { ...none, changed: ["cart", "frontend", "shipping"], added: ["ads"], files: 2 },
      },
    },
    {
      revision: digest(2),
      version: "0.2.1",
      deployed_at: at(190),
      current: false,
      origin: { how: "swap", by: { token: "node" }, message: "Round prices as the bank does", changes: { ...none, changed: ["currency"] } },
    },
    {
      revision: digest(3),
      version: "0.2.0",
      deployed_at: at(2900),
      current: false,
      origin: {
        how: "deploy",
        by: { token: "tenant", name: "ci", id: "1111111111111111" },
        changes: { ...none, manifest: true, changed: ["orders", "checkout"], removed: ["newsletter"] },
      },
      snapshot: { taken_at: at(190), stores: [{ store: "orders", bytes: 417792 }] },
    },
    {
      revision: digest(4),
      version: "0.1.0",
      deployed_at: at(20000),
      current: false,
      origin: { how: "deploy", by: { token: "node" }, message: "First release" },
    },
  ];
}

const app = (tenant, name, more = {}) => ({
  tenant,
  name,
  hosts: [`${name}.example`],
  revision: digest(1),
  version: "0.3.0",
  state: "loaded",
  deployed_at: Math.floor(NOW / 1000),
  ...more,
});

/** Starts the server. `upstream` is the address of a real dashboard, or a function that responds to a request. */
async function serve({ upstream, isEmpty = false, isNode = true, appCount = 1, isLive = true }) {
  const traces = isEmpty ? [] : summaries(140);
  const record = { appCount, requests: [], steps: 0, streams: new Set() };
  const apps = (appCount) =>
    appCount > 1
      ? Array.from({ length: appCount }, (_, index) =>
          app(`tenant-${Math.floor(index / 4)}`, `app-${index}`, { state: ["loaded", "idle", "idle", "failed"][index % 4] }),
        )
      : [app("local", "boutique")];
  const json = (response, value, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  const missing = (response, title) => json(response, { type: "not-found", title }, 404);
  /** Sends lines and leaves the stream open, so that a test can send more. */
  const stream = (response, name, items) => {
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    response.write(items.map((item) => `${JSON.stringify(item)}\n`).join("") || "\n");
    const entry = { name, send: (item) => response.write(`${JSON.stringify(item)}\n`) };
    record.streams.add(entry);
    response.on("close", () => record.streams.delete(entry));
  };
  const handle = (request, response) => {
    const url = new URL(request.url, "http://fixture");
    const path = url.pathname.replace(/^\/v1\/tenants\/[^/]+\/apps\/[^/]+/, "/app");
    if (!request.url.startsWith("/v1/")) {
      return typeof upstream === "function" ? upstream(request, response) : forward(upstream, request, response);
    }
    record.requests.push(`${request.method} ${request.url}`);
    if (record.failing) return json(response, { type: "failed", title: "the store of traces cannot be read", hints: ["check the disk"] }, 500);
    if (request.method !== "GET") {
      const chunks = [];
      request.on("data", (chunk) => chunks.push(chunk));
      request.on("end", () => {
        record.body = Buffer.concat(chunks).toString();
        if (record.noPlan && path === "/app/shapes/compare") return missing(response, "the process keeps no plan");
        if (path === "/app/shapes/compare") return json(response, stored.comparison(plan(), JSON.parse(record.body)));
        const query = new Map(Object.entries(path.includes("/stores/kv/") ? JSON.parse(record.body) : {}));
        if (path.endsWith("/keys")) return json(response, stored.keys(query));
        if (path.endsWith("/value")) {
          const found = stored.value(query.get("key"));
          return found ? json(response, found) : missing(response, "the store `carts` does not have this key");
        }
        if (path.endsWith("/query")) {
          const { status, body } = stored.query(JSON.parse(record.body).statement);
          return json(response, body, status);
        }
        if (path.endsWith("/execute")) return json(response, { changed: 3 });
        if (record.refusal && path === "/app/reshape") return json(response, record.refusal, 422);
        if (request.method === "PUT" || /\/(set|delete)$/.test(path)) return response.writeHead(204).end();
        return json(response, {
          revision: digest(2),
          previous: digest(1),
          hosts: ["boutique.example"],
          compiled: false,
          took_ms: 84,
          warnings: [],
        });
      });
      return undefined;
    }
    if (path === "/v1/apps") return json(response, apps(record.appCount));
    if (path === "/app/plan") return json(response, { ...plan(), browser: record.browser });
    if (path === "/app/traces/follow") return isLive ? stream(response, "traces", []) : missing(response, "no");
    if (path === "/app/traces") return json(response, page(traces, url.searchParams));
    if (path.startsWith("/app/traces/")) {
      const found = traces.find((summary) => path.endsWith(summary.id) || path.endsWith(summary.request));
      return found ? json(response, trace(found)) : missing(response, "there is no such trace");
    }
    if (path === "/app/logs")
      return stream(
        response,
        "logs",
        url.searchParams.get("access")
          ? []
          : logLines(traces).filter((line) => !url.searchParams.get("request") || line.request === url.searchParams.get("request")),
      );
    if (path === "/v1/metrics") {
      const name = url.searchParams.get("name") ?? "";
      const all = isEmpty ? [] : name ? stored.nodeMetrics(record.appCount) : metrics(++record.steps, traces).metrics;
      return json(response, { metrics: all.filter((metric) => metric.name.startsWith(name)) });
    }
    if (path === "/app/stores") return json(response, stored.stores({ isEmpty, isNode }));
    if (path.endsWith("/schema")) return json(response, stored.schema());
    if (path === "/app/shapes") return json(response, stored.shapes(plan()));
    if (path === "/app/advice") return json(response, stored.advice(isEmpty));
    if (path === "/v1/tenants") return isNode ? json(response, stored.tenants(record.appCount)) : missing(response, "the admin API has no such path");
    if (path === "/app/revisions") return isNode ? json(response, revisions()) : missing(response, "the admin API has no such path");
    return missing(response, `the admin API has no path \`${path}\``);
  };
  const server = http.createServer(handle);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve)));
  return { url: `http://127.0.0.1:${server.address().port}`, traces, record, close };
}

/** Returns a page of the list of traces, as the API does. */
function page(traces, query) {
  const limit = Number(query.get("limit") ?? 50);
  const isSearch = query.get("text") === "checkout";
  const after = Number(query.get("after") ?? 0);
  const start = isSearch ? after - 3 : after;
  const found = traces.filter(
    (summary) =>
      (!query.get("failed") || summary.failed) &&
      (!query.get("status") || String(summary.status) === query.get("status")) &&
      (!query.get("min_us") || summary.duration_ns / 1000 >= Number(query.get("min_us"))) &&
      (!query.get("text") || summary.name.toLowerCase().includes(query.get("text").toLowerCase())),
  );
  // A search for this text finds nothing in the newest traces, and continues.
  if (start < 0) return { traces: [], stopped_early: true, next: String(after + 1) };
  const next = start + limit < found.length ? { next: String(after + limit) } : {};
  return { traces: found.slice(start, start + limit), stopped_early: false, ...next };
}

/**
 * Passes a request on, over a new connection: the server closes connections without a token soon. The header `Host`
 * stays, so that the page has one origin.
 */
function forward(upstream, request, response) {
  const { hostname, port } = new URL(upstream);
  const options = { agent: false, hostname, port, method: request.method, path: request.url, headers: request.headers };
  const forwarded = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  forwarded.on("error", () => response.writeHead(502).end());
  request.pipe(forwarded);
}

module.exports = { NOW, serve, summaries };
