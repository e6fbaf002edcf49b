// Tests the pages of the dashboard in a browser, with the fixed data of `fixtures.cjs`.
// Usage: node pages.cjs ADDRESS BROWSER SCREENSHOTS COMMAND…
// ADDRESS is that of a process that serves the dashboard, SCREENSHOTS a folder, and COMMAND prints a link to the dashboard.
"use strict";

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { serve } = require("./fixtures.cjs");

const [upstream, executablePath, folder, ...command] = process.argv.slice(2);

/** The sizes of the window: a desktop and a phone. */
const SIZES = { wide: { width: 1440, height: 900 }, narrow: { width: 390, height: 844 } };

/** Returns a new one-time code. */
const newCode = () =>
  /\?code=(\w+)/.exec(execFileSync(command[0], command.slice(1), { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }))[1];

/** Opens a dashboard, and collects errors of its scripts and of its content security policy. */
async function open(browser, fixture, options = {}) {
  const context = await browser.newContext({ viewport: SIZES.wide, colorScheme: "light", reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on(
    "console",
    (message) => message.type() === "error" && !message.text().includes("Failed to load resource") && errors.push(message.text()),
  );
  page.on(
    "request",
    (request) => request.url().startsWith(fixture.url) || request.url().startsWith("data:") || errors.push(`request to ${request.url()}`),
  );
  await page.goto(`${fixture.url}/?code=${newCode()}`);
  await page.getByRole("navigation", { name: "Pages" }).waitFor();
  assert.equal(new URL(page.url()).search, "", "the code stays in the address");
  return { page, context, errors };
}

const tests = {
  async "a session is needed, and a code opens one only once"({ page, context, fixture }) {
    const cookies = await context.cookies();
    assert.ok(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict", JSON.stringify(cookies));
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "The session has ended" }).waitFor();
    assert.equal((await context.cookies()).length, 0);
    await page.goto(`${fixture.url}/?code=${"0".repeat(64)}`);
    await page.getByRole("heading", { name: "The link was used or has expired" }).waitFor();
    await page.locator(".command", { hasText: "isomer dashboard" }).first().waitFor();
  },

  async "the map shows components, seams, figures and reasons"({ page, fixture }) {
    await page.goto(`${fixture.url}/map`);
    await page.getByRole("button", { name: "Component checkout" }).waitFor();
    assert.equal(await page.locator(".node-component").count(), 11);
    assert.equal(await page.locator(".edge[role=button]").count(), 16);
    await page.locator(".edge-label").first().waitFor();
    await page.locator(".node-store", { hasText: /\d\/s/ }).first().waitFor();
    await page.getByRole("button", { name: "Seam from checkout to payment, isolated" }).focus();
    await page.keyboard.press("Enter");
    await page.getByText("the shape isolates").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("complementary").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Component email" }).click();
    await page.getByText("is imported without a grant").waitFor();
    await page.getByText("kv carts").waitFor({ state: "detached" });
  },

  async "traces are searched, opened and compared"({ page, fixture }) {
    await page.goto(`${fixture.url}/traces`);
    const rows = page.locator("tbody tr");
    await rows.nth(49).waitFor();
    await page.getByRole("button", { name: "Show older traces" }).click();
    await rows.nth(99).waitFor();
    await page.getByLabel("Outcome").selectOption("failed");
    const failed = fixture.traces.filter((trace) => trace.failed);
    await page.waitForFunction((count) => document.querySelectorAll("tbody tr").length === count, failed.length);
    assert.ok(page.url().includes("outcome=failed"), "the filters are in the address");
    await page.keyboard.press("/");
    await page.keyboard.type("nothing like this");
    await page.getByRole("heading", { name: "No trace matches" }).waitFor();
    await page.getByPlaceholder("Search names, failures, attributes").fill("checkout");
    await page.getByRole("link", { name: "POST /cart/checkout" }).first().waitFor();
    assert.equal(fixture.record.requests.filter((request) => request.includes("text=checkout") && request.includes("after=")).length, 3);
    await page.getByPlaceholder("Search names, failures, attributes").fill("nothing like this");
    await page.getByRole("link", { name: "Remove the filters" }).click();
    await rows.nth(9).waitFor();
    await page.getByRole("checkbox").nth(0).check();
    await page.getByRole("checkbox").nth(2).check();
    await page.getByRole("button", { name: "Compare" }).click();
    await page.getByText("B compared with A").waitFor();
    assert.ok((await page.locator(".comparison tbody tr").count()) > 3);
  },

  async "new traces arrive by themselves"({ page, fixture }) {
    await page.goto(`${fixture.url}/traces`);
    await page.locator("tbody tr").nth(49).waitFor();
    const arrived = { ...fixture.traces[0], id: "f".repeat(32), request: "f".repeat(16), name: "GET /...", path: "/just-now" };
    await page.locator(".live.on").waitFor();
    await page.waitForFunction(() => document.querySelector(".live.on"));
    for (const stream of fixture.record.streams) if (stream.name === "traces") stream.send(arrived);
    await page.getByRole("link", { name: "GET /just-now" }).waitFor();
    await page.locator("#page").evaluate((element) => element.scrollTo(0, 600));
    const second = { ...arrived, id: "e".repeat(32), request: "e".repeat(16), name: "GET /...", path: "/later" };
    for (const stream of fixture.record.streams) if (stream.name === "traces") stream.send(second);
    await page.getByRole("button", { name: "1 new trace" }).click();
    await page.getByRole("link", { name: "GET /later" }).waitFor();
  },

  async "the next requests are recorded"({ page, fixture }) {
    await page.goto(`${fixture.url}/traces`);
    await page.getByRole("button", { name: "Record the next" }).click();
    await page.getByRole("dialog").getByPlaceholder("all paths").fill("/cart");
    await page.getByRole("button", { name: "Record", exact: true }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.deepEqual(JSON.parse(fixture.record.body), { path: "/cart", requests: 5 });
  },

  async "a trace is a tree with keys, details and failures"({ page, fixture }) {
    const trace = fixture.traces.find((each) => each.failed);
    await page.goto(`${fixture.url}/traces/${trace.id}`);
    const rows = page.getByRole("treeitem");
    await rows.first().waitFor();
    const count = await rows.count();
    await rows.first().focus();
    await page.keyboard.press("ArrowLeft");
    await page.waitForFunction(() => document.querySelectorAll("[role=treeitem]").length === 1);
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction((all) => document.querySelectorAll("[role=treeitem]").length === all, count);
    await page
      .getByRole("treeitem", { name: /failed$/ })
      .first()
      .click();
    await page.getByText("the callee trapped: unreachable").waitFor();
    await page.getByText("isomer.seam.mode").waitFor();
    await page.getByRole("complementary").getByRole("link", { name: "Logs of the trace" }).click();
    await page.getByText("the request failed").waitFor();
    assert.equal(await page.locator(".line").count(), 2);
  },

  async "logs follow, filter and lead to traces"({ page, fixture }) {
    await page.goto(`${fixture.url}/logs`);
    const lines = page.locator(".line");
    await lines.nth(100).waitFor();
    for (const stream of fixture.record.streams)
      if (stream.name === "logs") stream.send({ at_ms: Date.now(), component: "cart", stream: "stdout", text: "<b>a new line</b>" });
    await page.getByText("<b>a new line</b>").waitFor();
    await page.waitForFunction(() => {
      const list = document.querySelector(".lines");
      return list.scrollHeight - list.scrollTop - list.clientHeight < 2;
    });
    await page.getByLabel("Component").selectOption("orders");
    await page.waitForFunction(() => [...document.querySelectorAll(".line-source")].every((source) => source.textContent === "orders"));
    await page.getByRole("link", { name: "Logs" }).click();
    await page.getByRole("button", { name: "show the call stack" }).first().click();
    await page.getByText("orders::store::insert").first().waitFor();
    await page.locator(".line-request").first().click();
    await page.getByRole("treeitem").first().waitFor();
  },

  async "metrics are drawn, and a brush chooses a time range"({ page, fixture }) {
    await page.goto(`${fixture.url}/charts`);
    const charts = page.locator(".chart canvas");
    await charts.nth(7).waitFor();
    await page.waitForFunction(() => /\d\/s/.test(document.querySelector(".chart-legend b")?.textContent ?? ""));
    const box = await page.locator(".chart .u-over").first().boundingBox();
    await page.mouse.move(box.x + box.width * 0.3, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, box.y + 40, { steps: 4 });
    await page.mouse.up();
    await page.getByRole("button", { name: "Follow the present" }).click();
    await page.getByPlaceholder("Name").fill("process.memory");
    await page.getByText("The resident memory of the process.").click();
    await page.getByText(/MiB/).first().waitFor();
  },

  async "keys are found by prefix, and values are shown in several forms"({ page, fixture }) {
    await page.goto(`${fixture.url}/data`);
    const keys = page.locator(".keys tbody tr");
    await keys.nth(99).waitFor();
    await page.getByRole("button", { name: "Show more keys" }).click();
    await keys.nth(199).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("cart/user-0007");
    await page.waitForFunction(() => document.querySelectorAll(".keys tbody tr").length === 1);
    await page.getByRole("button", { name: "cart/user-0007" }).click();
    await page.locator(".value", { hasText: '"currency": "EUR"' }).waitFor();
    await page.getByRole("button", { name: "Hex" }).click();
    await page.locator(".value", { hasText: "000000  7b 22 69" }).waitFor();
    assert.ok(!page.url().includes("0007"), "no key is in the address");
    await page.keyboard.press("Escape");
    await page.getByRole("complementary").waitFor({ state: "detached" });
    assert.equal(await page.getByRole("button", { name: "Set a key" }).count(), 0, "a node's data is read-only");
    await page.getByPlaceholder("Keys that begin with").fill("exact");
    await page.getByRole("button", { name: "exact" }).click();
    await page.locator(".value", { hasText: /"id": 9007199254740993,\s+"total": 1\.0/ }).waitFor();
  },

  async "tables are shown, and statements run"({ page, fixture }) {
    await page.goto(`${fixture.url}/data/sql/orders`);
    await page.getByRole("button", { name: "Show the rows of orders" }).click();
    await page.locator(".result tbody tr").nth(39).waitFor();
    await page.getByText("9007199254740993").waitFor();
    await page.getByText("40 rows, and more that are not shown").waitFor();
    assert.deepEqual(JSON.parse(fixture.record.body), { statement: 'SELECT * FROM "orders" LIMIT 100' });
    await page.getByPlaceholder("SELECT …").fill("DELETE FROM orders");
    await page.keyboard.press("Control+Enter");
    await page.getByRole("alert").getByText("only one statement that reads").waitFor();
    assert.equal(await page.getByRole("button", { name: "Run as a change" }).count(), 0);
    await page.getByRole("link", { name: "reviews" }).click();
    await page.getByRole("heading", { name: "Open in group services" }).waitFor();
  },

  async "a shape is chosen, compared and applied"({ page, fixture }) {
    await page.goto(`${fixture.url}/shape`);
    await page.getByRole("button", { name: /^monolith/ }).click();
    await page.locator(".seam-changes tbody tr").nth(3).waitFor();
    await page.locator(".tile", { hasText: "Per request" }).getByText("−").waitFor();
    await page.getByRole("button", { name: "Run as monolith" }).click();
    // The button gets another text when the change begins, so the end of the change is awaited here.
    await page.getByText("The app now runs in the shape monolith.").waitFor();
    assert.ok(fixture.record.requests.includes("POST /v1/tenants/local/apps/boutique/reshape"));
    fixture.record.refusal = { type: "refused", title: "the group `email` did not become ready", detail: "the port is in use" };
    await page.getByRole("button", { name: /^micro/ }).click();
    await page.getByRole("button", { name: "Run as micro" }).click();
    await page.getByText("the group `email` did not become ready").waitFor();
    await page.getByText("The app still runs in the shape").waitFor();
    fixture.record.noPlan = true;
    await page.getByRole("button", { name: /^monolith/ }).click();
    await page.getByText("the process keeps no plan").waitFor();
    await page.getByRole("button", { name: "Run as monolith" }).waitFor();
  },

  async "a browser group is shown apart from the groups on the server"({ page, fixture }) {
    fixture.record.browser = { group: { name: "client", components: ["catalog", "frontend"] }, seams: [] };
    await page.goto(`${fixture.url}/shape`);
    await page.locator(".browser-group", { hasText: "client: catalog, frontend. The groups below run on the server." }).waitFor();
    await page.getByLabel("Group pages").locator('[data-component="frontend"]').waitFor();
  },

  async "components are moved with the pointer and with keys"({ page, fixture }) {
    await page.goto(`${fixture.url}/shape`);
    await page.locator('[data-component="email"]').dragTo(page.getByLabel("Another group"));
    await page.getByText("The manifest defines no shape like this.").waitFor();
    await page.locator(".custom pre", { hasText: 'groups.email = ["email"]' }).waitFor();
    await page.getByRole("button", { name: "Discard" }).click();
    await page.locator('[data-component="orders"]').focus();
    await page.keyboard.press("ArrowLeft");
    await page.getByLabel("Group pages").locator('[data-component="orders"].moved').waitFor();
    await page.locator('[data-component="cart"]').click();
    await page.getByRole("checkbox").check();
    await page.locator('[data-component="cart"].isolated').waitFor();
    await page.getByLabel("Group", { exact: true }).selectOption("its own");
    await page.getByLabel("Group cart").waitFor();
  },

  async "advice has evidence and can be tried"({ page, fixture }) {
    await page.goto(`${fixture.url}/shape`);
    const advice = page.getByRole("region", { name: "Advice" });
    await advice.getByText("2.00 remote calls per request").waitFor();
    await advice.getByText("few samples").waitFor();
    await advice.getByRole("button", { name: "Try it" }).first().click();
    await page.getByLabel("Group pages").locator('[data-component="orders"].moved').waitFor();
    await page.locator(".seam-changes tbody tr", { hasText: "checkout → orders" }).waitFor();
  },

  async "tenants are searched, sorted and opened"({ page, fixture }) {
    fixture.record.appCount = 1000;
    await page.goto(`${fixture.url}/tenants`);
    const rows = page.locator(".tenant-table tbody tr");
    await rows.nth(99).waitFor();
    await page.getByRole("button", { name: "Show 100 of 150 more" }).click();
    await rows.nth(199).waitFor();
    await page.getByRole("button", { name: "Refused" }).click();
    await page.locator("tbody tr:first-child .warned", { hasText: "492" }).waitFor();
    await page.getByPlaceholder("Search 250 tenants").fill("app-77");
    await page.getByRole("button", { name: "tenant-193" }).click();
    const panel = page.getByRole("complementary");
    await panel.getByText("Requests in flight").waitFor();
    await panel.getByRole("link", { name: "app-772" }).click();
    await page.getByRole("button", { name: "tenant-193 / app-772" }).waitFor();
  },

  async "a revision is rolled back after a question"({ page, fixture }) {
    await page.goto(`${fixture.url}/deployments`);
    await page.getByRole("button", { name: "Roll back to this" }).nth(1).click();
    await page.getByRole("dialog").getByPlaceholder("Why (optional)").fill("the cart lost items");
    await page.getByRole("dialog").getByRole("checkbox").check();
    await page.getByRole("button", { name: "Roll back", exact: true }).click();
    await page.getByText("serves requests").waitFor();
    const sent = JSON.parse(fixture.record.body);
    assert.deepEqual([sent.to_snapshot, sent.message, sent.revision.length], [true, "the cart lost items", 64]);
  },

  async "a component is replaced with a file"({ page, fixture }) {
    await page.goto(`${fixture.url}/deployments`);
    await page.getByRole("button", { name: "Replace a component" }).click();
    await page.getByRole("dialog").getByLabel("Component", { exact: true }).selectOption("currency");
    await page
      .getByLabel("File of the component")
      .setInputFiles({ name: "currency.wasm", mimeType: "application/wasm", buffer: Buffer.from("abc") });
    await page.getByRole("button", { name: "Replace", exact: true }).click();
    await page.getByText("serves requests").waitFor();
    const digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert.ok(fixture.record.requests.includes(`PUT /v1/blobs/${digest}`));
    assert.deepEqual(JSON.parse(fixture.record.body), { components: { currency: { digest, bytes: 3 } } });
  },

  async "keys open pages, and the theme is kept"({ page, fixture }) {
    await page.goto(`${fixture.url}/map`);
    await page.getByRole("button", { name: "Component checkout" }).waitFor();
    for (const [key, title] of [
      ["t", "Traces"],
      ["l", "Logs"],
      ["c", "Metrics"],
      ["d", "Deployments"],
      ["b", "Data"],
      ["s", "Shape"],
      ["n", "Tenants"],
      ["m", "Map"],
    ]) {
      await page.keyboard.press("g");
      await page.keyboard.press(key);
      await page.getByRole("heading", { name: title, level: 1 }).waitFor();
    }
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Theme: system" }).click();
    await page.getByRole("button", { name: "Theme: light" }).click();
    await page.reload();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
  },

  async "the app is chosen among many"({ page, fixture }) {
    fixture.record.appCount = 1000;
    await page.goto(`${fixture.url}/deployments`);
    await page.getByRole("button", { name: "tenant-0 / app-0" }).click();
    await page.getByPlaceholder("Search 1,000 apps").fill("app-77");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    const asked = page.waitForRequest((request) => request.url().endsWith("/v1/tenants/tenant-192/apps/app-770/revisions"));
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "tenant-192 / app-770" }).waitFor();
    await asked;
    await page.getByRole("link", { name: "Logs" }).click();
    assert.ok(page.url().endsWith("/logs?app=tenant-192%2Fapp-770"), "the choice stays on other pages");
  },

  async "an error is shown with its hint"({ page, fixture }) {
    fixture.record.failing = true;
    await page.goto(`${fixture.url}/traces`);
    await page.getByText("the store of traces cannot be read").first().waitFor();
    await page.getByText("check the disk").first().waitFor();
    fixture.record.failing = false;
    await page.getByRole("button", { name: "Try again" }).first().click();
    await page.locator("tbody tr").nth(9).waitFor();
  },
};

