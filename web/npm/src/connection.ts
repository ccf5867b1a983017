/*! built from web/npm/src */
// The way to an engine: in a worker of its own, so that the page never blocks, or on the caller's thread; and its lanes.
import type { Engine, Lane, Loaded, OpenOptions } from "./engine.js";
import { builtin, embedded } from "./platform.js";
import { DeploykitError } from "./values.js";
import type { Reply, Request } from "./worker.js";

export interface CallOptions {
  /** Buffers to hand over instead of copying. */
  transfer?: ArrayBuffer[];
  signal?: AbortSignal | undefined;
}

/** Calls to one engine, answered in order; `open` comes first. */
export interface Connection {
  call<T>(name: string, args: unknown[], options?: CallOptions): Promise<T>;
  readonly lanes: Lanes;
  close(): void;
}

/** Workers that take part in the runs of one engine. They come when they are ready; until then runs do without. */
export class Lanes {
  /** Lanes that work, the engine's own included. */
  count = 1;
  /** Settles when those that were asked for have come, or have not. */
  settled: Promise<unknown> = Promise.resolve();
  /** Why some have not. */
  note: string | null = null;
  private threads: Thread[] = [];

  /** lost: a lane that took part is gone, and what it was doing will never be done. */
  constructor(private readonly assets: string | URL | undefined, private readonly lost: () => void) {}

  /** Start the lanes that an answer of the engine brings, if it does. */
  follow(value: unknown): void {
    const lanes = (value as { lanes?: Lane[] } | undefined)?.lanes;
    if (lanes) this.settled = Promise.all(lanes.map((lane) => this.start(lane)));
  }

  private start(lane: Lane): Promise<void> {
    return new Promise((settle) => {
      let inside = false;
      try {
        const thread = start(
          this.assets,
          (reply) => {
            if ("error" in reply) return failed(reply.error.message);
            if (!("entered" in reply)) return;
            inside = true;
            ++this.count;
            thread.busy(false);
            settle();
          },
          (why) => (inside ? this.lost() : failed(why)),
        );
        const failed = (why: string) => {
          this.note = `a thread could not be started: ${why}`;
          thread.stop();
          settle();
        };
        this.threads.push(thread);
        thread.post({ id: 0, name: "enter", args: [lane] }, []);
      } catch (error) {
        this.note = `a thread could not be started: ${(error as Error).message}`;
        settle();
      }
    });
  }

  stop(): void {
    for (const thread of this.threads) thread.stop();
    this.threads = [];
    this.count = 1;
  }
}

const disposed = () => new DeploykitError("DK-INPUT", "the model was disposed; load it again.");

/** On the caller's thread. */
export class Local implements Connection {
  private engine: Engine | null = null;
  private closed = false;
  private readonly code = import("./engine.js"); // while the model is on its way
  readonly lanes: Lanes;

  constructor(assets: string | URL | undefined) {
    this.lanes = new Lanes(assets, () => {});
    this.code.catch(() => {}); // told by open
  }

  async call<T>(name: string, args: unknown[], { signal }: CallOptions = {}): Promise<T> {
    signal?.throwIfAborted();
    if (name === "open") {
      const { Engine } = await this.code;
      const [engine, loaded] = await Engine.open(...(args as [WebAssembly.Module, Uint8Array, OpenOptions]));
      this.engine = engine;
      this.lanes.follow(loaded);
      return loaded satisfies Loaded as T;
    }
    if (this.closed) throw disposed();
    const value = (this.engine as unknown as Record<string, (...a: unknown[]) => T>)[name]!(...args);
    this.lanes.follow(value);
    return value;
  }

  close(): void {
    this.closed = true;
    this.engine = null;
    this.lanes.stop();
  }
}

interface Job extends Request {
  transfer: ArrayBuffer[];
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** In a worker. One call is with the worker at a time, so that one that is aborted while it waits never starts. */
export class Remote implements Connection {
  private readonly waiting: Job[] = [];
  private current: Job | null = null;
  private ended: DeploykitError | null = null;
  private count = 0;
  private readonly worker: Thread;
  readonly lanes: Lanes;

  constructor(assets: string | URL | undefined) {
    this.lanes = new Lanes(assets, () => this.end(new DeploykitError("DK-ENGINE", STOPPED)));
    this.worker = start(assets, (reply) => this.receive(reply), (why) => this.end(new DeploykitError("DK-ENGINE", why)));
  }

