// Scenarios of the npm package in Node: node package.mjs FOLDER SCENARIO ARGS...; FOLDER holds deploykit.js and engine.wasm.
// Prints what was seen as one JSON document; errors as {code, message}.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, scenario, ...args] = process.argv.slice(2);
const { environment, Model, tensor } = await import(pathToFileURL(`${folder}/deploykit.js`).href);
const plain = (_, v) => (ArrayBuffer.isView(v) ? Array.from(v, (x) => (typeof x === "bigint" ? Number(x) : x)) : v);
const tried = (promise) => promise.then((value) => ({ value }), ({ code, message, name }) => ({ code: typeof code === "string" ? code : name, message }));
const numbers = (n) => Float32Array.from({ length: n }, (_, i) => i % 17);

const scenarios = {
  async run(path, worker) {
    const progress = [];
    const model = await Model.load(path, { worker: worker === "true", onProgress: (...p) => progress.push(p) });
    const { inputs, outputs, metadata, signatures, isa, threads } = model, x = numbers(128);
    const before = model.memory;
    const one = await model.run({ image: x.subarray(0, 64) }), two = await model.run({ image: { data: x, shape: [2, 8, 8, 1] } });
    const again = await Promise.all([0, 1, 2].map(() => model.run({ image: x.subarray(64) }))); // a view into a larger buffer
    const nested = await model.run({ image: [Array.from({ length: 8 }, (_, i) => Array.from(x.subarray(8 * i, 8 * i + 8), (v) => [v]))] });
    const profile = await model.profile({ image: x.subarray(0, 64) }, { runs: 3 });
    const kept = x.length; // inputs are not taken away
    model.dispose();
    return { progress, inputs, outputs, metadata, signatures, isa, threads, one, two, again, nested, profile, before, memory: model.memory, kept };
  },

  // wrong inputs, each against what Python says
  async inputs(path) {
    const model = await Model.load(path), x = numbers(64);
    const wrong = {
      missing: {}, name: { picture: x }, more: { image: x, z: x }, dtype: { image: Float64Array.from(x) }, rank: { image: { data: x, shape: [8, 8] } },
      shape: { image: { data: x, shape: [1, 4, 16, 1] } }, count: { image: numbers(65) }, filled: { image: { data: x, shape: [1, 8, 8, 2] } },
      ragged: { image: [[1, 2], [3]] }, words: { image: ["1"] }, text: { image: "1" }, nothing: { image: null }, none: null,
    };
    const out = {};
    for (const [key, inputs] of Object.entries(wrong)) out[key] = await tried(model.run(inputs));
    out.after = await tried(model.run({ image: x }));
    out.variable = await tried(model.variable("no"));
    out.signature = await tried(model.signature("no"));
    model.dispose();
    out.disposed = await tried(model.run({ image: x }));
    return out;
  },

  // whole numbers and truth values: what survives is taken, what does not is named
  async whole(path) {
    const model = await Model.load(path, { worker: false }), out = { inputs: model.inputs };
    const good = { i: [1, -2], u: new Uint8ClampedArray([3, 4]), b: [true, false], l: [2n ** 40n, 5] };
    out.good = await tried(model.run(good));
    for (const [key, value] of Object.entries({ i: [1.5, 2], u: [256, 0], b: [2, 0], l: new Int32Array(2) })) out[key] = await tried(model.run({ ...good, [key]: value }));
    out.made = tensor("int64", [2], [1, 2]);
    return out;
  },

  // limits of a run: told by their codes, and the model goes on
  async limits(path) {
    const model = await Model.load(path, { maxOps: 1 }), other = await Model.load(path), image = numbers(64 * 32768), shape = [32768, 8, 8, 1];
    return {
      ops: await tried(model.run({ image: numbers(64) })),
      time: await tried(other.run({ image: { data: image, shape } }, { timeout: 1e-6 })),
      after: await tried(other.run({ image: numbers(64) })),
    };
  },

  async files(...paths) {
    const out = {};
    for (const path of paths) out[path] = await tried(Model.load(path).then((m) => m.dispose()));
    const good = readFileSync(paths[0]);
    out.blob = await tried(Model.load(new Blob([good])).then((m) => m.run({ image: numbers(64) })));
    out.response = await tried(Model.load(new Response(good)).then((m) => m.run({ image: numbers(64) })));
    out.buffer = await tried(Model.load(good.buffer.slice(good.byteOffset, good.byteOffset + good.length)).then((m) => m.run({ image: numbers(64) })));
    out.number = await tried(Model.load(7));
    out.limit = await tried(Model.load(good, { maxMemory: 100 }).then((m) => m.run({ image: numbers(64) })));
    out.kept = good.length;
    return out;
  },

  // variables, their reset, and another entry point on the same ones
  async state(path) {
    const model = await Model.load(path), x = Float32Array.of(1, 2, 3);
    const value = async (m = model) => Array.from((await m.variable("v")).data);
    const out = { first: await value() };
    out.run = (await model.run({ x })).y;
    out.then = await value();
    const twice = await model.signature("twice");
    out.shared = await value(twice);
    await twice.run({ x });
    out.after = [await value(), await value(twice)];
    await model.reset();
    out.reset = [await value(), await value(twice)];
    out.inputs = twice.inputs;
    twice.dispose();
    out.closed = await tried(twice.run({ x }));
    await model.run({ x });
    out.last = await value();
    model.dispose();
    return out;
  },

  // a run that waits is taken back, one that has begun is dropped, the model goes on; an abort before anything starts
  async abort(path) {
    const model = await Model.load(path), image = numbers(64 * 512), shape = [512, 8, 8, 1];
    const begun = new AbortController(), waits = new AbortController();
    const runs = [begun, waits].map(({ signal }) => tried(model.run({ image: { data: image, shape } }, { signal })));
    waits.abort();
    begun.abort(new Error("enough"));
    const out = { runs: await Promise.all(runs) };
    out.after = await tried(model.run({ image: { data: image, shape } }));
    out.load = await tried(Model.load(path, { signal: AbortSignal.abort() }));
    const pending = tried(model.run({ image: { data: image, shape } }));
    model.dispose();
    out.pending = await pending;
    return out;
  },

  // the worker dies: every call says so, a new model works
  async killed(path) {
    const workers = [];
    process.on("worker", (w) => workers.push(w));
    const model = await Model.load(path), image = numbers(64), out = {};
    const pending = Array.from({ length: 50 }, () => tried(model.run({ image })));
    await workers[0].terminate();
    out.pending = (await Promise.all(pending)).at(-1);
    out.later = await tried(model.run({ image }));
    const next = await Model.load(path);
    out.next = await tried(next.run({ image }));
    next.dispose();
    return out;
  },

  // models that nobody holds end their workers (run with --expose-gc)
  async garbage(path) {
    let started = 0, ended = 0;
    process.on("worker", (w) => {
      ++started;
      w.on("exit", () => ++ended);
    });
    for (let i = 0; i < 4; ++i) await Model.load(path).then((m) => m.run({ image: numbers(64) }));
    for (let i = 0; i < 1000 && ended < started; ++i) {
      globalThis.gc();
      await new Promise((done) => setTimeout(done, 20));
    }
    return { started, ended };
  },

  // a model that is still open does not keep Node alive
  async open(path) {
    const model = await Model.load(path);
    await model.run({ image: numbers(64) });
    globalThis.held = model;
    return { open: true };
  },

  async download(url) {
    const progress = [];
    return { load: await tried(Model.load(url, { onProgress: (...p) => progress.push(p) }).then((m) => m.isa)), progress };
  },

  async integrity(source, hashes) {
    const out = [];
    for (const integrity of JSON.parse(hashes)) out.push(await tried(Model.load(source, { integrity }).then((m) => (m.dispose(), m.isa))));
    return { tried: out };
  },

  // a model on some numbers of threads, here and in a worker: the bits of every output, what is in use
  async threads(path, n, side) {
    const x = Float32Array.from({ length: n }, (_, i) => Math.sin(i)), out = {};
    for (const options of [{ threads: 1 }, { threads: 2 }, { threads: 3, worker: false }, {}]) {
      const model = await Model.load(path, options), before = model.info, bits = new Set();
      for (let i = 0; i < 10; ++i) bits.add(Buffer.from((await model.run({ x })).y.data.buffer).toString("base64"));
      for (let i = 0; i < 100 && !("threads" in options) && model.threads < 2; ++i) await new Promise((done) => setTimeout(done, 20)).then(() => model.run({ x }));
      out[JSON.stringify(options)] = { before, after: model.info, bits: [...bits] };
      model.dispose();
    }
    return { ...out, zero: await tried(Model.load(path, { threads: 0 })), environment: environment() };
  },

  async info(path) {
    return (await Model.load(path)).info;
  },

  async load(path, options) {
    return { environment: environment(), load: await tried(Model.load(path, JSON.parse(options ?? "{}")).then((m) => m.isa)) };
  },
};

console.log(JSON.stringify(await scenarios[scenario](...args), plain));
