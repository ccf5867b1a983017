/*! built from web/npm/src */
// One instance of the WebAssembly engine with one model in it: a binding of its C API (runtime/include/deploykit/dk.h). Runs
// in the worker, or on the caller's thread when that was asked for.
import { variables } from "./dkfile.js";
import type { Packed } from "./inputs.js";
import { arrayOf, DeploykitError, dtypeId, dtypeName } from "./values.js";
import type { DType, Spec, Tensor } from "./values.js";

const TENSOR = { dtype: 0, rank: 4, dims: 8, data: 72, bytes: 76, size: 80 }; // structs of dk.h with 32-bit pointers
const SPEC = { name: 0, dtype: 4, rank: 8, dims: 16, size: 80 };
const OPTIONS = { threads: 0, signature: 4, maxMemory: 8, flags: 16, maxSteps: 24, size: 32 };
const ROW = { name: 0, op: 4, detail: 8, calls: 16, nanoseconds: 24, flops: 32, size: 40 };
const MEMORY = { arena: 0, weights: 8, packed: 16, dynamic: 24, size: 48 };
const PROFILE = 1, ALIGN = 64, READABLE = 64; // inputs start on 64 bytes and have 64 readable bytes behind them

// The engine with threads takes its memory: as much at first as build.py tells the linker, at most what is to be had.
const PAGES = 64, MOST_PAGES = [65535, 16384, 4096];
// A lane is a worker, which costs some milliseconds once: started for runs that take so long, the first (still half compiled)
// and later ones.
const FIRST_MS = 10, LATER_MS = 1;

interface Exports extends Record<string, unknown> {
  memory?: WebAssembly.Memory;
  __stack_pointer?: WebAssembly.Global;
  malloc(bytes: number): number;
  free(at: number): void;
  _initialize?(): void;
}
type Call = (...args: (number | bigint)[]) => number;

/** Bytes of a session: the arena of the plan, weights in the file, packed weights, tensors of sizes found at run time. */
export interface Memory {
  arena: number;
  weights: number;
  packed: number;
  dynamic: number;
  /** Bytes of the WebAssembly memory as a whole. */
  heap: number;
}

/** One node of the plan; time is the mean over the calls. */
export interface ProfileRow {
  name: string;
  op: string;
  detail: string;
  calls: number;
  microseconds: number;
  gflops: number;
}

export interface Opened {
  session: number;
  inputs: Spec[];
  outputs: Spec[];
  memory: Memory;
}
export interface Loaded extends Opened {
  metadata: Record<string, unknown>;
  signatures: string[];
  isa: string;
  version: string;
  lanes?: Lane[] | undefined;
}
/** What a worker needs to take part in the runs of an engine. */
export interface Lane {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  at: number;
}
export interface OpenOptions {
  /** Lanes, the engine's own included. */
  threads: number;
  /** Ask for them at once; else after a run that is worth it. */
  eager: boolean;
  maxMemory: number;
  maxOps: number;
}
export interface Ran {
  outputs: Record<string, Tensor>;
  memory: Memory;
  /** Workers to start, once. */
  lanes?: Lane[] | undefined;
}

interface Session extends Opened {
  signature: string;
  blocks: { at: number; bytes: number }[]; // of the inputs, kept from run to run
}

export class Engine {
  private readonly at: Exports;
  private readonly sessions = new Map<number, Session>();
  private held = 0;
  private size = 0;
  private model = 0;
  private options: OpenOptions = { threads: 1, eager: false, maxMemory: 0, maxOps: 0 };
  private runs = 0;
  private shared: Map<string, number> | null = null; // variables that several sessions use: name to tensor
  private dead: unknown = null;

  private constructor(instance: WebAssembly.Instance, private readonly module: WebAssembly.Module, private readonly heap: WebAssembly.Memory) {
    this.at = instance.exports as Exports;
  }

