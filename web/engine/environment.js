/*! built from web/npm/src */
import { builtin } from "./platform.js";
const HEAD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0];
const SIMD = [...HEAD, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const RELAXED = [...HEAD, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];
const DOT = [0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 120, 0, 0];
const DOT_BODY = [10, 22, 1, 20, 0, 32, 0, 253, 17, 32, 1, 253, 17, 65, 0, 253, 17, 253, 147, 2, 253, 27, 0, 11];
const valid = (bytes) => WebAssembly.validate(Uint8Array.from(bytes));
function exact() {
 const a = [255, 255, 255, 255, 128, 128, 128, 128, 200, 7, 129, 64, 255, 128, 1, 127];
 const b = [127, 127, 127, 127, -128, -128, -128, -128, -100, 99, 127, -1, -128, -128, 127, 127];
 try {
  const { x } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from([...DOT, ...DOT_BODY]))).exports;
  const words = (bytes) => new Int32Array(Uint8Array.from(bytes).buffer);
  const got = Array.from(words(a), (word, i) => x(words(b)[i], word));
  const sums = (value) => got.every((sum, i) => sum === [0, 1, 2, 3].reduce((s, k) => s + value(a[4 * i + k]) * b[4 * i + k], 0));
  return sums((byte) => byte) || sums((byte) => (byte << 24) >> 24);
 }
 catch {
  return false;
 }
}
export function environment() {
 const node = builtin("node:os"), where = node ? "this version of Node" : "this browser";
 const simd = valid(SIMD), knows = valid(RELAXED), relaxed = knows && exact(), reasons = {};
 if (!simd)
  reasons.simd = `${where} has no WebAssembly SIMD, which every current one has; on an old processor nothing helps.`;
 if (!relaxed)
  reasons.relaxed = `${where} has ${knows ? "relaxed SIMD whose sums are not exact on this processor" : "no relaxed SIMD"}; answers are the same without it, int8 models are slower.`;
 let threads = typeof SharedArrayBuffer === "function" && (node !== null || globalThis.crossOriginIsolated === true);
 if (!threads)
  reasons.threads = "the page is not cross-origin isolated: its host has to send Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or a service worker has to add them (README, Threads).";
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
