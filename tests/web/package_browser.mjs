// Scenarios of the package in Chromium: node package_browser.mjs URL SCENARIO [ARGS...]; the folder at URL holds runtime/ and
// models. Prints what was seen as one JSON document.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [url, scenario, ...args] = process.argv.slice(2);
const flags = scenario === "simd" ? ["--js-flags=--no-enable-sse4-1 --no-enable-avx"] : [];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...flags],
});
const page = await (await browser.newContext()).newPage();
const errors = [];
page.on("console", (m) => { if (["error", "warning"].includes(m.type())) errors.push(m.text()); });
page.on("pageerror", (e) => errors.push(String(e)));
await page.goto(new URL("blank.html", url).href);
const setup = (runtime) => page.evaluate(async (at) => {
  globalThis.tried = (promise) => promise.then((value) => ({ value }), ({ code, message, name }) => ({ code: typeof code === "string" ? code : name, message }));
  globalThis.numbers = (n) => Float32Array.from({ length: n }, (_, i) => i % 17);
  globalThis.list = (outputs) => Object.fromEntries(Object.entries(outputs).map(([k, t]) => [k, { ...t, data: Array.from(t.data) }]));
  globalThis.workers = [];
  globalThis.Worker = class extends Worker {
    constructor(...a) {
      super(...a);
      workers.push(this);
    }
  };
  globalThis.dk = await import(at);
}, runtime);

