/*! built from web/npm/src */
// The variables of a .dk file (runtime/schema/dk.fbs), and the file with other values in them. The engine checks every byte
// of a file when it opens it; this reads files that it has opened.
import { DeploykitError } from "./values.js";
import type { TypedArray } from "./values.js";

const MODEL = { headerSize: 1, headerCrc: 2, weightsOffset: 3, crcChunk: 5, weightsCrcs: 6, variables: 10 }; // numbers of fields
const VARIABLE = { name: 0, offset: 3, size: 4 };

/** Where a variable's initial value lies; size 0 means zeros, which take no place. */
export interface VariablePlace {
  name: string;
  at: number;
  size: number;
}

/** Places of the variables of a file. */
export function variables(bytes: Uint8Array): VariablePlace[] {
  const file = reader(bytes), root = file.u32(0), weights = file.number(root, MODEL.weightsOffset);
  return file.vector(root, MODEL.variables).map((slot) => {
    const table = slot + file.u32(slot), at = file.field(table, VARIABLE.name), text = at + file.u32(at);
    const name = new TextDecoder().decode(bytes.slice(text + 4, text + 4 + file.u32(text)));
    return { name, at: weights + file.number(table, VARIABLE.offset), size: file.number(table, VARIABLE.size) };
  });
}

/** A copy of the file in which the named variables have the values given as typed arrays, with its checksums renewed. */
export function withVariables(bytes: Uint8Array, values: Readonly<Record<string, TypedArray>>): Uint8Array<ArrayBuffer> {
  const out = bytes.slice(), file = reader(out), root = file.u32(0);
  const known = new Map(variables(bytes).map((v) => [v.name, v]));
  for (const [name, data] of Object.entries(values)) {
    const v = known.get(name);
    if (!v || v.size !== data.byteLength) throw new DeploykitError("DK-INPUT", `variable '${name}': got ${data.byteLength} bytes, expected ${v ? v.size : "one of the file's variables"}.`);
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), v.at);
  }
  const weights = file.number(root, MODEL.weightsOffset), chunk = file.number(root, MODEL.crcChunk);
  file.vector(root, MODEL.weightsCrcs).forEach((slot, i) => {
    file.view.setUint32(slot, crc32(out.subarray(weights + i * chunk, Math.min(out.length, weights + (i + 1) * chunk))), true);
  });
  const crc = file.field(root, MODEL.headerCrc), header = file.number(root, MODEL.headerSize);
  file.view.setUint32(crc, 0, true);
  file.view.setUint32(crc, crc32(out.subarray(0, header)), true);
  return out;
}

function reader(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (at: number) => view.getUint32(at, true);
  /** Where field number n of a table stands; 0 when it is absent. */
  const field = (table: number, n: number) => {
    const shape = table - view.getInt32(table, true), entry = 4 + 2 * n;
    const offset = entry < view.getUint16(shape, true) ? view.getUint16(shape + entry, true) : 0;
    return offset ? table + offset : 0;
  };
  return {
    view,
    u32,
    field,
    /** A field of 64 bits; 0 when it is absent. */
    number(table: number, n: number): number {
      const at = field(table, n);
      return at ? Number(view.getBigUint64(at, true)) : 0;
    },
    /** Places of the 4-byte elements of a vector field. */
    vector(table: number, n: number): number[] {
      const at = field(table, n);
      if (!at) return [];
      const start = at + u32(at);
      return Array.from({ length: u32(start) }, (_, i) => start + 4 + 4 * i);
    },
  };
}

let crcTable: Uint32Array | null = null;
/** CRC-32 as zlib computes it. */
export function crc32(bytes: Uint8Array): number {
  const table = (crcTable ??= Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; ++k) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n;
  }));
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 255]!;
  return ~crc >>> 0;
}
