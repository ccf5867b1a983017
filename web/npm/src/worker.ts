/*! built from web/npm/src */
// The worker's side: one engine, calls by message, answers with their buffers handed over; or a lane of an engine elsewhere.
import "./dkfile.js"; // the engine asks for it: fetched along with it
import { Engine } from "./engine.js";
import type { Lane, Loaded, OpenOptions } from "./engine.js";
import { builtin } from "./platform.js";
import { DeploykitError } from "./values.js";

/** What the page asks: a method of the engine with its arguments; `open` comes first. Or `enter` with a lane, and nothing else. */
export interface Request {
  id: number;
  name: string;
  args: unknown[];
}
/** What comes back. */
export type Reply = { id: number; value: unknown } | { id: number; error: { code: string; message: string } } | { lock: string } | { entered: true };

interface Port {
  postMessage(message: Reply, transfer?: ArrayBuffer[]): void;
}
const node = builtin("node:worker_threads");
const port = (node?.parentPort ?? globalThis) as unknown as Port;

let engine: Engine | null = null;

async function open(module: WebAssembly.Module, bytes: Uint8Array, options: OpenOptions): Promise<Loaded> {
  const [[made, loaded]] = await Promise.all([Engine.open(module, bytes, options), held]);
  engine = made;
  return loaded;
}

async function answer({ id, name, args }: Request): Promise<void> {
  try {
    if (name === "enter") await held; // afterwards this worker hears nothing any more
    if (name === "enter") return await Engine.enter(args[0] as Lane, () => port.postMessage({ entered: true }));
    const value = name === "open" ? await open(...(args as [WebAssembly.Module, Uint8Array, OpenOptions])) : (engine as unknown as Record<string, (...a: unknown[]) => unknown>)[name]!(...args);
    port.postMessage({ id, value }, buffers(value));
  } catch (error) {
    port.postMessage({ id, error: coded(error) });
  }
}

function coded(error: unknown): { code: string; message: string } {
  if (error instanceof DeploykitError) return { code: error.code, message: error.message };
  const { message } = error as Error;
  return error instanceof RangeError ? { code: "DK-MEMORY", message: `the worker ran out of memory: ${message}` } : { code: "DK-INTERNAL", message: `${message}. Please report it with the model.` };
}

function buffers(value: unknown): ArrayBuffer[] {
  const found = new Set<ArrayBuffer>();
  const outputs = (value as { outputs?: Record<string, unknown> } | undefined)?.outputs;
  for (const tensor of [value, ...Object.values(outputs ?? {})]) {
    const data = (tensor as { data?: unknown } | undefined)?.data;
    if (ArrayBuffer.isView(data)) found.add(data.buffer as ArrayBuffer);
  }
  return [...found];
}

// A lock that this worker holds for life: the page, which waits for it, so learns when the worker was killed.
const held = new Promise<void>((done) => {
  if (node || !globalThis.navigator?.locks) return done();
  const lock = `deploykit-${crypto.randomUUID()}`;
  navigator.locks.request(lock, () => (port.postMessage({ lock }), done(), new Promise(() => {}))).catch(() => done());
});

if (node?.parentPort) node.parentPort.on("message", (message) => void answer(message as Request));
else globalThis.addEventListener("message", (event) => void answer((event as MessageEvent<Request>).data));
