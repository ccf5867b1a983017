/*! Built from web/npm/src by tsc: change it there. */
// Bytes of models and of the engine: from addresses, files, responses.
import { environment } from "./environment.js";
import { builtin } from "./platform.js";
import { DeploykitError } from "./values.js";

/** Where a model comes from: an address (in Node also a path), bytes, a File or Blob, or a Response. */
export type Source = string | URL | Response | Blob | ArrayBuffer | Uint8Array;

export interface DownloadOptions {
  /** Called with the bytes that have come and the bytes in all (0 when the server does not say). */
  onProgress?: ((loaded: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

type Bytes = Uint8Array<ArrayBuffer>;

/** The bytes of a source; `own`: nobody else holds them. Throws DK-IO, DK-INPUT, or what the signal says. */
export async function read(source: Source, options: DownloadOptions = {}): Promise<{ bytes: Bytes; own: boolean }> {
  options.signal?.throwIfAborted();
  if (source instanceof Uint8Array) return { bytes: source as Bytes, own: false };
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source), own: false };
  try {
    if (source instanceof Blob) return { bytes: new Uint8Array(await source.arrayBuffer()), own: true };
    if (source instanceof Response) return { bytes: await body(source, source.url || "the response", options), own: true };
    if (typeof source === "string" || source instanceof URL) return { bytes: await fetched(source, options), own: true };
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotReadableError") throw new DeploykitError("DK-IO", `the file could not be read (${error.message}). Choose it again.`);
    if (error instanceof RangeError) throw new DeploykitError("DK-MEMORY", `no memory for the file: ${error.message}.`);
    throw error;
  }
  throw new DeploykitError("DK-INPUT", `load: got ${source === null ? "null" : typeof source}, expected an address, bytes, a File or a Response.`);
}

/** A file of this computer in Node; null for what has to be fetched. */
function local(source: string | URL): string | URL | null {
  if (!builtin("node:fs/promises")) return null;
  if (source instanceof URL) return source.protocol === "file:" ? source : null;
  if (source.startsWith("file:")) return new URL(source);
  return /^(https?|data|blob):/.test(source) ? null : source;
}

async function fetched(source: string | URL, options: DownloadOptions): Promise<Bytes> {
  const path = local(source);
  if (path !== null) return file(path, options);
  let response: Response;
  try {
    response = await fetch(source, { signal: options.signal ?? null });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new DeploykitError("DK-IO", `${source}: could not be fetched (${(error as Error).message}).`);
  }
  return body(response, String(source), options);
}

async function file(path: string | URL, { onProgress }: DownloadOptions): Promise<Bytes> {
  try {
    const bytes = new Uint8Array(await builtin("node:fs/promises")!.readFile(path));
    onProgress?.(bytes.length, bytes.length);
    return bytes;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    throw new DeploykitError("DK-IO", code === "ENOENT" ? `${path}: no such file.` : `${path}: ${message}.`);
  }
}

async function body(response: Response, name: string, { onProgress, signal }: DownloadOptions): Promise<Bytes> {
  if (!response.ok) throw new DeploykitError("DK-IO", `${name}: the server answered ${response.status}.`);
  if (response.bodyUsed) throw new DeploykitError("DK-INPUT", `${name}: this response was read before; give response.clone() or fetch it again.`);
  const total = response.headers.has("Content-Encoding") ? 0 : Number(response.headers.get("Content-Length")); // of the packed bytes, then
  if (!response.body) return new Uint8Array(await response.arrayBuffer());
  let out = new Uint8Array(total || 1 << 20), loaded = 0;
  const reader = response.body.getReader();
  const stop = () => void reader.cancel(signal!.reason).catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) break;
      if (loaded + value.length > out.length) {
        const wider = new Uint8Array(Math.max(2 * out.length, loaded + value.length));
        wider.set(out.subarray(0, loaded));
        out = wider;
      }
      out.set(value, loaded);
      loaded += value.length;
      onProgress?.(loaded, total);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw new DeploykitError("DK-IO", `${name}: the connection broke after ${loaded} bytes (${(error as Error).message}).`);
  } finally {
    signal?.removeEventListener("abort", stop);
  }
  return loaded === out.length ? out : out.slice(0, loaded);
}

const compiled = new Map<string, Promise<WebAssembly.Module>>();

/** The compiled engine, once for the page; a failure is forgotten, so that the next call tries again. */
export function engineModule(assets: string | URL | undefined): Promise<WebAssembly.Module> {
  const { simd, reasons } = environment();
  if (!simd) return Promise.reject(new DeploykitError("DK-ENGINE", `the engine does not run here: ${reasons.simd}`));
  const url = assets ? new URL("engine.wasm", assets) : new URL("./engine.wasm", import.meta.url);
  let found = compiled.get(url.href);
  if (!found) {
    found = compile(url).catch((error: unknown) => {
      compiled.delete(url.href);
      throw error;
    });
    compiled.set(url.href, found);
  }
  return found;
}

async function compile(url: URL): Promise<WebAssembly.Module> {
  let code: Bytes;
  if (local(url)) {
    code = await file(url, {});
  } else {
    let response: Response;
    try {
      response = await fetch(url);
    } catch (error) {
      throw new DeploykitError("DK-IO", `${url.href}: could not be fetched (${(error as Error).message}).`);
    }
    if (response.ok && /^application\/wasm\b/.test(response.headers.get("Content-Type") ?? "")) {
      const copy = response.clone();
      try {
        return await WebAssembly.compileStreaming(response); // compiles while it loads, and browsers keep the result
      } catch {
        response = copy; // to tell what it was
      }
    }
    code = await body(response, url.href, {});
  }
  if (String.fromCharCode(...code.subarray(0, 4)) !== "\0asm") {
    const html = /^\s*</.test(new TextDecoder().decode(code.subarray(0, 64)));
    const name = url.pathname.split("/").pop();
    throw new DeploykitError("DK-IO", `the server sent ${html ? "an HTML page" : "something else"} for ${name} (${url.href}). Put the file there, beside deploykit.js, or say with the option 'assets' where it lies.`);
  }
  try {
    return await WebAssembly.compile(code);
  } catch (error) {
    throw new DeploykitError("DK-ENGINE", `the engine could not be compiled: ${(error as Error).message}. Fetch engine.wasm again; it belongs to the same version as deploykit.js.`);
  }
}
