"""The engine as one file stays one translation unit: a new source file or kernel set that does not fit shows here, fast.

Whether it also links and gives the same bits is for tests/runtime/test_amalgamation.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_amalgamation_compiles(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        assert not os.environ.get("CI"), "CI needs g++"
        pytest.skip("g++ is not installed")
    subprocess.run([sys.executable, ROOT / "runtime" / "amalgamate", "-o", tmp_path], check=True)
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(tmp_path / "deploykit.cc")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (
        "runtime/amalgamate does not know what to do with a source file; runtime/README.md, 'One file for other people's "
        "builds', tells its rules.\n" + done.stderr[:6000]
    )
