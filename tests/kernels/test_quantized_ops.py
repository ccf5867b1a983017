"""Integer ops: the same bits from every kernel set and number of threads, onnxruntime's answers, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import deploykit as dk
from deploykit import native
from deploykit.errors import DeploykitError
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder
from deploykit.ops.core import get
from deploykit.ops.reference import run_graph
from tests.support import quantized_bits
from tests.support.engine import run_op

SCRIPT = Path(quantized_bits.__file__)
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
def digests(isa: str) -> dict[str, Any]:
    env = dict(os.environ, DK_ISA=isa, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    env["DK_LIBRARY"] = str(native.library_path())
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("isa", ISAS[1:])
def test_bits(isa: str) -> None:
    """Threads 1, 2, 3 and 5 are compared inside; every set gives the scalar one's bits."""
    got = digests(isa)
    if got["isa"] != isa:
        pytest.skip(f"this machine does not run {isa}")
    assert got["digests"] == digests("scalar")["digests"]


def test_scalar_bits_are_the_reference() -> None:
    for name, (op, inputs, attrs) in quantized_bits.cases().items():
        if np.prod([x.size for x in inputs[:2] if x is not None], dtype=float) > 3e8:
            continue  # slow in NumPy
        p = get(op)
        want = p.reference(*inputs, **p.complete(attrs))  # type: ignore[misc]
        np.testing.assert_array_equal(run_op(op, inputs, attrs), want, err_msg=name)


@pytest.mark.parametrize("x_dtype", ["uint8", "int8"])
@pytest.mark.parametrize("groups, channels, out", [(1, 16, 24), (1, 3, 8), (32, 32, 32), (2, 8, 10)])
def test_qlinear_conv_is_onnxruntimes(x_dtype: str, groups: int, channels: int, out: int) -> None:
    """Bit for bit: the multiplier is made in its order."""
    ort = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng([channels, out])
    low = 0 if x_dtype == "uint8" else -128
    x = rng.integers(low, low + 256, (1, channels, 9, 11)).astype(x_dtype)
    w = rng.integers(-127, 128, (out, channels // groups, 3, 3)).astype(np.int8)
    xs, ys = np.float32(0.043), np.float32(0.19)
    ws = rng.uniform(0.002, 0.006, out).astype(np.float32)
    xz, yz = (np.asarray(z + low, x_dtype) for z in (120, 131))
    bias = rng.integers(-4000, 4000, out).astype(np.int32)
    wz = np.zeros(out, np.int8)
    inputs = dict(x=x, xs=xs, xz=xz, w=w, ws=ws, wz=wz, ys=ys, yz=yz, b=bias)
    node = helper.make_node("QLinearConv", list(inputs), ["y"], pads=[1, 1, 1, 1], strides=[1, 2], group=groups)
    kind = TensorProto.UINT8 if x_dtype == "uint8" else TensorProto.INT8
    fixed = [helper.make_tensor(k, *_tensor(v)) for k, v in inputs.items() if k != "x"]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        fixed,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    if x_dtype == "uint8":  # else it adds pairs of products in 16 bits, which saturate, on x86 without VNNI
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": x})
    attrs = dict(pads=(1, 1, 1, 1), strides=(1, 2), groups=groups, x_zero_point=int(xz), y_zero_point=int(yz))
    last = [np.ascontiguousarray(t.transpose(0, 2, 3, 1)) for t in (x, w)]
    got = run_op("qconv", [*last, xs * ws / ys, bias, None], attrs)
    np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), want)


def _tensor(a: np.ndarray) -> tuple[int, tuple[int, ...], list[Any]]:
    kinds = {
        "uint8": TensorProto.UINT8,
        "int8": TensorProto.INT8,
        "int32": TensorProto.INT32,
        "float32": TensorProto.FLOAT,
    }
    a = np.asarray(a)
    return kinds[a.dtype.name], a.shape, a.reshape(-1).tolist()


