/*! built from web/npm/src */
import { arrayOf, DeploykitError, fill, product, specText } from "./values.js";
const list = (shape) => `[${shape.join(", ")}]`;
const isArray = (x) => ArrayBuffer.isView(x) && !(x instanceof DataView);
const ALSO = { float16: ["uint16"], bfloat16: ["uint16"], bool: ["uint8"] };
export function pack(specs, given) {
 if (given === null || typeof given !== "object")
  throw new DeploykitError("DK-INPUT", `run: got ${given === null ? "null" : typeof given}, expected an object of inputs by name: ${expected(specs)}.`);
 const known = new Set(specs.map((s) => s.name));
 const problems = Object.keys(given).filter((n) => !known.has(n)).map((n) => `no input is named '${n}'`);
 const has = (s) => Object.hasOwn(given, s.name) && given[s.name] !== undefined;
 problems.push(...specs.filter((s) => !has(s)).map((s) => `input '${s.name}' is missing`));
 const sizes = new Map();
 const packed = [];
 for (const spec of specs) {
  if (!has(spec))
   continue;
  try {
   const { data, shape } = one(spec, given[spec.name]);
   shapeFits(spec, shape, sizes);
   packed.push({ bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), shape });
  }
  catch (error) {
   if (!(error instanceof Wrong))
    throw error;
   problems.push(`input '${spec.name}': ${error.message}`);
  }
 }
 if (problems.length)
  throw new DeploykitError("DK-INPUT", `run: ${problems.join("; ")}. The model's inputs: ${expected(specs)}.`);
 return packed;
}
const expected = (specs) => specs.map(specText).join("; ") || "none";
class Wrong extends Error {
}
function one(spec, given) {
 const wrapped = typeof given === "object" && !isArray(given) && !Array.isArray(given) && given !== null;
 const { data, shape, dtype } = wrapped ? given : { data: given, shape: undefined, dtype: undefined };
 if (isArray(data)) {
  const got = dtype ?? kindOf(data), want = spec.dtype || got;
  const fits = got === want || (ALSO[want] ?? []).includes(got);
  if (!fits)
   throw new Wrong(`got dtype ${got}, expected ${spec.dtype}; use ${arrayOf(want).prototype.constructor.name}.from(...)`);
  return { data, shape: shapeFor(spec, data.length, shape) };
 }
 if (data === null || (typeof data === "object" && !Array.isArray(data)) || typeof data === "string" || data === undefined) {
  throw new Wrong(`got ${data === null ? "null" : typeof data}, expected a typed array, {data, shape} or numbers`);
 }
 const want = spec.dtype || "float32", nested = nesting(data);
 const flat = (Array.isArray(data) ? data.flat(Infinity) : [data]);
 return { data: numbers(flat, want), shape: nested.length === 1 ? shapeFor(spec, flat.length, shape) : shape ? shapeFor(spec, flat.length, shape) : nested };
}
const kindOf = (data) => data.constructor.name.replace(/Clamped/, "").replace(/^Big/, "").replace(/Array$/, "").toLowerCase();
function numbers(flat, want) {
 if (want === "bfloat16" || (want === "float16" && arrayOf(want) === Uint16Array))
  throw new Wrong(`numbers cannot become ${want} here; give its bits as a Uint16Array`);
 const odd = flat.find((v) => !["number", "bigint", "boolean"].includes(typeof v));
 if (odd !== undefined)
  throw new Wrong(`got ${typeof odd} among the numbers`);
 const data = new (arrayOf(want))(flat.length);
 if (!want.startsWith("float")) {
  const bad = flat.find((v) => typeof v === "number" && !Number.isInteger(v));
  if (bad !== undefined)
   throw new Wrong(`${bad} is no whole number, expected ${want}`);
 }
 fill(data, flat.map((v) => (typeof v === "boolean" ? Number(v) : v)));
 if (!want.startsWith("float")) {
  const lost = flat.findIndex((v, i) => Number(v) !== Number(data[i]) || (want === "bool" && Number(v) > 1));
  if (lost >= 0)
   throw new Wrong(`${flat[lost]} does not fit into ${want}`);
 }
 return data;
}
function nesting(data) {
 if (!Array.isArray(data))
  return [];
 const [first] = data;
 const inner = first === undefined ? [] : nesting(first);
 for (const row of data)
  if (list(nesting(row)) !== list(inner))
   throw new Wrong("the nested arrays have rows of different lengths");
 return [data.length, ...inner];
}
function shapeFor(spec, count, given) {
 if (given) {
  if (given.some((d) => !Number.isInteger(d) || d < 0) || product(given) !== count)
   throw new Wrong(`${count} values do not fill shape ${list(given)}`);
  return [...given];
 }
 if (!spec.shape)
  return [count];
 const open = spec.shape.filter((d) => typeof d === "string");
 if (open.length > 1)
  throw new Wrong(`got ${count} values without a shape, and ${list(spec.shape)} leaves a choice; give {data, shape}`);
 const fixed = product(spec.shape.filter((d) => typeof d === "number"));
 const rest = open.length ? (fixed ? count / fixed : 0) : 1;
 if (!Number.isInteger(rest) || fixed * rest !== count)
  throw new Wrong(`got ${count} values, expected ${open.length ? `a multiple of ${fixed}` : fixed} for shape ${list(spec.shape)}`);
 return spec.shape.map((d) => (typeof d === "number" ? d : rest));
}
function shapeFits(spec, shape, sizes) {
 if (!spec.shape)
  return;
 if (shape.length !== spec.shape.length)
  throw new Wrong(`got shape ${list(shape)}, expected rank ${spec.shape.length}: ${specText(spec)}`);
 spec.shape.forEach((want, k) => {
  const have = shape[k];
  if (typeof want === "number") {
   if (have !== want)
    throw new Wrong(`got shape ${list(shape)}, expected ${list(spec.shape)}`);
   return;
  }
  const first = sizes.get(want) ?? [have, spec.name];
  sizes.set(want, first);
  if (first[0] !== have)
   throw new Wrong(`dim '${want}' is ${have}, but ${first[0]} in input '${first[1]}'`);
 });
}
