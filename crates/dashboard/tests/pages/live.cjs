// Tests the dashboard of a running app in a browser: opens it by its link, and follows a request that the app has served.
// Usage: node live.cjs APP-URL BROWSER SCREENSHOTS COMMAND… COMMAND prints a link to the dashboard.
"use strict";

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [app, executablePath, folder, ...command] = process.argv.slice(2);

async function main() {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    page.setDefaultTimeout(60_000);
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on(
      "response",
      (response) => response.status() >= 400 && response.status() !== 404 && errors.push(`${response.status()} ${response.url()}`),
    );
    await page.goto(execFileSync(command[0], command.slice(1), { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim());

    await page.getByRole("button", { name: "Component checkout" }).waitFor();
    assert.equal(await page.locator(".node-component").count(), 11);
    await page.getByText("carts", { exact: true }).waitFor();
    console.log("ok: the map shows the app's components and stores");

    await page.getByRole("link", { name: "Deployments" }).click();
    await page.getByRole("heading", { name: "Served from its folder" }).waitFor();
    console.log("ok: an app that is served from its folder has no revisions");

    await page.getByRole("link", { name: "Data" }).click();
    await page.getByRole("link", { name: "orders" }).click();
    await page.getByRole("button", { name: /^Show the rows of/ }).first().click();
    await page.locator(".result").waitFor();
    await page.screenshot({ path: path.join(folder, "dashboard-live-data.png") });
    await page.getByRole("link", { name: "carts" }).click();
    await page.getByPlaceholder("Keys that begin with").waitFor();
    console.log("ok: the stores of the app are read");

    await page.getByRole("link", { name: "Shape" }).click();
    await page.getByRole("button", { name: /^micro/ }).click();
    await page.locator(".seam-changes tbody tr").first().waitFor();
    await page.screenshot({ path: path.join(folder, "dashboard-live-shape.png") });
    await changeShapes(page);
    await page.getByRole("link", { name: "Tenants" }).click();
    await page.getByRole("heading", { name: "One app, no tenants" }).waitFor();
    console.log("ok: the current shape is compared with another one");

    await page.getByRole("link", { name: "Logs" }).click();
    await page.locator(".line, .empty").first().waitFor();
    console.log("ok: the log is read");
    for (const name of ["map", "traces", "logs", "metrics"]) {
      await fetch(`${app}/`).then((response) => response.arrayBuffer());
      await page.getByRole("link", { name: new RegExp(name, "i") }).click();
      await page.locator(".graph, tbody tr, .line, .chart canvas, .empty").first().waitFor();
      await page.screenshot({ path: path.join(folder, `dashboard-live-${name}.png`) });
    }
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
  }
}

/** Changes the shape of the app while visitors use it. No request may fail, and the page must tell the end of each change. */
async function changeShapes(page) {
  const failures = [];
  let requests = 0;
  let isOver = false;
  const visits = (async () => {
    while (!isOver) {
      requests += 1;
      await fetch(`${app}/`)
        .then(async (response) => response.ok && (await response.text()))
        .then((text) => text || failures.push("a response without success or text"))
        .catch((error) => failures.push(String(error.cause ?? error)));
    }
  })();
  for (const shape of ["isolated", "split", "monolith"]) {
    await page.getByRole("button", { name: new RegExp(`^${shape}`) }).click();
    await page.getByRole("button", { name: `Run as ${shape}` }).click();
    await page.getByText(`The app now runs in the shape ${shape}.`).waitFor();
    await page.locator(".shape-choice.current", { hasText: shape }).waitFor();
  }
  isOver = true;
  await visits;
  assert.deepEqual(failures, []);
  console.log(`ok: the shape is changed three times, and none of ${requests} requests fails`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
