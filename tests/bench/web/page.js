// One model on several runtimes, in turns: page.html?runtimes=deploykit,litert&model={...}&threads=1&rounds=30, with what
// prepare of __main__.py tells about the model.
// Each contender is {load(), run(inputs) -> outputs by place}; a run is the whole call: typed arrays in, typed arrays out.
const query = new URLSearchParams(location.search);
const threads = Number(query.get("threads")), rounds = Number(query.get("rounds"));

const contenders = {
  async deploykit(model) {
    const { Model } = await import("/engine/deploykit.js");
    const m = await Model.load(`/m/${model.name}.dk`, { threads, worker: false });
    return {
      info: `${m.info.engine}, ${m.info.threads} threads`,
      async run(inputs) {
        const outputs = await m.run(Object.fromEntries(model.inputs.map((s, i) => [s.name, { data: inputs[i], shape: s.shape }])));
        return model.outputs.map((name) => outputs[name].data);
      },
    };
  },
  async litert(model) {
    const L = await import("@litertjs/core");
    await L.loadLiteRt("/nm/@litertjs/core/wasm/", { threads: threads > 1 });
    const m = await L.loadAndCompile(`/m/${model.name}.tflite`, { accelerator: "wasm", cpuOptions: { numThreads: threads } });
    return {
      async run(inputs) {
        const given = inputs.map((x, i) => new L.Tensor(x, model.inputs[i].shape));
        const made = await m.run(given);
        const outputs = [];
        for (const t of made) outputs.push((await t.data()).slice());
        for (const t of [...given, ...made]) if (!t.deleted) t.delete();
        return outputs;
      },
    };
  },
  async onnxruntime(model) {
    const ort = await import("/nm/onnxruntime-web/dist/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = "/nm/onnxruntime-web/dist/";
    const m = await ort.InferenceSession.create(`/m/${model.name}.onnx`, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    return {
      async run(inputs) {
        const feeds = {};
        model.inputs.forEach((s, i) => (feeds[s.name] = new ort.Tensor(s.dtype, inputs[i], s.shape)));
        const outputs = await m.run(feeds);
        return model.outputs.map((name) => outputs[name].data);
      },
    };
  },
};

const pause = () => new Promise((done) => setTimeout(done, threads > 1 ? 5 : 0)); // until the workers of the one before sleep
const bytes = async (url) => (await fetch(url)).arrayBuffer();

// The largest difference to what the native engine said, as a part of the largest number; and whether all is equal.
function difference(outputs, wanted) {
  let far = 0, most = 0, same = true;
  const left = [...outputs];
  for (const want of wanted) { // some formats lose the order of the outputs
    const i = left.findIndex((o) => o.length === want.length);
    const [got] = left.splice(i, 1);
    for (let k = 0; k < want.length; ++k) {
      const d = Math.abs(got[k] - want[k]);
      if (!(d <= far)) far = d;
      if (Math.abs(want[k]) > most) most = Math.abs(want[k]);
      if (got[k] !== want[k]) same = false;
    }
  }
  return { off: far / most, same };
}

async function main() {
  const model = JSON.parse(query.get("model"));
  const types = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array };
  // The runtime, its model and the inputs come at the same time, as on a page made with care.
  const names = query.get("runtimes").split(","), alone = names.length === 1 ? contenders[names[0]](model) : null;
  alone?.catch(() => {}); // told below
  const inputs = await Promise.all(model.inputs.map(async (s) => new types[s.dtype](await bytes(`/m/${s.file}`))));
  const result = { contenders: {} };
  const running = [], answers = [];
  for (const name of names) {
    const entry = (result.contenders[name] = { ms: [] });
    try {
      const c = await (alone ?? contenders[name](model));
      const outputs = await c.run(inputs);
      entry.first = performance.now(); // since the navigation
      entry.info = c.info;
      answers.push([entry, outputs]);
      running.push([entry, c]);
    } catch (e) {
      entry.error = String(e?.message ?? e).slice(0, 200);
    }
  }
  const wanted = [];
  for (const f of model.answers) wanted.push(new Float32Array(await bytes(`/m/${f}`)));
  for (const [entry, outputs] of answers) Object.assign(entry, difference(outputs, wanted));
  for (const [, c] of running) for (let i = 0, end = performance.now() + 300; rounds && (i < 3 || performance.now() < end); ++i) await c.run(inputs);
  for (let round = 0; round < rounds; ++round) {
    for (const [entry, c] of running) {
      await pause();
      await c.run(inputs); // wakes its threads, fills the caches
      const start = performance.now();
      await c.run(inputs);
      entry.ms.push(performance.now() - start);
    }
  }
  return result;
}
main().then((r) => (window.result = r), (e) => (window.result = { error: String(e?.stack ?? e) }));
