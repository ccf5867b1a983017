"""int16 activations, int8 weights: nearer than int8, and as .tflite in 16-bit operators that LiteRT runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import InputError
from deploykit.graph import Graph
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder
from deploykit.runners import LiteRtRunner, OnnxRuntimeRunner
from tests.support.peers import need

SUFFIXES = (".dk", ".tflite", ".onnx")


def normal(seed: int) -> Any:
    r = np.random.default_rng(seed)
    return lambda *shape, by=1.0: (r.standard_normal(shape) * by).astype(np.float32)


def net() -> Graph:
    """Each op that has a 16-bit operator, at least once."""
    f, b = normal(3), GraphBuilder()
    x = b.input("x", "float32", (1, 12, 12, 3))
    y = b.op("relu", b.op("conv", x, f(8, 3, 3, 3, by=0.2), f(8), pads=(1, 1, 1, 1)))
    z = b.op("relu6", b.op("conv", y, f(8, 3, 3, 1, by=0.3), f(8), groups=8, pads=(1, 1, 1, 1)))
    y = b.op("max_pool", b.op("add", z, y), kernel=(2, 2), strides=(2, 2))[0]
    y = b.op("mul", y, b.op("sigmoid", b.op("conv", y, f(8, 1, 1, 8, by=0.3), f(8))))
    y = b.op("leaky_relu", b.op("sub", y, f(8)), alpha=0.1)
    y = b.op("concat", y, b.op("transpose", y, perm=(0, 2, 1, 3)), axis=3)
    y = b.op("conv", y, f(8, 3, 3, 16, by=0.1), f(8), strides=(2, 2), pads=(1, 1, 0, 0))
    y = b.op("avg_pool", b.op("tanh", y), kernel=(2, 2), strides=(1, 1), pad_mode="same_upper")
    y = b.op("reduce_mean", y, np.array([1, 2]), keepdims=True)
    y = b.op("matmul", b.op("reshape", y, np.array([1, 8])), f(8, 5), f(5))
    return b.output(b.op("softmax", y), "y")


def images(n: int, seed: int) -> list[np.ndarray]:
    f = normal(seed)
    return [f(1, 12, 12, 3) for _ in range(n)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, g, x = tmp_path_factory.mktemp("wide"), net(), images(24, 4)
    for suffix in SUFFIXES:
        dk.convert(g, folder / f"w{suffix}", quantize="int16x8", calibration=x, verify=False, repair="none")
    dk.convert(g, folder / "n.onnx", quantize="int8", calibration=x, verify=False, repair="none")  # rounds its end too
    dk.convert(folder / "n.onnx", folder / "n.dk", verify=False)
    dk.convert(g, folder / "f.dk", verify=False)
    yield folder


def outputs(runner: Any) -> np.ndarray:
    return np.concatenate([next(iter(runner.run({"x": a}).values())) for a in images(8, 5)])


def db(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()))


def test_nearer_than_int8(made: Path) -> None:
    real, narrow, wide = (outputs(dk.Interpreter(made / p)) for p in ("f.dk", "n.dk", "w.dk"))
    assert db(real, wide) > max(db(real, narrow) + 6, 36)


def test_litert_computes_in_integers(made: Path) -> None:
    need("ai_edge_litert")
    runner = LiteRtRunner(made / "w.tflite", 1, optimize=False)
    ops = [o["op_name"] for o in runner.session._get_ops_details()]
    assert ops[0] == "QUANTIZE" and ops[-1] == "DEQUANTIZE", ops
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(ops[1:-1]), ops
    wanted = "CONV_2D DEPTHWISE_CONV_2D ADD MUL SUB MAX_POOL_2D AVERAGE_POOL_2D LOGISTIC TANH LEAKY_RELU CONCATENATION"
    assert {*wanted.split(), "TRANSPOSE", "MEAN", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"} <= set(ops)
    theirs, real = outputs(runner), outputs(dk.Interpreter(made / "f.dk"))
    assert db(real, theirs) > 36
    back = dk.convert(made / "w.tflite", verify=False).graph
    assert back is not None
    assert db(theirs, outputs(dk.Interpreter(to_bytes(back)))) > 60  # its sigmoid and tanh are tables


def test_onnxruntime_agrees(made: Path) -> None:
    """As the file says it; its optimisations round elsewhere."""
    need("onnxruntime")
    theirs = outputs(OnnxRuntimeRunner(made / "w.onnx", 1, optimize=False))
    np.testing.assert_allclose(theirs, outputs(dk.Interpreter(made / "w.dk")), atol=2.0**-15)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_integers_at_the_ends(made: Path, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"i{suffix}"
    how: dict[str, Any] = dict(quantize="int16x8", io_dtype="int16", repair="none", verify=False)
    report = dk.convert(net(), path, calibration=images(24, 4), **how)
    assert report.graph is not None
    (x,), (y,) = report.graph.inputs, report.graph.outputs
    assert [v.dtype.name for v in (x, y) if v.dtype] == ["int16", "int16"]
    if suffix == ".dk":
        i = dk.Interpreter(path)
        ins, outs = i.inputs[0].quantization, i.outputs[0].quantization
        assert ins is not None and outs is not None and ins.zero_point == 0 and outs.scale == 2.0**-15
        got = np.concatenate([outs.dequantize(i.run({"x": ins.quantize(a, "int16")})["y"]) for a in images(8, 5)])
        np.testing.assert_array_equal(got, outputs(dk.Interpreter(made / "w.dk")))


def test_what_has_no_operator_stays_float(tmp_path: Path) -> None:
    """gelu between two products: float between DEQUANTIZE and QUANTIZE, and LiteRT runs it."""
    need("ai_edge_litert")
    f, b = normal(6), GraphBuilder()
    y = b.op("gelu", b.op("matmul", b.input("x", "float32", (4, 16)), f(16, 16)))
    g = b.output(b.op("matmul", y, f(16, 8)), "y")
    x = [f(4, 16) for _ in range(16)]
    dk.convert(g, tmp_path / "m.tflite", quantize="int16x8", calibration=x, verify=False)
    runner = LiteRtRunner(tmp_path / "m.tflite", 1, optimize=False)
    ops = [o["op_name"] for o in runner.session._get_ops_details()]
    assert ops.count("FULLY_CONNECTED") == 2 and ops.count("DEQUANTIZE") == 2, ops
    want = dk.Interpreter(to_bytes(g)).run({"x": x[0]})["y"]
    assert db(want, runner.run({"x": x[0]})["y"]) > 36


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int16x8"}, "int16x8 needs calibration data"),
        ({"quantize": "int16x8", "calibration": images(4, 4), "io_dtype": "uint8"}, "int16x8 models int16"),
        ({"quantize": "int8", "calibration": images(4, 4), "io_dtype": "int16"}, "int8 models take uint8 or int8"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dk.convert(net(), verify=False, **options)
