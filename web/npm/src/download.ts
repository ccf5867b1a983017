/*! built from web/npm/src */
// Bytes of models: from addresses, files, responses; with progress, checksum, a place in the browser's cache, and a second try
// from where a connection broke.
import { builtin } from "./platform.js";
import { openStore, PART, sha256, wanted } from "./store.js";
import type { Facts, Store } from "./store.js";
import { DeploykitError } from "./values.js";

/** Where a model comes from: an address (in Node also a path), bytes, a File or Blob, or a Response. */
export type Source = string | URL | Response | Blob | ArrayBuffer | Uint8Array;

export interface DownloadOptions {
  /** Called with the bytes that have come and the bytes in all (0 when the server does not say). */
  onProgress?: ((loaded: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** SHA-256 that the file must have: `sha256-` and base64, or 64 hexadecimal digits. A model in the cache that has it is taken without a request. */
  integrity?: string | undefined;
  /** Keep the file in the browser's cache, by the hash of its content; an unfinished download goes on the next time. */
  cache?: boolean | undefined;
}

export type Bytes = Uint8Array<ArrayBuffer>;
const TRIES = 3, PAUSE = 400; // after a broken connection; milliseconds, doubled each time

/** The bytes of a source; `own`: nobody else holds them. Throws DK-IO, DK-FORMAT, DK-INPUT, or what the signal says. */
export async function read(source: Source, options: DownloadOptions = {}): Promise<{ bytes: Bytes; own: boolean }> {
  options.signal?.throwIfAborted();
  const sha = options.integrity === undefined ? null : wanted(options.integrity);
  const plain = source instanceof Uint8Array || source instanceof ArrayBuffer;
  try {
    const bytes = await bytesOf(source, options, sha);
    if (sha && !(options.cache && isAddress(source))) await verify(bytes, sha, String(source)); // the cache has done so
    return { bytes, own: !plain };
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotReadableError") throw new DeploykitError("DK-IO", `the file could not be read (${error.message}). Choose it again.`);
    if (error instanceof RangeError) throw new DeploykitError("DK-MEMORY", `no memory for the file: ${error.message}.`);
    throw error;
  }
}

const isAddress = (source: Source): source is string | URL => typeof source === "string" || source instanceof URL;

async function bytesOf(source: Source, options: DownloadOptions, sha: string | null): Promise<Bytes> {
  if (source instanceof Uint8Array) return source as Bytes;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (!isAddress(source)) {
    // asked last: in Node the mention of Response loads its whole HTTP client
    if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
    if (source instanceof Response) return (await whole(source, source.url || "the response", options)).bytes;
    throw new DeploykitError("DK-INPUT", `load: got ${source === null ? "null" : typeof source}, expected an address, bytes, a File or a Response.`);
  }
  const path = localPath(source);
  if (path !== null) return readFile(path, options);
  const url = String(new URL(source, globalThis.location?.href)), store = options.cache ? await openStore() : null;
  return store ? cached(store, url, options, sha) : (await download(url, options, null)).bytes;
}

async function verify(bytes: Bytes, sha: string, name: string): Promise<void> {
  const got = await sha256(bytes);
  if (got !== sha) throw new DeploykitError("DK-FORMAT", `${name}: its SHA-256 is ${got}, expected ${sha}: it was damaged on the way, or is another version. Fetch it again, or give the hash of this version.`);
}

/** From the store when it still is what the server has (or what `integrity` asks for), else from the network into the store. */
async function cached(store: Store, url: string, options: DownloadOptions, sha: string | null): Promise<Bytes> {
  const note = await store.note(url);
  const known = sha ?? (note && (await unchanged(url, note, options.signal)) ? note.sha256 : null);
  const kept = known ? await store.content(known) : null;
  if (kept) {
    options.onProgress?.(kept.length, kept.length);
    return kept;
  }
  const { bytes, facts } = await download(url, options, store);
  const got = await sha256(bytes);
  if (sha && got !== sha) {
    await store.drop(url);
    await verify(bytes, sha, url);
  }
  if (String.fromCharCode(...bytes.subarray(4, 8)) === "DKIT") await store.keep(url, facts, got, bytes); // not an error page
  else await store.drop(url);
  return bytes;
}

/** Whether the server still has what is kept; yes also when there is no network. */
async function unchanged(url: string, note: Facts, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    const response = await fetch(url, { method: "HEAD", cache: "no-cache", signal: signal ?? null });
    return response.ok && same(factsOf(response), note);
  } catch {
    signal?.throwIfAborted();
    return true;
  }
}

function factsOf(response: Response, from = 0): Facts {
  const { headers } = response, range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("Content-Range") ?? "");
  const length = headers.has("Content-Encoding") ? 0 : Number(headers.get("Content-Length")); // of the packed bytes, then
  const total = response.status !== 206 ? length : Number(range?.[1]) === from ? Number(range![2]) : -1;
  return { etag: headers.get("ETag") ?? "", modified: headers.get("Last-Modified") ?? "", total };
}

/** The same file by its tag, or where there is none by its date and size. */
function same(a: Facts, b: Facts): boolean {
  if (a.etag || b.etag) return a.etag === b.etag;
  return a.modified !== "" && a.modified === b.modified && a.total === b.total;
}

