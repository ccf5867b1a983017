// Calls functions of the package's and the page's modules: reads {module, name, args} from standard input, prints the result as JSON.
// {"$": "Float32Array", "v": [...]} stands for a typed array or ArrayBuffer on both sides.
import { existsSync, readFileSync } from "node:fs";

const { module, name, args } = JSON.parse(readFileSync(0, "utf8"), (_, v) => {
  if (v === null || typeof v !== "object" || !v.$) return v;
  if (v.$ === "ArrayBuffer") return Uint8Array.from(v.v).buffer;
  return globalThis[v.$].from(v.v);
});
const plain = (_, v) => {
  if (ArrayBuffer.isView(v)) return Array.from(v, (x) => (typeof x === "bigint" ? Number(x) : Number.isFinite(x) ? x : String(x)));
  return typeof v === "number" && !Number.isFinite(v) ? String(v) : v;
};
try {
  const folder = existsSync(new URL(`../../web/engine/${module}`, import.meta.url)) ? "engine" : "site/page"; // the package, the page
  const functions = await import(new URL(`../../web/${folder}/${module}`, import.meta.url));
  console.log(JSON.stringify({ result: functions[name](...args), args: module === "audio.js" ? args : undefined }, plain));
} catch (error) {
  if (!error.code) throw error;
  console.log(JSON.stringify({ error: { code: error.code, message: error.message } }));
}
