"""Bytes that a page downloads for the engine, compressed as hosts compress them (brotli, quality 11)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROTLI = "console.log(require('zlib').brotliCompressSync(require('fs').readFileSync(process.argv[1])).length)"
KB = 1000


def _engine() -> Path:
    """The folder of the built engine.  Building takes minutes: outside CI only one that is there already is measured."""
    for what, there in (("ziglang", importlib.util.find_spec("ziglang")), ("Node", shutil.which("node"))):
        if not there:
            assert not os.environ.get("CI"), f"CI needs {what}"
            pytest.skip(f"{what} is not installed")
    spec = importlib.util.spec_from_file_location("web_engine_build", ROOT / "web" / "engine" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not os.environ.get("CI") and module.stale():
        pytest.skip("the engine for browsers is not built: python web/engine/build.py")
    return module.build(ROOT / "build" / "wasm" / "dist")


def test_download_bytes() -> None:
    folder = _engine()
    sizes = {
        f.name: int(subprocess.run(["node", "-e", BROTLI, str(f)], capture_output=True, text=True, check=True).stdout)
        for f in folder.iterdir()
        if f.suffix in (".js", ".wasm")
    }
    module = max(size for name, size in sizes.items() if name.endswith(".wasm"))  # a page loads one of them
    loaded = _imported(folder, "deploykit.js") | _imported(folder, "worker.js")
    engine = module + sum(sizes[name] for name in loaded)
    assert engine < 241 * KB, (engine, sizes)
    helpers = sum(size for name, size in sizes.items() if name.endswith(".js") and name not in loaded)
    assert helpers < 7 * KB, sizes  # pictures, drawings, sound, text, boxes: loaded by those who import them


def _imported(folder: Path, name: str) -> set[str]:
    """A module and all that it imports, at once or later."""
    found, todo = set(), [name]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += re.findall(r'(?:from|import\() ?"\./(\w+\.js)"', (folder / name).read_text())
    return found
