// Tests the shop in a real browser without JavaScript: browsing, the cart, a refused card, payment and the order, also on a small screen.
//
// node shop.cjs URL BROWSER SCREENSHOTS [SESSION]: prints a line for each check and exits with 0 if all passed.
// SESSION is a file with the visitor's cookies. If it exists, the visitor must find the cart and the order of the earlier visit.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { failureOf } = require("./requests.cjs");

const [url, browserPath, screenshots, session] = process.argv.slice(2);

async function check(name, body) {
  await body();
  console.log(`ok - ${name}`);
}

async function main() {
  const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  try {
    const returning = session !== undefined && fs.existsSync(session);
    const context = await browser.newContext({
      baseURL: url,
      javaScriptEnabled: false,
      viewport: { width: 1200, height: 900 },
      storageState: returning ? session : undefined,
    });
    context.setDefaultTimeout(20000);
    const page = await context.newPage();
    const failed = [];
    page.on("response", (response) => {
      if (response.status() >= 500) failed.push(`${response.status()} ${response.url()}`);
    });
    page.on("requestfailed", (request) => {
      const failure = failureOf(request);
      if (failure) failed.push(failure);
    });
    await (returning ? comeBack(page) : shop(page));
    assert.deepEqual(failed, [], "no request failed");
    if (session !== undefined) await context.storageState({ path: session });
  } finally {
    await browser.close();
  }
}

async function picture(page, name) {
  await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
}

async function shop(page) {
  await check("the front page shows nine products with their pictures", async () => {
    await page.goto("/");
    assert.equal(await page.locator("#products a[href^='/product/']").count(), 9);
    const pictures = page.locator("#products img");
    for (const picture of await pictures.all()) {
      await picture.scrollIntoViewIfNeeded();
      assert.notEqual((await picture.boundingBox()).height, 0);
    }
    await picture(page, "front");
  });

  await check("prices follow the currency", async () => {
    const price = page.locator("#products .card-price").first();
    const before = await price.innerText();
    const form = page.locator("form[action='/setCurrency']");
    await form.locator("[name=currency_code]").selectOption("JPY");
    await form.locator("button").click();
    assert.notEqual(await price.innerText(), before);
    await form.locator("[name=currency_code]").selectOption("USD");
    await form.locator("button").click();
    assert.equal(await price.innerText(), before);
  });

  await check("a product goes into the cart", async () => {
    await page.locator("#products a[href='/product/OLJCESPC7Z']").click();
    await page.locator("[name=quantity]").selectOption("3");
    await picture(page, "product");
    await page.getByRole("button", { name: "Add to cart" }).click();
    assert.equal(new URL(page.url()).pathname, "/cart");
    assert.match(await page.locator(".cart-link").innerText(), /3/);
    assert.equal(await page.locator("#cart .line").count(), 1);
    await picture(page, "cart");
  });

  await check("a refused card is reported, and the cart is kept", async () => {
    await page.locator("[name=credit_card_number]").fill("6011 1111 1111 1117");
    const [response] = await Promise.all([page.waitForNavigation(), page.getByRole("button", { name: /^Pay/ }).click()]);
    assert.equal(response.status(), 422);
    assert.match(await page.getByRole("alert").innerText(), /Nothing was charged/);
    assert.equal(await page.locator("#cart .line").count(), 1);
    await picture(page, "refused");
  });

  await check("a good card pays, and the order is shown", async () => {
    await page.locator("[name=credit_card_number]").fill("4111 1111 1111 1111");
    await page.locator("[name=credit_card_cvv]").fill("672");
    const [response] = await Promise.all([page.waitForNavigation(), page.getByRole("button", { name: /^Pay/ }).click()]);
    assert.equal(response.status(), 200);
    await picture(page, "order");
    await page.goto("/orders");
    assert.equal(await page.locator("main a[href^='/orders/']").count(), 1);
  });

  await check("the cart is filled again for another visit", async () => {
    await page.goto("/product/6E92ZMYYFZ");
    await page.getByRole("button", { name: "Add to cart" }).click();
    assert.equal(await page.locator("#cart .line").count(), 1);
  });

  await check("nothing is wider than a phone's screen", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    for (const place of ["/", "/product/6E92ZMYYFZ", "/cart", "/orders"]) {
      await page.goto(place);
      const width = (await page.locator("html").evaluate((html) => html.scrollWidth));
      assert.ok(width <= 360, `${place} is ${width} wide`);
    }
    await picture(page, "phone");
  });
}

async function comeBack(page) {
  await check("the cart is still there", async () => {
    await page.goto("/cart");
    assert.equal(await page.locator("#cart .line").count(), 1);
  });
  await check("the order is still there", async () => {
    await page.goto("/orders");
    assert.equal(await page.locator("main a[href^='/orders/']").count(), 1);
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
