"""Samples of the integer ops (quantized.py): tails of every vector width, saturation, both signs, extremes."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.ops.samples import Draw, Sample


def _sample(inputs: list[np.ndarray | None], **attrs: Any) -> Sample:
    return Sample(inputs, attrs, differentiable=False)


def _zero(dtype: str) -> int:
    return 131 if dtype == "uint8" else 3


def _multiplier(r: Draw, n: int, terms: int) -> np.ndarray:
    """So that results spread over the range of a byte and saturate now and then."""
    return r((n,), "float32", 0.5, 1.5) / np.float32(60 * np.sqrt(max(terms, 1)))


def qconv() -> list[Sample]:
    r = Draw("qconv")
    out = []

    def conv(x: tuple[int, ...], w: tuple[int, ...], *, dtype: str = "uint8", kind: str = "", **attrs: Any) -> None:
        o, terms = w[0], int(np.prod(w[1:]))
        inputs: list[np.ndarray | None] = [r(x, dtype), r(w, "int8"), _multiplier(r, o, terms), None, None]
        if "b" in kind:
            inputs[3] = r((o,), "int32") * np.int32(50)
        if "1" in kind:
            inputs[2] = inputs[2][:1]  # type: ignore[index]
        zero = dict(x_zero_point=_zero(dtype), y_zero_point=_zero(attrs.get("dtype", dtype)))
        if attrs.get("dtype") == "float32":
            zero["y_zero_point"] = 0
        out.append(_sample(inputs, **zero, **attrs))

    # pointwise: rows and columns around every tile, few and odd terms
    for m, k, n in ((1, 1, 1), (3, 4, 7), (5, 3, 16), (7, 16, 17), (15, 33, 33), (29, 67, 40), (4, 130, 65)):
        for dtype in ("uint8", "int8"):
            conv((1, m, 1, k), (n, 1, 1, k), dtype=dtype, kind="b")
    conv((1, 4, 4, 8), (8, 1, 1, 8), kind="1")
    # spatial kernels
    for dtype in ("uint8", "int8"):
        conv((1, 6, 5, 3), (8, 3, 3, 3), dtype=dtype, kind="b", strides=(2, 2), pads=(1, 1, 1, 1))
        conv((2, 5, 7, 16), (17, 3, 3, 16), dtype=dtype, pads=(1, 1, 1, 1))
        conv((1, 9, 8, 5), (6, 2, 3, 5), dtype=dtype, dilations=(2, 1), pad_mode="same_upper")
        conv((1, 5, 5, 8), (12, 3, 3, 4), dtype=dtype, groups=2, pads=(1, 0, 0, 1))
    conv((1, 9, 4), (5, 3, 4), kind="b", strides=(2,), pads=(1, 1))
    conv((1, 3, 4, 5, 3), (4, 2, 2, 2, 3), kind="b")
    conv((1, 2, 2, 3), (4, 3, 3, 3), pads=(2, 2, 2, 2), strides=(3, 3))  # whole windows of padding
    conv((0, 4, 4, 3), (4, 3, 3, 3))
    # depthwise: channels around the vectors, strides, multiplier, other kernels
    for c in (1, 3, 16, 17, 40, 64):
        for dtype in ("uint8", "int8"):
            conv((1, 7, 6, c), (c, 3, 3, 1), dtype=dtype, kind="b", groups=c, pads=(1, 1, 1, 1))
            conv((2, 7, 6, c), (c, 3, 3, 1), dtype=dtype, groups=c, strides=(2, 2), pads=(0, 0, 1, 1))
    conv((1, 8, 8, 20), (20, 5, 5, 1), kind="b", groups=20, pads=(2, 2, 2, 2))
    conv((1, 9, 9, 12), (12, 5, 5, 1), dtype="int8", kind="b", groups=12, strides=(2, 2), pads=(1, 2, 2, 1))
    conv((1, 8, 8, 6), (6, 3, 3, 1), groups=6, dilations=(2, 2), pads=(2, 2, 2, 2))
    conv((1, 5, 5, 4), (12, 3, 3, 1), groups=4, pads=(1, 1, 1, 1))
    conv((1, 12, 5), (5, 4, 1), groups=5)
    conv((1, 3, 4, 4, 5), (5, 2, 2, 3, 1), groups=5)
    # epilogues
    x, w, m = (1, 5, 5, 19), (21, 1, 1, 19), 19
    for dtype in ("uint8", "int8"):
        z = _zero(dtype)
        shared = [r(x, dtype), r(w, "int8"), _multiplier(r, 21, m), r((21,), "int32") * np.int32(40)]
        res = r((1, 5, 5, 21), dtype)
        base = dict(x_zero_point=z, y_zero_point=z)
        out += [
            _sample([*shared, None], **base, low=z, high=z + 60),
            _sample([*shared, None], x_zero_point=z, dtype="float32"),
            _sample([*shared, None], x_zero_point=z, y_zero_point=-5, dtype="int8"),
            _sample([*shared, None], x_zero_point=z, y_zero_point=5, dtype="uint8"),
            _sample([*shared, res], **base, residual_scale=0.7, residual_zero_point=z),
            _sample([*shared, res], **base, residual_scale=0.7, residual_zero_point=z, low=z),
            _sample(
                [*shared, res],
                **base,
                residual_scale=0.7,
                residual_zero_point=z,
                mid_scale=0.6,
                mid_low=-z,
                mid_high=90,
            ),
            _sample([*shared, None], **base, mid_scale=1.3, mid_low=-20, mid_high=90),
        ]
    extreme = [np.full((1, 3, 3, 70), 255, np.uint8), np.full((6, 3, 3, 70), -128, np.int8)]
    out.append(_sample([*extreme, np.array([1e-6], np.float32), None, None], pads=(1, 1, 1, 1), x_zero_point=0))
    out.append(_sample([*extreme, np.array([1e18], np.float32), None, None]))  # saturates far out
    ties = [np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), np.ones((1, 1, 1, 1), np.int8)]
    out.append(_sample([*ties, np.array([0.5], np.float32), None, None], y_zero_point=3))
    out.append(_sample([*ties, np.array([-0.5], np.float32), None, None], y_zero_point=200))
    wrap = np.array([2**31 - 1, -(2**31)], np.int32)
    out.append(
        _sample([*ties[:1], np.ones((2, 1, 1, 1), np.int8), np.array([1e-7], np.float32), wrap, None], dtype="int8")
    )
    return out


def qmatmul() -> list[Sample]:
    r = Draw("qmatmul")
    out = []
    cases: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((3, 5), (5, 4), {}),
        ((1, 64), (64, 33), {}),
        ((2, 3, 7), (7, 5), {}),
        ((2, 3, 7), (2, 7, 5), {}),
        ((2, 1, 4, 6), (3, 6, 2), {}),
        ((13, 70), (9, 70), dict(transpose_b=True)),
        ((6, 4), (6, 9), dict(transpose_a=True)),
        ((0, 3), (3, 4), {}),
    ]
    for a, b, how in cases:
        for da, db in (("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8"), ("int8", "uint8")):
            k = a[-2] if how.get("transpose_a") else a[-1]
            n = b[-2] if how.get("transpose_b") else b[-1]
            shared: list[np.ndarray | None] = [r(a, da), r(b, db), _multiplier(r, n, max(k, 1)), r((n,), "int32")]
            zero = dict(x_zero_point=_zero(da), y_zero_point=_zero(da))
            out.append(_sample([*shared, None], **zero, **how))
            out.append(_sample([*shared[:2], shared[2][:1], None, None], **zero, **how, b_zero_point=_zero(db)))  # type: ignore[index]
    last = [r((4, 9), "uint8"), r((9, 6), "int8"), _multiplier(r, 6, 9), r((6,), "int32")]
    out.append(_sample([*last, None], x_zero_point=7, b_zero_point=-3, dtype="float32"))
    out.append(
        _sample(
            [*last, r((4, 6), "uint8")], x_zero_point=7, y_zero_point=99, residual_scale=1.1, residual_zero_point=50
        )
    )
    return out


def _pairs(f: Any) -> list[Sample]:
    out = []
    shapes = [((67,), (67,)), ((3, 5), (5,)), ((2, 3, 4), (2, 1, 4)), ((4, 1), (1, 6)), ((), (5,)), ((0, 3), (3,))]
    for a, b in shapes:
        for da, db in (("uint8", "uint8"), ("int8", "int8"), ("uint8", "int8")):
            out.append(f(a, b, da, db))
    return out


def qadd() -> list[Sample]:
    r = Draw("qadd")

    def one(a: tuple[int, ...], b: tuple[int, ...], da: str, db: str, **how: Any) -> Sample:
        zero = dict(a_zero_point=_zero(da), b_zero_point=_zero(db), y_zero_point=_zero(da))
        return _sample([r(a, da), r(b, db)], **{**zero, "a_scale": 0.75, "b_scale": 0.5, **how})

    return [
        *_pairs(one),
        one((40,), (40,), "int8", "int8", b_scale=-0.4, low=-7, high=60),
        one((40,), (40,), "uint8", "uint8", dtype="int8", y_zero_point=-9),
        one((300,), (300,), "uint8", "uint8", a_scale=1e18, b_scale=-1e18),
    ]


def qmul() -> list[Sample]:
    r = Draw("qmul")

    def one(a: tuple[int, ...], b: tuple[int, ...], da: str, db: str, **how: Any) -> Sample:
        zero = dict(a_zero_point=_zero(da), b_zero_point=_zero(db), y_zero_point=_zero(da))
        return _sample([r(a, da), r(b, db)], **{**zero, "multiplier": 0.015, **how})

    return [*_pairs(one), one((40,), (40,), "uint8", "int8", dtype="int8", y_zero_point=-9, low=-50, high=50)]


def qlut() -> list[Sample]:
    r = Draw("qlut")
    out = []
    for shape in ((), (1,), (67,), (3, 50), (0, 3)):
        for dx in ("uint8", "int8"):
            out += [_sample([r(shape, dx), r((256,), t)]) for t in ("uint8", "int8", "float32")]
    return out


def qavg_pool() -> list[Sample]:
    r = Draw("qavg_pool")
    out = []
    for dtype in ("uint8", "int8"):
        zero = dict(x_zero_point=_zero(dtype), y_zero_point=_zero(dtype), multiplier=1.2)
        out += [
            _sample([r((1, 5, 6, 3), dtype)], kernel=(3, 3), pads=(1, 1, 1, 1), **zero),
            _sample(
                [r((2, 5, 6, 19), dtype)], kernel=(2, 3), strides=(2, 2), count_include_pad=True, pads=(1,) * 4, **zero
            ),
            _sample([r((1, 7, 33), dtype)], kernel=(3,), strides=(2,), ceil_mode=True, pads=(0, 1), **zero),
            _sample([r((1, 7, 7, 40), dtype)], kernel=(7, 7), **zero),
            _sample([r((1, 3, 3, 3, 2), dtype)], kernel=(2, 2, 2), pad_mode="same_upper", **zero),
            _sample([r((0, 3, 3, 2), dtype)], kernel=(2, 2), **zero),
        ]
    return out


def qmean() -> list[Sample]:
    r = Draw("qmean")
    out = []
    for dtype in ("uint8", "int8"):
        zero = dict(x_zero_point=_zero(dtype), y_zero_point=_zero(dtype), multiplier=1.7)
        for shape, axes in (((2, 7, 7, 40), (1, 2)), ((3, 5), (1,)), ((3, 5), (0,)), ((4,), ()), ((2, 3, 4), (0, -1))):
            out.append(_sample([r(shape, dtype)], axes=axes, **zero))
            out.append(_sample([r(shape, dtype)], axes=axes, keepdims=False, **zero))
        out.append(_sample([r((2, 0, 3), dtype)], axes=(1,), **zero))
    return out


def softmax_table(scale: float) -> np.ndarray:
    """The table of qsoftmax for inputs of this scale."""
    return np.rint(2.0**23 * np.exp(-float(scale) * np.arange(256))).astype(np.uint32)


def qsoftmax() -> list[Sample]:
    r = Draw("qsoftmax")
    out = []
    for shape in ((2, 5), (1, 1), (3, 2, 67), (4, 0), (0, 4), (7,)):
        for dtype in ("uint8", "int8"):
            for scale in (0.02, 1.0):
                table = softmax_table(scale)
                out.append(
                    _sample([r(shape, dtype), table], multiplier=256.0, y_zero_point=0 if dtype == "uint8" else -128)
                )
    return out


def dynamic_matmul() -> list[Sample]:
    r = Draw("dynamic_matmul")
    out = []
    for m, k, n in ((1, 8, 5), (3, 5, 33), (16, 64, 40), (30, 70, 17), (1, 200, 96)):
        for per_row in (True, False):
            shared: list[np.ndarray | None] = [r((m, k)), r((k, n), "int8"), r((n,), "float32", 0.001, 0.01)]
            out.append(_sample([*shared, r((n,)), None], per_row=per_row))
            out.append(_sample([*shared[:2], shared[2][:1], None, None], per_row=per_row, act="relu"))  # type: ignore[index]
            out.append(_sample([*shared, r((n,)), r((m, n))], per_row=per_row, act="gelu", act_after=True))
    out.append(_sample([r((2, 3, 8)), r((8, 6), "int8"), r((6,)), None, r((2, 3, 6))], act="relu6"))
    zeros = np.zeros((3, 8), np.float32)
    zeros[1] = np.linspace(1, 2, 8)
    zeros[2] = -zeros[1]
    out.append(_sample([zeros, r((8, 6), "int8"), r((6,))]))
    out.append(_sample([r((0, 8)), r((8, 6), "int8"), r((6,)), r((6,)), None]))
    out.append(_sample([r((3, 0)), r((0, 6), "int8"), r((6,)), r((6,)), None]))
    return out


def matmul_weight_only() -> list[Sample]:
    r = Draw("matmul_weight_only")
    out = []
    for m, k, n in ((1, 64, 40), (2, 33, 17), (9, 96, 33), (1, 7, 3)):
        for turned in (False, True):
            shape, how = ((n, k) if turned else (k, n)), dict(transpose_b=turned)
            for d in ("float16", "bfloat16"):
                out.append(_sample([r((m, k)), r(shape, d), None, None, r((n,)), None], **how))
            for d in ("int8", "uint8", "int4", "uint4"):
                x, w, s = r((m, k)), r(shape, d), r((n,), "float32", 0.01, 0.02)
                out.append(_sample([x, w, s, r((n,), d), r((n,)), r((m, n))], **how, act="relu"))
                out.append(_sample([x, w, s[:1], None, None, None], **how))
                for block in (32, 16):
                    blocks = -(-k // block)
                    sb = r((n, blocks) if turned else (blocks, n), "float32", 0.01, 0.02)
                    out.append(_sample([x, w, sb, r(sb.shape, d), r((n,)), None], **how, block_size=block))
                    half = sb.astype(np.float16)
                    out.append(_sample([x, w, half, None, None, None], **how, block_size=block, act="relu"))
    out.append(
        _sample([r((2, 3, 8)), r((8, 6), "int8"), r((6,)), None, r((6,)), r((2, 3, 6))], act_after=True, act="relu")
    )
    out.append(_sample([r((0, 8)), r((8, 6), "int8"), r((6,)), None, None, None]))
    out.append(_sample([r((3, 0)), r((0, 6), "float16"), None, None, r((6,)), None]))
    return out


def dynamic_lstm() -> list[Sample]:
    r = Draw("dynamic_lstm")
    out = []
    for t, b, i, h in ((3, 1, 5, 4), (2, 3, 8, 16), (4, 2, 17, 9), (0, 2, 3, 4), (2, 0, 3, 4)):
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            w, rw = r((d, i, 4 * h), "int8"), r((d, h, 4 * h), "int8")
            scales = [r((d, n), "float32", 0.002, 0.006) for n in (4 * h, 1)]
            state = [r((d, b, h), "float32", -1, 1), r((d, b, h), "float32", -1, 1)]
            x = r((t, b, i), "float32", -1, 1)
            out.append(Sample([x, w, rw, *scales], dict(direction=direction), differentiable=False))
            full: list[Any] = [x, w, rw, scales[0], scales[0][:, ::-1].copy(), r((d, 8 * h)), *state]
            out.append(Sample(full, dict(direction=direction), differentiable=False))
    return out
