// Stores, shapes, advice and tenants with fixed data, for tests of the pages.
"use strict";

const CARTS = Array.from({ length: 240 }, (_, index) => ({
  key: `cart/user-${String(index).padStart(4, "0")}`,
  value: JSON.stringify({ items: [{ id: "OLJCESPC7Z", quantity: 1 + (index % 4) }], currency: "EUR" }),
}));
const KEYS = [...CARTS, { key: "counter", value: "1042" }, { key: "exact", value: '{"id":9007199254740993,"total":1.0}' }, { key: "icon/logo.png", value: "\u0089PNG\r\n\u001a\n\u0000\u0000" }];

/** The stores of the app. @param {{isEmpty: boolean, isNode: boolean}} options */
function stores({ isEmpty, isNode }) {
  if (isEmpty) return [];
  const writable = isNode ? {} : { writable: true };
  return [
    { kind: "kv", name: "carts", bytes: 1_843_200, components: ["cart"], ...writable },
    { kind: "sql", name: "orders", bytes: 417_792, components: ["orders", "checkout"], ...writable },
    { kind: "sql", name: "reviews", bytes: 0, components: [], group: "services" },
  ];
}

function keys(query) {
  const limit = Number(query.get("limit") ?? 100);
  const found = KEYS.filter(({ key }) => key.startsWith(query.get("prefix") ?? "") && key > (query.get("after") ?? ""));
  const page = found.slice(0, limit);
  const next = found.length > limit ? { next: page.at(-1).key } : {};
  return { keys: page.map(({ key, value }) => ({ key, bytes: Buffer.byteLength(value, "latin1") })), ...next };
}

function value(key) {
  const found = KEYS.find((each) => each.key === key);
  if (!found) return undefined;
  const bytes = Buffer.from(found.value, key.startsWith("icon") ? "latin1" : "utf8");
  return { key, bytes: bytes.length, hex: bytes.toString("hex"), truncated: false };
}

const column = (name, type, more = {}) => ({ name, type, not_null: false, primary_key: false, ...more });

function schema() {
  return {
    objects: [
      {
        kind: "table",
        name: "orders",
        table: "orders",
        sql: "CREATE TABLE orders (id TEXT PRIMARY KEY, user TEXT NOT NULL, total REAL, placed_at INTEGER)",
        columns: [column("id", "TEXT", { primary_key: true }), column("user", "TEXT", { not_null: true }), column("total", "REAL"), column("placed_at", "INTEGER")],
      },
      { kind: "table", name: "items", table: "items", sql: "CREATE TABLE items (order_id TEXT, product TEXT, quantity INTEGER)", columns: [column("order_id", "TEXT"), column("product", "TEXT"), column("quantity", "INTEGER")] },
      { kind: "view", name: "totals_by_user", table: "totals_by_user", sql: "CREATE VIEW totals_by_user AS SELECT user, sum(total) FROM orders GROUP BY user", columns: [column("user", "TEXT"), column("sum(total)", "")] },
      { kind: "index", name: "orders_by_user", table: "orders", sql: "CREATE INDEX orders_by_user ON orders (user)" },
    ],
  };
}

/** The result of a statement; a problem if it does not only read. */
function query(statement) {
  if (!/^\s*select/i.test(statement)) {
    return { status: 400, body: { type: "bad-request", title: "the statement cannot be run: only one statement that reads is allowed here" } };
  }
  const rows = Array.from({ length: 40 }, (_, index) => [
    `8e2f-${String(index).padStart(4, "0")}`,
    `user-${index % 7}`,
    143.2 + index,
    index === 3 ? { integer: "9007199254740993" } : 1_796_000_000 + index * 61,
    index % 5 === 0 ? null : index % 5 === 1 ? { hex: "89504e470d0a1a0a", bytes: 51_200 } : "left at the door ".repeat((index % 4) * 6 + 1).trim(),
  ]);
  return { status: 200, body: { columns: ["id", "user", "total", "placed_at", "note"], rows, truncated: true, took_us: 1840 } };
}

/** The shapes of the app. @param {any} plan */
function shapes(plan) {
  const all = plan.groups.flatMap((group) => group.components).sort();
  const process = (name, ...compositions) => ({ name, compositions });
  const services = ["email", "orders"];
  const pages = all.filter((name) => name !== "payment" && !services.includes(name));
  return [
    { name: "guarded", current: true, processes: [process("pages", pages, ["payment"]), process("services", services)] },
    { name: "micro", current: false, processes: all.map((name) => process(name, [name])) },
    { name: "monolith", current: false, processes: [process("monolith", all)] },
  ];
}

