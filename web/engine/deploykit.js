// A plain binding of the engine's C API (runtime/include/deploykit/dk.h): one thread, on the thread of the caller.
//
//   import { Model } from "./deploykit.js";
//   const model = await Model.load("model.dk", { onProgress: (loaded, total) => {} });
//   const { y } = await model.run({ x: { data: new Float32Array(4), shape: [1, 4] } });      // {data, shape, dtype}
//
// Errors carry the code that Python and C give (docs/errors.md).

const DTYPES = {
  1: ["float32", Float32Array], 2: ["float64", Float64Array], 5: ["int8", Int8Array], 6: ["uint8", Uint8Array],
  7: ["int16", Int16Array], 8: ["uint16", Uint16Array], 9: ["int32", Int32Array], 10: ["uint32", Uint32Array],
  11: ["int64", BigInt64Array], 12: ["uint64", BigUint64Array], 13: ["bool", Uint8Array],
};
const IDS = Object.fromEntries(Object.entries(DTYPES).map(([id, [name]]) => [name, Number(id)]));
const TENSOR = { dtype: 0, rank: 4, dims: 8, data: 72, bytes: 76, size: 80 }; // structs of dk.h with 32-bit pointers
const SPEC = { name: 0, dtype: 4, rank: 8, dims: 16, size: 80 };
const OPTIONS = { threads: 0, signature: 4, flags: 16, size: 32 };
const ROW = { name: 0, op: 4, detail: 8, calls: 16, nanoseconds: 24, size: 40 };
const MEMORY = { arena: 0, weights: 8, packed: 16, dynamic: 24, size: 48 };
const PROFILE = 1, ALIGN = 64, READABLE = 64;

let engine = null, starting = null;
const view = () => new DataView(engine.memory.buffer);
const raw = () => new Uint8Array(engine.memory.buffer);

function text(at) {
  if (!at) return "";
  const bytes = raw();
  let end = at;
  while (bytes[end]) ++end;
  return new TextDecoder().decode(bytes.slice(at, end));
}

function alloc(bytes) {
  const at = engine.malloc(bytes);
  if (!at) throw problem("DK-MEMORY", `no memory for ${bytes} bytes`);
  return at;
}

function problem(code, message) {
  return Object.assign(new Error(`${code}: ${message.replace(/^DK-[A-Z]+: /, "")}`), { code });
}

function check(status, message) {
  if (status) throw problem(text(engine.dk_status_name(status)), text(message()));
}

function chars(word) {
  const bytes = new TextEncoder().encode(word + "\0"), at = alloc(bytes.length);
  raw().set(bytes, at);
  return at;
}

/** A tensor of the engine's as typed array, shape and dtype. */
function read(at) {
  const v = view(), [dtype, Kind] = DTYPES[v.getInt32(at + TENSOR.dtype, true)];
  const shape = Array.from({ length: v.getInt32(at + TENSOR.rank, true) }, (_, k) => Number(v.getBigInt64(at + TENSOR.dims + 8 * k, true)));
  const from = v.getUint32(at + TENSOR.data, true), bytes = v.getUint32(at + TENSOR.bytes, true);
  return { dtype, shape, data: new Kind(engine.memory.buffer.slice(from, from + bytes)) };
}

function bind(session, name, tensor) {
  const word = chars(name);
  const status = engine.dk_session_bind_variable(session, word, tensor);
  engine.free(word);
  check(status, () => engine.dk_session_error(session));
}

async function bytesOf(url, onProgress, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw problem("DK-IO", `${url}: could not be fetched (${error.message}).`);
  }
  if (!response.ok) throw problem("DK-IO", `${url}: the server answered ${response.status}.`);
  const total = response.headers.has("Content-Encoding") ? 0 : Number(response.headers.get("Content-Length")); // 0: not known
  const parts = [];
  let loaded = 0;
  for (const source = response.body.getReader(); ; ) {
    const { done, value } = await source.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    onProgress?.(loaded, total);
  }
  const out = new Uint8Array(loaded);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

