"""What a host should send with the page, and the files that tell common hosts so.

The page is isolated (COOP and COEP), which browsers demand before they give a page shared memory, hence threads.  The
policy allows nothing from elsewhere: no script, style, image or connection of another origin, no inline script or style.
"""

from __future__ import annotations

import json

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self'",
    "connect-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
# What the page's own <meta> says; frame-ancestors only counts in a header.
META_CSP = "; ".join(f"{k} {v}" for k, v in _POLICY.items())
CSP = META_CSP + "; frame-ancestors 'self'"

HEADERS = {
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".dk": "application/octet-stream",
    ".bin": "application/octet-stream",
}


def host_files() -> dict[str, str]:
    """Configuration by file name: Netlify and Cloudflare Pages, Vercel, Firebase, Azure Static Web Apps, Apache, nginx,
    GitHub Pages (which sends no headers: there the service worker adds them)."""
    pairs = [{"key": k, "value": v} for k, v in HEADERS.items()]
    wasm = TYPES[".wasm"]
    return {
        "_headers": "/*\n" + "".join(f"  {k}: {v}\n" for k, v in HEADERS.items()),
        "vercel.json": _json({"headers": [{"source": "/(.*)", "headers": pairs}]}),
        "firebase.json": _json({"hosting": {"public": ".", "headers": [{"source": "**", "headers": pairs}]}}),
        "staticwebapp.config.json": _json(
            {"globalHeaders": HEADERS, "mimeTypes": {".wasm": wasm, ".dk": TYPES[".dk"]}}
        ),
        ".htaccess": f"AddType {wasm} .wasm\n<IfModule mod_headers.c>\n"
        + "".join(f'  Header always set {k} "{v}"\n' for k, v in HEADERS.items())
        + "</IfModule>\n",
        "nginx.conf": "# include this file in the location block that serves the folder\n"
        + "".join(f'add_header {k} "{v}" always;\n' for k, v in HEADERS.items()),
        ".nojekyll": "",
    }


def _json(data: object) -> str:
    return json.dumps(data, indent=2) + "\n"
