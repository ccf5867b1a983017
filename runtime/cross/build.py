"""Compile the engine for another machine, with the pip-installed compiler: ``python runtime/cross/build.py aarch64-linux-musl``.

Gives ``build/cross/<target>/libdeploykit.a``, a static library on the C API of ``runtime/include``.  Without a name all
targets are built.  Needs ``pip install ziglang cmake ninja``; flags and sources are those of ``runtime/CMakeLists.txt``.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
KEPT = ROOT / "build" / "cross"
# The package has no C library for phones: there the headers of a near relative describe it (musl's for Android's bionic,
# macOS' for iOS), after all others.  What the engine takes of them has the same layout in both: docs/arm.md.
NEAR = {
    "aarch64-linux-android": ("aarch64-linux-musl", "generic-musl", "aarch64-linux-any", "any-linux-any"),
    "aarch64-ios": ("any-darwin-any",),
}
FLAGS = {"aarch64-linux-android": ("-D__errno_location=__errno",)}
TARGETS = ("aarch64-linux-musl", "aarch64-linux-gnu.2.28", "aarch64-linux-android", "aarch64-macos", "aarch64-ios")


def flags(target: str) -> list[str]:
    """What a target needs besides its name."""
    import ziglang

    headers = Path(ziglang.__file__).parent / "lib" / "libc" / "include"
    return [
        "-fno-sanitize=undefined",
        *FLAGS.get(target, ()),
        *(x for n in NEAR.get(target, ()) for x in ("-idirafter", str(headers / n))),
    ]


def run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command[:6]))} ... failed:\n{done.stdout[-4000:]}")


def library(target: str) -> Path:
    """The static library for a target; made once, however many processes ask."""
    folder = KEPT / target
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "build.ninja").exists():
            options = ["-DDEPLOYKIT_ZIG=ON", f"-DZIG_TARGET={target}", f"-DPython_EXECUTABLE={sys.executable}"]
            options += [f"-DCMAKE_{c}_FLAGS={' '.join(flags(target))}" for c in ("C", "CXX")]
            run("cmake", "-S", RUNTIME, "-B", folder, "-G", "Ninja", *options)
        run("ninja", "-C", folder, "deploykit")
    return folder / "libdeploykit.a"


def program(target: str, source: Path) -> Path:
    """A C program on the C API, linked with the library (static where the target's C library is musl)."""
    archive = library(target)
    out = archive.with_name(source.stem)
    with (archive.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(p.stat().st_mtime for p in (source, archive, RUNTIME / "include" / "deploykit" / "dk.h"))
        if not out.exists() or out.stat().st_mtime < newest:
            flags = ["-target", target, "-O2", "-s", "-Wall", "-Wextra", f"-I{RUNTIME / 'include'}"]
            run(sys.executable, "-m", "ziglang", "cc", *flags, source, archive, "-o", out)
    return out


if __name__ == "__main__":
    for name in sys.argv[1:] or TARGETS:
        made = library(name)
        print(f"{made}  {made.stat().st_size:,} bytes", flush=True)
