"""A short run of the mutations of ``tests/support/fuzz_importers.py`` for each format, and what longer ones found."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from deploykit.errors import DeploykitError
from tests.support import fuzz_importers
from tests.support.peers import need

CASES = int(os.environ.get("DK_FUZZ_IMPORTER_CASES", "150"))
# (kind, seed, case): each once ended in an error without a code, or worse
FOUND = [
    ("tfjs", 0, 76), ("tfjs", 0, 93), ("tfjs", 0, 116), ("tfjs", 0, 222), ("tfjs", 0, 252), ("tfjs", 1, 2244), ("keras", 0, 7),
    ("keras", 1, 784), ("keras", 2, 211), ("gguf", 3, 3022), ("onnx", 0, 213), ("dk", 0, 23), ("dk", 0, 82),
    ("tflite", 32, 4480),
]  # fmt: skip


@pytest.mark.parametrize("kind", fuzz_importers.KINDS)
def test_mutated_files(kind: str) -> None:
    if kind == "keras":
        need("h5py")
    counts, wrong = fuzz_importers.run(kind, CASES, seed=7)
    assert not [w for w in wrong if w[1].startswith("!")]
    assert sum(counts.values()) == CASES
    assert counts["ok"] > 0 and len(counts) > 1, "the mutations do too much, or too little"


@pytest.mark.parametrize(("kind", "seed", "k"), FOUND)
def test_found(kind: str, seed: int, k: int, tmp_path: Path) -> None:
    action = fuzz_importers.KINDS[kind](random.Random(f"{kind} {seed} {k}"), tmp_path)
    try:
        action()
    except DeploykitError as e:
        assert str(e)
