// Drives Chromium over one page: node drive.mjs URL SCENARIO FOLDER; prints what was seen as one JSON document.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, scenario, folder, ...rest] = process.argv.slice(2);
const axeFile = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
});
const seen = { errors: [], foreign: [], violations: [] };
const wait = { timeout: 20000 };

async function open(options = {}, watch = true) {
  const context = await browser.newContext({ bypassCSP: false, permissions: ["camera", "microphone"], ...options });
  const page = await context.newPage();
  if (watch) {
    page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") seen.errors.push(`${m.text()} (${m.location().url})`); });
    page.on("pageerror", (e) => seen.errors.push(String(e)));
  }
  context.on("request", (r) => { if (new URL(r.url()).origin !== new URL(url).origin && !/^(blob|data):/.test(r.url())) seen.foreign.push(r.url()); });
  await page.goto(url);
  return page;
}
const ready = (page) => page.waitForSelector('#state[data-kind="good"]', wait);
const text = (page, where) => page.locator(where).innerText();

async function axe(page, what) {
  const session = await page.context().newCDPSession(page); // evaluates past the page's policy, which stays strict
  await session.send("Runtime.evaluate", { expression: await readFile(axeFile, "utf8") });
  const { result } = await session.send("Runtime.evaluate", {
    expression: `axe.run({ resultTypes: ["violations"] }).then((r) => JSON.stringify(r.violations.map((v) => [v.id, v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary)])))`,
    awaitPromise: true,
    returnByValue: true,
  });
  for (const v of JSON.parse(result.value)) seen.violations.push([what, ...v]);
}

const shot = (page, name) => page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });

