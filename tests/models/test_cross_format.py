"""One network through its formats gives one answer, run by the engine each time.

The public ones: basic-pitch (ONNX and TFLite, tests/models/test_tflite_models.py) and fer (Keras HDF5 and TFLite with int8
weights); and nets of ours: PyTorch by torch.export, by torch.onnx and by our exporters, Keras by its two files and its own ONNX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.runners import open_runner
from tests.support import assets, tflite_cases
from tests.support.peers import need


def answers(source: Any, feeds: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    """What the engine says, inputs and outputs by their order."""
    dk.convert(source, folder / "m.dk", verify=False)
    return list(dk.Interpreter(folder / "m.dk").run(*feeds).values())


def agree(a: list[np.ndarray], b: list[np.ndarray], bound: float = 1e-4) -> None:
    assert [x.shape for x in a] == [x.shape for x in b]
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype and np.abs(x - y).max() <= bound * np.abs(x).max()


def test_fer_as_keras_and_as_tflite(tmp_path: Path) -> None:
    """The TFLite file has int8 weights: its own kernels are 3e-2 apart on noise, 1e-3 on a face."""
    face = tflite_cases.cases("models/fer-tflite/emotion_model_quantized.tflite")[0].steps[0]["x"]
    (keras,) = answers(assets.file("models/fer-keras/emotion_model.hdf5"), [face], tmp_path)
    (tflite,) = answers(assets.file("models/fer-tflite/emotion_model_quantized.tflite"), [face], tmp_path)
    assert keras.argmax() == tflite.argmax() and keras.max() > 0.9
    assert np.abs(keras - tflite).max() <= 3e-2


@pytest.mark.parametrize("name", ["resnet", "mobilenetv3", "vit", "bilstm"])
def test_a_net_of_torch_through_every_format(tmp_path: Path, name: str) -> None:
    torch = need("torch")
    from tests.support.torch_nets import nets, seeded

    module, args, _ = nets()[name]
    seeded(module)
    program = torch.export.export(module, args)
    torch.export.save(program, tmp_path / "net.pt2")
    x = args[0].numpy()
    with torch.no_grad():
        want = module(*args)
    want = [y.numpy() for y in (want if isinstance(want, tuple) else (want,))]
    straight = answers(tmp_path / "net.pt2", [x], tmp_path)
    agree(want, straight)
    torch.onnx.export(module, args, str(tmp_path / "theirs.onnx"), dynamo=False)
    agree(straight, answers(tmp_path / "theirs.onnx", [x], tmp_path))
    dk.convert(program, tmp_path / "ours.onnx")
    agree(straight, answers(tmp_path / "ours.onnx", [x], tmp_path))
    if name != "vit":
        need("ai_edge_litert")
        dk.convert(program, tmp_path / "ours.tflite")
        tokens = x.astype(np.int32) if x.dtype == np.int64 and _narrow(tmp_path / "ours.tflite") else x
        agree(straight, answers(tmp_path / "ours.tflite", [tokens], tmp_path))
        theirs = open_runner(tmp_path / "ours.tflite", 1)
        agree(straight, list(theirs.run({theirs.inputs[0].name: tokens}).values()))


def _narrow(path: Path) -> bool:
    return open_runner(path, 1).inputs[0].dtype == "int32"


def test_a_net_of_keras_through_every_format(tmp_path: Path) -> None:
    keras = need("keras")
    from tests.keras.parity import theirs
    from tests.support.keras_applications import randomize

    assert keras
    model = theirs.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=10)
    randomize(model)
    x = np.random.default_rng(2).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
    want = [model(x, training=False).detach().numpy()]
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        agree(want, answers(tmp_path / name, [x], tmp_path))
    for name in ("m.onnx", "m.tflite"):
        if name == "m.tflite":
            need("ai_edge_litert")
        dk.convert(tmp_path / "m.keras", tmp_path / name)
        agree(want, answers(tmp_path / name, [x], tmp_path))
        runner = open_runner(tmp_path / name, 1)
        agree(want, list(runner.run({runner.inputs[0].name: x}).values()))