/** Compares the current shape with groups. @param {any} plan @param {any} request */
function comparison(plan, request) {
  const list = shapes(plan);
  const current = list[0];
  const named = list.find((shape) => shape.name === request.shape);
  const groups = request.groups ?? {};
  const isolated = new Set(request.isolate ?? []);
  const processes =
    named?.processes ??
    Object.entries(groups).map(([name, members]) => ({
      name,
      compositions: [members.filter((member) => !isolated.has(member)), ...members.filter((member) => isolated.has(member)).map((member) => [member])].filter((each) => each.length > 0),
    }));
  const places = (all) => new Map(all.flatMap((process) => process.compositions.flatMap((members, store) => members.map((member) => [member, { process: process.name, store, in_store: members.length - 1, in_process: process.compositions.flat().length - 1 }]))));
  const [before, after] = [places(current.processes), places(processes)];
  const mode = (of, from, to) => {
    const [one, other] = [of.get(from), of.get(to)];
    return one.process !== other.process ? "remote" : one.store !== other.store ? "isolated" : "fused";
  };
  const cost = { fused: 0.51, isolated: 4.1, remote: 95 };
  const seams = plan.seams.flatMap((seam, index) => {
    const [was, is] = [mode(before, seam.importer, seam.exporter), mode(after, seam.importer, seam.exporter)];
    if (was === is) return [];
    const calls = index % 6 === 5 ? {} : { calls_per_request: Math.round((0.3 + ((index * 7) % 5) / 3) * 100) / 100 };
    return [{ importer: seam.importer, exporter: seam.exporter, interface: seam.import, before: was, after: is, cost_us_per_call: cost[is] - cost[was], ...calls }];
  });
  const measured = seams.filter((seam) => seam.calls_per_request !== undefined);
  const total = measured.reduce((sum, seam) => sum + seam.calls_per_request * seam.cost_us_per_call, 0);
  const key = (all) => JSON.stringify(all.map((process) => process.compositions.map((each) => [...each].sort()).sort()).sort());
  const to = list.find((shape) => key(shape.processes) === key(processes))?.name;
  const isolation = [...before].flatMap(([component, was]) => {
    const is = after.get(component);
    if (was.in_store === is.in_store && was.in_process === is.in_process) return [];
    return [{ component, store_before: was.in_store, store_after: is.in_store, process_before: was.in_process, process_after: is.in_process }];
  });
  return {
    from: current.name,
    ...(to && { to }),
    seams,
    unchanged: plan.seams.length - seams.length,
    ...(measured.length > 0 && { cost_us_per_request: total }),
    unmeasured: seams.length - measured.length,
    requests: 18_204,
    before: current.processes,
    after: processes,
    isolation,
    problems: [],
  };
}

function advice(isEmpty) {
  if (isEmpty) return { requests: 0, items: [], notes: ["0 requests measured since the app started in this shape; advice needs 100."] };
  return {
    requests: 18_204,
    request_us: 2480,
    items: [
      {
        kind: "fuse",
        component: "orders",
        caller: "checkout",
        summary: "Fuse `orders` with `checkout`: this would save about 189 µs of 2.5 ms per request.",
        cost_us_per_request: -189,
        evidence: [
          "`checkout` called `orders` 36408 times in 18204 requests: 2.00 remote calls per request.",
          "A call took 214 µs on average, with the work of `orders`.",
          "A remote call costs 95 µs in the published benchmarks, and a fused call 0.5 µs.",
        ],
        confidence: "high",
      },
      {
        kind: "isolate",
        component: "recommendation",
        caller: "frontend",
        summary: "Isolate `recommendation`: its faults would no longer end `frontend`, at about 3.6 µs per request.",
        cost_us_per_request: 3.6,
        evidence: [
          "`frontend` called `recommendation` 640 times in 18204 requests: 0.04 fused calls per request.",
          "31 of these calls trapped or exceeded their deadline (4.8 %).",
        ],
        confidence: "low",
      },
    ],
    notes: ["No advice about 1 seam with fewer than 100 measured calls: `frontend` → `ads`."],
  };
}

/** The tenants of a node with `count` apps. */
function tenants(count) {
  return Array.from({ length: Math.max(1, Math.ceil(count / 4)) }, (_, index) => {
    const name = count > 1 ? `tenant-${index}` : "local";
    const apps = count > 1 ? Array.from({ length: Math.min(4, count - 4 * index) }, (_, app) => `app-${4 * index + app}`) : ["boutique"];
    const memory = [256, 512, 1024, 128][index % 4] * 2 ** 20;
    return {
      name,
      quotas: {
        memory_bytes: memory,
        cpu_ms_per_second: [500, 1000, 2000, 250][index % 4],
        requests_concurrent: 256,
        requests_per_second: 1000,
        requests_burst: 2000,
        outbound_hosts: null,
        storage_bytes: 2 ** 30,
        apps: 20,
        log_bytes_per_hour: 16 * 2 ** 20,
      },
      usage: {
        memory_bytes: Math.floor(memory * (((index * 37) % 100) / 100)),
        host_memory_bytes: 412_000 * (index % 5),
        cpu_us: Math.floor(Date.now() * (index % 7) * 20),
        requests_now: index % 5,
        requests: Math.floor((Date.now() / 1000) * ((index * 13) % 40)),
        storage_bytes: ((index * 53) % 97) * 11 * 2 ** 20,
        refused: index % 9 === 4 ? { memory: 12, "request-rate": 480 } : {},
      },
      apps,
      hosts: index % 3 === 0 ? [`*.${name}.example`] : [],
      secrets: index % 2 === 0 ? ["card-key"] : [],
    };
  });
}

/** The metrics of all tenants of a node with `count` apps. */
function nodeMetrics(count) {
  const live = tenants(count).map(({ name, apps }, index) => ({ labels: { tenant: name, app: apps[0], group: "monolith" }, value: (index * 5) % 9 }));
  const dropped = [{ labels: { signal: "spans", reason: "full" }, value: count > 1 ? 1284 : 0 }];
  return [
    { name: "isomer.instance.live", unit: "instances", kind: "gauge", help: "The number of live instances.", series: live },
    { name: "isomer.telemetry.dropped", unit: "items", kind: "counter", help: "The number of dropped items.", series: dropped },
  ];
}

module.exports = { nodeMetrics, stores, keys, value, schema, query, shapes, comparison, advice, tenants };
