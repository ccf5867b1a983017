// Opens each built app in Chromium: node run.mjs URL NAME...; prints what their pages show, by name.
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../package.json", import.meta.url))("playwright-core");
const [url, ...names] = process.argv.slice(2), seen = {};
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
for (const name of names) {
  const page = await browser.newPage(), errors = [], workers = [], requests = [];
  page.on("console", (m) => { if (["error", "warning"].includes(m.type())) errors.push(`${m.text()} (${m.location().url})`); });
  page.on("pageerror", (e) => errors.push(String(e)));
  page.on("request", (r) => requests.push(r.url()));
  page.on("worker", (w) => workers.push(w.url()));
  await page.goto(new URL(`${name}/index.html`, url).href);
  await page.waitForFunction(() => document.body?.dataset.seen, null, { timeout: 20000 }).catch(() => errors.push("the page shows nothing"));
  seen[name] = { errors, workers, requests, ...JSON.parse((await page.locator("body").getAttribute("data-seen")) ?? "{}") };
  await page.close();
}
await browser.close();
console.log(JSON.stringify(seen));
