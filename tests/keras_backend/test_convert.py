"""``deploykit convert`` of what only Keras itself can build: layers that we do not have, and layers of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import deploykit as dk
from tests.support.peers import have_keras

have_keras()
_SAVE = """
import deploykit.keras_backend, keras
from keras import layers as L
mel = L.MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=8)
keras.Sequential([keras.Input((512,)), mel, L.Flatten(), L.Dense(3, name="out")]).save("mel.keras")
"""


def convert(*args: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deploykit", "convert", *args], capture_output=True, text=True, cwd=cwd
    )
    return done.stdout + done.stderr


def test_a_layer_that_only_keras_has(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-P", "-c", _SAVE], check=True, cwd=tmp_path)
    said = convert("mel.keras", "-o", "mel.dk", cwd=tmp_path)
    assert "verified" in said, said
    assert dk.Interpreter(tmp_path / "mel.dk").run(np.zeros((2, 512), np.float32))["out"].shape == (2, 3)


def test_a_layer_of_ones_own(tmp_path: Path) -> None:
    file = Path(__file__).with_name("net.py")
    said = convert(f"{file}:make", "-o", "net.dk", cwd=tmp_path)
    assert "verified" in said and (tmp_path / "net.dk").is_file(), said
