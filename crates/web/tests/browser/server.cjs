// Tests when the server answers instead of the tab: if it refuses the tab's session, if it no longer runs the tab's revision, and after a change to
// a shape without a browser group. In all these cases, forms must work without a reload.
//
// node server.cjs URL BROWSER ISOMER DATA: prints a line for each check and exits with 0 if all passed. URL is that of the shop in the shape `tab`,
// ISOMER is the program, and DATA the data directory of the process that runs the shop. At the end, the shop runs in the shape `tab` again.
"use strict";

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const http = require("node:http");
const { chromium } = require("playwright-core");

const [url, executablePath, isomer, data] = process.argv.slice(2);

const PRODUCT = "/product/OLJCESPC7Z";
const FILE = "/static/products/larch-stool.svg";
const ANSWERED_BY = "isomer-answered-by";

async function check(name, body) {
  await body();
  console.log(`ok - ${name}`);
}

async function main() {
  const proxy = await Proxy.start();
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  try {
    await check("a tab whose session the server refuses stays with the server", () => inContext(browser, proxy, refusedTab));
    await check("a form is sent by the server while it refuses the session", () => inContext(browser, proxy, refusedOnce));
    await check("a form is sent by the server after the tab's revision has ended", () => inContext(browser, proxy, endedRevision));
    await check("the tab learns about a session that the server has started", () => inContext(browser, proxy, otherSession));
    await check("the worker is withdrawn in a shape without a browser group", () => inContext(browser, proxy, withdrawn));
  } finally {
    await browser.close();
    proxy.server.close();
  }
}

