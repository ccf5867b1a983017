"""Objects compiled for one instruction set must not export weak symbols: the linker may hand such a copy, with its AVX
instructions, to code that runs on CPUs without them.  Compiled at -O0, where nothing is inlined away."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
ISA = re.compile(r"_(x86_\w+|arm_\w+|wasm_\w+)\.cc$")


def commands(folder: Path) -> list[dict[str, str]]:
    """The compile commands of all per-ISA files, as CMake makes them."""
    cmake = shutil.which("cmake")
    missing = [t for t in ("cmake", "g++", "nm") if shutil.which(t) is None]
    if missing or cmake is None:
        if os.environ.get("CI"):
            raise AssertionError(f"not installed: {missing}")
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = subprocess.run([cmake, "-S", str(RUNTIME), "-B", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "compile_commands.json").read_text())
    return [r for r in rows if ISA.search(r["file"])]


def test_isa_objects_export_no_weak_symbols(tmp_path: Path) -> None:
    rows = commands(tmp_path)
    assert len(rows) >= 6
    bad = {}
    running = []
    for i, row in enumerate(rows):
        target = tmp_path / f"{i}.o"
        command = re.sub(r" -o \S+", f" -o {target}", re.sub(r" -O\d", "", row["command"])) + " -O0"
        running.append((row, target, subprocess.Popen(command, shell=True, cwd=row["directory"])))
        if len(running) == 2 or row is rows[-1]:
            for r, o, p in running:
                assert p.wait() == 0, r["file"]
                symbols = subprocess.run(["nm", "-C", str(o)], capture_output=True, text=True, check=True).stdout
                weak = [line for line in symbols.splitlines() if re.search(r" [WVuvw] ", line)]
                if weak:
                    bad[Path(r["file"]).name] = weak[:5]
            running = []
    assert not bad, bad


def test_the_check_finds_a_weak_symbol(tmp_path: Path) -> None:
    """The test above can fail: an inline function with external linkage is weak."""
    if shutil.which("g++") is None:
        assert not os.environ.get("CI"), "CI needs g++"
        pytest.skip("g++ is not installed")
    (tmp_path / "a.cc").write_text("inline int f(int x) { return x + 1; }\nint g(int x) { return f(x); }\n")
    subprocess.run(["g++", "-O0", "-c", "a.cc", "-o", "a.o"], cwd=tmp_path, check=True)
    assert " W " in subprocess.run(["nm", "a.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
