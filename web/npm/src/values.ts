/*! built from web/npm/src */
// Errors, dtypes, tensors and specs: what both sides of the worker know.

/** Every error on purpose: `code` is stable and the one that Python and C give (docs/errors.md of the project). */
export class DeploykitError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(`${code}: ${message.replace(/^DK-[A-Z]+: /, "")}`);
    this.name = "DeploykitError";
    this.code = code;
  }
}

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "int8"
  | "uint8"
  | "int16"
  | "uint16"
  | "int32"
  | "uint32"
  | "int64"
  | "uint64"
  | "bool";

/** Values in row-major order. `float16` comes as Float16Array where the platform has one, else as bits in a Uint16Array. */
export interface Tensor {
  data: TypedArray;
  shape: number[];
  dtype: DType;
}

/** What a model says of an input or output: `shape` has words for symbolic dims and is null when the rank is not known. */
export interface Spec {
  readonly name: string;
  readonly dtype: DType | "";
  readonly shape: readonly (number | string)[] | null;
}

type Kind = { new (length: number): TypedArray; new (buffer: ArrayBuffer): TypedArray; BYTES_PER_ELEMENT: number };
const HALF = (globalThis as { Float16Array?: unknown }).Float16Array ?? Uint16Array;

const TABLE: [id: number, name: DType, kind: unknown][] = [
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
const BY_NAME = new Map(TABLE.map(([id, name, kind]) => [name, { id, kind: kind as Kind }]));
const BY_ID = new Map(TABLE.map(([id, name]) => [id, name]));

/** The dtype's name by its number in the file; "" for one that has no typed array here. */
export const dtypeName = (id: number): DType | "" => BY_ID.get(id) ?? "";
export const dtypeId = (name: DType): number => BY_NAME.get(name)!.id;
export const arrayOf = (name: DType): Kind => BY_NAME.get(name)!.kind;

/** A typed array of `dtype` for `shape`, zeros or filled from numbers. */
export function tensor(dtype: DType, shape: readonly number[], values?: Iterable<number | bigint>): Tensor {
  if (!BY_NAME.has(dtype)) throw new DeploykitError("DK-UNSUPPORTED", `there is no dtype '${dtype}'; expected one of ${[...BY_NAME.keys()].join(", ")}.`);
  const data = new (arrayOf(dtype))(product(shape));
  if (values) fill(data, values);
  return { data, shape: [...shape], dtype };
}

/** Copy numbers into a typed array, as that array takes them. */
export function fill(data: TypedArray, values: Iterable<number | bigint>): void {
  let i = 0;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) for (const v of values) data[i++] = typeof v === "bigint" ? v : BigInt(Math.trunc(v));
  else for (const v of values) data[i++] = Number(v);
}

export const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** `'x': float32[1,4]`, as Python prints it. */
export function specText(s: Spec): string {
  return `'${s.name}': ${s.dtype || "?"}[${s.shape ? s.shape.join(",") : "?"}]`;
}
