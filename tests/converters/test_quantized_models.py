"""Networks quantized by onnxruntime, in all its formats: everything becomes integer ops, and the answers are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import deploykit as dk
from tests.support.machine import SATURATES
from tests.support.peers import need
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
        reduce_range=SATURATES and form == "QOperator",
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


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_as_tflite(plain: Path, activations: str) -> None:
    """Bytes stay bytes: max pooling with explicit padding too.  (The mean of a padded window is no integer operator of
    TFLite's, so this net has none.)"""
    need("ai_edge_litert")
    from deploykit.runners import LiteRtRunner

    net = Net(3)
    x = net.node("Relu", net.conv("x", 3, 16, 7, 2, bn=False))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.conv(net.node("Relu", net.conv(x, 16, 24, 3, bn=False)), 24, 16, bn=False)
    x = net.node("Flatten", net.node("GlobalAveragePool", net.node("Relu", net.node("Add", y, x))))
    x = net.node("Gemm", x, net.weight(net.rng.normal(0, 0.2, (10, 16)), "fc"), net.weight(np.zeros(10), "b"), transB=1)
    path = plain.with_name(f"residual{activations}.onnx")
    onnx.save(net.model("x", list(SHAPE), x, [1, 10]), path)
    kind = getattr(quantization.QuantType, activations)
    quantization.quantize_static(path, path, Noise(), activation_type=kind, weight_type=quantization.QuantType.QInt8)
    report, got, want = both(path)
    assert "qconv" in report.ops_after and "max_pool" in report.ops_after
    target = path.with_suffix(".tflite")
    report = dk.convert(path, target, verify=False)  # which knows nothing of steps
    assert "qconv" in report.ops_after
    (theirs,) = (
        LiteRtRunner(target, 1).run({"x": np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)}).values()
    )
    step = np.diff(np.unique(np.concatenate([got, want, theirs]))).min()
    assert np.abs(theirs - want).max() <= 2.01 * step and np.abs(theirs - got).max() <= 2.01 * step


def test_float_weights_that_stay_floats(plain: Path) -> None:
    """Where integers cannot be written as such, weights are floats of the same value: nothing is computed at run time."""
    need("ai_edge_litert")
    path = plain.with_name("pools.onnx")
    kind = quantization.QuantType.QInt8
    quantization.quantize_static(plain, path, Noise(), activation_type=kind, weight_type=kind)
    assert dk.convert(path, path.with_suffix(".tflite")).verification["status"] == "passed"


def test_dynamic(plain: Path) -> None:
    path = plain.with_name("dynamic.onnx")
    quantization.quantize_dynamic(plain, path, op_types_to_quantize=["Conv", "Gemm", "MatMul"])
    report, got, want = both(path)
    assert report.ops_after["conv_integer"] == 7
    np.testing.assert_allclose(got, want, atol=1e-5)


def layer_by_layer(path: Path) -> dict[str, int]:
    """Steps that our integers of each layer differ from onnxruntime's, both given onnxruntime's integers before it."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    made = {o: n for n in model.graph.node for o in n.output}
    rounded = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    kinds = {v.name: v for v in [*model.graph.value_info, *model.graph.output]}
    whole.graph.output.extend(kinds[r] for r in rounded if r not in {o.name for o in model.graph.output})
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # as the file says it
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
    real = dict(zip(rounded, session.run(rounded, {"x": x}), strict=True)) | {"x": x}

    def before(name: str) -> set[str]:
        found: set[str] = set()
        for i in made[name].input:
            found |= {i} if i in real else before(i) if i in made else set()
        return found

    apart = {}
    for name in rounded:
        given = sorted(before(name))
        part = onnx.utils.Extractor(model).extract_model(given, [name])
        onnx.save(part, path.with_name("part.onnx"))
        dk.convert(path.with_name("part.onnx"), path.with_name("part.dk"), verify=False, test_vectors=0)
        got = dk.Interpreter(path.with_name("part.dk")).run({g: real[g] for g in given})[name]
        assert got.dtype == real[name].dtype and np.ptp(got) > 0
        apart[name] = int(np.abs(got.astype(int) - real[name].astype(int)).max())
    return apart


@pytest.mark.parametrize("quantizer", ["deploykit", "onnxruntime"])
def test_every_layer_is_within_a_step(plain: Path, tmp_path: Path, quantizer: str) -> None:
    """Files of either quantizer: our integer ops against onnxruntime's reading of the same nodes."""
    path = tmp_path / "q.onnx"
    if quantizer == "deploykit":
        rng = np.random.default_rng(0)
        data = [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(16)]
        dk.convert(plain, path, quantize="int8", calibration=data, verify=False)
    else:
        how = dict(
            quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8, per_channel=True
        )
        quantization.quantize_static(plain, path, Noise(), **how)
    apart = layer_by_layer(path)
    assert len(apart) >= 18 and max(apart.values()) <= 1, apart
