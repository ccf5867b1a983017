/*! Built from web/npm/src by tsc: change it there. */
// The engine's code: fetched and compiled once for the page.
import { localPath, readFile, whole } from "./download.js";
import type { Bytes } from "./download.js";
import { environment } from "./environment.js";
import { embedded } from "./platform.js";
import { DeploykitError } from "./values.js";

const compiled = new Map<string, Promise<WebAssembly.Module>>();

/** The compiled engine; a failure is forgotten, so that the next call tries again. Rejects with DK-ENGINE or DK-IO. */
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
  if (embedded.engine) {
    code = await embedded.engine();
  } else if (localPath(url)) {
    code = await readFile(url);
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
    code = (await whole(response, url.href, {})).bytes;
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
