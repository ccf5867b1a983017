/*! built from web/npm/src */
// What differs between browsers and Node. Node's own modules are asked for by name at run time, so that bundlers for browsers
// have nothing to stumble over; Deno and Bun answer in the same way.

interface NodeWorker {
  postMessage(message: unknown, transfer?: readonly unknown[]): void;
  on(event: string, listener: (value: never) => void): void;
  terminate(): Promise<number>;
  ref(): void;
  unref(): void;
}
interface Builtins {
  "node:worker_threads": {
    Worker: new (url: URL | string, options: { name: string; eval: boolean }) => NodeWorker;
    parentPort: { postMessage(message: unknown, transfer?: readonly unknown[]): void; on(event: "message", listener: (message: unknown) => void): void } | null;
  };
  "node:fs/promises": { readFile(path: string | URL): Promise<Uint8Array<ArrayBuffer>> };
  "node:os": { availableParallelism(): number };
}

/** What the single-file build (deploykit/inline) carries instead of files: the engine's code, the worker's script. */
export const embedded: { engine?: () => Promise<Uint8Array<ArrayBuffer>>; worker?: string } = {};

/** A module of Node's, or null elsewhere. */
export function builtin<K extends keyof Builtins>(name: K): Builtins[K] | null {
  const { process } = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
  return (process?.getBuiltinModule?.(name) as Builtins[K] | undefined) ?? null;
}
