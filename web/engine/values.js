/*! built from web/npm/src */
export class DeploykitError extends Error {
 code;
 constructor(code, message) {
  super(`${code}: ${message.replace(/^DK-[A-Z]+: /, "")}`);
  this.name = "DeploykitError";
  this.code = code;
 }
}
const HALF = globalThis.Float16Array ?? Uint16Array;
const TABLE = [
 [1, "float32", Float32Array],
 [2, "float64", Float64Array],
 [3, "float16", HALF],
 [4, "bfloat16", Uint16Array],
 [5, "int8", Int8Array],
 [6, "uint8", Uint8Array],
 [7, "int16", Int16Array],
 [8, "uint16", Uint16Array],
 [9, "int32", Int32Array],
 [10, "uint32", Uint32Array],
 [11, "int64", BigInt64Array],
 [12, "uint64", BigUint64Array],
 [13, "bool", Uint8Array],
];
const BY_NAME = new Map(TABLE.map(([id, name, kind]) => [name, { id, kind: kind }]));
const BY_ID = new Map(TABLE.map(([id, name]) => [id, name]));
export const dtypeName = (id) => BY_ID.get(id) ?? "";
export const dtypeId = (name) => BY_NAME.get(name).id;
export const arrayOf = (name) => BY_NAME.get(name).kind;
export function tensor(dtype, shape, values) {
 if (!BY_NAME.has(dtype))
  throw new DeploykitError("DK-UNSUPPORTED", `there is no dtype '${dtype}'; expected one of ${[...BY_NAME.keys()].join(", ")}.`);
 const data = new (arrayOf(dtype))(product(shape));
 if (values)
  fill(data, values);
 return { data, shape: [...shape], dtype };
}
export function fill(data, values) {
 let i = 0;
 if (data instanceof BigInt64Array || data instanceof BigUint64Array)
  for (const v of values)
   data[i++] = typeof v === "bigint" ? v : BigInt(Math.trunc(v));
 else
  for (const v of values)
   data[i++] = Number(v);
}
export const product = (shape) => shape.reduce((a, b) => a * b, 1);
export function specText(s) {
 return `'${s.name}': ${s.dtype || "?"}[${s.shape ? s.shape.join(",") : "?"}]`;
}