def test_no_channels_and_no_terms() -> None:
    one = np.ones(4, np.float32)
    y = run_op(
        "qconv",
        [np.zeros((1, 2, 2, 0), np.uint8), np.zeros((4, 1, 1, 0), np.int8), one, np.arange(4, dtype=np.int32), None],
        dict(y_zero_point=7),
    )
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(7, 11), (1, 2, 2, 4)))
    y = run_op(
        "qmatmul", [np.zeros((3, 0), np.int8), np.zeros((0, 4), np.int8), one, None, None], dict(y_zero_point=-7)
    )
    np.testing.assert_array_equal(y, np.full((3, 4), -7))


X, W, M = np.zeros((1, 3, 3, 4), np.uint8), np.zeros((5, 1, 1, 4), np.int8), np.ones(5, np.float32)


@pytest.mark.parametrize(
    "inputs, attrs, text",
    [
        ([X.astype(np.float32), W, M], {}, "int8 or uint8"),
        ([X, W.astype(np.uint8), M], {}, "int8"),
        ([X, W, M[:3]], {}, "multiplier"),
        ([X, W, M * np.float32(np.nan)], {}, "finite"),
        ([X, W, M * np.float32(1e30)], {}, "2\\^64"),
        ([X, W, M, np.zeros(5, np.int64)], {}, "int32"),
        ([X, W, M], dict(x_zero_point=-1), "x_zero_point"),
        ([X, W, M], dict(y_zero_point=300), "y_zero_point"),
        ([X, W, M], dict(low=90, high=10), "low and high"),
        ([X, W, M], dict(dtype="int32"), "int32"),
        ([X, W, M, None, np.zeros((1, 3, 3, 4), np.uint8)], {}, "residual"),
        ([X, W, M, None, np.zeros((1, 3, 3, 5), np.uint8)], dict(residual_scale=float("inf")), "residual_scale"),
    ],
)
def test_refusals(inputs: list[Any], attrs: dict[str, Any], text: str) -> None:
    with pytest.raises(DeploykitError, match=text):
        native.run_op("qconv", inputs, attrs, 1, 1)


@pytest.mark.parametrize("x_dtype", ["uint8", "int8"])
@pytest.mark.parametrize(
    "w_dtype, zeros", [("uint8", 3), ("uint8", 128), ("uint8", 0), ("int8", -7), ("int8", "each"), ("int8", 0)]
)
@pytest.mark.parametrize("groups, channels, out", [(1, 7, 9), (2, 8, 6), (12, 12, 12), (4, 4, 8)])
def test_conv_integer_with_constant_weights(
    x_dtype: str, w_dtype: str, zeros: Any, groups: int, channels: int, out: int
) -> None:
    """In a model, where constant weights go to the 8-bit core; zero points of both sides."""
    rng = np.random.default_rng([groups, channels, out])
    low = {"uint8": 0, "int8": -128}
    w = rng.integers(low[w_dtype], low[w_dtype] + 256, (out, 3, 2, channels // groups)).astype(w_dtype)
    zero = rng.integers(-9, 9, out).astype(w_dtype) if zeros == "each" else np.asarray(zeros, w_dtype)
    b = GraphBuilder()
    x = b.input("x", x_dtype, (2, 6, 5, channels))
    xz = b.input("z", x_dtype, ())
    g = b.output(b.op("conv_integer", x, w, xz, zero, pads=(1, 0, 1, 1), strides=(2, 1), groups=groups), "y")
    feeds = {
        "x": rng.integers(low[x_dtype], low[x_dtype] + 256, (2, 6, 5, channels)).astype(x_dtype),
        "z": np.asarray(low[x_dtype] + 100, x_dtype),
    }
    got = dk.Interpreter(to_bytes(g), threads=2).run(feeds)["y"]
    np.testing.assert_array_equal(got, run_graph(g, feeds)[0])
