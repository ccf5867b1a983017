/*! Built from web/npm/src by tsc: change it there. */
import { localPath, readFile, whole } from "./download.js";
import { environment } from "./environment.js";
import { embedded } from "./platform.js";
import { DeploykitError } from "./values.js";
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
