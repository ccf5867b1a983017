// Text to numbers, by the `text` entry of the model's preprocessing metadata.

/**
 * Encode by {split: "bytes" | "characters" | "words", vocabulary, lowercase, unknown, pad}: to exactly `length` numbers
 * when the model's length is fixed.
 */
export function encode(text, how, length, fixed) {
  const plain = how.lowercase ? text.toLowerCase() : text;
  let ids, unknown = 0;
  if (how.split === "bytes") {
    ids = Array.from(new TextEncoder().encode(plain));
  } else {
    const table = new Map((how.vocabulary ?? []).map((word, i) => [word, i]));
    const parts = how.split === "words" ? (plain.match(/[\p{L}\p{N}_']+|[^\s\p{L}\p{N}_']/gu) ?? []) : Array.from(plain);
    ids = [];
    for (const part of parts) {
      const id = table.get(part);
      if (id !== undefined) ids.push(id);
      else {
        ++unknown;
        if (how.unknown !== undefined && how.unknown !== null) ids.push(how.unknown);
      }
    }
  }
  let cut = 0;
  if (fixed) {
    cut = Math.max(0, ids.length - length);
    ids = ids.slice(0, length);
    while (ids.length < length) ids.push(how.pad ?? 0);
  }
  return { ids, unknown, cut };
}
