"""All passports' samples on the engine against the references, for every kernel set that runs here, 1 and 2 threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploykit import native
from deploykit.ops.core import REGISTRY

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "sample_matrix.py"
ISAS = (
    "scalar",
    "x86_sse41",
    "x86_avx2",
    "x86_avxvnni",
    "x86_avx512",
    "x86_avx512vnni",
    "x86_amx",
    "arm_neon",
    "arm_neondot",
    "arm_i8mm",
)


@cache
def matrix(isa: str) -> dict[str, Any]:
    """What sample_matrix.py prints in a process with this kernel set."""
    env = dict(os.environ, DK_ISA=isa, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    env["DK_LIBRARY"] = str(native.library_path())
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("isa", ISAS)
def test_samples(isa: str) -> None:
    result = matrix(isa)
    if result["isa"] != isa:
        pytest.skip(f"this machine does not run {isa}")
    failures = {op: f for op, f in result["ops"].items() if f}
    text = "\n".join(f"{op}: {line}" for op, lines in failures.items() for line in lines[:3])
    assert not failures, f"{isa}: {len(failures)} of {len(result['ops'])} ops\n{text}"
    assert len(result["ops"]) + len(result["missing"]) + len(result["skipped"]) == len(REGISTRY)


def test_every_op_has_a_kernel() -> None:
    assert matrix("scalar")["missing"] == []
