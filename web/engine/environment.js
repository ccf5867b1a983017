/*! Built from web/npm/src by tsc: change it there. */
import { builtin } from "./platform.js";
const HEAD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0];
const SIMD = [...HEAD, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const RELAXED = [...HEAD, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];
const valid = (bytes) => WebAssembly.validate(Uint8Array.from(bytes));
export function environment() {
 const node = builtin("node:os"), where = node ? "this version of Node" : "this browser";
 const simd = valid(SIMD), relaxed = valid(RELAXED), reasons = {};
 if (!simd)
  reasons.simd = `${where} has no WebAssembly SIMD, which every current one has; on an old processor nothing helps.`;
 if (!relaxed)
  reasons.relaxed = `${where} has no relaxed SIMD; answers are the same without it, int8 models are slower.`;
 let threads = typeof SharedArrayBuffer === "function" && (node !== null || globalThis.crossOriginIsolated === true);
 if (!threads)
  reasons.threads = "the page is not cross-origin isolated: its host has to send Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.";
 if (threads) {
  try {
   new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  }
  catch {
   threads = false;
   reasons.threads = `${where} has no shared WebAssembly memory.`;
  }
 }
 const cache = typeof caches !== "undefined" && globalThis.crypto?.subtle !== undefined;
 if (!cache)
  reasons.cache = node ? "Node has no Cache API; keep the file and load it by its path." : "the page did not come over https or from localhost, where alone browsers keep files and compute SHA-256.";
 return { simd, relaxed, threads, cache, cores: node?.availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1, reasons };
}
