"""C programs of the tests, linked against the engine of this installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploykit import native

ROOT = Path(__file__).resolve().parents[2]


def program(source: Path, folder: Path, standard: str = "c11") -> Path:
    """Compiles ``source``, which may replace functions of the C library for the engine too; skips, outside CI, where there is
    no compiler."""
    if shutil.which("cc") is None:
        assert not os.environ.get("CI"), "CI needs a C compiler"
        pytest.skip("no C compiler")
    library = Path(native.library()._name)
    out = folder / source.stem
    include = ROOT / "runtime" / "include"
    flags = [f"-std={standard}", "-O1", "-fno-builtin", "-rdynamic", f"-I{include}", f"-Wl,-rpath,{library.parent}"]
    subprocess.run(["cc", *flags, str(source), str(library), "-o", str(out)], check=True)
    return out