async function start() {
  const code = await bytesOf(new URL("./engine.wasm", import.meta.url));
  if (String.fromCharCode(...code.subarray(0, 4)) !== "\0asm") {
    const html = /^\s*</.test(new TextDecoder().decode(code.subarray(0, 64)));
    throw problem("DK-IO", `the server sent ${html ? "an HTML page" : "something else"} for engine.wasm. Put the file beside deploykit.js.`);
  }
  let module;
  try {
    module = await WebAssembly.compile(code);
  } catch (error) {
    throw problem("DK-ENGINE", `this browser does not run the engine (it needs WebAssembly SIMD): ${error.message}`);
  }
  const known = {
    clock_time_get: (_id, _precision, at) => (view().setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true), 0),
    environ_sizes_get: (a, b) => (view().setUint32(a, 0, true), view().setUint32(b, 0, true), 0),
    environ_get: () => 0,
  };
  const BADF = 8; // no files, no entropy
  const wasi = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, known[name] ?? (() => BADF)]));
  engine = (await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi })).exports;
  engine._initialize();
}

export class Model {
  /** From an address or bytes; rejects with DK-IO, DK-FORMAT, DK-VERSION, DK-MEMORY or, when `signal` fires, AbortError. */
  static async load(source, { onProgress, signal } = {}) {
    starting ??= start().catch((error) => {
      starting = null; // the next call tries again
      throw error;
    });
    await starting;
    return new Model(source instanceof Uint8Array ? source : await bytesOf(source, onProgress, signal));
  }

  constructor(bytes) {
    this.bytes = bytes;
    this.held = alloc(bytes.length + ALIGN + READABLE);
    const at = (this.held + ALIGN - 1) & -ALIGN, out = alloc(4);
    raw().set(bytes, at);
    try {
      check(engine.dk_model_from_bytes(at, bytes.length, 0, out), engine.dk_last_error);
    } catch (error) {
      engine.free(this.held);
      throw error;
    }
    this.model = view().getUint32(out, true);
    engine.free(out);
    this.session = this.open(0);
    this.inputs = this.specs("input");
    this.outputs = this.specs("output");
    const count = engine.dk_model_metadata_count(this.model), name = (i) => text(engine.dk_model_metadata_key(this.model, i));
    this.metadata = Object.fromEntries(Array.from({ length: count }, (_, i) => [name(i), JSON.parse(text(engine.dk_model_metadata_value(this.model, i)))]));
  }

  open(flags, signature = 0) {
    const options = alloc(OPTIONS.size + 4), out = options + OPTIONS.size;
    raw().fill(0, options, out);
    view().setUint32(options + OPTIONS.signature, signature, true);
    view().setInt32(options + OPTIONS.threads, 1, true);
    view().setUint32(options + OPTIONS.flags, flags, true);
    check(engine.dk_session_new(this.model, options, out), engine.dk_last_error);
    const session = view().getUint32(out, true);
    engine.free(options);
    return session;
  }

  specs(side) {
    const at = alloc(SPEC.size);
    const specs = Array.from({ length: engine[`dk_session_${side}_count`](this.session) }, (_, i) => {
      engine[`dk_session_${side}_spec`](this.session, i, at);
      const rank = view().getInt32(at + SPEC.rank, true);
      const dim = (k) => {
        const d = view().getBigInt64(at + SPEC.dims + 8 * k, true);
        return d < 0n ? text(engine.dk_dim_name(this.model, d)) || "?" : Number(d);
      };
      const shape = rank < 0 ? null : Array.from({ length: rank }, (_, k) => dim(k));
      return { name: text(view().getUint32(at + SPEC.name, true)), dtype: DTYPES[view().getInt32(at + SPEC.dtype, true)]?.[0] ?? "", shape };
    });
    engine.free(at);
    return specs;
  }

