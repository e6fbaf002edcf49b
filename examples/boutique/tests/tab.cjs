// Plays a shopping session in two shops in a real browser, and compares the pages: the shop at the URL MONOLITH runs in the shape `monolith`, the
// shop at TAB in the shape `tab`. Then checks that two browsers do not share carts and orders.
//
// With ANSWERED_BY `server`, the browser runs no JavaScript, so the server's copy answers. With `worker`, the visitor's tab answers.
//
// node tab.cjs MONOLITH TAB BROWSER SCREENSHOTS ANSWERED_BY: prints a line for each check and exits with 0 if all passed.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { failureOf } = require("./requests.cjs");

const [monolith, tab, browserPath, screenshots, answeredBy] = process.argv.slice(2);
assert.ok(["server", "worker"].includes(answeredBy));
const SUNGLASSES = "/product/OLJCESPC7Z";

async function check(name, body) {
  const result = await body();
  console.log(`ok - ${name}`);
  return result;
}

async function main() {
  const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  try {
    const expected = await check("the session works in the monolith", () => inContext(browser, monolith, shop));
    const found = await check("the session works in the shape `tab`", () => inContext(browser, tab, async (visitor) => {
      await visitor.meetWorker();
      const pages = await shop(visitor);
      await visitor.page.screenshot({ path: path.join(screenshots, `tab-${answeredBy}.png`), fullPage: true });
      return pages;
    }));
    await check("the pages are those of the monolith", () => compare(expected, found));
    await check(`the ${answeredBy} answers all requests`, () => {
      const others = found.filter((page) => page.byWorker !== (answeredBy === "worker"));
      assert.deepEqual(others.map((page) => page.name), []);
      assert.ok(found.length >= 12, `only ${found.length} pages`);
    });
    await check("two browsers have different carts and orders", () => twoBrowsers(browser));
  } finally {
    await browser.close();
  }
}

/// Runs `body` with a visitor in a new browser context. No request may fail, and the console must stay empty.
async function inContext(browser, url, body) {
  const javaScriptEnabled = answeredBy === "worker";
  const context = await browser.newContext({ baseURL: url, javaScriptEnabled, viewport: { width: 1200, height: 900 } });
  context.setDefaultTimeout(30000);
  try {
    const visitor = new Visitor(await context.newPage());
    const result = await body(visitor);
    assert.deepEqual(visitor.troubles, [], "no request failed, and the console is empty");
    return result;
  } finally {
    await context.close();
  }
}

class Visitor {
  constructor(page) {
    this.page = page;
    this.pages = [];
    this.troubles = [];
    page.on("response", (response) => {
      if (response.status() >= 500) this.troubles.push(`${response.status()} ${response.url()}`);
    });
    page.on("requestfailed", (request) => {
      const failure = failureOf(request);
      if (failure) this.troubles.push(failure);
    });
    page.on("pageerror", (error) => this.troubles.push(`${error}`));
    page.on("console", (message) => {
      // The browser itself reports responses with a status of 400 or more, which some steps expect.
      const isStatus = /status of 4\d\d/.test(message.text());
      if (message.type() === "error" && !isStatus) this.troubles.push(message.text());
    });
  }

  /// Opens the front page, which the server answers, and waits until the worker controls the page, if there is one.
  async meetWorker() {
    const first = await this.page.goto("/");
    assert.equal(first.fromServiceWorker(), false, "the server answers the first request");
    if (answeredBy === "server") return;
    await this.page.evaluate(async () => {
      await navigator.serviceWorker.ready;
      if (!navigator.serviceWorker.controller) {
        await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
      }
    });
  }

  /// Runs an action that leads to a new page, and keeps this page under a name.
  async visit(name, status, action) {
    const [response] = await Promise.all([this.page.waitForNavigation({ waitUntil: "load" }), action()]);
    assert.equal(response.status(), status, `${name}: ${response.url()}`);
    this.pages.push({
      name,
      status,
      path: stable(new URL(this.page.url()).pathname),
      type: response.headers()["content-type"],
      html: stable(await this.page.content()),
      byWorker: response.fromServiceWorker(),
    });
  }

