"""Quantized operators in models of their own, against LiteRT: int8, uint8 and int16 activations, weights per axis.

LiteRT multiplies in fixed point, we in float32 (docs/quantization-ir.md): results may be one step apart, and few are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import LiteRtRunner
from tests.support.peers import need
from tests.support.tflite_ops import Case, Quant, model

need("ai_edge_litert")

Array = np.ndarray
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


def params(x: Array, dtype: str) -> Quant:
    """Scale and zero point for the range of x, as converters choose them."""
    low, high = LIMITS[dtype]
    if dtype == "int16":
        return Quant(np.float32(max(np.abs(x).max(), 1e-3) / high), 0)
    a, b = min(float(x.min()), 0.0), max(float(x.max()), 1e-3)
    scale = np.float32((b - a) / (high - low))
    return Quant(scale, int(np.clip(round(low - a / scale), low, high)))


def quantized(x: Array, q: Quant, dtype: str) -> Array:
    """x in integers."""
    low, high = LIMITS[dtype]
    return np.clip(np.round(x / q.scale) + q.zero, low, high).astype(dtype)


def weights(w: Array, axis: int, dtype: str) -> tuple[Array, Quant]:
    """int8 weights with a scale per index of an axis; uint8 ones with one scale for uint8 activations."""
    if dtype == "uint8":
        q = params(w, "uint8")
        return quantized(w, q, "uint8"), q
    rest = tuple(i for i in range(w.ndim) if i != axis)
    scale = (np.abs(w).max(rest) / 127).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(w.ndim)]
    return np.clip(np.round(w / scale.reshape(shape)), -127, 127).astype(np.int8), Quant(scale, 0, axis)


def cases(dtype: str, seed: int) -> list[Case]:
    """All cases for activations of a dtype."""
    r = np.random.default_rng([seed, len(dtype)])
    out: list[Case] = []

    def f(*shape: int) -> Array:
        return r.standard_normal(shape).astype(np.float32)

    def add(
        op: str,
        xs: list[Array],
        y: Array,
        kind: str = "",
        fixed: Any = (),
        same: bool = False,
        out_q: Any = None,
        **k: Any,
    ) -> None:
        """Inputs xs are quantized when they are floats; y: numbers of the size of the result."""
        name, version = k.pop("name", ""), k.pop("version", 1)
        qs, ins = {}, []
        for i, x in enumerate(xs):
            if x.dtype == np.float32:
                qs[str(i)] = qs["0"] if same and i else params(x, dtype)
                x = quantized(x, qs[str(i)], dtype)
            ins.append(x)
        qs["y0"] = out_q or (qs["0"] if same else params(y, dtype))
        out.append(Case(op, ins, tuple(fixed), kind, k, (dtype,), qs, version, name=name))

    def layer(op: str, x: Array, w: Array, axis: int, kind: str, y_size: float, version: int, **k: Any) -> None:
        name = k.pop("name", "")
        qx = params(x, dtype)
        qw_data, qw = weights(w, axis, dtype)
        units = w.shape[axis] if axis >= 0 else w.shape[-1]
        b = f(units)
        scale = np.asarray(qx.scale * np.asarray(qw.scale), np.float32)
        wide = np.int64 if dtype == "int16" else np.int32
        bias = np.round(b / scale).astype(wide)
        qs = {"0": qx, "1": qw, "2": Quant(scale, 0, 0), "y0": params(np.array([-y_size, y_size]), dtype)}
        out.append(
            Case(op, [quantized(x, qx, dtype), qw_data, bias], (1, 2), kind, k, (dtype,), qs, version, name=name)
        )

    deep = {"int8": 3, "uint8": 1, "int16": 4}[dtype]
    geo = dict(stride_w=1, stride_h=1)
    for act in (0, 1, 3):
        layer(
            "CONV_2D",
            f(2, 9, 8, 5),
            f(6, 3, 3, 5) * 0.3,
            0,
            "Conv2DOptions",
            5.0,
            deep,
            name=f"{act}",
            padding=0,
            fused_activation_function=act,
            **geo,
        )
    layer("CONV_2D", f(1, 9, 8, 16), f(7, 1, 1, 16), 0, "Conv2DOptions", 9.0, deep, name="1x1", padding=1, **geo)
    layer(
        "CONV_2D",
        f(1, 9, 8, 3),
        f(8, 3, 3, 3),
        0,
        "Conv2DOptions",
        9.0,
        deep,
        name="stride",
        padding=0,
        stride_w=2,
        stride_h=2,
    )
    layer(
        "DEPTHWISE_CONV_2D",
        f(1, 9, 8, 6),
        f(1, 3, 3, 6),
        3,
        "DepthwiseConv2DOptions",
        6.0,
        {"int8": 3, "uint8": 1, "int16": 5}[dtype],
        padding=0,
        depth_multiplier=1,
        **geo,
    )
    layer(
        "DEPTHWISE_CONV_2D",
        f(1, 9, 8, 3),
        f(1, 3, 3, 6),
        3,
        "DepthwiseConv2DOptions",
        6.0,
        {"int8": 3, "uint8": 1, "int16": 5}[dtype],
        name="multiplier",
        padding=1,
        depth_multiplier=2,
        **geo,
    )
    wrong = out[-4]  # a bias whose tensor claims another scale: the integers count
    qs = {**wrong.quant, "2": Quant(wrong.quant["2"].scale * np.float32(0.3), 0, 0)}
    out.append(Case(wrong.op, wrong.inputs, (1, 2), wrong.kind, wrong.fields, (dtype,), qs, deep, name="bias"))
    if dtype != "int16":
        flat = dict(name="one-scale")
        x, w = f(4, 20), f(7, 20)
        qx, qw = (
            params(x, dtype),
            params(w, "uint8") if dtype == "uint8" else Quant(np.float32(np.abs(w).max() / 127), 0),
        )
        qs = {"0": qx, "1": qw, "2": Quant(qx.scale * qw.scale, 0), "y0": params(np.array([-9, 9.0]), dtype)}
        ins = [
            quantized(x, qx, dtype),
            quantized(w, qw, dtype),
            np.round(f(7) / (qx.scale * qw.scale)).astype(np.int32),
        ]
        out.append(
            Case(
                "FULLY_CONNECTED",
                ins,
                (1, 2),
                "FullyConnectedOptions",
                {},
                (dtype,),
                qs,
                {"int8": 4, "uint8": 1}[dtype],
                **flat,
            )
        )
    x4, x2 = f(2, 6, 7, 4), f(5, 8)
    v = {"int8": 2, "uint8": 1, "int16": 2}[dtype]
    if dtype != "int16":
        add("ADD", [x4, f(2, 6, 7, 4)], x4 * 2, "AddOptions", version=v)
        add("ADD", [x4, f(1, 1, 1, 4)], x4 * 2, "AddOptions", version=v, name="broadcast", fused_activation_function=1)
        add("SUB", [x4, f(2, 6, 7, 4)], x4 * 2, "SubOptions", version=v)
        add("MAXIMUM", [x2, f(5, 8)], x2, "MaximumMinimumOptions", same=True, version=v)
        add(
            "AVERAGE_POOL_2D",
            [x4],
            x4,
            "Pool2DOptions",
            same=True,
            version=v,
            padding=0,
            stride_w=2,
            stride_h=2,
            filter_width=3,
            filter_height=2,
        )
        add("RELU", [x2], np.maximum(x2, 0), version=v)
        add("RELU6", [x2 * 4], np.clip(x2 * 4, 0, 6), version=v)
        add(
            "SOFTMAX",
            [x2 * 3],
            x2,
            "SoftmaxOptions",
            out_q=Quant(np.float32(1 / 256), LIMITS[dtype][0]),
            beta=1.0,
            version=v,
        )
        add("LOGISTIC", [x2 * 3], x2, out_q=Quant(np.float32(1 / 256), LIMITS[dtype][0]), version=v)
        add("TANH", [x2 * 2], x2, out_q=Quant(np.float32(1 / 128), 128 if dtype == "uint8" else 0), version=v)
        add("MEAN", [x4, np.array([1, 2], np.int32)], x4 * 0.4, "ReducerOptions", (1,), keep_dims=True, version=v)
        add(
            "RESIZE_NEAREST_NEIGHBOR",
            [x4, np.array([11, 5], np.int32)],
            x4,
            "ResizeNearestNeighborOptions",
            (1,),
            same=True,
            version=2,
        )
        add("CONCATENATION", [x4, f(2, 6, 7, 4)], x4, "ConcatenationOptions", same=True, axis=3, version=v)
        add(
            "PAD",
            [x4, np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)],
            x4,
            "PadOptions",
            (1,),
            same=True,
            version=v,
        )
        add(
            "SPLIT",
            [np.array(1, np.int32), x2],
            x2,
            "SplitOptions",
            (0,),
            version=v,
            num_splits=1,
            out_q=params(x2, dtype),
        )
        add("TRANSPOSE", [x4, np.array([0, 3, 1, 2], np.int32)], x4, "TransposeOptions", (1,), same=True, version=v)
    add("MUL", [x4, f(2, 6, 7, 4)], x4 * 3, "MulOptions", version={"int16": 4}.get(dtype, v))
    add(
        "MAX_POOL_2D",
        [x4],
        x4,
        "Pool2DOptions",
        same=True,
        version={"int16": 3}.get(dtype, v),
        padding=1,
        stride_w=2,
        stride_h=1,
        filter_width=3,
        filter_height=2,
    )
    add("RESHAPE", [x4, np.array([2, -1], np.int32)], x4, "ReshapeOptions", (1,), same=True)
    if dtype == "int8":
        add("LEAKY_RELU", [x2], x2, "LeakyReluOptions", alpha=0.2, version=2)
        add("HARD_SWISH", [x2 * 3], x2 * 3)
        add("PRELU", [x4, f(1, 1, 4)], x4, fixed=(1,))
        add("BATCH_MATMUL", [f(2, 25, 6), f(2, 6, 24)], x4 * 3, "BatchMatMulOptions", version=2)
        add("QUANTIZE", [x2], x2 * 1.7, "QuantizeOptions", version=2, name="rescale")
        add("GELU", [x2], x2, "GeluOptions", version=2)
        add(
            "RESIZE_BILINEAR",
            [x4, np.array([11, 5], np.int32)],
            x4,
            "ResizeBilinearOptions",
            (1,),
            same=True,
            version=2,
        )
        add("SUM", [x4, np.array([3], np.int32)], x4 * 2, "ReducerOptions", (1,), version=2)
        add("REDUCE_MAX", [x4, np.array([3], np.int32)], x4, "ReducerOptions", (1,), same=True, version=2)
        add(
            "STRIDED_SLICE",
            [x2, *(np.array(a, np.int32) for a in ([0, 1], [4, 8], [1, 2]))],
            x2,
            "StridedSliceOptions",
            (1, 2, 3),
            same=True,
            version=2,
        )
        add("ABS", [x2], np.abs(x2), "AbsOptions", version=2)
        add("RSQRT", [np.abs(x2) + 0.5], np.array([0, 1.6]), version=2)
        add("SQRT", [np.abs(x2) + 0.1], np.array([0, 1.6]), version=2)
        add("SQUARED_DIFFERENCE", [x2, f(5, 8) * 0.6], x2 * x2 * 3, version=2)
        add("SQUARED_DIFFERENCE", [x2, f(1, 8)], x2 * x2 * 3, name="broadcast", version=2)
        for axis, size in ((0, 2), (1, 6), (3, 4)):
            at = np.array([axis], np.int32)
            add(
                "REDUCE_PROD",
                [x4, at],
                1.5**size * x4,
                "ReducerOptions",
                (1,),
                name=f"{axis}",
                keep_dims=axis < 2,
                version=2,
            )
        for act in (1, 3):
            window = dict(padding=act // 3, stride_w=1, stride_h=1, filter_width=2, filter_height=2)
            window["fused_activation_function"] = act
            add("AVERAGE_POOL_2D", [x4 * 8], x4, "Pool2DOptions", same=True, version=v, name=f"{act}", **window)
        add("L2_NORMALIZATION", [x2], x2, "L2NormOptions", out_q=Quant(np.float32(1 / 128), 0), version=2)
    return out


ALL = [(d, s, i, c) for d in LIMITS for s in (0, 1) for i, c in enumerate(cases(d, s))]
# kernels of LiteRT that approximate (tables of 256 or 512 entries, polynomials, integer roots): often one step apart
ROUGH = {
    "LOGISTIC",
    "TANH",
    "SOFTMAX",
    "GELU",
    "HARD_SWISH",
    "L2_NORMALIZATION",
    "RSQRT",
    "LEAKY_RELU",
    "RESIZE_BILINEAR",
    "MEAN",
    "SUM",
    "PRELU",
}


# whose roundings are LiteRT's own
EXACT = {"AVERAGE_POOL_2D", "SQRT", "SQUARED_DIFFERENCE", "REDUCE_PROD"}


@pytest.mark.parametrize(
    ("dtype", "seed", "number"), [a[:3] for a in ALL], ids=[f"{d}-{c.id}-{s}" for d, s, _, c in ALL]
)
def test_agrees_with_litert(dtype: str, seed: int, number: int) -> None:
    case = cases(dtype, seed)[number]
    data, feeds = model(case), case.feeds()
    w = LiteRtRunner(data, 1, optimize=False).run(feeds)["y0"]
    g = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph)).run(feeds)["y0"]
    assert (g.dtype, g.shape) == (w.dtype, w.shape)
    apart = np.abs(g.astype(np.int64) - w)
    assert apart.max(initial=0) <= 1, f"{apart.max()} steps apart"
    if case.op in EXACT and dtype != "int16":
        assert not apart.any()
    rough = case.op in ROUGH or dtype == "int16"  # 16-bit layers: multipliers of 16 bits there
    assert (apart == 0).mean() >= (0.5 if rough else 0.98), f"{(apart != 0).mean():.2%} differ"