const scenarios = {
  // in a worker and on the page's thread: same answers; how often the page could breathe meanwhile
  async run() {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async () => {
      const out = { environment: dk.environment(), isolated: crossOriginIsolated };
      for (const worker of [true, false]) {
        const model = await dk.Model.load("tiny.dk", { worker });
        const answer = list(await model.run({ image: numbers(64) }));
        const heavy = await dk.Model.load("heavy.dk", { worker });
        const x = numbers(512 * 512);
        const start = performance.now();
        let breaths = 0;
        const timer = setInterval(() => ++breaths, 5);
        await heavy.profile({ x }, { runs: 60 });
        clearInterval(timer);
        out[worker] = { answer, breaths, ms: performance.now() - start, memory: model.memory };
        model.dispose();
        heavy.dispose();
      }
      out.file = await tried(dk.Model.load(new File([await (await fetch("tiny.dk")).arrayBuffer()], "t.dk")).then((m) => m.isa));
      out.response = await tried(fetch("tiny.dk").then((r) => dk.Model.load(r)).then((m) => m.isa));
      return out;
    });
  },

  // bad files, wrong inputs, too little memory: coded errors, and the page goes on
  async wrong(...names) {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async (files) => {
      const out = { files: {} };
      for (const name of files) out.files[name] = await tried(dk.Model.load(name));
      const model = await dk.Model.load("tiny.dk"), outer = await dk.Model.load("outer.dk");
      out.name = await tried(model.run({ picture: numbers(64) }));
      out.shape = await tried(model.run({ image: numbers(65) }));
      out.memory = await tried(outer.run({ x: numbers(60000) }));
      out.after = await tried(outer.run({ x: numbers(3) }).then(list));
      out.abort = await tried(dk.Model.load("tiny.dk", { signal: AbortSignal.abort() }));
      return out;
    }, names);
  },

  // the worker is ended from outside while it works, and while it is idle
  async killed() {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async () => {
      const busy = await dk.Model.load("heavy.dk"), idle = await dk.Model.load("tiny.dk"), out = {};
      const pending = tried(busy.profile({ x: numbers(512 * 512) }, { runs: 10000 }));
      await new Promise((done) => setTimeout(done, 100));
      workers.forEach((w) => w.terminate());
      out.busy = await pending;
      await new Promise((done) => setTimeout(done, 100));
      out.idle = await tried(idle.run({ image: numbers(64) }));
      out.next = await tried(dk.Model.load("tiny.dk").then((m) => m.run({ image: numbers(64) })).then(list));
      return out;
    });
  },

  // models in the cache: steps by name from standard input, each answered by one line
  async cache(integrity) {
    await setup("./runtime/deploykit.js");
    await page.evaluate(() => {
      globalThis.load = async (options, name = "big.dk") => {
        const progress = [], onProgress = (...p) => (progress.push(p), options.onProgress?.(...p));
        const seen = await tried(dk.Model.load(name, { cache: true, ...options, onProgress }).then((m) => (m.dispose(), m.isa)));
        const keys = (await caches.has("dk-models")) ? await (await caches.open("dk-models")).keys() : [];
        return { ...seen, progress: progress.slice(0, 1), loaded: progress.at(-1)?.[0], kept: keys.filter((k) => k.url.includes("/sha256/")).length };
      };
    });
    const steps = {
      "broken off": () => page.evaluate(() => {
        const stop = new AbortController();
        return load({ signal: stop.signal, onProgress: (n) => n > 9 << 20 && stop.abort() });
      }),
      load: () => page.evaluate(() => load({})),
      "by hash": () => page.evaluate((integrity) => load({ integrity }), integrity),
      offline: async () => {
        await page.evaluate(() => import("./runtime/engine.js")); // a page keeps its own files, by a service worker perhaps
        await page.context().setOffline(true);
        const seen = await page.evaluate(() => load({ worker: false }));
        await page.context().setOffline(false);
        return seen;
      },
      damage: () => page.evaluate(async () => {
        const cache = await caches.open("dk-models"), keys = (await cache.keys()).filter((k) => k.url.includes("/sha256/"));
        for (const key of keys) await cache.put(key, new Response(new Uint8Array(1000)));
        return { damaged: keys.length };
      }),
      page: () => page.evaluate(() => load({}, "page.dk")),
      forget: () => page.evaluate(async () => ({ forgotten: await dk.forgetModels(), kept: (await caches.keys()).length })),
    };
    for await (const name of createInterface({ input: process.stdin })) console.log(JSON.stringify(await steps[name]()));
  },
  // pictures, drawings, sound and text as inputs, by the metadata of each model
  async helpers() {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async () => {
      const [image, audio, text, detect] = await Promise.all(["image", "audio", "text", "detect"].map((name) => import(`./runtime/${name}.js`)));
      const load = (name) => dk.Model.load(name), plain = (t) => ({ ...t, data: Array.from(t.data) });
      const photo = await load("photo.dk"), tiny = await load("tiny.dk"), sound = await load("sound.dk"), words = await load("words.dk");
      const png = await (await fetch("p.png")).blob(), bitmap = await createImageBitmap(png), out = {};
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      out.file = plain(await image.fromImage(photo, png));
      out.same = [];
      for (const source of [bitmap, canvas, canvas.getContext("2d").getImageData(0, 0, bitmap.width, bitmap.height)]) {
        out.same.push(plain(await image.fromImage(photo, source, "image")).data.join() === out.file.data.join());
      }
      const sheet = document.createElement("canvas");
      sheet.width = sheet.height = 280;
      sheet.getContext("2d", { willReadFrequently: true }).fillRect(200, 20, 20, 100);
      out.drawing = plain(image.fromDrawing(tiny, sheet));
      out.unfitted = plain(image.fromDrawing(tiny, sheet, { fit: false }));
      out.samples = plain(await audio.fromAudio(sound, Float32Array.of(0.5, -1, 2)));
      out.wav = plain(await audio.fromAudio(sound, await (await fetch("tone.wav")).blob()));
      out.text = plain(text.fromText(words, "Good FILM, really"));
      out.ran = [await photo.run({ image: await image.fromImage(photo, png) }), await tiny.run({ image: image.fromDrawing(tiny, sheet) })].map((o) => Object.values(o)[0].shape);
      const wrong = { notes: image.fromImage(photo, new Blob(["text"])), sound: audio.fromAudio(sound, new Blob(["text"])) };
      for (const [key, promise] of Object.entries(wrong)) out[key] = await tried(promise);
      out.none = await tried(image.fromImage(sound, png));
      out.silent = await tried(audio.fromAudio(tiny, new Float32Array(3)));
      out.wordless = await tried((async () => text.fromText(tiny, "x"))());
      out.boxless = await tried((async () => detect.boxes(tiny, {}))());
      return out;
    });
  },

  async simd() {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async () => ({ environment: dk.environment(), load: await tried(dk.Model.load("tiny.dk")) }));
  },

  // what the server does not have, or has wrongly
  async load() {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async () => ({ load: await tried(dk.Model.load("tiny.dk").then((m) => m.isa)), page: await tried(dk.Model.load("tiny.dk", { worker: false }).then((m) => m.isa)) }));
  },

  // a model on some numbers of threads, in workers and on the page's thread; a lane that is killed
  async engines() {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async () => {
      const x = numbers(512 * 512), bits = new Set(), infos = [];
      for (const options of [{ threads: 1 }, { threads: 2 }, { threads: 3, worker: false }, { threads: 2, worker: false }]) {
        const model = await dk.Model.load("heavy.dk", options);
        for (let i = 0; i < 5; ++i) {
          const { y } = await model.run({ x });
          bits.add(Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", y.data))).join());
        }
        infos.push(model.info);
        model.dispose();
      }
      const model = await dk.Model.load("heavy.dk", { threads: 2 });
      workers.at(-1).terminate();
      let killed = {};
      for (let i = 0; i < 100 && !killed.code; ++i) {
        await new Promise((done) => setTimeout(done, 100)); // browsers give a worker that is blocked some seconds
        killed = await tried(model.run({ x }));
      }
      return { relaxed: dk.environment().relaxed, bits: bits.size, infos, killed };
    });
  },

  // one model on the engine that the page's headers lead to: the input from x.bin, outputs in base64
  async model(file, job) {
    await setup("./runtime/deploykit.js");
    return page.evaluate(async ([file, { name, dtype, shape, threads, runs }]) => {
      const model = await dk.Model.load(file, { threads });
      const x = dk.tensor(dtype, shape), text = (t) => btoa(Array.from(new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength), (b) => String.fromCharCode(b)).join(""));
      const input = { data: new x.data.constructor(await (await fetch("x.bin")).arrayBuffer()), shape };
      const seen = new Set();
      let outputs;
      for (let i = 0; i < runs; ++i) {
        outputs = Object.values(await model.run({ [name]: input })).map(text);
        seen.add(outputs.join());
      }
      return { info: model.info, outputs, same: seen.size === 1 };
    }, [file, JSON.parse(job)]);
  },

  // the package from another origin
  async elsewhere(other) {
    await setup(`${other}runtime/deploykit.js`);
    return page.evaluate(async () => ({ load: await tried(dk.Model.load("tiny.dk").then((m) => m.run({ image: numbers(64) })).then(list)) }));
  },
};
try {
  const seen = await scenarios[scenario](...args);
  if (seen) console.log(JSON.stringify({ ...seen, errors }));
} finally {
  await browser.close();
}
