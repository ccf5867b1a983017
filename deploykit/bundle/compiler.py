"""Compilers for a bundle: the system's where it fits the target, else zig, which pip brings for every target."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploykit.errors import DeploykitError, UnsupportedError

# What the library is compiled with: small, no C++ runtime library, unused functions can be dropped by the linker.
FLAGS = (
    "-std=c++20 -O2 -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-asynchronous-unwind-tables -fno-math-errno "
    "-fno-trapping-math -ffp-contract=off -fvisibility=hidden -ffunction-sections -fdata-sections -fPIC -DNDEBUG"
).split()


class CompileError(DeploykitError):
    """A compiler refused what it should take."""

    code = "DK-INTERNAL"


@dataclass
class Compiler:
    """Commands that compile C++, compile and link C, and put objects into a library."""

    name: str
    cxx: list[str]
    cc: list[str]
    ar: list[str]

    def run(self, command: Sequence[str | Path]) -> None:
        """Call one of its programs."""
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise CompileError(
                f"{self.name} failed on `{shlex.join(map(str, command))}`: {chr(10).join(lines[-8:])}. "
                "Please report it; --sources writes the bundle without a library."
            )

    def library(self, source: Path, target: Path, more: Sequence[str] = ()) -> Path:
        """Compile ``deploykit.cc`` into a static library; returns the object file beside it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        unit = target.with_suffix(".o")
        self.run([*self.cxx, *FLAGS, *more, "-c", source, "-o", unit])
        self.run([*self.ar, "rcs", target, unit])
        return unit


def zig(triple: str) -> Compiler | None:
    """zig for a target such as ``aarch64-linux-musl`` ("": this machine); None where it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    base = [sys.executable, "-m", "ziglang"]
    aim = ["-target", triple] if triple else []
    return Compiler("zig", [*base, "c++", *aim, "-g0"], [*base, "cc", *aim, "-g0"], [*base, "ar"])


def system() -> Compiler | None:
    """The system's compilers: those of CXX and CC, or g++ and clang++."""
    for cxx, cc in (
        (os.environ.get("CXX", ""), os.environ.get("CC", "cc")),
        ("g++", "gcc"),
        ("clang++", "clang"),
        ("c++", "cc"),
    ):
        words, c_words = shlex.split(cxx), shlex.split(cc)
        if words and shutil.which(words[0]) and c_words and shutil.which(c_words[0]) and shutil.which("ar"):
            return Compiler(Path(words[0]).name, words, c_words, ["ar"])
    return None


def find(target: str, libc: str = "gnu") -> Compiler:
    """The compiler for a target of ``deploykit bundle``; raises UnsupportedError with the command that brings one."""
    found = None
    if target == "c":
        found = system() or zig("")
    elif target == "linux-arm64":
        native = platform.system() == "Linux" and platform.machine() == "aarch64" and libc == "gnu"
        found = (system() if native else None) or zig(
            "aarch64-linux-musl" if libc == "musl" else "aarch64-linux-gnu.2.28"
        )
    elif target == "ios":
        found = zig("aarch64-ios.13.0")
        if found is not None:
            # the C library's headers are those of macOS; what the engine takes from them is alike
            zig_folder = Path(importlib.import_module("ziglang").__file__ or "").parent
            found.cxx += ["-isystem", str(zig_folder / "lib/libc/include/any-darwin-any")]
    if found is None:
        what = {"c": "C++ compiler (g++, clang++ or zig)"}.get(target, "compiler (zig)")
        raise UnsupportedError(
            f"no {what} is installed, which --target {target} needs for its library. `pip install ziglang` brings one; "
            "or give --sources for a bundle whose library the app's own build compiles."
        )
    return found