  call<T>(name: string, args: unknown[], { transfer = [], signal }: CallOptions = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      if (this.ended) return reject(this.ended);
      const job: Job = { id: ++this.count, name, args, transfer, resolve: resolve as Job["resolve"], reject };
      if (signal) {
        const stop = () => {
          const at = this.waiting.indexOf(job);
          if (at >= 0) this.waiting.splice(at, 1);
          reject(signal.reason as Error); // what has begun goes on in the worker; its answer is dropped
        };
        signal.addEventListener("abort", stop);
        const settle = () => signal.removeEventListener("abort", stop);
        job.resolve = (value) => (settle(), resolve(value as T));
        job.reject = (error) => (settle(), reject(error as Error));
      }
      this.waiting.push(job);
      this.next();
    });
  }

  private next(): void {
    if (this.current) return;
    const job = this.waiting.shift();
    if (!job) return this.worker.busy(false);
    this.current = job;
    this.worker.busy(true);
    try {
      this.worker.post({ id: job.id, name: job.name, args: job.args }, job.transfer);
    } catch (error) {
      this.current = null;
      job.reject(new DeploykitError("DK-INPUT", `the worker does not take this: ${(error as Error).message}.`));
      this.next();
    }
  }

  private receive(reply: Reply): void {
    const job = this.current;
    if (!job || !("id" in reply) || job.id !== reply.id) return;
    this.current = null;
    if ("error" in reply) {
      job.reject(new DeploykitError(reply.error.code, reply.error.message));
    } else {
      this.lanes.follow(reply.value);
      job.resolve(reply.value);
    }
    this.next();
  }

  private end(error: DeploykitError): void {
    if (this.ended) return;
    this.ended = error;
    this.worker.stop();
    this.lanes.stop();
    for (const job of [this.current, ...this.waiting]) job?.reject(error);
    this.current = null;
    this.waiting.length = 0;
  }

  close(): void {
    this.end(disposed());
  }
}

interface Thread {
  post(message: Request, transfer: ArrayBuffer[]): void;
  /** Whether an answer is awaited: Node stays alive as long as one is. */
  busy(yes: boolean): void;
  stop(): void;
}

const STOPPED = "the worker of this model was stopped, perhaps because memory ran out. Load the model again.";
const UNSTARTED = "the worker could not be started: worker.js has to lie beside deploykit.js (or where the option 'assets' says), and the page's policy has to allow it. Or load the model with {worker: false}.";

function start(assets: string | URL | undefined, receive: (reply: Reply) => void, ended: (why: string) => void): Thread {
  const here = import.meta.url; // apart from the literal form below, which bundlers look for
  const threads = typeof Worker === "undefined" ? builtin("node:worker_threads") : null;
  if (threads) {
    const worker = new threads.Worker(embedded.worker ?? new URL("worker.js", assets ?? here), { name: "deploykit", eval: embedded.worker !== undefined });
    worker.on("message", receive as (value: never) => void);
    worker.on("error", ((error: Error) => ended(/Cannot find module/.test(error.message) ? UNSTARTED : `${STOPPED} (${error.message})`)) as (value: never) => void);
    worker.on("exit", () => ended(STOPPED));
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      busy: (yes) => (yes ? worker.ref() : worker.unref()),
      stop: () => void worker.terminate(),
    };
  }
  let heard = false;
  const worker = browserWorker(assets, here);
  worker.onmessage = ({ data }: MessageEvent<Reply>) => {
    heard = true;
    if ("lock" in data) navigator.locks.request(data.lock, () => ended(STOPPED)).catch(() => {});
    else receive(data);
  };
  worker.onerror = (event) => {
    event.preventDefault?.();
    ended(heard ? `${STOPPED} (${event.message})` : UNSTARTED);
  };
  return { post: (message, transfer) => worker.postMessage(message, transfer), busy: () => {}, stop: () => worker.terminate() };
}

function browserWorker(assets: string | URL | undefined, here: string): Worker {
  if (embedded.worker !== undefined) return scriptWorker(embedded.worker);
  if (!assets) {
    try {
      return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    } catch (error) {
      if ((error as Error).name !== "SecurityError") throw error;
    }
  }
  const url = new URL("worker.js", assets ?? here);
  if (url.origin === globalThis.location?.origin) return new Worker(url, { type: "module" });
  // a script of another origin cannot be a worker, but a worker of this origin may import it
  return scriptWorker(`import ${JSON.stringify(url.href)};`);
}

function scriptWorker(text: string): Worker {
  const blob = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(blob, { type: "module" });
  setTimeout(() => URL.revokeObjectURL(blob), 60000);
  return worker;
}