  open(name, target, status = 200) {
    return this.visit(name, status, () => this.page.goto(target));
  }

  press(name, button, status = 200) {
    return this.visit(name, status, () => this.page.getByRole("button", { name: button }).first().click());
  }
}

/// Replaces what differs between two visits (ads are chosen at random), and removes the script that registers the worker.
function stable(text) {
  return text
    .replace(/<script\b[^>]*>[\s\S]*?<\/script>/g, "")
    .replace(/<aside class="ad"[\s\S]*?<\/aside>/g, "AD")
    .replace(/\b[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}\b/g, "ORDER")
    .replace(/\b[A-Z]{2}[0-9]{9}[A-Z]{2}\b/g, "TRACKING")
    .replace(/(<dt>Transaction<\/dt>\s*<dd><code>)[^<]*/g, "$1TRANSACTION")
    .replace(/\d{1,2} (January|February|March|April|May|June|July|August|September|October|November|December) \d{4}(, \d\d:\d\d UTC)?/g, "DATE");
}

/// Plays the session, and returns the pages.
async function shop(visitor) {
  const { page } = visitor;
  await visitor.open("front", "/");
  await visitor.open("search", "/search?q=glass");
  await visitor.open("product", SUNGLASSES);
  await visitor.visit("currency", 200, async () => {
    const form = page.locator("form[action='/setCurrency']");
    await form.locator("[name=currency_code]").selectOption("JPY");
    await form.locator("button").click();
  });
  await page.locator("[name=quantity]").selectOption("3");
  await visitor.press("added", "Add to cart");
  assert.equal(await page.locator("#cart .line").count(), 1);
  await page.locator("[name=credit_card_number]").fill("6011 1111 1111 1117");
  await visitor.press("refused", /^Pay/, 422);
  await page.locator("[name=credit_card_number]").fill("4111 1111 1111 1111");
  await page.locator("[name=credit_card_cvv]").fill("672");
  await visitor.press("paid", /^Pay/);
  await visitor.open("orders", "/orders");
  await visitor.visit("order", 200, () => page.locator("main a[href^='/orders/']").first().click());
  await visitor.open("empty cart", "/cart");
  await visitor.open("another product", "/product/6E92ZMYYFZ");
  await visitor.press("added again", "Add to cart");
  await visitor.press("emptied", "Empty the cart");
  await visitor.open("unknown product", "/product/NOTHING", 404);
  await visitor.open("unknown page", "/nothing", 404);
  await visitor.open("front again", "/");
  return visitor.pages;
}

function compare(expected, found) {
  assert.deepEqual(found.map((page) => page.name), expected.map((page) => page.name));
  for (const [number, page] of found.entries()) {
    const { name, status, path, type, html } = expected[number];
    assert.deepEqual({ status: page.status, path: page.path, type: page.type }, { status, path, type }, name);
    if (page.html !== html) assert.fail(`${name}: ${difference(html, page.html)}`);
  }
}

/// Describes the first difference between two pages.
function difference(expected, found) {
  let at = 0;
  while (at < expected.length && expected[at] === found[at]) at += 1;
  const around = (text) => text.slice(Math.max(0, at - 80), at + 120);
  return `…${around(expected)}… became …${around(found)}…`;
}

async function twoBrowsers(browser) {
  await inContext(browser, tab, (one) => inContext(browser, tab, async (other) => {
    await one.meetWorker();
    await other.meetWorker();
    await one.open("product", SUNGLASSES);
    await one.press("added", "Add to cart");
    await other.open("cart", "/cart");
    assert.equal(await other.page.locator("#cart .line").count(), 0);
    await one.page.locator("[name=credit_card_number]").fill("4111 1111 1111 1111");
    await one.page.locator("[name=credit_card_cvv]").fill("672");
    await one.press("paid", /^Pay/);
    await one.open("orders", "/orders");
    const order = await one.page.locator("main a[href^='/orders/']").first().getAttribute("href");
    await other.open("an order of the other browser", order, 404);
    await other.open("orders", "/orders");
    assert.equal(await other.page.locator("main a[href^='/orders/']").count(), 0);
  }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