/** Returns the visible texts whose contrast with their background is less than 4.5, as WCAG AA demands. Runs in the page. */
function lowContrast() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, index) => value * a + below[index] * (1 - a));
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (
      texts.length === 0 ||
      element.closest("svg, .hidden, .row-bar, noscript, :disabled") ||
      !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    )
      continue;
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(rgba(getComputedStyle(at).backgroundColor));
    const back = layers.reduce((below, layer) => over(layer, below), [1, 1, 1]);
    const text = over(rgba(getComputedStyle(element).color), back);
    const [light, dark] = [luminance(text), luminance(back)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.add(`${element.tagName}.${element.className}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}

/** Opens the details of a page that a picture shows. */
async function show(page, address, { isEmpty }) {
  if (isEmpty) return;
  if (address === "data") {
    await page.getByRole("button", { name: "cart/user-0003" }).click();
    await page.locator(".value").waitFor();
  }
  if (address === "data/sql/orders") {
    await page.getByRole("button", { name: "Show the rows of orders" }).click();
    await page.locator(".result tbody tr").first().waitFor();
  }
  if (address === "shape") {
    await page.getByRole("button", { name: /^monolith/ }).click();
    await page.locator(".seam-changes").waitFor();
  }
}

/** Takes pictures of all pages, and checks the contrast of texts, and that neither a page nor the navigation is wider than the window. */
async function pictures(browser, kind, options) {
  const fixture = await serve({ upstream, ...options });
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, context, errors } = await open(browser, fixture, { viewport, colorScheme });
      const trace = fixture.traces.find((each) => each.failed);
      for (const address of [
        "map",
        "map?seam=checkout~payment",
        "traces",
        "logs",
        "charts",
        "deployments",
        "data",
        "data/sql/orders",
        "shape",
        "tenants",
        ...(trace ? [`traces/${trace.id}`] : []),
      ]) {
        await page.goto(`${fixture.url}/${address}`);
        await page.locator(".graph, tbody tr, .line, .chart canvas, .revision, .empty, [role=treeitem], .lane, .table-card").first().waitFor();
        await show(page, address, options);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${address} is ${overflow} pixels wider than ${size}`);
        const hidden = await page.locator(".sidebar ul").evaluate((list) => list.scrollWidth - list.clientWidth);
        assert.ok(hidden <= 0, `${hidden} pixels of the navigation are not visible (${size})`);
        assert.deepEqual(await page.evaluate(lowContrast), [], `contrast of ${address} (${colorScheme})`);
        const name = `${address.replace(/[^a-z].*/, "")}${address.includes("?") ? "-seam" : address.includes("/sql/") ? "-sql" : address.includes("/") ? "-one" : ""}`;
        await page.screenshot({ path: path.join(folder, `dashboard-${name}-${kind}-${size}-${colorScheme}.png`) });
      }
      assert.deepEqual(errors, []);
      await context.close();
    }
  }
  await fixture.close();
}

async function main() {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    for (const [name, test] of Object.entries(tests)) {
      const fixture = await serve({ upstream });
      const opened = await open(browser, fixture);
      opened.page.setDefaultTimeout(30_000);
      await test({ ...opened, fixture }).catch((error) => {
        throw new Error(`${name}: ${error.message}`, { cause: error });
      });
      assert.deepEqual(opened.errors, [], name);
      await opened.context.close();
      await fixture.close();
      console.log(`ok: ${name}`);
    }
    await pictures(browser, "full", {});
    await pictures(browser, "empty", { isEmpty: true, isNode: false });
    await pictures(browser, "node", { appCount: 1000 });
    console.log("ok: pictures of all pages");
  } finally {
    await browser.close();
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
