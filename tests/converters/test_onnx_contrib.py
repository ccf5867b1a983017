"""onnxruntime's own ops (com.microsoft) in models of one node, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import deploykit as dk
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import OnnxRuntimeRunner
from tests.support.machine import SATURATES
from tests.support.peers import need_onnxruntime

need_onnxruntime()

R = np.random.default_rng(11)


def f(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


def u8(*shape: int) -> np.ndarray:
    return R.integers(0, 256, shape).astype(np.uint8)


S, Z = np.float32(0.02), np.uint8(120)
COS, SIN = (g(np.outer(np.arange(32), 1 / 10 ** np.linspace(0, 3, 4))).astype(np.float32) for g in (np.cos, np.sin))
BNB = dict(N=6, K=64, block_size=32)


def gqa(
    b: int = 1, past: int = 0, length: int = 5, packed: bool = False, **attrs: Any
) -> tuple[str, list[Any], dict[str, Any], Any]:
    """4 heads of 16 that share 2 of keys and values."""
    q, k, v = f(b, length, 64), f(b, length, 32), f(b, length, 32)
    ins: list[Any] = [np.concatenate([q, k, v], -1), None, None] if packed else [q, k, v]
    ins += [f(b, 2, past, 16), f(b, 2, past, 16)] if past else [None, None]
    total = past + length
    ins += [np.full(b, total - 1, np.int32), np.array(total, np.int32)]
    if attrs.get("do_rotary"):
        ins += [np.tile(COS, 2)[:, :8], np.tile(SIN, 2)[:, :8]]
    return "GroupQueryAttention", ins, dict(num_heads=4, kv_num_heads=2, **attrs), ([0, 1, 2], [0, 5, 6, 7, 8])


# name -> (op, inputs, attrs, what the model gives: numbers of outputs, and which inputs are baked in)
CASES: dict[str, tuple[str, list[Any], dict[str, Any], Any]] = {
    "rotary": ("RotaryEmbedding", [f(2, 5, 16), np.arange(5)[None].repeat(2, 0), COS, SIN], {}, None),
    "rotary from": ("RotaryEmbedding", [f(2, 2, 5, 8), np.array([3]), COS, SIN], dict(interleaved=1), None),
    "gqa": gqa(),
    "gqa batch": gqa(b=2),
    "gqa packed": gqa(packed=True),
    "gqa rotary": gqa(do_rotary=1),
    "gqa past": gqa(past=6, length=1, do_rotary=1),
    "gqa scale": gqa(scale=0.5, softcap=3.0),
    "gqa window": gqa(length=9, local_window_size=3),
    "average pool": (
        "QLinearAveragePool",
        [u8(1, 3, 7, 7), S, Z, S, Z],
        dict(kernel_shape=[3, 3], strides=[2, 2]),
        None,
    ),
    "where": ("QLinearWhere", [f(3, 4) > 0, u8(3, 4), S, Z, u8(4), S, Z, np.float32(0.03), Z], {}, None),
    "nhwc max pool": (
        "NhwcMaxPool",
        [u8(1, 7, 7, 3)],
        dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        None,
    ),
    "nf4": ("MatMulBnb4", [f(3, 64), u8(6 * 32), np.abs(f(12))], dict(quant_type=1, **BNB), ([0], [1, 2])),
    "fp4": ("MatMulBnb4", [f(3, 64), u8(6 * 32), np.abs(f(12))], dict(quant_type=0, **BNB), ([0], [1, 2])),
    "cdist": ("CDist", [f(3, 5), f(4, 5)], dict(metric="euclidean"), None),
    "expand dims": ("ExpandDims", [f(3, 4), np.array(1, np.int32)], {}, ([0], [1])),
    "trilu": ("Trilu", [f(4, 4), np.array(1)], dict(upper=0), None),
    "gather nd": ("GatherND", [f(3, 4), R.integers(0, 3, (2, 1))], {}, None),
    "pad": ("Pad", [f(2, 3), np.array([0, 1, 1, 0]), np.array([7], np.float32)], {}, None),
    "q attention": (
        "QAttention",
        [
            u8(1, 4, 8),
            (R.integers(-127, 128, (8, 24)) // (1 + SATURATES)).astype(np.int8),
            f(24),
            S,
            S,
            None,
            Z,
            np.int8(0),
        ],
        dict(num_heads=2),
        ([0], [1, 2, 3, 4, 6, 7]),
    ),
}


def model(node: Any, infos: list[Any], weights: list[Any], outs: list[int], kind: int) -> Any:
    results = [helper.make_tensor_value_info(f"o{k}", kind, None) for k in outs]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph([node], "one", infos, results, weights), opset_imports=opsets, ir_version=9
    )


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_onnxruntime(name: str) -> None:
    op, inputs, attrs, rest = CASES[name]
    outs, baked = rest or ([0], [])
    arrays = [None if x is None else np.asarray(x) for x in inputs]
    names = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    node = helper.make_node(op, names, [f"o{k}" for k in outs], domain="com.microsoft", **attrs)
    infos, weights = [], []
    for k, a in enumerate(arrays):
        if a is None:
            continue
        if k in baked:
            weights.append(numpy_helper.from_array(a, f"i{k}"))
        else:
            kind = helper.np_dtype_to_tensor_dtype(a.dtype)
            infos.append(helper.make_tensor_value_info(f"i{k}", kind, a.shape))
    kind = TensorProto.UINT8 if op.startswith("QLinear") or op == "NhwcMaxPool" else TensorProto.FLOAT
    proto = model(node, infos, weights, outs, kind)
    feeds = {f"i{k}": a for k, a in enumerate(arrays) if a is not None and k not in baked}
    want = OnnxRuntimeRunner(proto.SerializeToString(), 1, optimize=False).run(feeds)
    got = dk.Interpreter(to_bytes(dk.convert(proto, verify=False).graph)).run(feeds)
    for k, w in want.items():
        g = got[k]
        assert g.dtype == w.dtype and g.shape == w.shape, k
        if w.dtype.kind == "f":
            bound = 2e-2 if op == "QAttention" else 1e-5  # its first product is quantized there
            assert np.abs(g - w).max() <= bound * np.abs(w).max(), k
        else:
            assert np.abs(g.astype(int) - w.astype(int)).max() <= (1 if op.startswith("QLinear") else 0), k


def by_hand(op: str, arrays: list[np.ndarray], kind: int, **attrs: Any) -> np.ndarray:
    """The one result of ops that onnxruntime has no CPU kernel for."""
    arrays = [np.asarray(a) for a in arrays]
    node = helper.make_node(op, [f"i{k}" for k in range(len(arrays))], ["o0"], domain="com.microsoft", **attrs)
    infos = [
        helper.make_tensor_value_info(f"i{k}", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for k, a in enumerate(arrays)
    ]
    session = dk.Interpreter(to_bytes(dk.convert(model(node, infos, [], [0], kind), verify=False).graph))
    return session.run({f"i{k}": a for k, a in enumerate(arrays)})["o0"]


def test_group_norm() -> None:
    x, gamma, beta = f(2, 5, 4, 8), f(8), f(8)
    got = by_hand("GroupNorm", [x, gamma, beta], TensorProto.FLOAT, groups=4, activation=1, channels_last=1)
    g = x.reshape(2, 20, 4, 2)
    y = (g - g.mean((1, 3), keepdims=True)) / np.sqrt(g.var((1, 3), keepdims=True) + 1e-5)
    y = y.reshape(x.shape) * gamma + beta
    assert np.abs(got - y / (1 + np.exp(-y))).max() < 1e-5


def test_quantized_mean_and_finite() -> None:
    x = u8(2, 3, 4)
    got = by_hand("QLinearReduceMean", [x, S, Z, np.float32(0.01), Z], TensorProto.UINT8, axes=[2], keepdims=0)
    want = np.clip(np.rint((x.astype(float) - 120).mean(2) * 0.02 / 0.01) + 120, 0, 255)
    assert np.abs(got - want).max() <= 1
    for values, good in (([1, 2], True), ([1, np.inf], False), ([np.nan, 2], False)):
        assert by_hand("IsAllFinite", [f(3), np.array(values, np.float32)], TensorProto.BOOL) == good
