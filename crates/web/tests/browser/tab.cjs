// Tests the example shop in a tab: the service worker answers pages, forms and files with the components of the browser group.
//
// node tab.cjs URL BROWSER: prints a line for each check and exits with 0 if all passed. URL is that of the shop in the shape `tab`.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [url, executablePath] = process.argv.slice(2);

const ASSETS = path.join(__dirname, "../../assets");
const PRODUCT = "/product/OLJCESPC7Z";
const FILE = "/static/products/larch-stool.svg";
const ANSWERED_BY = "isomer-answered-by";

async function check(name, body) {
  await body();
  console.log(`ok - ${name}`);
}

async function main() {
  const server = await chromium.launchServer({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--js-flags=--expose-gc"] });
  const browser = await chromium.connect(server.wsEndpoint());
  try {
    const errors = [];
    const visitor = await visit(browser, errors);
    await modules(visitor.page);
    await pages(visitor);
    await forms(visitor.page);
    await otherOrigin(visitor.context);
    assert.deepEqual(errors, [], "the console has no errors");
    await load(visitor.page);
    await connection(visitor);
    if (process.env.ISOMER_LONG === "1") await growth(browser, server.process().pid);
  } finally {
    await browser.close();
    await server.close();
  }
}

/** Opens the shop as a new visitor, and waits until the worker controls the page. */
async function visit(browser, errors) {
  // The checks call `fetch`, which the policy of the shop's pages does not allow.
  const context = await browser.newContext({ baseURL: url, bypassCSP: true });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  context.on("console", (message) => {
    // The shop's policy forbids frames, so the browser reports the frame that a check creates.
    const isExpected = ["status of 404", "frame-ancestors"].some((text) => message.text().includes(text));
    if (message.type() === "error" && !isExpected) errors.push(message.text());
  });
  await check("the server answers the first visit, and the worker the next one", async () => {
    const first = await page.goto("/");
    assert.equal(first.headers()[ANSWERED_BY], undefined);
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    const second = await page.goto("/");
    assert.equal(second.headers()[ANSWERED_BY], "tab");
    assert.equal(await page.locator("#products a[href^='/product/']").count(), 9);
  });
  return { context, page };
}

/** Requests a page from the server, with the visitor's cookies but without the worker. */
async function fromServer(context, address) {
  // The browser sends cookies with `Secure` to the own machine over plain HTTP, unlike requests of the context.
  const cookies = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const response = await fetch(new URL(address, url), { headers: { cookie: cookies } });
  assert.equal(response.headers.get(ANSWERED_BY), null);
  return response;
}

/** Makes a module of the worker available to scripts of the page, as `window.worker[name]`. */
async function expose(page, name) {
  const sources = { "description.js": "export const description = { plan: '', stubs: { front: [{ key: '00'.repeat(16), seam: 'a call' }] }, outbound: {} };" };
  for (const file of fs.readdirSync(ASSETS)) sources[file] = fs.readFileSync(path.join(ASSETS, file), "utf8");
  await page.evaluate(
    async ([name, sources]) => {
      // Each module becomes a file of its own that imports the other ones by their URLs.
      const urls = {};
      const urlOf = (file) => {
        urls[file] ??= URL.createObjectURL(
          new Blob([sources[file].replace(/"\.\/([a-z]+\.js)";/g, (_, imported) => `"${urlOf(imported)}";`)], { type: "text/javascript" }),
        );
        return urls[file];
      };
      window.worker ??= {};
      window.worker[name] = await import(urlOf(`${name}.js`));
    },
    [name, sources],
  );
}

/** Tests the modules of the worker that need no component. */
async function modules(page) {
  for (const name of ["calls", "cookies", "frame", "http", "logs"]) await expose(page, name);
  await check("output is sent as lines, in batches with a maximum size", async () => {
    const { largest, batches } = await page.evaluate(async () => {
      const { OutputLines, flushed, logLine } = window.worker.logs;
      const batches = [];
      const real = window.fetch;
      let largest = 0;
      window.fetch = async (_url, { body }) => {
        largest = Math.max(largest, new TextEncoder().encode(body).length);
        batches.push(JSON.parse(body).lines);
        return new Response(null, { status: 204 });
      };
      const bytes = new TextEncoder().encode("first\nsecönd\nrest");
      const output = new OutputLines("front", "stdout");
      // The ö has two bytes, which arrive separately.
      output.write(bytes.subarray(0, 10));
      output.write(bytes.subarray(10));
      await flushed();
      // A control character has six bytes in JSON.
      for (let index = 0; index < 250; index += 1) logLine({ component: "front", level: "info", message: "\u0001".repeat(1000) });
      await flushed();
      window.fetch = real;
      return { largest, batches: batches.map((lines) => [lines.length, lines[0]]) };
    });
    assert.deepEqual(batches[0], [2, { component: "front", stream: "stdout", message: "first" }]);
    assert.match(batches[1][1].message, /^\(50 lines before this one were dropped\) /);
    assert.equal(batches.slice(1).reduce((sum, [lines]) => sum + lines, 0), 200);
    assert.ok(largest > 32 << 10 && largest <= 64 << 10, `a batch has ${largest} bytes`);
  });
  await check("cookies are parsed as browsers do", async () => {
    const parsed = await page.evaluate(() => {
      const { parse } = window.worker.cookies;
      const at = new URL("https://shop.example/a/b");
      const of = (line) => {
        const cookie = parse(line, at);
        return cookie && [cookie.name, cookie.value, cookie.path, cookie.domain, cookie.sameSite, cookie.isExpired, cookie.isHttpOnly];
      };
      return ["a=b", " a = b=c ; Path=/; HttpOnly", "a=; Max-Age=0; Expires=Wed, 01 Jan 2200 00:00:00 GMT", "a=b; Domain=.Example.com; SameSite=None; Path=x", "=", ";"].map(of);
    });
    assert.deepEqual(parsed, [
      ["a", "b", "/a", null, "lax", false, false],
      ["a", "b=c", "/", null, "lax", false, true],
      ["a", "", "/a", null, "lax", true, false],
      ["a", "b", "/a", "example.com", "none", false, false],
      null,
      null,
    ]);
  });
  await check("only what the server answers before a call runs means that the call has not run", async () => {
    const notRun = await page.evaluate(async () => {
      const { wire } = window.worker.calls;
      const real = window.fetch;
      const notRun = [];
      for (const status of [400, 401, 403, 410, 413, 415, 429, 500, 502, 503, 504, 520, 524]) {
        const { signal } = new AbortController();
        const request = { deadline: performance.now() + 10_000, id: 1n, trace: { child: () => "" }, signal, imageBytesMax: 1 << 20, hasEffects: false };
        window.fetch = async () => new Response("", { status });
        await wire("front", { request }).call(0, new Uint8Array(8)).catch(() => {});
        if (!request.hasEffects) notRun.push(status);
      }
      window.fetch = real;
      return notRun;
    });
    assert.deepEqual(notRun, [400, 401, 403, 410, 413, 415, 429]);
  });
  await check("arguments that the server would refuse are not sent", async () => {
    const [sent, failure] = await page.evaluate(async () => {
      const real = window.fetch;
      let sent = 0;
      window.fetch = async () => {
        sent += 1;
        return new Response("", { status: 413 });
      };
      const { signal } = new AbortController();
      const request = { deadline: performance.now() + 10_000, id: 1n, trace: { child: () => "" }, signal, imageBytesMax: 1 << 20, hasEffects: false };
      const failure = await window.worker.calls.wire("front", { request }).call(0, new Uint8Array((1 << 20) + 1)).catch(({ message }) => message);
      window.fetch = real;
      return [sent, failure];
    });
    assert.deepEqual([sent, failure], [0, "a call: the arguments have 1048577 bytes, at most 1048576 are allowed"]);
  });
  await check("a navigation from another site has no cookies with SameSite=Strict", async () => {
    const header = await page.evaluate(async () => {
      await cookieStore.set({ name: "strict", value: "1", sameSite: "strict" });
      const header = await window.worker.cookies.withoutStrict("a=1; strict=1; b=strict=1");
      await cookieStore.delete("strict");
      return header;
    });
    assert.equal(header, "a=1; b=strict=1");
  });
  await check("malformed reply frames are refused", async () => {
    const failures = await page.evaluate(() => {
      const { decodeReply } = window.worker.frame;
      const of = (...bytes) => {
        try {
          return [...decodeReply(Uint8Array.from(bytes))];
        } catch (error) {
          return `${error.kind} ${error.error}`;
        }
      };
      return [
        of(2, 0, 0, 0, 1, 0, 0, 0, 7),
        of(2, 1, 0, 0, 1, 0, 0, 0, 65),
        of(2, 2, 2, 0, 0, 0, 0, 0),
        of(2, 2, 4, 1, 0, 0, 0, 0),
        of(),
        of(1, 0, 0, 0, 0, 0, 0, 0),
        of(2, 0, 0, 0, 2, 0, 0, 0, 7),
        of(2, 0, 1, 0, 0, 0, 0, 0),
        of(2, 2, 0, 0, 0, 0, 0, 0),
        of(2, 0, 0, 1, 0, 0, 0, 0),
        of(2, 9, 0, 0, 0, 0, 0, 0),
      ];
    });
    const refused = "lost refused";
    assert.deepEqual(failures, [[7], "trap undefined", "lost deadline", refused, refused, refused, refused, refused, refused, refused, refused]);
  });
  await check("grants of hosts are matched as on the server", async () => {
    const granted = await page.evaluate(() => {
      const { isGranted } = window.worker.http;
      const of = (host, port, address) => isGranted([{ host, port }], new URL(address));
      return [
        of("api.example.com", null, "https://api.example.com/"),
        of("api.example.com", 443, "https://api.example.com/"),
        of("*.example.com", null, "https://a.b.example.com:8443/"),
        of("*", null, "https://other.example/"),
        of("api.example.com", 443, "https://api.example.com:8443/"),
        of("api.example.com", null, "https://api.example.com.evil.example/"),
        of("*.example.com", null, "https://example.com/"),
        of("*.example.com", null, "https://evilexample.com/"),
      ];
    });
    assert.deepEqual(granted, [true, true, true, true, false, false, false, false]);
  });
}

async function pages({ context, page }) {
  await check("pages and files are answered in the tab, and equal those of the server", async () => {
    // The ads are chosen at random.
    const body = (text) => text.replace(/<aside class="ad".*?<\/aside>/s, "").replace(/<script>try{if\("serviceWorker".*<\/script>/s, "");
    for (const address of ["/", PRODUCT, "/search?q=mug", "/cart", "/nothing", FILE]) {
      const inTab = await page.goto(address);
      assert.equal(inTab.headers()[ANSWERED_BY], "tab", address);
      const onServer = await fromServer(context, address);
      assert.equal(inTab.status(), onServer.status, address);
      assert.equal(inTab.headers()["content-type"], onServer.headers.get("content-type"), address);
      assert.ok(body(await inTab.text()) === body(await onServer.text()), `${address} differs`);
    }
  });
}

async function forms(page) {
  await check("a form is sent in the tab, and the server's copy sees its effect", async () => {
    await page.goto(PRODUCT);
    const response = page.waitForResponse((response) => response.request().method() === "POST");
    await page.locator("form[action='/cart'] button").first().click();
    assert.equal((await response).headers()[ANSWERED_BY], "tab");
    await page.getByText("Noon Sunglasses").first().waitFor();
    const onServer = await fromServer(page.context(), "/cart");
    assert.match(await onServer.text(), /Noon Sunglasses/);
  });
  await check("cookies of the app have the same values in the tab and on the server", async () => {
    await page.goto("/");
    const price = page.locator("#products .card-price").first();
    const before = await price.innerText();
    const form = page.locator("form[action='/setCurrency']");
    await form.locator("[name=currency_code]").selectOption("JPY");
    await form.locator("button").click();
    await page.waitForFunction((before) => document.querySelector("#products .card-price").innerText !== before, before);
    const shown = await price.innerText();
    const onServer = await fromServer(page.context(), "/");
    assert.ok((await onServer.text()).includes(shown), shown);
  });
}

async function otherOrigin(context) {
  await check("a form of another origin is left to the server", async () => {
    const page = await context.newPage();
    await page.setContent(`<form method="post" action="${url}/cart"><input name="product_id" value="OLJCESPC7Z"><input name="quantity" value="1"><button>Send</button></form>`);
    const response = page.waitForResponse((response) => response.request().method() === "POST");
    await page.locator("button").click();
    assert.equal((await response).headers()[ANSWERED_BY], undefined);
    await page.close();
  });
  await check("a frame in a page of another origin is left to the server, although the page hides its address", async () => {
    // An origin of the same site, so that the frame has the same worker as the shop's own pages.
    const other = http.createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<meta name="referrer" content="no-referrer"><iframe src="${url}"></iframe>`);
    });
    await new Promise((resolve) => other.listen(0, new URL(url).hostname, resolve));
    const page = await context.newPage();
    const framed = page.waitForResponse((response) => new URL(response.url()).origin === new URL(url).origin);
    await page.goto(`http://${new URL(url).hostname}:${other.address().port}/`);
    assert.equal((await framed).headers()[ANSWERED_BY], undefined);
    await page.close();
    other.closeAllConnections();
    await new Promise((resolve) => other.close(resolve));
  });
}

async function load(page) {
  await check("twenty overlapping requests have the right responses", async () => {
    const wrong = await page.evaluate(async () => {
      const products = ["OLJCESPC7Z", "66VCHSJNUP", "1YMWWN1N4O", "L9ECAV7KIM", "2ZYFJ3GM2N"];
      const get = async (id) => {
        const response = await fetch(`/product/${id}`);
        return [response.headers.get("isomer-answered-by"), (await response.text()).replace(/<aside class="ad".*?<\/aside>/s, "")];
      };
      const expected = new Map();
      for (const id of products) expected.set(id, String(await get(id)));
      const all = await Promise.all(Array.from({ length: 20 }, async (_, index) => [products[index % 5], await get(products[index % 5])]));
      return all.filter(([id, response]) => response[0] !== "tab" || String(response) !== expected.get(id)).length;
    });
    assert.equal(wrong, 0);
  });
  await check("cancelled requests do not use up instances", async () => {
    const answers = await page.evaluate(async () => {
      const cancelled = Array.from({ length: 30 }, async (_, index) => {
        const controller = new AbortController();
        setTimeout(() => controller.abort(), index * 3);
        await (await fetch("/cart", { signal: controller.signal })).text();
      });
      await Promise.allSettled(cancelled);
      const answers = [];
      for (let index = 0; index < 5; index += 1) answers.push((await fetch("/cart")).headers.get("isomer-answered-by"));
      return answers;
    });
    assert.deepEqual(answers, Array(5).fill("tab"));
  });
  await check("a body that is too large is refused", async () => {
    const status = await page.evaluate(async () => (await fetch("/cart", { method: "POST", body: "x".repeat(70_000) })).status);
    assert.equal(status, 413);
  });
}

async function connection({ context, page }) {
  const protocol = await context.newCDPSession(page);
  await protocol.send("ServiceWorker.enable");
  await check("a stopped worker starts again without a connection", async () => {
    await context.setOffline(true);
    await protocol.send("ServiceWorker.stopAllWorkers");
    const file = await page.goto(FILE);
    assert.deepEqual([file.status(), file.headers()[ANSWERED_BY]], [200, "tab"]);
    const product = await page.goto("/cart");
    assert.deepEqual([product.status(), product.headers()[ANSWERED_BY]], [503, "tab"]);
    await context.setOffline(false);
    const cart = await page.goto("/cart");
    assert.deepEqual([cart.status(), cart.headers()[ANSWERED_BY]], [200, "tab"]);
  });
}

/** Returns the memory of all processes below `root`, without memory that they share, in MiB. Linux only. */
function memoryBelow(root) {
  const processes = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const parents = new Map();
  for (const id of processes) {
    try {
      parents.set(Number(id), Number(fs.readFileSync(`/proc/${id}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")[1]));
    } catch {
      // The process has ended.
    }
  }
  const isBelow = (id) => id === root || (parents.has(id) && isBelow(parents.get(id)));
  let sum = 0;
  for (const id of [...parents.keys()].filter(isBelow)) {
    try {
      sum += Number(fs.readFileSync(`/proc/${id}/smaps_rollup`, "utf8").match(/^Pss:\s+(\d+)/m)[1]);
    } catch {
      // The process has ended, or belongs to another user.
    }
  }
  return sum / 1024;
}

/** The maximum growth of the browser's memory over 3,000 pages, in MiB. Without the replacement of instances, it is 200. */
const GROWTH_MAX = 80;

async function growth(browser, root) {
  await check("memory does not grow over 3,000 pages", async () => {
    const { context, page } = await visit(browser, []);
    const measured = async (pages) => {
      await page.evaluate(async (pages) => {
        for (let index = 0; index < pages; index += 1) await (await fetch(index % 2 ? "/" : "/product/OLJCESPC7Z")).text();
      }, pages);
      for (const worker of context.serviceWorkers()) await worker.evaluate(() => globalThis.gc());
      return memoryBelow(root);
    };
    const before = await measured(1000);
    const after = await measured(3000);
    console.log(`memory: ${before.toFixed(0)} MiB after 1,000 pages, ${after.toFixed(0)} MiB after 3,000 more`);
    assert.ok(after - before < GROWTH_MAX, `the memory grew from ${before} to ${after} MiB`);
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
