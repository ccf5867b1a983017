/*! built from web/npm/src */
// The model as its user sees it.
import { Local, Remote } from "./connection.js";
import type { Connection } from "./connection.js";
import { engineModule } from "./binary.js";
import { read } from "./download.js";
import type { DownloadOptions, Source } from "./download.js";
import { environment } from "./environment.js";
import type { Loaded, Memory, Opened, ProfileRow, Ran } from "./engine.js";
import { pack } from "./inputs.js";
import type { Inputs } from "./inputs.js";
import { DeploykitError } from "./values.js";
import type { Spec, Tensor } from "./values.js";

export interface LoadOptions extends DownloadOptions {
  /** Run in a worker of its own (default), or on the caller's thread, which blocks it during a run. */
  worker?: boolean;
  /**
   * Threads; default: one for each core, at most four, started when a run is worth it. A number given here is started at
   * once. `model.info` tells how many work, and what is off and why.
   */
  threads?: number;
  /** Limit in bytes for arena, packed weights and tensors of sizes found at run time; 0: none. */
  maxMemory?: number;
  /** Nodes and loop iterations per run, beyond them DK-LIMIT; 0: no limit. */
  maxOps?: number;
  /** Folder of engine.wasm and worker.js, when they do not lie beside deploykit.js. */
  assets?: string | URL;
}

export interface RunOptions {
  /** Rejects at once; a run that waits never starts, one that has begun ends in the worker and its answer is dropped. */
  signal?: AbortSignal;
  /** Seconds that the run may take, beyond them DK-LIMIT (looked at between nodes); the model can be used again. */
  timeout?: number;
}

/** What a model runs on. */
export interface Info {
  /** File of the engine. */
  engine: string;
  /** Kernel set. */
  isa: string;
  version: string;
  /** Threads that work at present. */
  threads: number;
  /** What of the platform is not used, and why. */
  notes: string[];
}

const MOST_THREADS = 4; // by default: phones have that many fast cores

// A model that nobody holds any more lets go of its worker.
const forgotten = new FinalizationRegistry<Connection>((connection) => connection.close());

/**
 * A model and its engine.
 *
 *     const model = await Model.load("model.dk");
 *     const { y } = await model.run({ x: new Float32Array(4) });
 *     y.data; // Float32Array
 *     model.dispose();
 */
export class Model {
  readonly inputs: readonly Spec[];
  readonly outputs: readonly Spec[];
  /** What the file says of itself: labels, preprocessing, source ... */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Names of all entry points; the first is "main". */
  readonly signatures: readonly string[];
  /** Kernel set in use. */
  readonly isa: string;
  private readonly session: number;
  private used: Memory;
  private closed = false;

  private constructor(
    private readonly connection: Connection,
    private readonly remote: boolean,
    loaded: Loaded,
    opened: Opened,
    private readonly parent: Model | null,
    private readonly chosen: { name: string; notes: string[] },
  ) {
    this.inputs = opened.inputs;
    this.outputs = opened.outputs;
    this.session = opened.session;
    this.used = opened.memory;
    this.metadata = loaded.metadata;
    this.signatures = loaded.signatures;
    this.isa = loaded.isa;
    this.loaded = loaded;
    if (!parent) forgotten.register(this, connection, this);
  }
  private readonly loaded: Loaded;