/** The file at an address. A broken connection is taken up again where it broke, if the file is still the same. */
async function download(url: string, options: DownloadOptions, store: Store | null): Promise<{ bytes: Bytes; facts: Facts }> {
  const { signal } = options, into = new Growing();
  let facts: Facts | null = null, parts = 0;
  const before = await store?.parts(url);
  if (before) {
    facts = before.facts;
    before.parts.forEach((bytes) => into.add(bytes));
    parts = before.parts.length;
  }
  const keep = async () => {
    for (; store && facts && into.length >= (parts + 1) * PART; ++parts) await store.keepPart(url, facts, parts, into.slice(parts * PART, (parts + 1) * PART));
  };
  for (let tries = 0; ; ++tries) {
    const from = into.length;
    try {
      let response = await request(url, from, signal);
      if (from && !(response.status === 206 && facts && same(factsOf(response, from), facts))) {
        into.length = parts = 0; // another version, or a server that knows no ranges
        await store?.drop(url);
        if (response.status === 206 || response.status === 416) response = await request(url, 0, signal);
      }
      if (!response.ok) throw new DeploykitError("DK-IO", `${url}: the server answered ${response.status}.`);
      const now = factsOf(response, into.length);
      facts = now;
      await drain(response, into, now.total, options, keep);
      if (now.total > 0 && into.length < now.total) throw new TypeError(`${now.total} were promised`);
      return { bytes: into.bytes(), facts: now };
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof DeploykitError || error instanceof RangeError) throw error;
      if (into.length > from) tries = 0;
      const why = (error as Error).message;
      if (!into.length) throw new DeploykitError("DK-IO", `${url}: could not be fetched (${why}).`);
      if (tries >= TRIES) throw new DeploykitError("DK-IO", `${url}: the connection broke after ${into.length} bytes (${why}), and could not be taken up again.`);
      await pause(PAUSE * 2 ** tries, signal);
    }
  }
}

const request = (url: string, from: number, signal: AbortSignal | undefined) => fetch(url, { signal: signal ?? null, ...(from ? { headers: { Range: `bytes=${from}-` }, cache: "no-store" } : {}) });

const pause = (ms: number, signal: AbortSignal | undefined) =>
  new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason as Error)), { once: true });
  });

/** A response to its end, once. */
export async function whole(response: Response, name: string, options: DownloadOptions): Promise<{ bytes: Bytes; facts: Facts }> {
  if (!response.ok) throw new DeploykitError("DK-IO", `${name}: the server answered ${response.status}.`);
  if (response.bodyUsed) throw new DeploykitError("DK-INPUT", `${name}: this response was read before; give response.clone() or fetch it again.`);
  const into = new Growing(), facts = factsOf(response);
  try {
    await drain(response, into, facts.total, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof RangeError) throw error;
    throw new DeploykitError("DK-IO", `${name}: the connection broke after ${into.length} bytes (${(error as Error).message}).`);
  }
  return { bytes: into.bytes(), facts };
}

async function drain(response: Response, into: Growing, total: number, { onProgress, signal }: DownloadOptions, after?: () => Promise<void>): Promise<void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  into.reserve(total);
  const stop = () => void reader.cancel(signal!.reason).catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) return;
      into.add(value);
      onProgress?.(into.length, Math.max(0, total));
      await after?.();
    }
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Bytes that come in pieces. */
class Growing {
  length = 0;
  private held: Bytes = new Uint8Array(0);

  reserve(total: number): void {
    if (total <= this.held.length) return;
    const wider = new Uint8Array(total);
    wider.set(this.held.subarray(0, this.length));
    this.held = wider;
  }

  add(piece: Uint8Array): void {
    if (this.length + piece.length > this.held.length) this.reserve(Math.max(2 * this.held.length, this.length + piece.length));
    this.held.set(piece, this.length);
    this.length += piece.length;
  }

  slice(from: number, to: number): Bytes {
    return this.held.slice(from, to);
  }

  bytes(): Bytes {
    return this.length === this.held.length ? this.held : this.held.slice(0, this.length);
  }
}

/** A file of this computer in Node; null for what has to be fetched. */
export function localPath(source: string | URL): string | URL | null {
  if (!builtin("node:fs/promises")) return null;
  if (source instanceof URL) return source.protocol === "file:" ? source : null;
  if (source.startsWith("file:")) return new URL(source);
  return /^(https?|data|blob):/.test(source) ? null : source;
}

export async function readFile(path: string | URL, { onProgress, signal }: DownloadOptions = {}): Promise<Bytes> {
  try {
    const bytes = new Uint8Array(await builtin("node:fs/promises")!.readFile(path));
    signal?.throwIfAborted();
    onProgress?.(bytes.length, bytes.length);
    return bytes;
  } catch (error) {
    signal?.throwIfAborted();
    const { code, message } = error as { code?: string; message: string };
    throw new DeploykitError("DK-IO", code === "ENOENT" ? `${path}: no such file.` : `${path}: ${message}.`);
  }
}
