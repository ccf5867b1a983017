/*! Built from web/npm/src by tsc: change it there. */
import { environment } from "./environment.js";
import { builtin } from "./platform.js";
import { DeploykitError } from "./values.js";
export async function read(source, options = {}) {
 options.signal?.throwIfAborted();
 if (source instanceof Uint8Array)
  return { bytes: source, own: false };
 if (source instanceof ArrayBuffer)
  return { bytes: new Uint8Array(source), own: false };
 try {
  if (source instanceof Blob)
   return { bytes: new Uint8Array(await source.arrayBuffer()), own: true };
  if (source instanceof Response)
   return { bytes: await body(source, source.url || "the response", options), own: true };
  if (typeof source === "string" || source instanceof URL)
   return { bytes: await fetched(source, options), own: true };
 }
 catch (error) {
  if (error instanceof DOMException && error.name === "NotReadableError")
   throw new DeploykitError("DK-IO", `the file could not be read (${error.message}). Choose it again.`);
  if (error instanceof RangeError)
   throw new DeploykitError("DK-MEMORY", `no memory for the file: ${error.message}.`);
  throw error;
 }
 throw new DeploykitError("DK-INPUT", `load: got ${source === null ? "null" : typeof source}, expected an address, bytes, a File or a Response.`);
}
function local(source) {
 if (!builtin("node:fs/promises"))
  return null;
 if (source instanceof URL)
  return source.protocol === "file:" ? source : null;
 if (source.startsWith("file:"))
  return new URL(source);
 return /^(https?|data|blob):/.test(source) ? null : source;
}
async function fetched(source, options) {
 const path = local(source);
 if (path !== null)
  return file(path, options);
 let response;
 try {
  response = await fetch(source, { signal: options.signal ?? null });
 }
 catch (error) {
  options.signal?.throwIfAborted();
  throw new DeploykitError("DK-IO", `${source}: could not be fetched (${error.message}).`);
 }
 return body(response, String(source), options);
}
async function file(path, { onProgress }) {
 try {
  const bytes = new Uint8Array(await builtin("node:fs/promises").readFile(path));
  onProgress?.(bytes.length, bytes.length);
  return bytes;
 }
 catch (error) {
  const { code, message } = error;
  throw new DeploykitError("DK-IO", code === "ENOENT" ? `${path}: no such file.` : `${path}: ${message}.`);
 }
}
async function body(response, name, { onProgress, signal }) {
 if (!response.ok)
  throw new DeploykitError("DK-IO", `${name}: the server answered ${response.status}.`);
 if (response.bodyUsed)
  throw new DeploykitError("DK-INPUT", `${name}: this response was read before; give response.clone() or fetch it again.`);
 const total = response.headers.has("Content-Encoding") ? 0 : Number(response.headers.get("Content-Length"));
 if (!response.body)
  return new Uint8Array(await response.arrayBuffer());
 let out = new Uint8Array(total || 1 << 20), loaded = 0;
 const reader = response.body.getReader();
 const stop = () => void reader.cancel(signal.reason).catch(() => { });
 signal?.addEventListener("abort", stop);
 try {
  for (;;) {
   const { done, value } = await reader.read();
   signal?.throwIfAborted();
   if (done)
    break;
   if (loaded + value.length > out.length) {
    const wider = new Uint8Array(Math.max(2 * out.length, loaded + value.length));
    wider.set(out.subarray(0, loaded));
    out = wider;
   }
   out.set(value, loaded);
   loaded += value.length;
   onProgress?.(loaded, total);
  }
 }
 catch (error) {
  signal?.throwIfAborted();
  throw new DeploykitError("DK-IO", `${name}: the connection broke after ${loaded} bytes (${error.message}).`);
 }
 finally {
  signal?.removeEventListener("abort", stop);
 }
 return loaded === out.length ? out : out.slice(0, loaded);
}
const compiled = new Map();
export function engineModule(assets) {
 const { simd, reasons } = environment();
 if (!simd)
  return Promise.reject(new DeploykitError("DK-ENGINE", `the engine does not run here: ${reasons.simd}`));
 const url = assets ? new URL("engine.wasm", assets) : new URL("./engine.wasm", import.meta.url);
 let found = compiled.get(url.href);
 if (!found) {
  found = compile(url).catch((error) => {
   compiled.delete(url.href);
   throw error;
  });
  compiled.set(url.href, found);
 }
 return found;
}
async function compile(url) {
 let code;
 if (local(url)) {
  code = await file(url, {});
 }
 else {
  let response;
  try {
   response = await fetch(url);
  }
  catch (error) {
   throw new DeploykitError("DK-IO", `${url.href}: could not be fetched (${error.message}).`);
  }
  if (response.ok && /^application\/wasm\b/.test(response.headers.get("Content-Type") ?? "")) {
   const copy = response.clone();
   try {
    return await WebAssembly.compileStreaming(response);
   }
   catch {
    response = copy;
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
 }
 catch (error) {
  throw new DeploykitError("DK-ENGINE", `the engine could not be compiled: ${error.message}. Fetch engine.wasm again; it belongs to the same version as deploykit.js.`);
 }
}
