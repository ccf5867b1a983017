// Runs a model on one of the engine's modules in Node, without the package around it: reads a job as JSON from standard
// input, {module, model, threads, runs, inputs: [{dtype, shape, data: base64}], more: [inputs]}, prints {isa, lanes,
// regions, outputs: [base64], same, milliseconds, more: [outputs]} as JSON.  `regions`: how often lanes were called to take
// part.  `same`: every run gave the same bytes.  `more`: runs with other inputs, behind those.
import { readFileSync } from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";

const PAGE = 65536, TENSOR = 80, ALIGN = 64;

function imports(module, memory, exports) {
  const clock = (_id, _precision, at) => {
    new DataView((memory ?? exports().memory).buffer).setBigUint64(at, process.hrtime.bigint(), true);
    return 0;
  };
  const wasi = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, name === "clock_time_get" ? clock : () => 8]));
  return { wasi_snapshot_preview1: wasi, env: { memory } };
}

/** Pages that the module's imported memory must have at first; 0: it has its own memory. */
function sharedPages(bytes) {
  let at = 8;
  const number = () => {
    for (let v = 0, shift = 0; ; shift += 7) {
      const b = bytes[at++];
      v |= (b & 127) << shift;
      if (b < 128) return v >>> 0;
    }
  };
  while (at < bytes.length) {
    const id = bytes[at++], size = number(), end = at + size;
    if (id === 2)
      for (let n = number(); n--; ) {
        for (const _ of ["module", "name"]) {
          const length = number(); // moves `at`
          at += length;
        }
        const kind = bytes[at++];
        if (kind === 2) return at++, number();
        number();
      }
    at = end;
  }
  return 0;
}

async function main(job) {
  const bytes = readFileSync(job.module), module = await WebAssembly.compile(bytes);
  const initial = job.shared ? sharedPages(bytes) : 0;
  const own = initial ? new WebAssembly.Memory({ initial, maximum: PAGE - 1, shared: true }) : undefined;
  let e;
  e = (await WebAssembly.instantiate(module, imports(module, own, () => e))).exports;
  const memory = own ?? e.memory, view = () => new DataView(memory.buffer), raw = () => new Uint8Array(memory.buffer);
  e._initialize();
  const workers = [];
  for (let i = 1; i < (job.threads ?? 1); ++i) {
    const lane = e.dk_lane_new();
    if (!lane) throw new Error("no memory for a lane");
    const worker = new Worker(new URL(import.meta.url), { workerData: { module, memory, lane } });
    worker.left = new Promise((done) => worker.on("message", (m) => m === "left" && done()));
    worker.on("error", (error) => { throw error; });
    await new Promise((done) => worker.once("message", done));
    workers.push(worker);
  }
  if (workers.length) await new Promise((done) => setTimeout(done, 30)); // into dk_lane_main
  const text = (at) => Buffer.from(raw().slice(at, raw().indexOf(0, at))).toString();
  const alloc = (n) => {
    const at = e.malloc(n + 2 * ALIGN);
    if (!at) throw new Error("no memory");
    return (at + ALIGN - 1) & -ALIGN;
  };
  const check = (status, message) => {
    if (status) throw new Error(text(message()));
  };
  const file = readFileSync(job.model), at = alloc(file.length + ALIGN), out = alloc(8), options = alloc(64);
  raw().set(file, at);
  check(e.dk_model_from_bytes(at, file.length, 0, out), e.dk_last_error);
  raw().fill(0, options, options + 64);
  view().setInt32(options, job.threads ?? 1, true);
  check(e.dk_session_new(view().getUint32(out, true), options, out), e.dk_last_error);
  const session = view().getUint32(out, true);
  const give = ({ dtype, shape, data }, i) => {
    const values = Buffer.from(data, "base64"), t = alloc(TENSOR), to = alloc(values.length);
    raw().set(values, to);
    view().setInt32(t, dtype, true);
    view().setInt32(t + 4, shape.length, true);
    shape.forEach((d, k) => view().setBigInt64(t + 8 + 8 * k, BigInt(d), true));
    view().setUint32(t + 72, to, true);
    view().setUint32(t + 76, values.length, true);
    check(e.dk_session_set_input(session, i, t), () => e.dk_session_error(session));
  };
  job.inputs.forEach(give);
  const outputs = () =>
    Array.from({ length: e.dk_session_output_count(session) }, (_, i) => {
      const t = e.dk_session_output(session, i), from = view().getUint32(t + 72, true);
      return Buffer.from(raw().slice(from, from + view().getUint32(t + 76, true))).toString("base64");
    });
  let first, same = true;
  const milliseconds = [];
  for (let i = 0; i < (job.runs ?? 1); ++i) {
    const started = performance.now();
    check(e.dk_session_run(session), () => e.dk_session_error(session));
    milliseconds.push(performance.now() - started);
    const now = outputs();
    first ??= now;
    same &&= now.every((o, k) => o === first[k]);
  }
  const more = (job.more ?? []).map((inputs) => {
    inputs.forEach(give);
    check(e.dk_session_run(session), () => e.dk_session_error(session));
    return outputs();
  });
  const regions = e.dk_lane_regions?.();
  if (workers.length) {
    e.dk_lanes_stop();
    await Promise.all(workers.map((w) => w.left)); // a lane that does not leave is a test that does not end
  }
  return { isa: text(e.dk_isa()), lanes: workers.length + 1, regions, outputs: first, same, milliseconds, more };
}

if (isMainThread) {
  try {
    console.log(JSON.stringify(await main(JSON.parse(readFileSync(0, "utf8")))));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.message ?? error) }));
    process.exit(); // lanes may be there
  }
} else {
  const { parentPort } = await import("node:worker_threads");
  const { module, memory, lane } = workerData;
  const { exports } = await WebAssembly.instantiate(module, imports(module, memory));
  exports.__stack_pointer.value = exports.dk_lane_stack(lane);
  parentPort.postMessage("ready");
  exports.dk_lane_main(lane);
  parentPort.postMessage("left");
}
