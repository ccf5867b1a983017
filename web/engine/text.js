/*! built from web/npm/src */
import { DeploykitError, tensor } from "./values.js";
export function fromText({ inputs, metadata }, text) {
 const how = metadata["preprocessing"]?.text;
 const spec = inputs.find((s) => s.dtype.includes("int") && (how?.input ?? s.name) === s.name);
 if (!how || !spec?.shape)
  throw new DeploykitError("DK-INPUT", "no input is a text: the metadata's preprocessing.text, and an input of whole numbers.");
 const last = spec.shape.at(-1), fixed = typeof last === "number";
 const { ids } = encode(text, how, fixed ? last : 0, fixed);
 return tensor(spec.dtype, [...spec.shape.slice(0, -1).map(() => 1), ids.length], ids);
}
export function encode(text, how, length, fixed) {
 const plain = how.lowercase ? text.toLowerCase() : text;
 let ids = [], unknown = 0, cut = 0;
 if (how.split === "bytes") {
  ids = Array.from(new TextEncoder().encode(plain));
 }
 else {
  const table = new Map((how.vocabulary ?? []).map((word, i) => [word, i]));
  for (const part of how.split === "words" ? (plain.match(/[\p{L}\p{N}_']+|[^\s\p{L}\p{N}_']/gu) ?? []) : plain) {
   const id = table.get(part);
   if (id === undefined)
    ++unknown;
   const number = id ?? how.unknown ?? null;
   if (number !== null)
    ids.push(number);
  }
 }
 if (fixed) {
  cut = Math.max(0, ids.length - length);
  ids = ids.slice(0, length);
  while (ids.length < length)
   ids.push(how.pad ?? 0);
 }
 return { ids, unknown, cut };
}
