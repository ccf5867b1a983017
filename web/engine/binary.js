/*! built from web/npm/src */
import { localPath, readFile, whole } from "./download.js";
import { environment } from "./environment.js";
import { embedded } from "./platform.js";
import { DeploykitError } from "./values.js";
const compiled = new Map();
const PLACES = {
 "engine.wasm": () => new URL("./engine.wasm", import.meta.url),
 "engine.relaxed.wasm": () => new URL("./engine.relaxed.wasm", import.meta.url),
 "engine.threads.wasm": () => new URL("./engine.threads.wasm", import.meta.url),
 "engine.relaxed.threads.wasm": () => new URL("./engine.relaxed.threads.wasm", import.meta.url),
};
export async function engineModule(assets) {
 const { simd, relaxed, threads, reasons } = environment(), notes = [];
 if (!simd)
  throw new DeploykitError("DK-ENGINE", `the engine does not run here: ${reasons.simd}`);
 if (embedded.engine) {
  notes.push("threads and relaxed SIMD off: the single-file build holds the plain engine; import 'deploykit' instead of 'deploykit/inline' to have them.");
 }
 else {
  if (!threads)
   notes.push(`threads off: ${reasons.threads}`);
  if (!relaxed)
   notes.push(`relaxed SIMD off: ${reasons.relaxed}`);
  if (relaxed || threads) {
   const name = `engine${relaxed ? ".relaxed" : ""}${threads ? ".threads" : ""}.wasm`;
   try {
    return { module: await module(name, assets), name, notes };
   }
   catch (error) {
    notes.push(`${name} is not in use: ${error.message}`);
   }
  }
 }
 return { module: await module("engine.wasm", assets), name: "engine.wasm", notes };
}
function module(file, assets) {
 const url = assets ? new URL(file, assets) : PLACES[file]();
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
 if (embedded.engine) {
  code = await embedded.engine();
 }
 else if (localPath(url)) {
  code = await readFile(url);
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
  code = (await whole(response, url.href, {})).bytes;
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