  /**
   * Load a `.dk` file. Rejects with DK-IO (cannot be fetched), DK-FORMAT (damaged, cut short, something else), DK-VERSION,
   * DK-MEMORY, DK-ENGINE (no WebAssembly SIMD, no worker), or what `signal` says.
   */
  static async load(source: Source, options: LoadOptions = {}): Promise<Model> {
    const { worker = true, threads, maxMemory = 0, maxOps = 0, assets, signal } = options;
    if (threads !== undefined && !(Number.isInteger(threads) && threads > 0)) throw new DeploykitError("DK-INPUT", `the option 'threads' is ${String(threads)}; give a whole number from 1.`);
    const base = assets === undefined ? undefined : new URL(assets, globalThis.document?.baseURI ?? import.meta.url);
    signal?.throwIfAborted();
    const connection = worker ? new Remote(base) : new Local(base);
    const download = new AbortController(), stop = () => download.abort(signal?.reason);
    signal?.addEventListener("abort", stop);
    try {
      const [chosen, { bytes, own }] = await Promise.all([engineModule(base), read(source, { ...options, signal: download.signal })]);
      const given = worker && !own ? bytes.slice() : bytes;
      const transfer = worker ? [given.buffer] : [];
      const lanes = threads ?? Math.min(MOST_THREADS, environment().cores), eager = threads !== undefined && threads > 1;
      const loaded = await connection.call<Loaded>("open", [chosen.module, given, { threads: lanes, eager, maxMemory, maxOps }], { transfer, signal });
      await connection.lanes.settled;
      return new Model(connection, worker, loaded, loaded, null, chosen);
    } catch (error) {
      stop(); // without an engine the file is of no use, nor is its progress
      connection.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  /**
   * Outputs by name for inputs by name, given as typed arrays, `{data, shape}` or nested numbers. Rejects with DK-INPUT that
   * lists every wrong name, dtype and shape, DK-SHAPE, DK-INDEX, DK-MEMORY, DK-LIMIT, or what `signal` says.
   */
  async run(inputs: Inputs, { signal, timeout = 0 }: RunOptions = {}): Promise<Record<string, Tensor>> {
    const { outputs, memory } = await this.send<Ran>("run", inputs, [timeout], signal);
    this.used = memory;
    return outputs;
  }

  /** Mean time of every node over `runs` runs on these inputs. */
  profile(inputs: Inputs, { runs = 20, signal }: Pick<RunOptions, "signal"> & { runs?: number } = {}): Promise<ProfileRow[]> {
    return this.send<ProfileRow[]>("profile", inputs, [runs], signal);
  }

  private async send<T>(name: string, inputs: Inputs, rest: unknown[], signal: AbortSignal | undefined): Promise<T> {
    this.open();
    let packed = pack(this.inputs, inputs);
    if (!this.remote) return this.connection.call<T>(name, [this.session, packed, ...rest], { signal });
    packed = packed.map(({ bytes, shape }) => ({ bytes: bytes.slice(), shape })); // the caller keeps its arrays
    const transfer = packed.map(({ bytes }) => bytes.buffer as ArrayBuffer);
    return this.connection.call<T>(name, [this.session, packed, ...rest], { transfer, signal });
  }

  /** Another entry point of the same model, on the same variables. It lives as long as this model, or until its `dispose`. */
  async signature(name: string): Promise<Model> {
    this.open();
    const opened = await this.connection.call<Opened>("signature", [name]);
    return new Model(this.connection, this.remote, this.loaded, opened, this.parent ?? this, this.chosen);
  }

  /** The present value of a variable; rejects with DK-INPUT when the model has none of this name. */
  async variable(name: string): Promise<Tensor> {
    this.open();
    return this.connection.call<Tensor>("variable", [this.session, name]);
  }

  /** Set every variable back to its initial value. */
  async reset(): Promise<void> {
    this.open();
    await this.connection.call("reset", [this.session]);
  }

  /** What the model runs on. */
  get info(): Info {
    const { isa, version } = this.loaded, { count, note } = this.connection.lanes;
    return { engine: this.chosen.name, isa, version, threads: count, notes: [...this.chosen.notes, ...(note ? [note] : [])] };
  }

  /** Threads that work at present. */
  get threads(): number {
    return this.connection.lanes.count;
  }

  /** Bytes in use after the last run. */
  get memory(): Memory {
    return { ...this.used };
  }

  /** Let go of memory and worker at once; runs that wait are rejected. A model that is garbage does so by itself. */
  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.parent) {
      this.connection.call("close", [this.session]).catch(() => {}); // gone with the model it belongs to, perhaps
    } else {
      forgotten.unregister(this);
      this.connection.close();
    }
  }

  private open(): void {
    if (this.closed || this.parent?.closed) throw new DeploykitError("DK-INPUT", "the model was disposed; load it again.");
  }
}

// `using model = await Model.load(...)` where the platform knows it
if (Symbol.dispose) Object.defineProperty(Model.prototype, Symbol.dispose, { value: Model.prototype.dispose, writable: true, configurable: true });
export interface Model extends Disposable {}
