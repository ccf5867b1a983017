"""Training through the quantizer's rounding: gradients, the file that comes out, imported models, bad input."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import deploykit as dk
from deploykit import keras
from deploykit.autodiff import numeric as N
from deploykit.converters.quantize.schemes import activation_scale, symmetric
from deploykit.errors import InputError, UnsupportedError
from deploykit.qat import fake_quantize, fake_quantize_weight
from tests.support.peers import need

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, ...]:
    with np.load(str(resources.files("deploykit") / "demo_data" / "digits.npz")) as d:
        x, y = d["images"], d["labels"]
    x = (x.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order].astype(np.int32)
    return x[:1300], y[:1300], x[1300:], y[1300:]


@pytest.fixture(scope="module")
def trained(digits: Any) -> Any:
    """Depthwise and 1x1 convolutions with batch norms, a residual sum, a dense layer."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(12, 3, use_bias=False)(inputs)))
    y = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(y))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(12, 1, use_bias=False)(y))
    z = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Dropout(0.1)(z)))
    model.compile(keras.optimizers.Adam(5e-3), LOSS, metrics=["accuracy"])
    model.fit(digits[0], digits[1], epochs=12, batch_size=64, verbose=0)
    return model


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    i = dk.Interpreter(path)
    return next(iter(i.run({i.inputs[0].name: x}).values()))


def test_rounding_is_the_quantizers() -> None:
    r = np.random.default_rng(2)
    x = r.standard_normal((50, 7)).astype(np.float32)
    scale, zero = activation_scale(-1.5, 2.0)
    want = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero).astype(np.float32) * scale
    np.testing.assert_allclose(fake_quantize(x, np.float32(-1.5), np.float32(2.0)).numpy(), want, atol=1e-6)
    for axis in (0, 1):
        q, s = symmetric(x, axis)
        want = q.astype(np.float32) * s.reshape([-1 if i == axis else 1 for i in range(2)])
        np.testing.assert_array_equal(fake_quantize_weight(dk.convert_to_tensor(x), axis).numpy(), want)


def test_gradient_is_straight_through_inside_the_range() -> None:
    x = dk.convert_to_tensor(np.float32([-3.0, -0.5, 0.0, 0.7, 1.99, 5.0]))
    g = dk.grad(lambda x: N.sum(fake_quantize(x, np.float32(-1), np.float32(2)) * np.float32([1, 2, 3, 4, 5, 6])))(x)
    assert g.numpy().tolist() == [0, 2, 3, 4, 5, 0]
    w = dk.convert_to_tensor(np.float32([[1.0, -0.3], [0.2, 0.9]]))
    assert dk.grad(lambda w: N.sum(fake_quantize_weight(w, 1) * 2.0))(w).numpy().tolist() == [[2, 2], [2, 2]]


def test_training_lowers_the_loss_of_the_integers(trained: Any, digits: Any, tmp_path: Path) -> None:
    x, y, xv, yv = digits
    before = [w.numpy().copy() for w in trained.weights]
    qat = dk.quantization_aware(trained, x[:200])
    qat.compile(keras.optimizers.Adam(1e-3), LOSS, metrics=["accuracy"])
    first = qat.evaluate(x, y, verbose=0)[0]
    qat.fit(x, y, epochs=3, batch_size=64, verbose=0)
    loss, accuracy = qat.evaluate(x, y, verbose=0)
    assert loss < 0.8 * first
    report = qat.export(tmp_path / "m.dk")
    ops = [n.op for n in report.graph.nodes]
    assert ops.count("qconv") == 3 and ops.count("qmatmul") == 1 and "conv" not in ops
    got, want = answers(tmp_path / "m.dk", xv), qat.predict(xv, verbose=0)
    step = max(float(n.inputs[1].data) for n in report.graph.nodes if n.op == "dequantize")
    assert np.abs(got - want).max() <= 1.01 * step and (np.abs(got - want) < 0.5 * step).mean() > 0.95
    assert abs((got.argmax(-1) == yv).mean() - (want.argmax(-1) == yv).mean()) < 0.01
    assert (got.argmax(-1) == yv).mean() > accuracy - 0.1
    for a, b in zip(before, trained.weights, strict=True):  # the model that was given stays as it is
        np.testing.assert_array_equal(a, b.numpy())


def test_other_formats_and_moving_ranges(trained: Any, digits: Any, tmp_path: Path) -> None:
    x, y, xv, _ = digits
    qat = dk.quantization_aware(trained, x[:64], momentum=0.9)
    qat.compile(keras.optimizers.SGD(1e-3), LOSS)
    high = next(w for w in qat.weights if w.path.endswith("/high"))
    start = float(high.numpy())
    qat.fit(x * 3, y, epochs=1, batch_size=64, verbose=0)  # three times brighter: ranges follow
    assert float(high.numpy()) > 2 * start
    qat.export(tmp_path / "m.onnx")
    ort = need("onnxruntime")
    s = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    got = s.run(None, {s.get_inputs()[0].name: xv})[0]
    want = qat.predict(xv, verbose=0)
    assert np.abs(got - want).max() < 0.06 * np.abs(want).max()


def test_imported_graph(tmp_path: Path) -> None:
    r = np.random.default_rng(3)
    w = r.standard_normal((6, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["y"], keepdims=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])
    init = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.int64([2, 3]), "axes")]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y], init)), path)
    data = r.standard_normal((64, 3, 8, 8)).astype(np.float32)
    target = np.float32(r.standard_normal((64, 6)) * 0.1 + 0.5)
    qat = dk.quantization_aware(path, {"x": data})
    qat.compile(keras.optimizers.Adam(5e-2), "mse")
    losses = qat.fit(data, target, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    qat.export(tmp_path / "m.dk")
    got, want = answers(tmp_path / "m.dk", data), qat.predict(data, verbose=0)
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


def test_bad_input(trained: Any, digits: Any, tmp_path: Path) -> None:
    x = digits[0]
    with pytest.raises(InputError, match="calibration"):
        dk.quantization_aware(trained, None)
    with pytest.raises(InputError, match="observer: got 'best'"):
        dk.quantization_aware(trained, x[:8], observer="best")
    with pytest.raises(InputError, match="momentum"):
        dk.quantization_aware(trained, x[:8], momentum=1.5)
    with pytest.raises(dk.DeploykitError, match="shape"):
        dk.quantization_aware(trained, x[:8, :, :5])
    dk.convert(trained, tmp_path / "q.dk", quantize="int8", calibration=x[:32])
    with pytest.raises(InputError, match="quantized already"):
        dk.quantization_aware(tmp_path / "q.dk", x[:8])
    with pytest.raises(UnsupportedError, match="signatures"):
        dk.quantization_aware(trained, x[:8]).export(tmp_path / "m.dk", signatures=("infer", "train"))
