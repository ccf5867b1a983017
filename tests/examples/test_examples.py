"""The programs in examples/, on little data: two here, all ten by ``EXAMPLES=all pytest tests/examples`` (they fetch their
data by package name; results and date stand in examples/README.md)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from tests.support import child
from tests.support.peers import have_keras

have_keras()
ROOT = Path(__file__).resolve().parents[2]
ALL = sorted(p.stem for p in (ROOT / "examples").glob("*.py") if "common.run(main)" in p.read_text())
SOME = ["gan", "siamese"]  # their data ships with Deploykit


@pytest.mark.parametrize("name", ALL if os.environ.get("EXAMPLES") == "all" else SOME)
def test_example(name: str, tmp_path: Path) -> None:
    command = child.command(f"examples.{name}", "--quick", "--out", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["apart"] < 1e-4
    sample = np.load(tmp_path / "sample.npy")
    (y,) = dk.Interpreter(tmp_path / "model.dk").run(sample).values()
    assert len(y) == 1 and np.isfinite(y).all() and (y.size == 1 or np.ptp(y) > 0)
    if result["web"]:
        assert (tmp_path / "web" / "model.dk").read_bytes() == (tmp_path / "model.dk").read_bytes()
    else:
        assert "DK-ENGINE" in done.stdout


def test_all_are_told_of() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    assert len(ALL) == 10
    assert not [name for name in ALL if f"`{name}.py`" not in page]