/** A proxy in front of the shop. It changes requests, or answers them. */
class Proxy {
  static async start() {
    const proxy = new Proxy();
    proxy.server = http.createServer((request, response) => proxy.serve(request, response));
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  reset() {
    /** Changes the fields of a request, or returns the status with which the proxy answers it. @type {(request: http.IncomingMessage) => number | void} */
    this.change = () => {};
    /** The statuses of all responses, by path. */
    this.statuses = {};
    this.responses = new EventTarget();
  }

  /** Waits until a request for `path` was answered. */
  async answered(path) {
    while (!this.statuses[path]) await new Promise((resolve) => this.responses.addEventListener("answer", resolve, { once: true }));
  }

  serve(request, response) {
    const note = (status) => {
      (this.statuses[request.url] ??= []).push(status);
      this.responses.dispatchEvent(new Event("answer"));
    };
    const refused = this.change(request);
    if (refused) {
      note(refused);
      request.resume();
      response.writeHead(refused).end();
      return;
    }
    const { method, headers } = request;
    const forwarded = http.request(new URL(request.url, url), { method, headers }, (answer) => {
      note(answer.statusCode);
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    forwarded.on("error", () => response.destroy());
    response.on("close", () => forwarded.destroy());
    request.pipe(forwarded);
  }
}

/** Runs `body` with a new visitor. */
async function inContext(browser, proxy, body) {
  proxy.reset();
  const context = await browser.newContext({ baseURL: proxy.url });
  context.setDefaultTimeout(60_000);
  try {
    await body({ context, page: await context.newPage(), proxy });
  } finally {
    await context.close();
  }
}

/** Opens a product in the tab. */
async function meetWorker({ page }) {
  await page.goto("/");
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  const product = await page.goto(PRODUCT);
  assert.equal(product.headers()[ANSWERED_BY], "tab");
}

async function stopWorkers({ context, page }) {
  const protocol = await context.newCDPSession(page);
  await protocol.send("ServiceWorker.enable");
  await protocol.send("ServiceWorker.stopAllWorkers");
}

/** Sends the form of the product that is open, and checks that the server answers it, and that the product is in the cart. */
async function addToCartOnServer(page) {
  const [response] = await Promise.all([page.waitForNavigation(), page.getByRole("button", { name: "Add to cart" }).click()]);
  assert.deepEqual([response.status(), response.headers()[ANSWERED_BY]], [200, undefined]);
  assert.equal(await page.locator("#cart .line").count(), 1);
}

/** Waits until the browser has no service worker for the shop. */
function noWorker(page) {
  return page.evaluate(async () => {
    while ((await navigator.serviceWorker.getRegistrations()).length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  });
}

/** The host without the port, as a proxy forwards it that was not told to forward the port: no page has this origin. */
async function refusedTab({ page, proxy }) {
  proxy.change = ({ headers }) => {
    headers.host = "127.0.0.1";
  };
  await page.goto("/");
  await proxy.answered("/_isomer/session");
  await noWorker(page);
  await page.goto(PRODUCT);
  await addToCartOnServer(page);
  assert.equal(await page.evaluate(() => navigator.serviceWorker.controller), null);
  const refused = proxy.statuses["/_isomer/session"];
  assert.ok(refused.length > 0 && refused.every((status) => status === 403), `${refused}`);
}

async function refusedOnce(visitor) {
  const { page, proxy } = visitor;
  await meetWorker(visitor);
  await page.evaluate(() => caches.delete("isomer-session"));
  await stopWorkers(visitor);
  proxy.change = (request) => (request.url === "/_isomer/session" ? 429 : undefined);
  await addToCartOnServer(page);
  assert.ok(proxy.statuses["/_isomer/session"].includes(429));
  proxy.change = () => {};
  assert.equal((await page.goto("/cart")).headers()[ANSWERED_BY], "tab");
  assert.equal(await page.locator("#cart .line").count(), 1);
}

/** Makes the calls of tabs those of a revision that does not exist. */
function endRevision(request) {
  if ("isomer-revision" in request.headers) request.headers["isomer-revision"] = "0".repeat(32);
}

async function endedRevision(visitor) {
  const { page, proxy } = visitor;
  await meetWorker(visitor);
  proxy.change = endRevision;
  await addToCartOnServer(page);
  assert.ok(proxy.statuses["/_isomer/call"].includes(410));
  // Without a new revision, the worker continues, and lets the server answer.
  assert.equal((await page.goto("/")).headers()[ANSWERED_BY], undefined);
}

async function otherSession(visitor) {
  const { context, page, proxy } = visitor;
  const stored = () => page.evaluate(async () => (await (await (await caches.open("isomer-session")).match("/_isomer/session"))?.json())?.identity);
  await meetWorker(visitor);
  const before = await stored();
  proxy.change = endRevision;
  assert.equal((await page.goto("/cart")).headers()[ANSWERED_BY], undefined);
  // "Forget me" ends the session.
  await page.goto("/logout");
  assert.ok(proxy.statuses["/logout"], "the server answers");
  proxy.change = () => {};
  await stopWorkers(visitor);
  // This file needs no call, so the server cannot tell the tab that its session has ended.
  assert.equal((await page.goto(FILE)).headers()[ANSWERED_BY], "tab");
  const after = await stored();
  const cookies = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const headers = { cookie: cookies, origin: url, "content-type": "application/json" };
  const report = await (await fetch(new URL("/_isomer/session", url), { method: "POST", body: "{}", headers })).json();
  assert.notEqual(after, before);
  assert.equal(after, report.identity);
}

function reshape(shape) {
  execFileSync(isomer, ["reshape", shape, "--node", data], { stdio: ["ignore", "ignore", "inherit"] });
}

async function withdrawn(visitor) {
  const { context, page } = visitor;
  await meetWorker(visitor);
  reshape("monolith");
  try {
    await addToCartOnServer(page);
    assert.equal((await page.goto("/")).headers()[ANSWERED_BY], undefined);
    await noWorker(page);
    assert.deepEqual(await page.evaluate(async () => (await caches.keys()).filter((name) => name.startsWith("isomer-"))), []);
    const other = await context.newPage();
    assert.equal((await other.goto(PRODUCT)).headers()[ANSWERED_BY], undefined);
    assert.equal(await other.evaluate(() => navigator.serviceWorker.controller), null);
  } finally {
    reshape("tab");
  }
  // The new worker takes over the pages that are open.
  await page.goto("/");
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  assert.equal((await page.goto(PRODUCT)).headers()[ANSWERED_BY], "tab");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