  async run(inputs, session = this.session) {
    const held = [];
    const message = () => engine.dk_session_error(session);
    try {
      this.inputs.forEach((spec, i) => {
        const given = inputs[spec.name];
        if (!given) throw problem("DK-INPUT", `run: input '${spec.name}' is missing`);
        const data = given.data ?? given, shape = given.shape ?? spec.shape;
        const block = alloc(TENSOR.size + data.byteLength + 2 * ALIGN + READABLE);
        held.push(block);
        const at = (block + ALIGN - 1) & -ALIGN, values = at + 2 * ALIGN;
        raw().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), values);
        view().setInt32(at + TENSOR.dtype, IDS[spec.dtype], true);
        view().setInt32(at + TENSOR.rank, shape.length, true);
        shape.forEach((d, k) => view().setBigInt64(at + TENSOR.dims + 8 * k, BigInt(d), true));
        view().setUint32(at + TENSOR.data, values, true);
        view().setUint32(at + TENSOR.bytes, data.byteLength, true);
        check(engine.dk_session_set_input(session, i, at), message);
      });
      check(engine.dk_session_run(session), message);
      return Object.fromEntries(this.outputs.map((spec, i) => {
        return [spec.name, read(engine.dk_session_output(session, i))];
      }));
    } finally {
      held.forEach((block) => engine.free(block));
    }
  }

  async profile(inputs, runs = 20) {
    const session = this.open(PROFILE), at = alloc(ROW.size);
    try {
      await this.run(inputs, session);
      engine.dk_session_profile_clear(session);
      for (let i = 0; i < runs; ++i) await this.run(inputs, session);
      return Array.from({ length: engine.dk_session_profile_count(session) }, (_, i) => {
        engine.dk_session_profile_row(session, i, at);
        const word = (field) => text(view().getUint32(at + field, true));
        const calls = Number(view().getBigUint64(at + ROW.calls, true));
        const microseconds = Number(view().getBigUint64(at + ROW.nanoseconds, true)) / 1e3 / Math.max(1, calls);
        return { name: word(ROW.name), op: word(ROW.op), detail: word(ROW.detail), calls, microseconds };
      });
    } finally {
      engine.free(at);
      engine.dk_session_free(session);
    }
  }

  /** Another entry point of the same model, on the same variables. */
  async signature(name) {
    const other = Object.create(Model.prototype), word = chars(name);
    other.model = this.model;
    other.session = this.open(0, word);
    engine.free(word);
    other.inputs = other.specs("input");
    other.outputs = other.specs("output");
    const { variables } = await import("../page/dkfile.js"); // names of variables, which the C API does not list
    this.names ??= variables(this.bytes).map((v) => v.name);
    this.shared ??= new Map(this.names.map((v) => [v, this.share(v)]));
    for (const [v, tensor] of this.shared) bind(other.session, v, tensor);
    return other;
  }

  /** Memory of its own for a variable, holding its value: the tensor that describes it. */
  share(name) {
    const word = chars(name), own = engine.dk_session_variable(this.session, word);
    engine.free(word);
    const from = view().getUint32(own + TENSOR.data, true), bytes = view().getUint32(own + TENSOR.bytes, true);
    const tensor = alloc(TENSOR.size), block = alloc(bytes + ALIGN + READABLE), at = (block + ALIGN - 1) & -ALIGN;
    raw().copyWithin(tensor, own, own + TENSOR.size);
    raw().copyWithin(at, from, from + bytes);
    view().setUint32(tensor + TENSOR.data, at, true);
    bind(this.session, name, tensor);
    return tensor;
  }

  /** The present value of a variable. */
  async variable(name) {
    const word = chars(name), at = engine.dk_session_variable(this.session, word);
    engine.free(word);
    if (!at) throw problem("DK-INPUT", `the model has no variable '${name}'`);
    return read(at);
  }

  get memory() {
    const at = alloc(MEMORY.size);
    engine.dk_session_memory(this.session, at);
    const read = (field) => Number(view().getBigUint64(at + MEMORY[field], true));
    const out = { arena: read("arena"), weights: read("weights"), packed: read("packed"), dynamic: read("dynamic") };
    engine.free(at);
    return out;
  }

  reset() {
    engine.dk_session_reset(this.session);
  }

  dispose() {
    if (!this.session) return;
    engine.dk_session_free(this.session);
    engine.dk_model_free(this.model);
    engine.free(this.held);
    this.session = 0;
  }
}