const scenarios = {
  // a classifier of drawings: samples, check, speed, ops, keyboard, wrong use, three looks
  async digits() {
    const page = await open();
    await ready(page);
    await page.waitForSelector('#check [data-kind]', wait);
    seen.check = await text(page, "#check [data-kind]");
    seen.kind = await page.locator("#check [data-kind]").getAttribute("data-kind");
    await page.click("#run"); // nothing drawn yet
    seen.empty = await text(page, "#problem");
    await page.getByRole("button", { name: "Close" }).click();
    seen.samples = [];
    for (const b of await page.locator("#samples button").all()) {
      await page.evaluate(() => { document.getElementById("ran").textContent = ""; });
      await b.click();
      await page.waitForFunction(() => document.getElementById("ran").textContent !== "", null, wait);
      seen.samples.push([await b.innerText(), await page.locator(".classes li .name").first().innerText()]);
    }
    await page.getByRole("button", { name: "Clear" }).click();
    const box = await page.locator(".pad").boundingBox();
    const stroke = async (...points) => {
      await page.mouse.move(box.x + points[0][0], box.y + points[0][1]);
      await page.mouse.down();
      for (const [x, y] of points.slice(1)) await page.mouse.move(box.x + x, box.y + y, { steps: 12 });
      await page.mouse.up();
    };
    const drawn = { 1: [[[140, 40], [140, 240]]], 7: [[[80, 50], [200, 50], [120, 240]]], 4: [[[100, 50], [80, 150], [200, 150]], [[170, 60], [165, 240]]],
      0: [[...Array(25)].map((_, i) => [140 + 60 * Math.cos((i * Math.PI) / 12), 140 + 95 * Math.sin((i * Math.PI) / 12)])] };
    seen.drawn = {};
    for (const [digit, strokes] of Object.entries(drawn)) {
      await page.getByRole("button", { name: "Clear" }).click();
      for (const s of strokes) await stroke(...s);
      await page.waitForTimeout(250);
      seen.drawn[digit] = await page.locator(".classes li .name").first().innerText();
    }
    await page.getByRole("button", { name: "Run 50 times" }).click();
    await page.waitForSelector(".chart svg", wait);
    await page.waitForFunction(() => document.querySelector("#speed [role=status]").textContent.startsWith("50"), null, wait);
    seen.speed = await text(page, "#speed > p:nth-of-type(2)");
    await page.getByRole("button", { name: "Time every op" }).click();
    await page.waitForFunction(() => document.querySelector("#speed [role=status]").textContent.includes("ops"), null, wait);
    seen.ops = await page.locator("#speed tbody tr").count();
    seen.isolated = await page.evaluate(() => crossOriginIsolated);
    seen.size = await text(page, "#size");
    await page.getByRole("button", { name: "Clear" }).click();
    await page.locator(".pad").focus(); // by keys alone: a stroke downwards is a one
    await page.keyboard.press("Space");
    for (let i = 0; i < 12; ++i) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Space");
    await page.waitForTimeout(250);
    seen.keys = await page.locator(".classes li .name").first().innerText();
    await axe(page, "light");
    await shot(page, "light");
    for (const [name, options] of [["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 360, height: 740 }, hasTouch: true }]]) {
      const other = await open(options);
      await ready(other);
      await other.locator("#samples button").first().click();
      await other.waitForSelector(".classes li", wait);
      await other.waitForSelector('#check [data-kind]', wait);
      await axe(other, name);
      seen[`${name} overflows`] = await other.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      await shot(other, name);
    }
  },

  // pictures: sample, file, camera, live, a file that is no picture
  async image() {
    const [picture] = rest;
    const page = await open();
    await ready(page);
    const answer = async (act) => {
      await page.evaluate(() => { document.getElementById("ran").textContent = ""; });
      await act();
      await page.waitForFunction(() => document.getElementById("ran").textContent !== "", null, wait);
      return text(page, "#views");
    };
    seen.sample = await answer(() => page.locator("#samples button").first().click());
    const choose = (file) => page.locator("#inputs input[type=file]").setInputFiles(file);
    seen.file = await answer(() => choose(picture));
    seen.drawn = await page.evaluate(() => { const c = document.querySelector("#views canvas"); return c ? [c.width, c.height] : null; });
    await axe(page, "image, light");
    await shot(page, "image-light");
    await choose({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") });
    await page.waitForSelector("#problem:not([hidden])", wait);
    seen.notes = await text(page, "#problem");
    await page.getByRole("button", { name: "Close" }).click();
    const pasted = await readFile(picture);
    seen.pasted = await answer(() => page.evaluate((data) => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([Uint8Array.from(data)], "p.jpg", { type: "image/jpeg" }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
    }, [...pasted]));
    seen.dropped = await answer(() => page.evaluate((data) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([Uint8Array.from(data)], "p.jpg", { type: "image/jpeg" }));
      document.querySelector(".zone").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }, [...pasted]));
    await page.getByRole("button", { name: "Camera" }).click();
    const live = page.getByLabel("live");
    await live.waitFor(wait);
    await answer(() => live.check());
    for (let i = 0; i < 3; ++i) await answer(() => {}); // goes on by itself
    await axe(page, "camera");
    await live.uncheck();
    seen.camera = await answer(() => page.getByRole("button", { name: "Take picture" }).click());
    seen.stopped = await page.locator("video").isHidden();
    for (const [name, options] of [["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 360, height: 740 } }]]) {
      const other = await open(options);
      await ready(other);
      await other.locator("#samples button").first().click();
      await other.waitForFunction(() => document.getElementById("ran").textContent !== "", null, wait);
      await other.waitForSelector("#check [data-kind]", wait);
      await axe(other, `image, ${name}`);
      seen[`${name} overflows`] = await other.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      await shot(other, `image-${name}`);
    }
  },

  // sound: a file, the microphone, a file that is no sound
  async audio() {
    const [sound] = rest;
    const page = await open();
    await ready(page);
    await page.locator("#inputs input[type=file]").setInputFiles(sound);
    await page.waitForSelector("#views table, #views ol", wait);
    seen.file = await text(page, "#views");
    seen.heard = await page.locator("#inputs canvas").getAttribute("aria-label");
    await axe(page, "audio");
    await shot(page, "audio");
    await page.evaluate(() => { document.getElementById("ran").textContent = ""; });
    await page.getByRole("button", { name: "Record" }).click();
    await page.waitForTimeout(700);
    const stop = page.getByRole("button", { name: "Stop recording" });
    if (await stop.count()) await stop.click();
    await page.waitForFunction(() => document.getElementById("ran").textContent !== "", null, wait);
    seen.recorded = await page.locator("#inputs canvas").getAttribute("aria-label");
    await page.locator("#inputs input[type=file]").setInputFiles({ name: "x.wav", mimeType: "audio/wav", buffer: Buffer.from("no sound") });
    await page.waitForSelector("#problem:not([hidden])", wait);
    seen.notes = await text(page, "#problem");
  },

  // numbers: fill, type, wrong use, an .npy file
  async tensor() {
    const [good, wrong] = rest;
    const page = await open();
    await ready(page);
    await page.click("#run");
    await page.waitForSelector("#views table", wait);
    seen.random = await text(page, "#views");
    const area = page.locator("#inputs textarea").first();
    for (const [key, words] of [["short", "1, 2"], ["words", "1, 2, three, 4"]]) {
      await area.fill(words);
      await page.click("#run");
      await page.waitForSelector("#problem:not([hidden])", wait);
      seen[key] = await text(page, "#problem");
      await page.getByRole("button", { name: "Close" }).click();
    }
    await area.fill("1 2 3 4");
    await page.click("#run");
    await page.waitForTimeout(200);
    seen.typed = await page.locator("#problem").isHidden();
    await page.locator("#inputs input[type=file]").first().setInputFiles(wrong);
    await page.waitForSelector("#problem:not([hidden])", wait);
    seen.wrong = await text(page, "#problem");
    await page.locator("#inputs input[type=file]").first().setInputFiles(good);
    await page.waitForSelector("#problem", { state: "hidden", ...wait });
    seen.file = await area.inputValue();
    await axe(page, "tensor");
    await shot(page, "tensor");
  },

  // the web demo: every page from the first, and a model opened by hand
  async demo() {
    const page = await open();
    await page.waitForFunction(() => document.getElementById("offline").textContent.startsWith("Kept"), null, wait);
    await axe(page, "home");
    await shot(page, "home");
    const links = await page.locator(".cards a").all();
    const targets = await Promise.all(links.map((a) => a.getAttribute("href")));
    seen.pages = {};
    for (const target of targets) {
      await page.goto(new URL(target, url).href);
      await ready(page);
      if (!["profile.html", "teach.html"].includes(target)) {
        await page.waitForSelector("#check [data-kind]", wait);
        seen.pages[target] = await text(page, "#check [data-kind]");
      }
    }
    await page.getByRole("button", { name: "Take the digits" }).click();
    await page.waitForSelector("#views table", wait);
    await page.getByRole("button", { name: "Time every op" }).click();
    await page.waitForFunction(() => document.querySelector("#speed [role=status]").textContent.includes("ops"), null, wait);
    seen.ops = await page.locator("#speed tbody tr").count();
    seen.card = await text(page, "#card");
    await axe(page, "profile");
    await shot(page, "profile");
    await page.evaluate(() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["<!doctype html>"], "bad.dk"));
      document.querySelector("#zone").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    });
    await page.waitForSelector("#problem:not([hidden])", wait);
    seen.bad = await text(page, "#problem");
    seen.state = await text(page, "#state");
    await page.click("#run");
    await page.waitForSelector("#problem", { state: "hidden", ...wait });
    await page.getByRole("link", { name: "All demos" }).click();
    await page.waitForSelector(".cards");
    for (const [name, options] of [["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 360, height: 740 } }]]) {
      const other = await open(options);
      await other.waitForFunction(() => document.getElementById("offline").textContent.startsWith("Kept"), null, wait);
      await axe(other, `home, ${name}`);
      await shot(other, `home-${name}`);
      await other.goto(new URL("profile.html", url).href);
      await ready(other);
      await other.getByRole("button", { name: "Take the digits" }).click();
      await other.waitForSelector("#views table", wait);
      await axe(other, `profile, ${name}`);
      seen[`${name} overflows`] = await other.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      await shot(other, `profile-${name}`);
    }
  },

  // twenty examples with labels one too high, taught, saved
  async teach() {
    const page = await open();
    await ready(page);
    const buttons = await page.locator("#samples button").all();
    for (let round = 0; round < 2; ++round) {
      for (const [i, b] of buttons.entries()) {
        await b.click();
        await page.locator("#label").selectOption(String((i + 1) % 10));
        await page.getByRole("button", { name: "Add this example" }).click();
      }
    }
    seen.count = await text(page, "#count");
    await page.getByRole("button", { name: "Teach" }).click();
    await page.waitForSelector("#save:not([disabled])", wait);
    seen.taught = await text(page, "#taught");
    await buttons[3].click();
    await page.waitForFunction(() => document.querySelector(".classes li .name")?.textContent === "4", null, wait);
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save the model" }).click();
    await (await download).saveAs(join(folder, "taught.dk"));
    await axe(page, "teach");
    await shot(page, "teach");
    const phone = await open({ viewport: { width: 360, height: 740 }, colorScheme: "dark" });
    await ready(phone);
    await axe(phone, "teach, phone, dark");
    seen.overflows = await phone.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    await shot(phone, "teach-phone");
  },

  // a picture in, a picture out
  async map() {
    const [picture] = rest;
    const page = await open();
    await ready(page);
    await page.locator("#samples button").first().click();
    await page.waitForSelector("#views canvas", wait);
    seen.note = await text(page, "#views");
    const pixel = (x) => page.evaluate((at) => {
      const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
      pen.drawImage(document.querySelector("#views canvas"), -at, -5);
      return Array.from(pen.getImageData(0, 0, 1, 1).data);
    }, x);
    [seen.left, seen.right] = [await pixel(3), await pixel(40)];
    await page.evaluate(() => { document.getElementById("ran").textContent = ""; });
    await page.locator("#inputs input[type=file]").setInputFiles(picture);
    await page.waitForFunction(() => document.getElementById("ran").textContent !== "", null, wait);
    seen.red = await pixel(20);
    await axe(page, "map");
  },

  // any page: the check alone
  async check() {
    const page = await open();
    await ready(page);
    const compare = page.getByRole("button", { name: /^Compare/ });
    await page.waitForTimeout(300);
    if ((await page.locator("#check [data-kind]").count()) === 0 && (await compare.isEnabled())) await compare.click();
    await page.waitForSelector("#check [data-kind]", { timeout: 60000 });
    seen.check = await text(page, "#check [data-kind]");
    await page.waitForFunction(() => document.getElementById("offline").textContent !== "", null, { timeout: 60000 });
    await axe(page, "check");
    await shot(page, "check");
  },

  // loaded once, then without any network; the service worker isolates the page where the host does not
  async offline() {
    const page = await open();
    await ready(page);
    await page.waitForFunction(() => document.getElementById("offline").textContent.startsWith("Kept"), null, wait);
    seen.isolated = await page.evaluate(() => crossOriginIsolated);
    await page.waitForSelector('#check [data-kind]', wait);
    await page.waitForTimeout(500);
    await page.context().setOffline(true);
    await page.reload();
    await ready(page);
    await page.locator("#samples button").first().click();
    await page.waitForSelector(".classes li", wait);
    seen.offline = await page.locator(".classes li .name").first().innerText();
  },

  // a page without script: three looks, nothing wider than the screen
  async report() {
    for (const [name, options] of [["light", {}], ["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 360, height: 740 } }]]) {
      const page = await open(options);
      for (const d of await page.locator("summary").all()) await d.click();
      (seen.widths ??= []).push(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth));
      seen.text = await text(page, "main");
      await axe(page, `report, ${name}`);
      await shot(page, `report-${name}`);
    }
  },

  // something is broken: the coded error is shown and the page stands
  async broken() {
    const page = await open({}, false);
    await page.waitForSelector("#problem:not([hidden])", wait);
    seen.problem = await text(page, "#problem");
    seen.state = await text(page, "#state");
    seen.card = await page.locator("#card tr").count();
    await axe(page, "broken");
    await shot(page, "broken");
  },
};
try {
  await scenarios[scenario]();
} catch (error) {
  seen.failed = String(error.stack);
  seen.shown = await Promise.all(browser.contexts().flatMap((c) => c.pages()).map((p) => p.locator("body").innerText()));
}
await browser.close();
console.log(JSON.stringify(seen));
