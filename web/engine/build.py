"""Compile the engine for WebAssembly, from the sources the package is made of: ``python web/engine/build.py``.

Four modules, each with all ops, of which a page loads the one that suits the browser: ``engine.wasm`` (SIMD128),
``engine.relaxed.wasm`` (relaxed SIMD), and both with threads, ``engine.threads.wasm`` and ``engine.relaxed.threads.wasm``
(shared memory, and workers that enter as in runtime/src/capi/lanes.cc).  Needs ``pip install ziglang``.  The result goes to
``web/dist``, where ``deploykit web`` of this checkout finds it and where a wheel built afterwards takes it from.  Objects
are kept in ``build/wasm`` and made again when a source or header is newer.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
KEPT = ROOT / "build" / "wasm"
_spec = importlib.util.spec_from_file_location("wasm", ROOT / "deploykit" / "web" / "wasm.py")
assert _spec and _spec.loader
wasm = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(wasm)
FLAGS, MODULES, KERNELS = wasm.FLAGS, wasm.MODULES, wasm.KERNELS


@cache
def included(file: Path) -> frozenset[Path]:
    """The file and the headers of ours that it includes, directly or not."""
    found = {file}
    for name in re.findall(r'#include "([^"]+)"', file.read_text()):
        header = next(
            (p for p in (RUNTIME / "src" / name, file.parent / name, RUNTIME / "include" / name) if p.is_file()), None
        )
        if header:
            found |= included(header.resolve())
    return frozenset(found)


def sources(kernels: str) -> dict[Path, str]:
    """Every source of a build and the folder of its objects: ``simd128``, or ``relaxed`` for what sees the difference."""
    other = ("_x86_", "_arm_", "_scalar", "_wasm_relaxed" if kernels == "simd128" else "_wasm_simd128")
    differs = {RUNTIME / "src" / "base" / "cpu.h", *(RUNTIME / "src" / "simd").iterdir()}
    return {
        p: kernels if differs & included(p) else "simd128"
        for p in sorted((RUNTIME / "src").rglob("*.cc"))
        if not any(o in p.name for o in other)
    }


def newest(file: Path) -> float:
    """When the file, a header that it includes, or the flags were last written."""
    opset = RUNTIME / "schema" / "opset.inc"
    return max(p.stat().st_mtime for p in (*included(file), opset, flags()))


@cache
def flags() -> Path:
    """A file that is written anew when the flags of compiling change."""
    stamp = KEPT / "flags"
    if not stamp.exists() or stamp.read_text() != " ".join(FLAGS):
        KEPT.mkdir(parents=True, exist_ok=True)
        stamp.write_text(" ".join(FLAGS))
    return stamp


def stale() -> bool:
    """Would ``build`` have to compile?"""
    needed = max(map(newest, sources("simd128") | sources("relaxed")))
    return any(not (KEPT / m).exists() or (KEPT / m).stat().st_mtime < needed for m in MODULES)


def build(out: Path) -> Path:
    """Put the modules and the scripts into ``out``; compiled once, however many processes ask."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        includes = [f"-I{RUNTIME / d}" for d in ("src", "include", "schema")]
        objects: dict[str, list[Path]] = {}
        jobs: dict[Path, tuple[Path, str]] = {}
        for kernels in KERNELS:
            for source, folder in sources(kernels).items():
                target = KEPT / folder / ("_".join(source.relative_to(RUNTIME / "src").parts) + ".o")
                objects.setdefault(kernels, []).append(target)
                if not target.exists() or target.stat().st_mtime < newest(source):
                    target.parent.mkdir(exist_ok=True)
                    jobs[target] = source, KERNELS[folder]
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for _ in pool.map(
                lambda j: wasm.zig("c++", *FLAGS, j[1][1], *includes, "-c", j[1][0], "-o", j[0]), jobs.items()
            ):
                pass
        for module, (kernels, more) in MODULES.items():
            linked = KEPT / module
            parts = [*objects[kernels], Path(wasm.__file__)]  # how to link is told there
            if not linked.exists() or linked.stat().st_mtime < max(p.stat().st_mtime for p in parts):
                wasm.link(objects[kernels], more, linked)
        out.mkdir(parents=True, exist_ok=True)
        for file in (*(KEPT / m for m in MODULES), *Path(__file__).parent.glob("*.js")):
            shutil.copyfile(file, out / file.name)
    return out


def pack(folder: Path) -> None:
    """The modules of ``folder`` as one file for the wheel: they are much the same, so together they take hardly more."""
    with tarfile.open(folder / "engines.tar.xz", "w:xz", preset=9) as tar:
        for module in MODULES:
            entry = tarfile.TarInfo(module)
            entry.size = (folder / module).stat().st_size
            with (folder / module).open("rb") as f:
                tar.addfile(entry, f)


if __name__ == "__main__":
    folder = build(ROOT / "web" / "dist")
    pack(folder)
    print(*(f"{p}  {p.stat().st_size:,} bytes" for p in sorted(folder.iterdir())), sep="\n")
