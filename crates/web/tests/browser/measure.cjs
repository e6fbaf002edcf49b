// Measures the example shop in a tab, with a server that is 20 ms away (round trip). Tests never depend on these figures.
//
// node measure.cjs URL BROWSER: prints a line of JSON. URL is that of the shop in the shape `tab`.
"use strict";

const http = require("node:http");
const { chromium } = require("playwright-core");

const [url, executablePath] = process.argv.slice(2);

/** The time in milliseconds for which each request is delayed, and each response. */
const ONE_WAY_MS = 10;

const PRODUCT = "/product/OLJCESPC7Z";
const REPEATS = 15;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const round = (ms) => Math.round(ms * 10) / 10;

/** Starts a proxy with the delay. It counts the bytes of the files of the browser group. */
async function start(files) {
  const server = http.createServer(async (request, response) => {
    await wait(ONE_WAY_MS);
    const { method, headers } = request;
    const forwarded = http.request(new URL(request.url, url), { method, headers }, async (answer) => {
      await wait(ONE_WAY_MS);
      response.writeHead(answer.statusCode, answer.headers);
      if (request.url.startsWith("/_isomer/web/")) answer.on("data", (chunk) => files.set(request.url, (files.get(request.url) ?? 0) + chunk.length));
      answer.pipe(response);
    });
    forwarded.on("error", () => response.destroy());
    request.pipe(forwarded);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

async function main() {
  const files = new Map();
  const server = await start(files);
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  try {
    // The measurements call `fetch`, which the policy of the shop's pages does not allow.
    const context = await browser.newContext({ baseURL: `http://127.0.0.1:${server.address().port}`, bypassCSP: true });
    const page = await context.newPage();
    await page.goto("/");
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    await page.goto(PRODUCT);
    const timed = (count, parallel) =>
      page.evaluate(
        async ([path, count, parallel]) => {
          const times = [];
          for (let index = 0; index < count; index += 1) {
            const begin = performance.now();
            const all = Array.from({ length: parallel }, async () => {
              const response = await fetch(path);
              await response.text();
              return response.headers.get("isomer-answered-by") === "tab";
            });
            if (!(await Promise.all(all)).every(Boolean)) throw new Error("the tab has not answered");
            times.push(performance.now() - begin);
          }
          return times;
        },
        [PRODUCT, count, parallel],
      );
    await timed(30, 1);
    const data = median(await timed(REPEATS, 1));
    const overlapping = median(await timed(REPEATS, 20));
    const protocol = await context.newCDPSession(page);
    await protocol.send("ServiceWorker.enable");
    const stopped = [];
    for (let index = 0; index < REPEATS; index += 1) {
      await protocol.send("ServiceWorker.stopAllWorkers");
      const begin = performance.now();
      await page.goto("/static/products/larch-stool.svg");
      stopped.push(performance.now() - begin);
    }
    const bytes = [...files.values()].reduce((sum, length) => sum + length, 0);
    console.log(
      JSON.stringify({
        files: files.size,
        gzip_bytes: bytes,
        data_page_ms: round(data),
        overlapping_20_ms: round(overlapping),
        stopped_worker_ms: round(median(stopped)),
      }),
    );
  } finally {
    await browser.close();
    server.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
