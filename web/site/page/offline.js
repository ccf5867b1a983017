// The service worker: offline use, and isolation where the host sends no headers.
const FLAG = "deploykit-isolating";
const NOT = "Not kept for offline use.";
let registered = null;

/**
 * Register the worker.  When the page is not isolated, the worker can make it so, which takes one reload: resolves to
 * false when that reload is on its way.
 */
export async function prepare() {
  if (!("serviceWorker" in navigator) || !isSecureContext) return true;
  let asked = true;
  try {
    asked = sessionStorage.getItem(FLAG) !== null;
    if (crossOriginIsolated) sessionStorage.removeItem(FLAG);
    else sessionStorage.setItem(FLAG, "1");
  } catch {
    // no storage: never reload, there would be no end
  }
  try {
    registered = navigator.serviceWorker.register("sw.js");
    registered.catch(() => {}); // keep() tells
    if (crossOriginIsolated || asked) return true;
    await registered;
    const ready = await Promise.race([navigator.serviceWorker.ready, new Promise((done) => setTimeout(done, 4000))]);
    if (!ready) return true;
    location.reload();
    return false;
  } catch {
    return true;
  }
}

/** After everything is loaded: have the worker keep what this visit fetched; resolves to a sentence for the visitor. */
export async function keep() {
  if (!("serviceWorker" in navigator) || !isSecureContext) return `${NOT} Browsers allow that only over https.`;
  try {
    await registered;
  } catch {
    return NOT;
  }
  const { active } = await navigator.serviceWorker.ready;
  const urls = performance.getEntriesByType("resource").map((r) => r.name);
  const kept = await new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = (event) => done(event.data);
    active.postMessage({ keep: urls }, [port2]);
  });
  return kept ? "Kept for offline use." : NOT;
}
