"""Compile the engine for WebAssembly, from the sources the package is made of: ``python web/engine/build.py [--all]``.

Four modules, each with all ops: ``engine.wasm`` (SIMD128), which pages load, and with ``--all`` ``engine.relaxed.wasm``
(relaxed SIMD) and both with threads, ``engine.threads.wasm`` and ``engine.relaxed.threads.wasm`` (shared memory, and
workers that enter as in runtime/src/capi/lanes.cc).  Needs ``pip install ziglang``.  The result goes to ``web/dist``,
where ``deploykit web`` of this checkout finds it and where a wheel built afterwards takes it from.  Objects are kept in
``build/wasm`` and made again when a source or header is newer.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
KEPT = ROOT / "build" / "wasm"
# Everything is made small, kernels too: unrolling is asked for in their source, and they are as fast as at -O2 (measured).
FLAGS = (
    "-target wasm32-wasi -Oz -std=gnu++20 -msimd128 -matomics -mbulk-memory -fno-exceptions -fno-rtti "
    "-fno-threadsafe-statics -fno-math-errno -fno-trapping-math -ffp-contract=off -fvisibility=hidden -DNDEBUG -w"
).split()
LINK = (
    "-target wasm32-wasi -mexec-model=reactor -O2 -Wl,--export-dynamic -Wl,--export=malloc "
    "-Wl,--export=free -Wl,--strip-all -Wl,--gc-sections -Wl,-z,stack-size=1048576"
).split()


SHARED = (
    "-matomics -mbulk-memory -Wl,--shared-memory -Wl,--import-memory -Wl,--max-memory=4294901760 "
    "-Wl,--export=__stack_pointer"
).split()
# module -> what its kernels are compiled for, more for the linker
MODULES = {
    "engine.wasm": ("simd128", []),
    "engine.relaxed.wasm": ("relaxed", []),
    "engine.threads.wasm": ("simd128", SHARED),
    "engine.relaxed.threads.wasm": ("relaxed", SHARED),
}

PLAIN = ("engine.wasm",)


def zig(*args: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ziglang", "c++", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


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
    """When the file, a header that it includes, or this one was last written."""
    opset = RUNTIME / "schema" / "opset.inc"
    return max(p.stat().st_mtime for p in (*included(file), opset, Path(__file__)))


def stale() -> bool:
    """Would ``build`` have to compile?"""
    linked = KEPT / PLAIN[0]
    return not linked.exists() or linked.stat().st_mtime < max(map(newest, sources("simd128")))


def build(out: Path, modules: Iterable[str] = PLAIN) -> Path:
    """Put ``modules`` and the scripts into ``out``; compiled once, however many processes ask."""
    wanted = {m: MODULES[m] for m in modules}
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        includes = [f"-I{RUNTIME / d}" for d in ("src", "include", "schema")]
        objects: dict[str, list[Path]] = {}
        jobs: dict[Path, tuple[Path, str]] = {}
        for kernels in {k for k, _ in wanted.values()}:
            for source, folder in sources(kernels).items():
                target = KEPT / folder / ("_".join(source.relative_to(RUNTIME / "src").parts) + ".o")
                objects.setdefault(kernels, []).append(target)
                if not target.exists() or target.stat().st_mtime < newest(source):
                    target.parent.mkdir(exist_ok=True)
                    jobs[target] = source, "-mrelaxed-simd" if folder == "relaxed" else "-msimd128"
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda j: zig(*FLAGS, j[1][1], *includes, "-c", j[1][0], "-o", j[0]), jobs.items()):
                pass
        for module, (kernels, more) in wanted.items():
            linked = KEPT / module
            if not linked.exists() or linked.stat().st_mtime < max(o.stat().st_mtime for o in objects[kernels]):
                zig(*objects[kernels], *LINK, *more, "-o", linked)
        out.mkdir(parents=True, exist_ok=True)
        for file in (*(KEPT / m for m in wanted), *Path(__file__).parent.glob("*.js")):
            shutil.copyfile(file, out / file.name)
    return out


if __name__ == "__main__":
    folder = build(ROOT / "web" / "dist", MODULES if "--all" in sys.argv[1:] else PLAIN)
    print(*(f"{p}  {p.stat().st_size:,} bytes" for p in sorted(folder.iterdir())), sep="\n")
