"""Compile the engine for WebAssembly, from the sources the package is made of: ``python web/engine/build.py``.

Plain: one thread, SIMD128, all kernels.  Needs ``pip install ziglang``.  The result goes to ``web/dist``, where ``deploykit
web`` of this checkout finds it and where a wheel built afterwards takes it from.  Objects are kept in ``build/wasm`` and made
again when a source or header is newer.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
KEPT = ROOT / "build" / "wasm"
# Everything is made small, kernels too: unrolling is asked for in their source, and they are as fast as at -O2 (measured).
FLAGS = (
    "-target wasm32-wasi -Oz -std=gnu++20 -msimd128 -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-math-errno "
    "-fno-trapping-math -ffp-contract=off -fvisibility=hidden -DNDEBUG -w"
).split()
LINK = (
    "-target wasm32-wasi -mexec-model=reactor -O2 -Wl,--export-dynamic -Wl,--export=malloc "
    "-Wl,--export=free -Wl,--strip-all -Wl,--gc-sections -Wl,-z,stack-size=1048576"
).split()


def zig(*args: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ziglang", "c++", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


def sources() -> list[Path]:
    """Everything but the kernels of other instruction sets; relaxed SIMD needs a build of its own."""
    other = ("_x86_", "_arm_", "_wasm_relaxed")
    return [p for p in sorted((RUNTIME / "src").rglob("*.cc")) if not any(o in p.name for o in other)]


def headers() -> float:
    """When the newest header, or this file, was written."""
    found = (*(RUNTIME / "src").rglob("*.h"), *(RUNTIME / "include").rglob("*.h"), *(RUNTIME / "schema").iterdir())
    return max(p.stat().st_mtime for p in [*found, Path(__file__)])


def stale() -> bool:
    """Would ``build`` have to compile?"""
    linked = KEPT / "engine.wasm"
    return not linked.exists() or linked.stat().st_mtime < max(headers(), *(p.stat().st_mtime for p in sources()))


def build(out: Path) -> Path:
    """Put the modules and ``engine.wasm`` into ``out``; compiled once, however many processes ask."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = headers()
        includes = [f"-I{RUNTIME / d}" for d in ("src", "include", "schema")]
        jobs: list[tuple[Path, Path]] = []
        objects = []
        for source in sources():
            target = KEPT / ("_".join(source.relative_to(RUNTIME / "src").parts) + ".o")
            objects.append(target)
            if not target.exists() or target.stat().st_mtime < max(newest, source.stat().st_mtime):
                jobs.append((source, target))
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda j: zig(*FLAGS, *includes, "-c", j[0], "-o", j[1]), jobs):
                pass
        linked = KEPT / "engine.wasm"
        if jobs or not linked.exists():
            zig(*objects, *LINK, "-o", linked)
        out.mkdir(parents=True, exist_ok=True)
        for file in (linked, *Path(__file__).parent.glob("*.js")):
            shutil.copyfile(file, out / file.name)
    return out


if __name__ == "__main__":
    folder = build(ROOT / "web" / "dist")
    print(*(f"{p}  {p.stat().st_size:,} bytes" for p in sorted(folder.iterdir())), sep="\n")
