/*! built from web/npm/src */
// Models kept in the browser's Cache API: whole ones by the hash of their content, parts of unfinished downloads by address.
import { DeploykitError } from "./values.js";

const NAME = "dk-models", KEYS = `${globalThis.origin}/.deploykit/`; // names of keys: nothing is fetched from there
export const PART = 8 << 20; // bytes of a download that are kept together

/** What a server says of a file, to tell whether it is still the same. */
export interface Facts {
  etag: string;
  modified: string;
  total: number;
}
/** Which content an address had. */
interface Note extends Facts {
  sha256: string;
}
/** How many parts of an unfinished download have come. */
interface Begun extends Facts {
  parts: number;
}
type Bytes = Uint8Array<ArrayBuffer>;

/** Lower-case hexadecimal SHA-256. */
export async function sha256(bytes: Bytes): Promise<string> {
  if (!globalThis.crypto?.subtle) throw new DeploykitError("DK-UNSUPPORTED", "checksums cannot be verified here: browsers compute SHA-256 only on pages that come over https or from localhost.");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
}

/** The hash that `integrity` asks for, from `sha256-` and base64 (as in HTML), or 64 hexadecimal digits. */
export function wanted(integrity: string): string {
  const base64 = /^sha256-([A-Za-z0-9+/]{43}=)$/.exec(integrity)?.[1];
  if (base64) return Array.from(atob(base64), (c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  if (/^[0-9a-f]{64}$/i.test(integrity)) return integrity.toLowerCase();
  throw new DeploykitError("DK-INPUT", `integrity: got '${integrity}', expected 'sha256-' and 44 characters of base64, or 64 hexadecimal digits.`);
}

/** The store, or null where there is none (no https, Node, storage refused). */
export async function openStore(): Promise<Store | null> {
  try {
    return globalThis.caches && globalThis.crypto?.subtle ? new Store(await caches.open(NAME)) : null;
  } catch {
    return null;
  }
}

/** Remove all models that were kept with `cache: true`; whether there were any. */
export async function forgetModels(): Promise<boolean> {
  return (await globalThis.caches?.delete(NAME)) ?? false;
}

export class Store {
  constructor(private readonly cache: Cache) {}

  /** Content by its hash, which is checked again; null when it is not there. */
  async content(sha: string): Promise<Bytes | null> {
    const found = await this.cache.match(content(sha));
    if (!found) return null;
    const bytes = new Uint8Array(await found.arrayBuffer());
    if ((await sha256(bytes)) === sha) return bytes;
    await this.cache.delete(content(sha)); // damaged on the disk
    return null;
  }

  private async json<T>(key: string): Promise<T | null> {
    return ((await (await this.cache.match(key))?.json()) as T | undefined) ?? null;
  }

  note(url: string): Promise<Note | null> {
    return this.json<Note>(address(url));
  }

  /** Keep a finished download, in place of what this address had before. */
  async keep(url: string, facts: Facts, sha: string, bytes: Bytes): Promise<void> {
    const before = await this.note(url);
    await this.drop(url);
    await this.put(content(sha), bytes);
    await this.put(address(url), JSON.stringify({ ...facts, sha256: sha } satisfies Note));
    if (!before || before.sha256 === sha) return;
    for (const { url: key } of await this.cache.keys()) {
      if (key.startsWith(address("")) && (await this.json<Note>(key))?.sha256 === before.sha256) return; // another address has it
    }
    await this.cache.delete(content(before.sha256));
  }

  /** Keep one more part of a download that goes on. */
  async keepPart(url: string, facts: Facts, index: number, bytes: Bytes): Promise<void> {
    await this.put(part(url, index), bytes);
    await this.put(begun(url), JSON.stringify({ ...facts, parts: index + 1 } satisfies Begun));
  }

  /** The parts that came before a download broke off, and of what. */
  async parts(url: string): Promise<{ facts: Facts; parts: Bytes[] } | null> {
    const facts = await this.json<Begun>(begun(url)), parts: Bytes[] = [];
    for (let i = 0; i < (facts?.parts ?? 0); ++i) {
      const found = await this.cache.match(part(url, i));
      if (!found) break;
      parts.push(new Uint8Array(await found.arrayBuffer()));
    }
    return facts && parts.length ? { facts, parts } : null;
  }

  /** Forget the parts of an address. */
  async drop(url: string): Promise<void> {
    const { parts } = (await this.json<Begun>(begun(url))) ?? { parts: 0 };
    for (let i = 0; i < parts; ++i) await this.cache.delete(part(url, i));
    await this.cache.delete(begun(url));
  }

  private async put(key: string, content: Bytes | string): Promise<void> {
    try {
      await this.cache.put(key, new Response(content));
    } catch {
      // a full disk costs only the copy
    }
  }
}

const content = (sha: string) => `${KEYS}sha256/${sha}`;
const address = (url: string) => `${KEYS}address/?${encodeURIComponent(url)}`;
const begun = (url: string) => `${KEYS}begun/?${encodeURIComponent(url)}`;
const part = (url: string, index: number) => `${KEYS}part/${index}?${encodeURIComponent(url)}`;
