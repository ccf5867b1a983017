/*! built from web/npm/src */
import { variables } from "./dkfile.js";
import { arrayOf, DeploykitError, dtypeId, dtypeName } from "./values.js";
const TENSOR = { dtype: 0, rank: 4, dims: 8, data: 72, bytes: 76, size: 80 };
const SPEC = { name: 0, dtype: 4, rank: 8, dims: 16, size: 80 };
const OPTIONS = { threads: 0, signature: 4, maxMemory: 8, flags: 16, maxSteps: 24, size: 32 };
const ROW = { name: 0, op: 4, detail: 8, calls: 16, nanoseconds: 24, flops: 32, size: 40 };
const MEMORY = { arena: 0, weights: 8, packed: 16, dynamic: 24, size: 48 };
const PROFILE = 1, ALIGN = 64, READABLE = 64;
const PAGES = 64, MOST_PAGES = [65535, 16384, 4096];
const FIRST_MS = 10, LATER_MS = 1;
export class Engine {
 module;
 heap;
 at;
 sessions = new Map();
 held = 0;
 size = 0;
 model = 0;
 options = { threads: 1, eager: false, maxMemory: 0, maxOps: 0 };
 runs = 0;
 shared = null;
 dead = null;
 constructor(instance, module, heap) {
  this.module = module;
  this.heap = heap;
  this.at = instance.exports;
 }
 static async instance(module, memory) {
  let heap = memory;
  const view = () => new DataView(heap.buffer);
  const known = {
   clock_time_get: (_id, _precision, at) => (view().setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true), 0),
   environ_sizes_get: (a, b) => (view().setUint32(a, 0, true), view().setUint32(b, 0, true), 0),
   environ_get: () => 0,
  };
  const BADF = 8;
  const wasi = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, known[name] ?? (() => BADF)]));
  const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi, env: memory ? { memory } : {} });
  heap ??= instance.exports.memory;
  return [instance, heap];
 }
 static async enter({ module, memory, at }, ready) {
  const [{ exports }] = await Engine.instance(module, memory), lane = exports;
  lane.__stack_pointer.value = lane["dk_lane_stack"](at);
  ready();
  lane["dk_lane_main"](at);
 }
 static async open(module, bytes, options) {
  let engine;
  try {
   const shared = WebAssembly.Module.imports(module).some(({ kind }) => kind === "memory");
   const [instance, heap] = await Engine.instance(module, shared ? sharedMemory() : undefined);
   engine = new Engine(instance, module, heap);
  }
  catch (error) {
   throw new DeploykitError("DK-MEMORY", `the engine got no memory to start in (${error.message}). Close other pages, or dispose models that are not needed.`);
  }
  engine.at._initialize?.();
  return [engine, engine.guard(() => engine.load(bytes, options))];
 }
 lanes() {
  const { threads } = this.options;
  this.options = { ...this.options, eager: true };
  if (this.heap.buffer instanceof ArrayBuffer)
   return undefined;
  const places = Array.from({ length: threads - 1 }, () => this.call("dk_lane_new")).filter((at) => at);
  return places.map((at) => ({ module: this.module, memory: this.heap, at }));
 }
 get view() {
  return new DataView(this.heap.buffer);
 }
 get raw() {
  return new Uint8Array(this.heap.buffer);
 }
 call(name, ...args) {
  const call = this.at[name];
  if (!call)
   throw new DeploykitError("DK-ENGINE", `engine.wasm has no ${name}: it belongs to another version than deploykit.js. Take both from one.`);
  return call(...args);
 }
 alloc(bytes) {
  const at = bytes < 2 ** 32 ? this.at.malloc(bytes) : 0;
  if (!at)
   throw new DeploykitError("DK-MEMORY", `no memory for ${bytes} bytes; ${this.heap.buffer.byteLength} are in use. A smaller input needs less.`);
  return at >>> 0;
 }
 text(at) {
  if (!at)
   return "";
  const bytes = this.raw;
  let end = (at >>>= 0);
  while (bytes[end])
   ++end;
  return new TextDecoder().decode(bytes.slice(at, end));
 }
 withText(word, use) {
  const bytes = new TextEncoder().encode(word + "\0"), at = this.alloc(bytes.length);
  this.raw.set(bytes, at);
  try {
   return use(at);
  }
  finally {
   this.at.free(at);
  }
 }
 check(status, session = 0) {
  if (!status)
   return;
  const message = session ? this.call("dk_session_error", session) : this.call("dk_last_error");
  throw new DeploykitError(this.text(this.call("dk_status_name", status)), this.text(message));
 }
 guard(work) {
  if (this.dead)
   throw this.dead;
  try {
   return work();
  }
  catch (error) {
   if (!(error instanceof WebAssembly.RuntimeError))
    throw error;
   this.dead = new DeploykitError("DK-INTERNAL", `the engine stopped: ${error.message}. Please report it with the model, and load the model again.`);
   throw this.dead;
  }
 }
 load(bytes, options) {
  this.options = options;
  this.size = bytes.length;
  this.held = this.alloc(bytes.length + ALIGN + READABLE);
  const at = align(this.held), out = this.alloc(4);
  this.raw.set(bytes, at);
  this.check(this.call("dk_model_from_bytes", at, bytes.length, 0, out));
  this.model = this.view.getUint32(out, true);
  this.at.free(out);
  const each = (what, get) => Array.from({ length: this.call(`dk_model_${what}_count`, this.model) }, (_, i) => get(i));
  const word = (name, i) => this.text(this.call(name, this.model, i));
  const metadata = each("metadata", (i) => i.toString()).map((i) => [word("dk_model_metadata_key", Number(i)), JSON.parse(word("dk_model_metadata_value", Number(i)))]);
  return {
   ...this.start(""),
   metadata: Object.fromEntries(metadata),
   signatures: each("signature", (i) => word("dk_model_signature", i)),
   isa: this.text(this.call("dk_isa")),
   version: this.text(this.call("dk_version")),
   lanes: options.eager ? this.lanes() : undefined,
  };
 }
 newSession(signature, flags) {
  const make = (name) => {
   const options = this.alloc(OPTIONS.size + 4), out = options + OPTIONS.size;
   try {
    this.raw.fill(0, options, out + 4);
    this.view.setInt32(options + OPTIONS.threads, this.options.threads, true);
    this.view.setUint32(options + OPTIONS.signature, name, true);
    this.view.setBigUint64(options + OPTIONS.maxMemory, BigInt(this.options.maxMemory), true);
    this.view.setUint32(options + OPTIONS.flags, flags, true);
    this.view.setBigUint64(options + OPTIONS.maxSteps, BigInt(this.options.maxOps), true);
    this.check(this.call("dk_session_new", this.model, options, out));
    return this.view.getUint32(out, true);
   }
   finally {
    this.at.free(options);
   }
  };
  return signature ? this.withText(signature, make) : make(0);
 }
 start(signature) {
  const session = this.newSession(signature, 0);
  const opened = { session, signature, inputs: this.specs(session, "input"), outputs: this.specs(session, "output"), memory: this.memory(session), blocks: [] };
  this.sessions.set(session, opened);
  return { session, inputs: opened.inputs, outputs: opened.outputs, memory: opened.memory };
 }
 signature(name) {
  return this.guard(() => {
   const opened = this.start(name);
   if (!this.shared) {
    const at = align(this.held), file = this.raw.subarray(at, at + this.size);
    const [main] = this.sessions.keys();
    this.shared = new Map(variables(file).map((v) => [v.name, this.share(main, v.name)]));
   }
   for (const [variable, tensor] of this.shared)
    this.bind(opened.session, variable, tensor);
   return opened;
  });
 }
 share(session, name) {
  const own = this.withText(name, (word) => this.call("dk_session_variable", session, word));
  const from = this.view.getUint32(own + TENSOR.data, true), bytes = this.view.getUint32(own + TENSOR.bytes, true);
  const tensor = this.alloc(TENSOR.size), at = align(this.alloc(bytes + ALIGN + READABLE));
  this.raw.copyWithin(tensor, own, own + TENSOR.size);
  this.raw.copyWithin(at, from, from + bytes);
  this.view.setUint32(tensor + TENSOR.data, at, true);
  this.bind(session, name, tensor);
  return tensor;
 }
 bind(session, name, tensor) {
  this.check(this.withText(name, (word) => this.call("dk_session_bind_variable", session, word, tensor)), session);
 }
 specs(session, side) {
  const at = this.alloc(SPEC.size);
  const specs = Array.from({ length: this.call(`dk_session_${side}_count`, session) }, (_, i) => {
   this.check(this.call(`dk_session_${side}_spec`, session, i, at), session);
   const v = this.view, rank = v.getInt32(at + SPEC.rank, true);
   const dim = (k) => {
    const d = v.getBigInt64(at + SPEC.dims + 8 * k, true);
    return d < 0n ? this.text(this.call("dk_dim_name", this.model, d)) || "?" : Number(d);
   };
   const shape = rank < 0 ? null : Array.from({ length: rank }, (_, k) => dim(k));
   return { name: this.text(v.getUint32(at + SPEC.name, true)), dtype: dtypeName(v.getInt32(at + SPEC.dtype, true)), shape };
  });
  this.at.free(at);
  return specs;
 }
 memory(session) {
  const at = this.alloc(MEMORY.size);
  this.raw.fill(0, at, at + MEMORY.size);
  this.call("dk_session_memory", session, at);
  const read = (field) => Number(this.view.getBigUint64(at + field, true));
  const out = { arena: read(MEMORY.arena), weights: read(MEMORY.weights), packed: read(MEMORY.packed), dynamic: read(MEMORY.dynamic), heap: this.heap.buffer.byteLength };
  this.at.free(at);
  return out;
 }
 run(session, inputs, timeout) {
  return this.guard(() => {
   const s = this.sessions.get(session);
   this.feed(session, s, inputs);
   this.call("dk_session_set_time_limit", session, BigInt(Math.ceil(timeout * 1000)));
   const began = performance.now();
   this.check(this.call("dk_session_run", session), session);
   const heavy = performance.now() - began >= (this.runs++ ? LATER_MS : FIRST_MS);
   const outputs = s.outputs.map((spec, i) => [spec.name, this.read(this.call("dk_session_output", session, i))]);
   return { outputs: Object.fromEntries(outputs), memory: this.memory(session), lanes: heavy && !this.options.eager ? this.lanes() : undefined };
  });
 }
 feed(session, { inputs: specs, blocks }, inputs) {
  inputs.forEach(({ bytes, shape }, i) => {
   let block = blocks[i];
   if (!block || block.bytes < bytes.length) {
    if (block)
     this.at.free(block.at);
    delete blocks[i];
    block = blocks[i] = { at: this.alloc(2 * ALIGN + bytes.length + ALIGN + READABLE), bytes: bytes.length };
   }
   const tensor = align(block.at), values = tensor + 2 * ALIGN, v = this.view;
   this.raw.set(bytes, values);
   v.setInt32(tensor + TENSOR.dtype, dtypeId(specs[i].dtype), true);
   v.setInt32(tensor + TENSOR.rank, shape.length, true);
   shape.forEach((d, k) => v.setBigInt64(tensor + TENSOR.dims + 8 * k, BigInt(d), true));
   v.setUint32(tensor + TENSOR.data, values, true);
   v.setUint32(tensor + TENSOR.bytes, bytes.length, true);
   this.check(this.call("dk_session_set_input", session, i, tensor), session);
  });
 }
 read(at) {
  at >>>= 0;
  const v = this.view, id = v.getInt32(at + TENSOR.dtype, true), dtype = dtypeName(id);
  if (!dtype)
   throw new DeploykitError("DK-UNSUPPORTED", `a tensor of dtype number ${id} has no typed array in JavaScript.`);
  const shape = Array.from({ length: v.getInt32(at + TENSOR.rank, true) }, (_, k) => Number(v.getBigInt64(at + TENSOR.dims + 8 * k, true)));
  const from = v.getUint32(at + TENSOR.data, true), copy = new Uint8Array(v.getUint32(at + TENSOR.bytes, true));
  copy.set(this.raw.subarray(from, from + copy.length));
  return { data: new (arrayOf(dtype))(copy.buffer), shape, dtype };
 }
 profile(session, inputs, runs) {
  return this.guard(() => {
   const s = this.sessions.get(session), timed = this.newSession(s.signature, PROFILE), at = this.alloc(ROW.size);
   try {
    this.feed(timed, s, inputs);
    this.check(this.call("dk_session_run", timed), timed);
    this.call("dk_session_profile_clear", timed);
    for (let i = 0; i < runs; ++i)
     this.check(this.call("dk_session_run", timed), timed);
    return Array.from({ length: this.call("dk_session_profile_count", timed) }, (_, i) => {
     this.check(this.call("dk_session_profile_row", timed, i, at), timed);
     const v = this.view, word = (field) => this.text(v.getUint32(at + field, true)), count = (field) => Number(v.getBigUint64(at + field, true));
     const calls = count(ROW.calls), microseconds = count(ROW.nanoseconds) / 1e3 / Math.max(1, calls);
     const gflops = microseconds ? count(ROW.flops) / microseconds / 1e3 : 0;
     return { name: word(ROW.name), op: word(ROW.op), detail: word(ROW.detail), calls, microseconds, gflops };
    });
   }
   finally {
    this.at.free(at);
    this.call("dk_session_free", timed);
   }
  });
 }
 reset(session) {
  this.guard(() => this.call("dk_session_reset", session));
 }
 variable(session, name) {
  return this.guard(() => {
   const at = this.withText(name, (word) => this.call("dk_session_variable", session, word));
   if (!at)
    throw new DeploykitError("DK-INPUT", `the model has no variable '${name}'.`);
   return this.read(at);
  });
 }
 close(session) {
  const s = this.sessions.get(session);
  if (!s || this.dead)
   return;
  this.sessions.delete(session);
  s.blocks.forEach((block) => this.at.free(block.at));
  this.call("dk_session_free", session);
 }
}
function sharedMemory() {
 for (const maximum of MOST_PAGES) {
  try {
   return new WebAssembly.Memory({ initial: PAGES, maximum, shared: true });
  }
  catch {
  }
 }
 throw new RangeError("no shared memory");
}
const align = (at) => ((at + ALIGN - 1) & -ALIGN) >>> 0;
