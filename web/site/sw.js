// Service worker: keeps the page usable without a network, and adds the headers of isolation (which threads need) where
// the host cannot send them.  The version is a digest of every file, so a changed page never meets an old part.
const CACHE = "deploykit-$version";
const SHELL = $shell; // fetched at once
const LAZY = new Set($lazy.map((name) => new URL(name, self.registration.scope).href)); // kept when first used

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL.map((name) => new Request(name, { cache: "no-cache" })))));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const scope = new URL(self.registration.scope).pathname;
      const marks = await Promise.all((await caches.keys()).map(async (key) => [key, await caches.open(key)]));
      for (const [key, cache] of marks) {
        if (key === CACHE || !key.startsWith("deploykit-")) continue;
        const [first] = await cache.keys(); // other pages on this origin keep their own
        if (!first || new URL(first.url).pathname.startsWith(scope)) await caches.delete(key);
      }
      await self.clients.claim();
    })(),
  );
});

// A page that loaded before this worker took over tells what it fetched; the browser's own cache mostly has it still.
self.addEventListener("message", (event) => {
  const kept = caches.open(CACHE).then((cache) =>
    Promise.all(event.data.keep.filter((url) => LAZY.has(url)).map(async (url) => (await cache.match(url)) ?? cache.add(url))),
  );
  event.waitUntil(kept.then(() => event.ports[0].postMessage(true), () => event.ports[0].postMessage(false)));
});

function isolated(response) {
  if (response.status === 0 || response.type === "opaque") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const empty = [101, 204, 205, 304].includes(response.status);
  return new Response(empty ? null : response.body, { status: response.status, statusText: response.statusText, headers });
}

async function answer(event) {
  const request = event.request;
  const cache = await caches.open(CACHE);
  const found = request.headers.has("Range") ? undefined : await cache.match(request, { ignoreSearch: true });
  if (found) return isolated(found);
  const response = await fetch(request);
  if (response.status === 200 && LAZY.has(request.url)) {
    event.waitUntil(cache.put(request, response.clone()).catch(() => {})); // a full disk costs only the offline copy
  }
  return isolated(response);
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "GET" && url.href.startsWith(self.registration.scope)) event.respondWith(answer(event));
});
