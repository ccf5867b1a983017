"""What tests of pages share: a built page served with our headers, and Chromium driven over it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploykit.web import serve

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parents[1] / "web" / "engine"  # also stands for a built one in tests that only look at files
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


def need_browser() -> None:
    """Skip outside CI when Chromium, Node or the npm packages of tests/web are missing."""
    missing = [what for what, there in (
        ("Chromium", Path(CHROMIUM).exists()),
        ("Node", shutil.which("node") is not None),
        ("npm packages (npm ci --prefix tests/web)", (HERE / "node_modules" / "playwright-core").is_dir()),
    ) if not there]  # fmt: skip
    if missing:
        assert not os.environ.get("CI"), f"CI needs {', '.join(missing)}"
        pytest.skip(f"not installed: {', '.join(missing)}")


def engine() -> Path:
    """As :func:`build`, for tests that drive a browser."""
    need_browser()
    return build()


def build() -> Path:
    """The engine for browsers, built from this checkout (web/engine); skips outside CI when zig is missing."""
    if importlib.util.find_spec("ziglang") is None:
        assert not os.environ.get("CI"), "CI needs ziglang"
        pytest.skip("ziglang is not installed")
    spec = importlib.util.spec_from_file_location("web_engine_build", ENGINE / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build(ENGINE.parents[1] / "build" / "wasm" / "dist")


@contextlib.contextmanager
def served(
    folder: Path, headers: dict[str, str] | None = None, handler: type[serve.Handler] = serve.Handler
) -> Iterator[str]:
    """The address of a folder served by ``deploykit web --serve``; ``headers``: instead of ours, as a plain host does;
    ``handler``: a server that behaves otherwise."""
    httpd = serve.server(folder)
    kind = handler if headers is None else type("Plain", (handler,), {"headers_sent": headers})
    httpd.RequestHandlerClass = lambda *a, **k: kind(*a, directory=str(folder), **k)  # type: ignore[assignment]
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}/"
    finally:
        httpd.shutdown()
        httpd.server_close()


def drive(url: str, scenario: str, folder: Path, *more: object) -> dict[str, Any]:
    """Run a scenario of drive.mjs; returns what it saw."""
    command = ["node", str(HERE / "drive.mjs"), url, scenario, str(folder), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=HERE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "failed" not in seen, seen
    return seen


def clean(seen: dict[str, Any]) -> None:
    """No console error or warning, no request to another origin, no violation of accessibility rules."""
    assert not seen["errors"], seen["errors"]
    assert not seen["foreign"], seen["foreign"]
    assert not seen["violations"], seen["violations"]
