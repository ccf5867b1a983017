"""Networks quantized by onnxruntime, in all its formats: everything becomes integer ops, and the answers are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import deploykit as dk
from tests.support.zoo import Net

ort = pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")

SHAPE = (1, 3, 32, 32)


def network() -> onnx.ModelProto:
    """Stem, inverted residual, a ResNet block, SiLU, concat of two branches, pools, classifier with softmax."""
    net = Net(3)
    x = net.relu6(net.conv("x", 3, 16, 3, 2, bn=False))
    y = net.relu6(net.conv(x, 16, 48, bn=False))
    y = net.relu6(net.conv(y, 48, 48, 3, groups=48, bn=False))
    x = net.node("Add", x, net.conv(y, 48, 16, bn=False))
    y = net.node("Relu", net.conv(x, 16, 24, 3, bn=False))
    x = net.node("Relu", net.node("Add", net.conv(y, 24, 16, bn=False), x))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.conv(x, 16, 20, bn=False)
    a = net.node("Mul", y, net.node("Sigmoid", y))
    b = net.node("AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    x = net.node("Concat", a, b, axis=1)
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    x = net.node("Gemm", x, net.weight(net.rng.normal(0, 0.2, (10, 36)), "fc"), net.weight(np.zeros(10), "b"), transB=1)
    return net.model("x", list(SHAPE), net.node("Softmax", x), [1, 10])


class Noise(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.left = 3

    def get_next(self) -> dict[str, np.ndarray] | None:
        self.left -= 1
        return None if self.left < 0 else {"x": self.rng.standard_normal(SHAPE).astype(np.float32)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantized") / "net.onnx"
    onnx.save(network(), path)
    return path


def both(path: Path) -> tuple[Any, np.ndarray, np.ndarray]:
    """The report of the conversion, our answer and onnxruntime's without its own rewrites."""
    x = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    (want,) = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    report = dk.convert(path, path.with_suffix(".dk"))
    return report, dk.Interpreter(path.with_suffix(".dk"), threads=2).run({"x": x})["y"], want


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_static(plain: Path, form: str, activations: str, per_channel: bool) -> None:
    path = plain.with_name(f"{form}{activations}{per_channel}.onnx")
    quantization.quantize_static(
        plain,
        path,
        Noise(),
        quant_format=getattr(quantization.QuantFormat, form),
        activation_type=getattr(quantization.QuantType, activations),
        weight_type=quantization.QuantType.QInt8,
        per_channel=per_channel,
        extra_options={"ActivationSymmetric": False},
    )
    report, got, want = both(path)
    assert report.verification["status"] == "passed"
    assert not [n for n in report.notes if "quantize" in n]
    left = set(report.ops_after) & {"conv", "matmul", "add", "mul", "sigmoid", "avg_pool", "reduce_mean", "softmax"}
    assert not left and report.ops_after["qconv"] == 7
    assert report.ops_after["quantize"] == report.ops_after["dequantize"] == 1
    step = 1 / 255
    assert np.abs(got - want).max() <= 2 * step  # one step at the end, one carried through the network


def test_dynamic(plain: Path) -> None:
    path = plain.with_name("dynamic.onnx")
    quantization.quantize_dynamic(plain, path, op_types_to_quantize=["Conv", "Gemm", "MatMul"])
    report, got, want = both(path)
    assert report.ops_after["conv_integer"] == 7
    np.testing.assert_allclose(got, want, atol=1e-5)
