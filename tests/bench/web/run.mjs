// node run.mjs URL CHROMIUM < [{"query": ...}, ...]: opens page.html once for each, in a fresh profile; prints results as JSON lines.
import { chromium } from "playwright-core";
const [url, executablePath] = process.argv.slice(2);
let text = "";
for await (const part of process.stdin) text += part;
for (const { query } of JSON.parse(text)) {
  const browser = await chromium.launch({ executablePath, args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
  let result;
  try {
    const page = await browser.newPage();
    const fetched = new Set();
    page.on("requestfinished", (r) => fetched.add(new URL(r.url()).pathname));
    await page.waitForTimeout(1000); // until the browser itself has started
    await page.goto(`${url}page.html?${new URLSearchParams(query)}`);
    await page.waitForFunction("window.result", null, { timeout: 600000, polling: 100 });
    result = { ...(await page.evaluate("window.result")), fetched: [...fetched] };
  } catch (e) {
    result = { error: String(e).slice(0, 300) };
  }
  console.log(JSON.stringify({ query, ...result }));
  await browser.close();
}
