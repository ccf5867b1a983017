/*! built from web/npm/src */
import { DeploykitError } from "./values.js";
const NAME = "dk-models", KEYS = `${globalThis.origin}/.deploykit/`;
export const PART = 8 << 20;
export async function sha256(bytes) {
 if (!globalThis.crypto?.subtle)
  throw new DeploykitError("DK-UNSUPPORTED", "checksums cannot be verified here: browsers compute SHA-256 only on pages that come over https or from localhost.");
 const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
 return Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
}
export function wanted(integrity) {
 const base64 = /^sha256-([A-Za-z0-9+/]{43}=)$/.exec(integrity)?.[1];
 if (base64)
  return Array.from(atob(base64), (c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
 if (/^[0-9a-f]{64}$/i.test(integrity))
  return integrity.toLowerCase();
 throw new DeploykitError("DK-INPUT", `integrity: got '${integrity}', expected 'sha256-' and 44 characters of base64, or 64 hexadecimal digits.`);
}
export async function openStore() {
 try {
  return globalThis.caches && globalThis.crypto?.subtle ? new Store(await caches.open(NAME)) : null;
 }
 catch {
  return null;
 }
}
export async function forgetModels() {
 return (await globalThis.caches?.delete(NAME)) ?? false;
}
export class Store {
 cache;
 constructor(cache) {
  this.cache = cache;
 }
 async content(sha) {
  const found = await this.cache.match(content(sha));
  if (!found)
   return null;
  const bytes = new Uint8Array(await found.arrayBuffer());
  if ((await sha256(bytes)) === sha)
   return bytes;
  await this.cache.delete(content(sha));
  return null;
 }
 async json(key) {
  return (await (await this.cache.match(key))?.json()) ?? null;
 }
 note(url) {
  return this.json(address(url));
 }
 async keep(url, facts, sha, bytes) {
  const before = await this.note(url);
  await this.drop(url);
  await this.put(content(sha), bytes);
  await this.put(address(url), JSON.stringify({ ...facts, sha256: sha }));
  if (!before || before.sha256 === sha)
   return;
  for (const { url: key } of await this.cache.keys()) {
   if (key.startsWith(address("")) && (await this.json(key))?.sha256 === before.sha256)
    return;
  }
  await this.cache.delete(content(before.sha256));
 }
 async keepPart(url, facts, index, bytes) {
  await this.put(part(url, index), bytes);
  await this.put(begun(url), JSON.stringify({ ...facts, parts: index + 1 }));
 }
 async parts(url) {
  const facts = await this.json(begun(url)), parts = [];
  for (let i = 0; i < (facts?.parts ?? 0); ++i) {
   const found = await this.cache.match(part(url, i));
   if (!found)
    break;
   parts.push(new Uint8Array(await found.arrayBuffer()));
  }
  return facts && parts.length ? { facts, parts } : null;
 }
 async drop(url) {
  const { parts } = (await this.json(begun(url))) ?? { parts: 0 };
  for (let i = 0; i < parts; ++i)
   await this.cache.delete(part(url, i));
  await this.cache.delete(begun(url));
 }
 async put(key, content) {
  try {
   await this.cache.put(key, new Response(content));
  }
  catch {
  }
 }
}
const content = (sha) => `${KEYS}sha256/${sha}`;
const address = (url) => `${KEYS}address/?${encodeURIComponent(url)}`;
const begun = (url) => `${KEYS}begun/?${encodeURIComponent(url)}`;
const part = (url, index) => `${KEYS}part/${index}?${encodeURIComponent(url)}`;