  private static async instance(module: WebAssembly.Module, memory: WebAssembly.Memory | undefined): Promise<[WebAssembly.Instance, WebAssembly.Memory]> {
    let heap = memory;
    const view = () => new DataView(heap!.buffer);
    const known: Record<string, (...args: never[]) => number> = {
      clock_time_get: (_id: number, _precision: bigint, at: number) => (view().setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true), 0),
      environ_sizes_get: (a: number, b: number) => (view().setUint32(a, 0, true), view().setUint32(b, 0, true), 0),
      environ_get: () => 0,
    };
    const BADF = 8; // no files, no entropy
    const wasi = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, known[name] ?? (() => BADF)]));
    const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi, env: memory ? { memory } : {} });
    heap ??= (instance.exports as Exports).memory;
    return [instance, heap!];
  }

  /** What a worker does for an engine elsewhere on the same memory, until that is gone: never returns. */
  static async enter({ module, memory, at }: Lane, ready: () => void): Promise<void> {
    const [{ exports }] = await Engine.instance(module, memory), lane = exports as Exports;
    lane.__stack_pointer!.value = (lane["dk_lane_stack"] as Call)(at);
    ready();
    (lane["dk_lane_main"] as Call)(at);
  }

  /** The engine with a model in it. Throws DK-FORMAT, DK-VERSION or DK-MEMORY. */
  static async open(module: WebAssembly.Module, bytes: Uint8Array, options: OpenOptions): Promise<[Engine, Loaded]> {
    let engine: Engine;
    try {
      const shared = WebAssembly.Module.imports(module).some(({ kind }) => kind === "memory");
      const [instance, heap] = await Engine.instance(module, shared ? sharedMemory() : undefined);
      engine = new Engine(instance, module, heap);
    } catch (error) {
      throw new DeploykitError("DK-MEMORY", `the engine got no memory to start in (${(error as Error).message}). Close other pages, or dispose models that are not needed.`);
    }
    engine.at._initialize?.();
    return [engine, engine.guard(() => engine.load(bytes, options))];
  }

  /** Lanes for workers to enter; the first call gives them, later ones nothing. */
  private lanes(): Lane[] | undefined {
    const { threads } = this.options;
    this.options = { ...this.options, eager: true };
    if (this.heap.buffer instanceof ArrayBuffer) return undefined; // a memory of its own
    const places = Array.from({ length: threads - 1 }, () => this.call("dk_lane_new")).filter((at) => at); // 0: no memory
    return places.map((at) => ({ module: this.module, memory: this.heap, at }));
  }

  // ---------------------------------------------------------------------------------------------------- memory and text
  private get view(): DataView {
    return new DataView(this.heap.buffer);
  }
  private get raw(): Uint8Array {
    return new Uint8Array(this.heap.buffer);
  }
  private call(name: string, ...args: (number | bigint)[]): number {
    const call = this.at[name] as Call | undefined;
    if (!call) throw new DeploykitError("DK-ENGINE", `engine.wasm has no ${name}: it belongs to another version than deploykit.js. Take both from one.`);
    return call(...args);
  }

  private alloc(bytes: number): number {
    const at = bytes < 2 ** 32 ? this.at.malloc(bytes) : 0;
    if (!at) throw new DeploykitError("DK-MEMORY", `no memory for ${bytes} bytes; ${this.heap.buffer.byteLength} are in use. A smaller input needs less.`);
    return at >>> 0;
  }

  private text(at: number): string {
    if (!at) return "";
    const bytes = this.raw;
    let end = (at >>>= 0);
    while (bytes[end]) ++end;
    return new TextDecoder().decode(bytes.slice(at, end));
  }

  private withText<T>(word: string, use: (at: number) => T): T {
    const bytes = new TextEncoder().encode(word + "\0"), at = this.alloc(bytes.length);
    this.raw.set(bytes, at);
    try {
      return use(at);
    } finally {
      this.at.free(at);
    }
  }

  private check(status: number, session = 0): void {
    if (!status) return;
    const message = session ? this.call("dk_session_error", session) : this.call("dk_last_error");
    throw new DeploykitError(this.text(this.call("dk_status_name", status)), this.text(message));
  }

  /** A trap leaves the instance in an unknown state: from then on every call says so. */
  private guard<T>(work: () => T): T {
    if (this.dead) throw this.dead;
    try {
      return work();
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      this.dead = new DeploykitError("DK-INTERNAL", `the engine stopped: ${error.message}. Please report it with the model, and load the model again.`);
      throw this.dead;
    }
  }

  // -------------------------------------------------------------------------------------------------------- model, sessions
  private load(bytes: Uint8Array, options: OpenOptions): Loaded {
    this.options = options;
    this.size = bytes.length;
    this.held = this.alloc(bytes.length + ALIGN + READABLE);
    const at = align(this.held), out = this.alloc(4);
    this.raw.set(bytes, at);
    this.check(this.call("dk_model_from_bytes", at, bytes.length, 0, out));
    this.model = this.view.getUint32(out, true);
    this.at.free(out);
    const each = (what: string, get: (i: number) => string) => Array.from({ length: this.call(`dk_model_${what}_count`, this.model) }, (_, i) => get(i));
    const word = (name: string, i: number) => this.text(this.call(name, this.model, i));
    const metadata = each("metadata", (i) => i.toString()).map((i) => [word("dk_model_metadata_key", Number(i)), JSON.parse(word("dk_model_metadata_value", Number(i))) as unknown]);
    return {
      ...this.start(""),
      metadata: Object.fromEntries(metadata) as Record<string, unknown>,
      signatures: each("signature", (i) => word("dk_model_signature", i)),
      isa: this.text(this.call("dk_isa")),
      version: this.text(this.call("dk_version")),
      lanes: options.eager ? this.lanes() : undefined,
    };
  }

  private newSession(signature: string, flags: number): number {
    const make = (name: number) => {
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
      } finally {
        this.at.free(options);
      }
    };
    return signature ? this.withText(signature, make) : make(0);
  }

  private start(signature: string): Opened {
    const session = this.newSession(signature, 0);
    const opened: Session = { session, signature, inputs: this.specs(session, "input"), outputs: this.specs(session, "output"), memory: this.memory(session), blocks: [] };
    this.sessions.set(session, opened);
    return { session, inputs: opened.inputs, outputs: opened.outputs, memory: opened.memory };
  }

  /** Another entry point of the same model, on the same variables. */
  signature(name: string): Opened {
    return this.guard(() => {
      const opened = this.start(name);
      if (!this.shared) {
        const at = align(this.held), file = this.raw.subarray(at, at + this.size);
        const [main] = this.sessions.keys();
        this.shared = new Map(variables(file).map((v) => [v.name, this.share(main!, v.name)])); // the C API does not list their names
      }
      for (const [variable, tensor] of this.shared) this.bind(opened.session, variable, tensor);
      return opened;
    });
  }

  /** Memory of its own for a variable, holding its value: the tensor that describes it. */
  private share(session: number, name: string): number {
    const own = this.withText(name, (word) => this.call("dk_session_variable", session, word));
    const from = this.view.getUint32(own + TENSOR.data, true), bytes = this.view.getUint32(own + TENSOR.bytes, true);
    const tensor = this.alloc(TENSOR.size), at = align(this.alloc(bytes + ALIGN + READABLE));
    this.raw.copyWithin(tensor, own, own + TENSOR.size);
    this.raw.copyWithin(at, from, from + bytes);
    this.view.setUint32(tensor + TENSOR.data, at, true);
    this.bind(session, name, tensor);
    return tensor;
  }

  private bind(session: number, name: string, tensor: number): void {
    this.check(this.withText(name, (word) => this.call("dk_session_bind_variable", session, word, tensor)), session);
  }

  private specs(session: number, side: "input" | "output"): Spec[] {
    const at = this.alloc(SPEC.size);
    const specs = Array.from({ length: this.call(`dk_session_${side}_count`, session) }, (_, i): Spec => {
      this.check(this.call(`dk_session_${side}_spec`, session, i, at), session);
      const v = this.view, rank = v.getInt32(at + SPEC.rank, true);
      const dim = (k: number) => {
        const d = v.getBigInt64(at + SPEC.dims + 8 * k, true);
        return d < 0n ? this.text(this.call("dk_dim_name", this.model, d)) || "?" : Number(d);
      };
      const shape = rank < 0 ? null : Array.from({ length: rank }, (_, k) => dim(k));
      return { name: this.text(v.getUint32(at + SPEC.name, true)), dtype: dtypeName(v.getInt32(at + SPEC.dtype, true)), shape };
    });
    this.at.free(at);
    return specs;
  }

  private memory(session: number): Memory {
    const at = this.alloc(MEMORY.size);
    this.raw.fill(0, at, at + MEMORY.size);
    this.call("dk_session_memory", session, at);
    const read = (field: number) => Number(this.view.getBigUint64(at + field, true));
    const out = { arena: read(MEMORY.arena), weights: read(MEMORY.weights), packed: read(MEMORY.packed), dynamic: read(MEMORY.dynamic), heap: this.heap.buffer.byteLength };
    this.at.free(at);
    return out;
  }

  // -------------------------------------------------------------------------------------------------------------------- runs
  /** `timeout`: seconds, 0: no limit. */
  run(session: number, inputs: Packed[], timeout: number): Ran {
    return this.guard(() => {
      const s = this.sessions.get(session)!;
      this.feed(session, s, inputs);
      this.call("dk_session_set_time_limit", session, BigInt(Math.ceil(timeout * 1000)));
      const began = performance.now();
      this.check(this.call("dk_session_run", session), session);
      const heavy = performance.now() - began >= (this.runs++ ? LATER_MS : FIRST_MS);
      const outputs = s.outputs.map((spec, i): [string, Tensor] => [spec.name, this.read(this.call("dk_session_output", session, i))]);
      return { outputs: Object.fromEntries(outputs), memory: this.memory(session), lanes: heavy && !this.options.eager ? this.lanes() : undefined };
    });
  }

  /** Copy the inputs into blocks that stay from run to run, and set them on a session of the same signature. */
  private feed(session: number, { inputs: specs, blocks }: Session, inputs: Packed[]): void {
    inputs.forEach(({ bytes, shape }, i) => {
      let block = blocks[i];
      if (!block || block.bytes < bytes.length) {
        if (block) this.at.free(block.at);
        delete blocks[i]; // in case there is no memory for the new one
        block = blocks[i] = { at: this.alloc(2 * ALIGN + bytes.length + ALIGN + READABLE), bytes: bytes.length };
      }
      const tensor = align(block.at), values = tensor + 2 * ALIGN, v = this.view;
      this.raw.set(bytes, values);
      v.setInt32(tensor + TENSOR.dtype, dtypeId(specs[i]!.dtype as DType), true);
      v.setInt32(tensor + TENSOR.rank, shape.length, true);
      shape.forEach((d, k) => v.setBigInt64(tensor + TENSOR.dims + 8 * k, BigInt(d), true));
      v.setUint32(tensor + TENSOR.data, values, true);
      v.setUint32(tensor + TENSOR.bytes, bytes.length, true);
      this.check(this.call("dk_session_set_input", session, i, tensor), session);
    });
  }

  /** A copy of a tensor of the engine's. */
  private read(at: number): Tensor {
    at >>>= 0;
    const v = this.view, id = v.getInt32(at + TENSOR.dtype, true), dtype = dtypeName(id);
    if (!dtype) throw new DeploykitError("DK-UNSUPPORTED", `a tensor of dtype number ${id} has no typed array in JavaScript.`);
    const shape = Array.from({ length: v.getInt32(at + TENSOR.rank, true) }, (_, k) => Number(v.getBigInt64(at + TENSOR.dims + 8 * k, true)));
    const from = v.getUint32(at + TENSOR.data, true), copy = new Uint8Array(v.getUint32(at + TENSOR.bytes, true));
    copy.set(this.raw.subarray(from, from + copy.length));
    return { data: new (arrayOf(dtype))(copy.buffer), shape, dtype };
  }

  /** Mean time of every node over `runs` runs, after one to warm up; variables start from the file's values. */
  profile(session: number, inputs: Packed[], runs: number): ProfileRow[] {
    return this.guard(() => {
      const s = this.sessions.get(session)!, timed = this.newSession(s.signature, PROFILE), at = this.alloc(ROW.size);
      try {
        this.feed(timed, s, inputs);
        this.check(this.call("dk_session_run", timed), timed);
        this.call("dk_session_profile_clear", timed);
        for (let i = 0; i < runs; ++i) this.check(this.call("dk_session_run", timed), timed);
        return Array.from({ length: this.call("dk_session_profile_count", timed) }, (_, i): ProfileRow => {
          this.check(this.call("dk_session_profile_row", timed, i, at), timed);
          const v = this.view, word = (field: number) => this.text(v.getUint32(at + field, true)), count = (field: number) => Number(v.getBigUint64(at + field, true));
          const calls = count(ROW.calls), microseconds = count(ROW.nanoseconds) / 1e3 / Math.max(1, calls);
          const gflops = microseconds ? count(ROW.flops) / microseconds / 1e3 : 0;
          return { name: word(ROW.name), op: word(ROW.op), detail: word(ROW.detail), calls, microseconds, gflops };
        });
      } finally {
        this.at.free(at);
        this.call("dk_session_free", timed);
      }
    });
  }

  /** Set every variable back to its initial value. */
  reset(session: number): void {
    this.guard(() => this.call("dk_session_reset", session));
  }

  /** The present value of a variable. */
  variable(session: number, name: string): Tensor {
    return this.guard(() => {
      const at = this.withText(name, (word) => this.call("dk_session_variable", session, word));
      if (!at) throw new DeploykitError("DK-INPUT", `the model has no variable '${name}'.`);
      return this.read(at);
    });
  }

  /** Free a session and its inputs; the model and its memory go with the instance. */
  close(session: number): void {
    const s = this.sessions.get(session);
    if (!s || this.dead) return;
    this.sessions.delete(session);
    s.blocks.forEach((block) => this.at.free(block.at));
    this.call("dk_session_free", session);
  }
}

function sharedMemory(): WebAssembly.Memory {
  for (const maximum of MOST_PAGES) {
    try {
      return new WebAssembly.Memory({ initial: PAGES, maximum, shared: true });
    } catch {
      // phones reserve less
    }
  }
  throw new RangeError("no shared memory");
}

const align = (at: number) => ((at + ALIGN - 1) & -ALIGN) >>> 0;
