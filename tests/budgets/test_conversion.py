"""What converting costs: 98 MB of weights, each computed anew, or 100 MB of a Keras file: under 2 s of the CPU, under 1.5 times
their size in memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import onnx
import pytest

from deploykit import keras
from tests.bench import convert_size
from tests.support import zoo


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_model(tmp_path: Path) -> None:
    """Measured: 0.9 s (on a busy machine 1.2), 123 MB."""
    source = tmp_path / "m.onnx"
    onnx.save(zoo.ZOO["resnet50"](), source)
    judge(source, tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_keras_file(tmp_path: Path) -> None:
    """Measured: 0.5 s, 124 MB: the weights are mapped."""
    layers = [keras.layers.Dense(1024, "relu", use_bias=False) for _ in range(25)]
    keras.Sequential([keras.Input((1024,)), *layers]).save(tmp_path / "m.keras")
    judge(tmp_path / "m.keras", tmp_path)


def judge(source: Path, tmp_path: Path) -> None:
    said = convert_size.run(source, tmp_path / "m.dk")
    found = re.match(r"(\d+) MB .*\((.*) of the CPU\), peak (\d+) MB", said)
    assert found, said
    size, seconds, peak = map(float, found.groups())
    assert size > 95 and peak < 1.5 * size, said
    assert seconds < 2, said
