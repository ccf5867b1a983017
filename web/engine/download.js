/*! built from web/npm/src */
import { builtin } from "./platform.js";
import { openStore, PART, sha256, wanted } from "./store.js";
import { DeploykitError } from "./values.js";
const TRIES = 3, PAUSE = 400;
export async function read(source, options = {}) {
 options.signal?.throwIfAborted();
 const sha = options.integrity === undefined ? null : wanted(options.integrity);
 const plain = source instanceof Uint8Array || source instanceof ArrayBuffer;
 try {
  const bytes = await bytesOf(source, options, sha);
  if (sha && !(options.cache && isAddress(source)))
   await verify(bytes, sha, String(source));
  return { bytes, own: !plain };
 }
 catch (error) {
  if (error instanceof DOMException && error.name === "NotReadableError")
   throw new DeploykitError("DK-IO", `the file could not be read (${error.message}). Choose it again.`);
  if (error instanceof RangeError)
   throw new DeploykitError("DK-MEMORY", `no memory for the file: ${error.message}.`);
  throw error;
 }
}
const isAddress = (source) => typeof source === "string" || source instanceof URL;
async function bytesOf(source, options, sha) {
 if (source instanceof Uint8Array)
  return source;
 if (source instanceof ArrayBuffer)
  return new Uint8Array(source);
 if (!isAddress(source)) {
  if (source instanceof Blob)
   return new Uint8Array(await source.arrayBuffer());
  if (source instanceof Response)
   return (await whole(source, source.url || "the response", options)).bytes;
  throw new DeploykitError("DK-INPUT", `load: got ${source === null ? "null" : typeof source}, expected an address, bytes, a File or a Response.`);
 }
 const path = localPath(source);
 if (path !== null)
  return readFile(path, options);
 const url = String(new URL(source, globalThis.location?.href)), store = options.cache ? await openStore() : null;
 return store ? cached(store, url, options, sha) : (await download(url, options, null)).bytes;
}
async function verify(bytes, sha, name) {
 const got = await sha256(bytes);
 if (got !== sha)
  throw new DeploykitError("DK-FORMAT", `${name}: its SHA-256 is ${got}, expected ${sha}: it was damaged on the way, or is another version. Fetch it again, or give the hash of this version.`);
}
async function cached(store, url, options, sha) {
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
 if (String.fromCharCode(...bytes.subarray(4, 8)) === "DKIT")
  await store.keep(url, facts, got, bytes);
 else
  await store.drop(url);
 return bytes;
}
async function unchanged(url, note, signal) {
 try {
  const response = await fetch(url, { method: "HEAD", cache: "no-cache", signal: signal ?? null });
  return response.ok && same(factsOf(response), note);
 }
 catch {
  signal?.throwIfAborted();
  return true;
 }
}
function factsOf(response, from = 0) {
 const { headers } = response, range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("Content-Range") ?? "");
 const length = headers.has("Content-Encoding") ? 0 : Number(headers.get("Content-Length"));
 const total = response.status !== 206 ? length : Number(range?.[1]) === from ? Number(range[2]) : -1;
 return { etag: headers.get("ETag") ?? "", modified: headers.get("Last-Modified") ?? "", total };
}
function same(a, b) {
 if (a.etag || b.etag)
  return a.etag === b.etag;
 return a.modified !== "" && a.modified === b.modified && a.total === b.total;
}
async function download(url, options, store) {
 const { signal } = options, into = new Growing();
 let facts = null, parts = 0;
 const before = await store?.parts(url);
 if (before) {
  facts = before.facts;
  before.parts.forEach((bytes) => into.add(bytes));
  parts = before.parts.length;
 }
 const keep = async () => {
  for (; store && facts && into.length >= (parts + 1) * PART; ++parts)
   await store.keepPart(url, facts, parts, into.slice(parts * PART, (parts + 1) * PART));
 };
 for (let tries = 0;; ++tries) {
  const from = into.length;
  try {
   let response = await request(url, from, signal);
   if (from && !(response.status === 206 && facts && same(factsOf(response, from), facts))) {
    into.length = parts = 0;
    await store?.drop(url);
    if (response.status === 206 || response.status === 416)
     response = await request(url, 0, signal);
   }
   if (!response.ok)
    throw new DeploykitError("DK-IO", `${url}: the server answered ${response.status}.`);
   const now = factsOf(response, into.length);
   facts = now;
   await drain(response, into, now.total, options, keep);
   if (now.total > 0 && into.length < now.total)
    throw new TypeError(`${now.total} were promised`);
   return { bytes: into.bytes(), facts: now };
  }
  catch (error) {
   signal?.throwIfAborted();
   if (error instanceof DeploykitError || error instanceof RangeError)
    throw error;
   if (into.length > from)
    tries = 0;
   const why = error.message;
   if (!into.length)
    throw new DeploykitError("DK-IO", `${url}: could not be fetched (${why}).`);
   if (tries >= TRIES)
    throw new DeploykitError("DK-IO", `${url}: the connection broke after ${into.length} bytes (${why}), and could not be taken up again.`);
   await pause(PAUSE * 2 ** tries, signal);
  }
 }
}
const request = (url, from, signal) => fetch(url, { signal: signal ?? null, ...(from ? { headers: { Range: `bytes=${from}-` }, cache: "no-store" } : {}) });
const pause = (ms, signal) => new Promise((resolve, reject) => {
 const timer = setTimeout(resolve, ms);
 signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
});
export async function whole(response, name, options) {
 if (!response.ok)
  throw new DeploykitError("DK-IO", `${name}: the server answered ${response.status}.`);
 if (response.bodyUsed)
  throw new DeploykitError("DK-INPUT", `${name}: this response was read before; give response.clone() or fetch it again.`);
 const into = new Growing(), facts = factsOf(response);
 try {
  await drain(response, into, facts.total, options);
 }
 catch (error) {
  options.signal?.throwIfAborted();
  if (error instanceof RangeError)
   throw error;
  throw new DeploykitError("DK-IO", `${name}: the connection broke after ${into.length} bytes (${error.message}).`);
 }
 return { bytes: into.bytes(), facts };
}
async function drain(response, into, total, { onProgress, signal }, after) {
 const reader = response.body?.getReader();
 if (!reader)
  return;
 into.reserve(total);
 const stop = () => void reader.cancel(signal.reason).catch(() => { });
 signal?.addEventListener("abort", stop);
 try {
  for (;;) {
   const { done, value } = await reader.read();
   signal?.throwIfAborted();
   if (done)
    return;
   into.add(value);
   onProgress?.(into.length, Math.max(0, total));
   await after?.();
  }
 }
 finally {
  signal?.removeEventListener("abort", stop);
 }
}
class Growing {
 length = 0;
 held = new Uint8Array(0);
 reserve(total) {
  if (total <= this.held.length)
   return;
  const wider = new Uint8Array(total);
  wider.set(this.held.subarray(0, this.length));
  this.held = wider;
 }
 add(piece) {
  if (this.length + piece.length > this.held.length)
   this.reserve(Math.max(2 * this.held.length, this.length + piece.length));
  this.held.set(piece, this.length);
  this.length += piece.length;
 }
 slice(from, to) {
  return this.held.slice(from, to);
 }
 bytes() {
  return this.length === this.held.length ? this.held : this.held.slice(0, this.length);
 }
}
export function localPath(source) {
 if (!builtin("node:fs/promises"))
  return null;
 if (source instanceof URL)
  return source.protocol === "file:" ? source : null;
 if (source.startsWith("file:"))
  return new URL(source);
 return /^(https?|data|blob):/.test(source) ? null : source;
}
export async function readFile(path, { onProgress, signal } = {}) {
 try {
  const bytes = new Uint8Array(await builtin("node:fs/promises").readFile(path));
  signal?.throwIfAborted();
  onProgress?.(bytes.length, bytes.length);
  return bytes;
 }
 catch (error) {
  signal?.throwIfAborted();
  const { code, message } = error;
  throw new DeploykitError("DK-IO", code === "ENOENT" ? `${path}: no such file.` : `${path}: ${message}.`);
 }
}
