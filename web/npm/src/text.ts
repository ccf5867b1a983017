/*! built from web/npm/src */
// Text to numbers, by the `text` entry of the model's preprocessing metadata.
import type { Model } from "./model.js";
import { DeploykitError, tensor } from "./values.js";
import type { DType, Tensor } from "./values.js";

/** How text becomes numbers: its places in a vocabulary, or its bytes. */
export interface TextEncoding {
  split: "bytes" | "characters" | "words";
  vocabulary?: readonly string[];
  lowercase?: boolean;
  /** Number of what the vocabulary lacks; without it, that is left out. */
  unknown?: number | null;
  /** Number behind a text that is too short; 0 by default. */
  pad?: number;
  /** Name of the input; default: the first of whole numbers. */
  input?: string;
}

/** A text as the model's input. Throws DK-INPUT when the model says nothing of text. */
export function fromText({ inputs, metadata }: Pick<Model, "inputs" | "metadata">, text: string): Tensor {
  const how = (metadata["preprocessing"] as { text?: TextEncoding } | undefined)?.text;
  const spec = inputs.find((s) => s.dtype.includes("int") && (how?.input ?? s.name) === s.name);
  if (!how || !spec?.shape) throw new DeploykitError("DK-INPUT", "no input is a text: the metadata's preprocessing.text, and an input of whole numbers.");
  const last = spec.shape.at(-1), fixed = typeof last === "number";
  const { ids } = encode(text, how, fixed ? last : 0, fixed);
  return tensor(spec.dtype as DType, [...spec.shape.slice(0, -1).map(() => 1), ids.length], ids);
}

/** Numbers of a text, to exactly `length` when the model's length is fixed; how many were unknown, how many cut off. */
export function encode(text: string, how: TextEncoding, length: number, fixed: boolean): { ids: number[]; unknown: number; cut: number } {
  const plain = how.lowercase ? text.toLowerCase() : text;
  let ids: number[] = [], unknown = 0, cut = 0;
  if (how.split === "bytes") {
    ids = Array.from(new TextEncoder().encode(plain));
  } else {
    const table = new Map((how.vocabulary ?? []).map((word, i) => [word, i]));
    for (const part of how.split === "words" ? (plain.match(/[\p{L}\p{N}_']+|[^\s\p{L}\p{N}_']/gu) ?? []) : plain) {
      const id = table.get(part);
      if (id === undefined) ++unknown;
      const number = id ?? how.unknown ?? null;
      if (number !== null) ids.push(number);
    }
  }
  if (fixed) {
    cut = Math.max(0, ids.length - length);
    ids = ids.slice(0, length);
    while (ids.length < length) ids.push(how.pad ?? 0);
  }
  return { ids, unknown, cut };
}
