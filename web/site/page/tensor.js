// Tensors on the page: {data, shape, dtype}; typed arrays by dtype, .npy files, test vectors, sums for people.
import { Problem } from "./problems.js";

export const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  bool: Uint8Array, float16: globalThis.Float16Array ?? Uint16Array,
};
const BIG = new Set(["int64", "uint64"]);

export const product = (shape) => shape.reduce((a, b) => a * b, 1);

/** A tensor of numbers (any iterable) in a dtype. */
export function make(dtype, shape, values) {
  const Kind = kind(dtype);
  if (values === undefined) return { data: new Kind(product(shape)), shape, dtype };
  return { data: Kind.from(values, BIG.has(dtype) ? (v) => BigInt(Math.trunc(Number(v))) : Number), shape, dtype };
}

function kind(dtype) {
  const Kind = ARRAYS[dtype];
  if (!Kind) throw new Problem("DK-UNSUPPORTED", `this page cannot make tensors of dtype ${dtype}.`);
  return Kind;
}

/** Seeded numbers that suit a dtype: floats in -1..1, small integers. */
export function random(dtype, shape, seed = 1) {
  let state = seed >>> 0 || 1;
  const next = () => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5; // xorshift32, Marsaglia 2003
    return (state >>> 0) / 2 ** 32;
  };
  const float = dtype.startsWith("float");
  const top = dtype === "bool" || BIG.has(dtype) || dtype.endsWith("32") ? 2 : 128;
  return make(dtype, shape, Array.from({ length: product(shape) }, () => (float ? next() * 2 - 1 : Math.floor(next() * top))));
}

/** The arrays of an .npy file (NumPy enhancement proposal 1). */
export function parseNpy(buffer) {
  const view = new DataView(buffer);
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (buffer.byteLength < 12 || magic.some((b, i) => view.getUint8(i) !== b)) throw new Problem("DK-FILE", "this is not an .npy file.");
  const wide = view.getUint8(6) >= 2;
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  if (start + length > buffer.byteLength) throw new Problem("DK-FILE", "this .npy file is cut short.");
  const head = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, length));
  const descr = head.match(/'descr':\s*'([<>|=])([a-z])(\d+)'/);
  const order = head.match(/'fortran_order':\s*(True|False)/);
  const dims = head.match(/'shape':\s*\(([^)]*)\)/);
  const kinds = { f2: "float16", f4: "float32", f8: "float64", i1: "int8", i2: "int16", i4: "int32", i8: "int64", u1: "uint8", u2: "uint16", u4: "uint32", u8: "uint64", b1: "bool" };
  const dtype = descr && kinds[descr[2] + descr[3]];
  if (!dtype || !order || !dims) throw new Problem("DK-FILE", "this .npy file holds something else than plain numbers.");
  if (descr[1] === ">" || order[1] === "True") throw new Problem("DK-FILE", "this .npy file is big-endian or in Fortran order; save it with numpy.ascontiguousarray.");
  const shape = dims[1].split(",").map((d) => d.trim()).filter(Boolean).map(Number);
  const Kind = kind(dtype);
  const need = product(shape) * Kind.BYTES_PER_ELEMENT;
  if (start + length + need > buffer.byteLength) throw new Problem("DK-FILE", "this .npy file is cut short.");
  return { data: new Kind(buffer.slice(start + length, start + length + need)), shape, dtype };
}

/** The tensors of one side of a test vector. */
export function unpack(blob, named) {
  const out = {};
  for (const [name, t] of Object.entries(named)) {
    const Kind = kind(t.dtype);
    if (t.offset + t.bytes > blob.byteLength) throw new Problem("DK-FORMAT", "the file of test vectors is cut short.");
    out[name] = { data: new Kind(blob.slice(t.offset, t.offset + t.bytes)), shape: t.shape, dtype: t.dtype };
  }
  return out;
}

/** How far two tensors are apart: identical to the bit or not, and the largest difference by the largest value. */
export function compare(got, want) {
  if (got.shape.join() !== want.shape.join()) return { exact: false, relative: Infinity };
  if (got.data.length !== want.data.length) return { exact: false, relative: Infinity };
  let most = 0, top = 0, exact = true;
  for (let i = 0; i < want.data.length; ++i) {
    const a = Number(got.data[i]), b = Number(want.data[i]);
    if (Object.is(a, b)) {
      if (Number.isFinite(b)) top = Math.max(top, Math.abs(b));
      continue;
    }
    exact = false;
    const apart = Math.abs(a - b);
    most = Number.isNaN(apart) ? Infinity : Math.max(most, apart);
    top = Math.max(top, Number.isFinite(b) ? Math.abs(b) : 0);
  }
  return { exact, relative: most === 0 ? 0 : most / Math.max(top, Number.MIN_VALUE) };
}

/** Least, largest and mean value. */
export function summary(data) {
  let low = Infinity, high = -Infinity, sum = 0, odd = 0;
  for (const v of data) {
    const x = Number(v);
    if (!Number.isFinite(x)) { ++odd; continue; }
    if (x < low) low = x;
    if (x > high) high = x;
    sum += x;
  }
  return { low, high, mean: sum / Math.max(1, data.length - odd), odd };
}

/** Numbers to probabilities by softmax, unless they are some already. */
export function probabilities(data) {
  const values = Array.from(data, Number);
  const sum = values.reduce((a, b) => a + b, 0);
  if (values.every((v) => v >= 0 && v <= 1.0001) && Math.abs(sum - 1) < 0.01) return { values, made: false };
  if (values.every((v) => v >= 0 && v <= 1)) return { values, made: false }; // independent scores
  const top = Math.max(...values.filter(Number.isFinite));
  const powers = values.map((v) => Math.exp(v - top));
  const total = powers.reduce((a, b) => a + b, 0);
  return { values: powers.map((p) => p / total), made: true };
}

/** The middle value. */
export function quantile(sorted, q) {
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at), high = Math.ceil(at);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** A number for people. */
export function figure(x) {
  if (typeof x === "bigint" || Number.isInteger(x)) return String(x);
  return Number(x).toPrecision(5).replace(/\.?0+(e|$)/, "$1");
}
