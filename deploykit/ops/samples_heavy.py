"""Samples of products, convolutions, pools and norms: geometry that breaks kernels (even kernels, dilations, groups,
one-sided padding, strides past the kernel, sizes of 1 and 0, lengths around vector widths), fused epilogues, dtypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.ops.samples import FLOATS, Draw, Sample, i64

_ACTS: list[dict[str, Any]] = [
    dict(act="relu"),
    dict(act="relu6"),
    dict(act="clip", act_alpha=-0.5, act_beta=0.75),
    dict(act="leaky_relu", act_alpha=0.1),
    dict(act="sigmoid"),
    dict(act="tanh"),
    dict(act="silu"),
    dict(act="gelu"),
    dict(act="gelu_tanh"),
    dict(act="hard_sigmoid", act_alpha=0.2, act_beta=0.5),
    dict(act="hard_swish"),
    dict(act="elu", act_alpha=0.7),
    dict(act="softplus"),
    dict(act="mish"),
]


def matmul() -> list[Sample]:
    r = Draw("matmul")
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((4, 2, 3), (3,)),
        ((3,), (2, 3, 4)),
        ((2, 2, 3), (3, 4)),
        ((2, 1, 2, 3), (3, 3, 2)),
        ((1, 1), (1, 1)),
        ((5, 1), (1, 7)),
        ((1, 9), (9, 1)),
    ]
    out = [Sample([r(a), r(b)]) for a, b in shapes]
    for ta in (False, True):
        for tb in (False, True):
            a, b = ((4, 2) if ta else (2, 4)), ((3, 4) if tb else (4, 3))
            how = dict(transpose_a=ta, transpose_b=tb)
            out.append(Sample([r(a), r(b)], how))
            out.append(Sample([r((2, *a)), r(b)], how))
            out.append(Sample([r(a), r((3, 1, *b))], how))
            out.append(Sample([r((2, *a)), r((2, *b)), r((3,)), r((2, 2, 3))], dict(how, alpha=0.5)))
    for bias in ((3,), (1,), (), (2, 1), (2, 3), (1, 3)):
        out.append(Sample([r((2, 4)), r((4, 3)), r(bias)]))
    out.append(Sample([r((4,)), r((4, 3)), r((2, 3))]))  # a bias that enlarges the result
    for act in _ACTS:
        out.append(Sample([r((3, 4)), r((4, 5)), r((5,))], act))
    for after in (False, True):
        out.append(Sample([r((3, 4)), r((4, 5)), r((5,)), r((3, 5))], dict(act="relu", act_after=after)))
        out.append(Sample([r((3, 4)), r((4, 5)), None, r((3, 5))], dict(act="gelu", act_after=after)))
    for d in FLOATS[1:]:
        out.append(Sample([r((5, 9), d), r((9, 6), d), r((6,), d)], dict(act="relu"), differentiable=False))
    for d in ("int32", "int64", "uint32", "uint64", "int8", "uint8"):
        out.append(Sample([r((3, 5), d), r((5, 2), d)], differentiable=False))
    big = np.full((2, 3), 2**31 - 1, np.int32)
    out.append(Sample([big, big.T.copy()], differentiable=False))  # wraps
    # past every tile and vector width, one row, one column; nothing to add up
    for m, k, n in ((33, 65, 17), (1, 130, 67), (70, 3, 1), (7, 1, 9), (16, 256, 48)):
        out.append(Sample([r((m, k)), r((k, n)), r((n,))], differentiable=False))
        out.append(Sample([r((m, k)), r((n, k))], dict(transpose_b=True), differentiable=False))
    nothing: list[tuple[tuple[int, ...], tuple[int, ...]]]
    nothing = [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4))]
    for left, right in nothing:
        out.append(Sample([r(left), r(right)], differentiable=False))
    return out


def matmul_integer() -> list[Sample]:
    r = Draw("matmul_integer")
    out = []
    for da in ("uint8", "int8"):
        for db in ("uint8", "int8"):
            out.append(Sample([r((3, 5), da), r((5, 4), db)]))
            out.append(Sample([r((3, 5), da), r((5, 4), db), r((), da), r((), db)]))
            out.append(Sample([r((3, 5), da), r((5, 4), db), r((1,), da), r((4,), db)]))
            out.append(Sample([r((2, 3, 5), da), r((5, 4), db), None, r((4,), db)]))
    out.append(Sample([r((3, 5), "uint8"), r((5, 4), "int8"), r((3,), "uint8"), r((4,), "int8")]))
    out.append(Sample([r((2, 3, 5), "uint8"), r((2, 5, 4), "uint8"), r((2, 3, 1), "uint8"), r((2, 1, 4), "uint8")]))
    full = np.full((2, 300), 255, np.uint8)
    out.append(Sample([full, full.T.copy(), np.array(0, np.uint8), np.array(0, np.uint8)]))
    out += [Sample([r((17, 67), "uint8"), r((67, 33), "int8"), r((), "uint8"), r((), "int8")])]
    out += [Sample([r((5,), "uint8"), r((5, 4), "int8")]), Sample([r((0, 5), "uint8"), r((5, 4), "int8")])]
    return out


def einsum() -> list[Sample]:
    r = Draw("einsum")
    cases: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("bij,bjk->bik", ((2, 2, 3), (2, 3, 2))),
        ("...ij,...jk->...ik", ((2, 2, 3), (3, 2))),
        ("...ij,...jk->...ik", ((2, 1, 2, 3), (3, 3, 2))),
        ("ij->ji", ((2, 3),)),
        ("ij->i", ((2, 3),)),
        ("ij->", ((2, 3),)),
        ("ii->i", ((3, 3),)),
        ("ii", ((3, 3),)),
        ("iji->j", ((2, 3, 2),)),
        ("...ii->...i", ((2, 3, 3),)),
        ("i,j->ij", ((2,), (3,))),
        ("i,i->", ((4,), (4,))),
        ("bhqd,bhkd->bhqk", ((1, 2, 3, 2), (1, 2, 4, 2))),
        ("ij,ij,ij->i", ((2, 3), (2, 3), (2, 3))),
        ("ab,bc,cd->ad", ((2, 3), (3, 2), (2, 4))),
        ("aB,Ba->a", ((2, 3), (3, 2))),
        (" i j , j k -> i k ", ((2, 3), (3, 2))),
        ("ij,kl->il", ((2, 3), (4, 2))),
        ("...,...->...", ((2, 3), (3,))),
        (",ij->ji", ((), (2, 3))),
    ]
    out = [Sample([r(s) for s in shapes], dict(equation=e)) for e, shapes in cases]
    out += [Sample([r((3, 4), d), r((4, 2), d)], dict(equation="ij,jk->ik"), differentiable=False) for d in FLOATS[1:]]
    out.append(Sample([r((3, 4), "int32"), r((4, 2), "int32")], dict(equation="ij,jk->ik"), differentiable=False))
    out.append(Sample([r((0, 4)), r((4, 2))], dict(equation="ij,jk->ik"), differentiable=False))
    out.append(Sample([r((3, 17, 33)), r((3, 33, 9))], dict(equation="bij,bjk->bik"), differentiable=False))
    return out


def det() -> list[Sample]:
    r = Draw("det")
    shapes = ((1, 1), (2, 2), (3, 3), (2, 4, 4), (2, 1, 3, 3), (0, 0), (0, 2, 2), (7, 7))
    singular = np.array([[1, 2], [2, 4]], np.float32)
    swap = np.array([[0, 2], [3, 0]], np.float32)  # wants a pivot
    return [Sample([r(s)]) for s in shapes] + [Sample([r((3, 3), "float64")]), Sample([singular]), Sample([swap])]


# name of the case -> (x [N, spatial..., C], kernel, output channels, attrs)
_GEOMETRY: list[tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]] = [
    ((1, 3, 3, 2), (2, 2), 2, {}),
    ((2, 5, 6, 3), (3, 3), 4, dict(pads=(1, 1, 1, 1))),
    ((1, 7, 6, 2), (3, 2), 3, dict(strides=(2, 3), pads=(0, 1, 2, 1))),
    ((1, 5, 7, 2), (2, 4), 3, dict(pads=(1, 0, 0, 3))),
    ((1, 7, 7, 2), (3, 3), 2, dict(dilations=(2, 3), pads=(2, 3, 1, 0))),
    ((1, 6, 6, 2), (3, 2), 2, dict(strides=(2, 1), dilations=(1, 2), pads=(1, 1, 0, 1))),
    ((1, 5, 5, 4), (3, 3), 6, dict(groups=2, pads=(1, 1, 1, 1))),
    ((1, 4, 5, 6), (2, 3), 6, dict(groups=3, strides=(1, 2))),
    ((2, 5, 4, 3), (3, 3), 3, dict(groups=3, pads=(1, 1, 1, 1))),
    ((1, 5, 4, 3), (3, 2), 6, dict(groups=3, strides=(2, 1), pads=(0, 1, 1, 0))),
    ((1, 7, 7, 3), (3, 3), 3, dict(groups=3, dilations=(2, 2), pads=(2, 2, 2, 2))),
    ((1, 7, 8, 2), (2, 2), 3, dict(strides=(3, 4))),
    ((2, 4, 3, 5), (1, 1), 3, {}),
    ((1, 5, 5, 3), (1, 1), 2, dict(strides=(2, 2))),
    ((1, 1, 1, 4), (1, 1), 3, {}),
    ((1, 1, 1, 2), (3, 3), 2, dict(pads=(1, 1, 1, 1))),
    ((1, 1, 6, 2), (1, 3), 2, dict(pads=(0, 1, 0, 1))),
    ((1, 5, 6, 2), (3, 3), 2, dict(pad_mode="same_upper", strides=(2, 2))),
    ((1, 5, 6, 2), (2, 4), 2, dict(pad_mode="same_lower", strides=(2, 2))),
    ((1, 5, 5, 2), (2, 3), 2, dict(pad_mode="same_upper", dilations=(2, 2))),
    ((1, 5, 5, 2), (2, 2), 2, dict(pad_mode="same_lower", strides=(3, 1))),
    ((1, 8, 3), (3,), 2, dict(pads=(1, 1))),
    ((2, 9, 2), (4,), 3, dict(strides=(2,), dilations=(2,), pads=(0, 2))),
    ((1, 6, 4), (3,), 4, dict(groups=4, pads=(2, 0))),
    ((1, 3, 4, 3, 2), (2, 2, 2), 2, dict(pads=(0, 1, 0, 1, 0, 1))),
    ((1, 5, 4, 4, 2), (3, 2, 1), 2, dict(strides=(2, 1, 2), dilations=(1, 2, 1), groups=2)),
    ((1, 3, 4, 3, 2), (2, 3, 2), 2, dict(pad_mode="same_upper", strides=(2, 2, 1))),
]
# sizes past tiles and vectors; too large for finite differences
_WIDE: list[tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]] = [
    ((1, 9, 11, 16), (3, 3), 24, dict(pads=(1, 1, 1, 1))),
    ((1, 8, 9, 5), (3, 3), 33, dict(strides=(2, 2), pads=(1, 1, 1, 1))),
    ((1, 7, 9, 35), (1, 1), 17, {}),
    ((1, 11, 13, 37), (3, 3), 37, dict(groups=37, pads=(1, 1, 1, 1))),
    ((1, 11, 13, 16), (5, 5), 16, dict(groups=16, strides=(2, 2), pads=(2, 2, 2, 2))),
    ((2, 12, 12, 3), (7, 7), 8, dict(strides=(2, 2), pads=(3, 3, 3, 3))),
    ((1, 40, 12), (5,), 20, dict(pads=(2, 2))),
    ((0, 5, 5, 3), (3, 3), 4, dict(pads=(1, 1, 1, 1))),
]


def _conv_weight(x: tuple[int, ...], kernel: tuple[int, ...], n: int, attrs: dict[str, Any]) -> tuple[int, ...]:
    return (n, *kernel, x[-1] // attrs.get("groups", 1))


def conv() -> list[Sample]:
    r = Draw("conv")
    out = []
    for i, (x, k, n, attrs) in enumerate(_GEOMETRY):
        bias = r((n,)) if i % 2 else None
        out.append(Sample([r(x), r(_conv_weight(x, k, n, attrs)), bias], attrs))
    for x, k, n, attrs in _WIDE:
        out.append(Sample([r(x), r(_conv_weight(x, k, n, attrs)), r((n,))], attrs, differentiable=False))
    pads = dict(pads=(1, 1, 0, 0))
    for act in _ACTS:
        out.append(Sample([r((1, 3, 4, 2)), r((3, 2, 2, 2)), r((3,))], dict(pads, **act)))
    for after in (False, True):
        for name in ("none", "relu", "silu"):
            inputs: list[np.ndarray | None] = [r((1, 3, 4, 2)), r((3, 2, 2, 2)), r((3,)), r((1, 3, 4, 3))]
            out.append(Sample(inputs, dict(pads, act=name, act_after=after)))
    depthwise: list[np.ndarray | None] = [r((1, 4, 4, 5)), r((5, 3, 3, 1)), r((5,)), r((1, 4, 4, 5))]
    out.append(Sample(depthwise, dict(groups=5, pads=(1, 1, 1, 1), act="relu6")))
    for d in FLOATS[1:]:
        out.append(Sample([r((1, 6, 6, 5), d), r((7, 3, 3, 5), d), r((7,), d)], dict(act="relu"), differentiable=False))
        out.append(Sample([r((1, 6, 6, 5), d), r((5, 3, 3, 1), d)], dict(groups=5), differentiable=False))
    return out


def conv_weight_gradient() -> list[Sample]:
    r = Draw("conv_weight_gradient")
    cases: list[tuple[tuple[int, ...], int, dict[str, Any]]] = [
        ((2, 5, 4, 3), 4, dict(kernel=(3, 2), pads=(1, 0, 1, 1))),
        ((1, 6, 7, 2), 5, dict(kernel=(3, 3), strides=(2, 1), dilations=(1, 2))),
        ((2, 5, 5, 4), 4, dict(kernel=(3, 3), pads=(1, 1, 1, 1), groups=4)),
        ((1, 5, 4, 4), 6, dict(kernel=(2, 2), groups=2)),
        ((2, 7, 3), 2, dict(kernel=(3,), pads=(2, 0))),
        ((1, 3, 4, 3, 2), 3, dict(kernel=(2, 2, 2))),
        ((3, 1, 1, 5), 7, dict(kernel=(1, 1))),
        ((2, 13, 9, 17), 37, dict(kernel=(1, 1))),
        ((2, 13, 9, 5), 33, dict(kernel=(3, 3), pads=(1, 1, 1, 1))),
        ((0, 4, 4, 2), 3, dict(kernel=(3, 3))),
    ]
    out = []
    for read, rows, attrs in cases:
        n = len(attrs["kernel"])
        pads = attrs.get("pads", (0,) * (2 * n))
        one = (1,) * n
        size = [
            (read[1 + i] + pads[i] + pads[n + i] - attrs.get("dilations", one)[i] * (attrs["kernel"][i] - 1) - 1)
            // attrs.get("strides", one)[i]
            + 1
            for i in range(n)
        ]
        small = math.prod(read) < 200
        out.append(Sample([r((read[0], *size, rows)), r(read)], attrs, differentiable=small and read[0] > 0))
    return out


def conv_transpose() -> list[Sample]:
    r = Draw("conv_transpose")
    cases: list[tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]] = [
        ((1, 3, 3, 2), (2, 2), 2, {}),
        ((2, 3, 4, 2), (3, 3), 3, dict(strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1))),
        ((1, 3, 3, 2), (4, 2), 2, dict(strides=(2, 3), pads=(1, 0, 2, 1))),
        ((1, 3, 3, 2), (3, 2), 2, dict(strides=(2, 1), dilations=(2, 3), pads=(1, 1, 0, 2))),
        ((1, 3, 3, 4), (3, 3), 6, dict(strides=(2, 2), groups=2)),
        ((1, 3, 3, 3), (3, 3), 3, dict(strides=(2, 2), groups=3, pads=(1, 1, 0, 0))),
        ((1, 3, 2, 2), (2, 2), 2, dict(strides=(3, 4))),
        ((1, 3, 2, 2), (2, 2), 2, dict(strides=(3, 4), output_padding=(2, 3))),
        ((1, 3, 4, 2), (3, 3), 2, dict(strides=(2, 2), pad_mode="same_upper")),
        ((1, 3, 4, 2), (4, 2), 2, dict(strides=(1, 3), pad_mode="same_lower")),
        ((1, 3, 4, 2), (3, 3), 2, dict(strides=(3, 2), output_shape=(10, 8))),
        ((1, 3, 4, 2), (3, 3), 2, dict(strides=(2, 2), output_shape=(6, 8), pad_mode="same_upper")),
        ((1, 3, 4, 2), (3, 4), 2, dict(strides=(2, 2), output_shape=(6, 8))),
        ((1, 1, 1, 3), (3, 3), 2, {}),
        ((1, 1, 1, 3), (1, 1), 2, dict(strides=(2, 2), output_padding=(1, 1))),
        ((1, 4, 3), (3,), 2, dict(strides=(2,), pads=(1, 0))),
        ((1, 4, 2), (4,), 2, dict(strides=(2,), groups=2, pads=(1, 1))),
        ((1, 2, 3, 2, 2), (2, 2, 3), 2, dict(strides=(2, 1, 2), pads=(0, 1, 1, 1, 0, 1))),
    ]
    out = []
    for i, (x, k, n, attrs) in enumerate(cases):
        weight = r((x[-1], *k, n // attrs.get("groups", 1)))
        out.append(Sample([r(x), weight, r((n,)) if i % 2 else None], attrs))
    for act in _ACTS[:3]:
        out.append(Sample([r((1, 2, 3, 2)), r((2, 2, 2, 3)), r((3,))], dict(strides=(2, 2), **act)))
    wide = dict(strides=(2, 2), pads=(1, 1, 1, 1))
    out.append(Sample([r((1, 5, 6, 19)), r((19, 4, 4, 21)), r((21,))], wide, differentiable=False))
    out.append(Sample([r((0, 3, 3, 2)), r((2, 2, 2, 3))], differentiable=False))
    for d in FLOATS[1:]:
        out.append(Sample([r((1, 3, 3, 4), d), r((4, 3, 3, 5), d), r((5,), d)], wide, differentiable=False))
    return out


def conv_integer() -> list[Sample]:
    r = Draw("conv_integer")
    out = []
    for i, (x, k, n, attrs) in enumerate(_GEOMETRY + _WIDE):
        dx, dw = ("uint8", "int8") if i % 3 else ("int8", "uint8")
        points: list[np.ndarray | None] = [
            [],
            [r((), dx)],
            [r((), dx), r((), dw)],
            [r((1,), dx), r((n,), dw)],
        ][i % 4]  # type: ignore[assignment]
        out.append(Sample([r(x, dx), r(_conv_weight(x, k, n, attrs), dw), *points], attrs))
    return out


def deform_conv() -> list[Sample]:
    r = Draw("deform_conv")
    out = []
    cases: list[tuple[tuple[int, ...], tuple[int, int], int, int, int, dict[str, Any]]] = [
        ((1, 3, 3, 1), (2, 2), 1, 2, 2, {}),
        ((2, 5, 4, 2), (3, 2), 3, 4, 4, dict(pads=(1, 0, 0, 1))),
        ((1, 6, 6, 4), (2, 2), 4, 3, 3, dict(strides=(2, 2), groups=2)),
        ((1, 6, 6, 4), (2, 2), 2, 4, 4, dict(dilations=(2, 2), offset_groups=2)),
        ((1, 5, 5, 4), (3, 3), 4, 5, 5, dict(groups=4, offset_groups=4, pads=(1, 1, 1, 1))),
    ]
    for i, (x, k, n, oh, ow, attrs) in enumerate(cases):
        points = attrs.get("offset_groups", 1) * k[0] * k[1]
        weight = r((n, *k, x[-1] // attrs.get("groups", 1)))
        mask = r((x[0], oh, ow, points), low=0.0, high=1.0) if i % 2 else None
        out.append(Sample([r(x), weight, r((x[0], oh, ow, points * 2), low=-3.0, high=3.0), r((n,)), mask], attrs))
    whole = np.array(Draw(1)((1, 2, 2, 8), "int8", -2, 2), np.float32)  # lands on grid points and on the border
    out.append(Sample([r((1, 3, 3, 2)), r((2, 2, 2, 2)), whole]))
    return out


# (x, kernel, attrs)
_POOLS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 4, 4, 2), (2, 2), dict(strides=(2, 2))),
    ((2, 5, 6, 3), (3, 3), dict(strides=(2, 2), pads=(1, 1, 1, 1))),
    ((1, 5, 5, 2), (3, 2), {}),
    ((1, 6, 5, 2), (2, 3), dict(strides=(2, 2), pads=(0, 1, 1, 2))),
    ((1, 7, 7, 2), (2, 2), dict(strides=(2, 2), ceil_mode=True)),
    ((1, 6, 6, 2), (3, 3), dict(strides=(2, 2), ceil_mode=True, pads=(1, 0, 1, 0))),
    ((1, 5, 5, 1), (2, 2), dict(strides=(3, 3), ceil_mode=True, pads=(0, 0, 1, 1))),
    ((1, 4, 4, 1), (1, 1), dict(strides=(3, 3), ceil_mode=True)),
    ((1, 7, 6, 2), (2, 2), dict(dilations=(2, 3))),
    ((1, 7, 7, 2), (3, 2), dict(dilations=(2, 2), pads=(1, 1, 1, 1), strides=(2, 1))),
    ((1, 7, 8, 2), (2, 2), dict(strides=(4, 3))),
    ((1, 4, 5, 3), (4, 5), {}),
    ((1, 1, 1, 3), (1, 1), {}),
    ((1, 5, 6, 2), (3, 3), dict(strides=(2, 2), pad_mode="same_upper")),
    ((1, 5, 6, 2), (2, 4), dict(strides=(2, 2), pad_mode="same_lower")),
    ((1, 7, 3), (3,), dict(strides=(2,), pads=(1, 1))),
    ((1, 3, 4, 3, 2), (2, 2, 2), dict(strides=(1, 2, 1), pads=(0, 1, 1, 0, 0, 1))),
]


def max_pool() -> list[Sample]:
    r = Draw("max_pool")
    out = [Sample([r.apart(x)], dict(kernel=k, **attrs)) for x, k, attrs in _POOLS]
    out.append(Sample([r.apart((1, 5, 4, 2))], dict(kernel=(2, 2), column_major=True)))
    out.append(Sample([r.apart((1, 3, 4, 3, 1))], dict(kernel=(2, 2, 2), column_major=True)))
    for d in ("float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64"):
        out.append(Sample([r((1, 5, 5, 3), d)], dict(kernel=(2, 2), pads=(1, 0, 0, 1)), differentiable=False))
    odd = r((1, 4, 4, 2))
    odd[0, 1, 2, 0], odd[0, 0, 0, 1], odd[0, 3, 3, 1] = np.nan, -np.inf, np.inf
    out.append(Sample([odd], dict(kernel=(2, 2)), differentiable=False))
    ties = np.zeros((1, 4, 4, 2), np.float32)
    out.append(Sample([ties], dict(kernel=(3, 3), pads=(1, 1, 1, 1)), differentiable=False))
    below = np.full((1, 3, 3, 1), -5, np.float32)  # padding must not win
    out.append(Sample([below], dict(kernel=(2, 2), pads=(1, 1, 1, 1)), differentiable=False))
    out.append(Sample([r((1, 9, 11, 37))], dict(kernel=(3, 3), strides=(2, 2)), differentiable=False))
    out.append(Sample([r((0, 4, 4, 2))], dict(kernel=(2, 2)), differentiable=False))
    return out


def max_pool_gradient() -> list[Sample]:
    from deploykit.ops.core import get

    r, out = Draw("max_pool_gradient"), []
    for s in max_pool():
        (x,) = s.inputs
        attrs = {k: v for k, v in s.attrs.items() if k != "column_major"}
        if x is not None and str(x.dtype) in ("float32", "float64") and len(attrs) == len(s.attrs):
            op = get("max_pool")
            y = op.reference(x, **op.complete(s.attrs))[0]  # type: ignore[misc]
            out.append(Sample([x, y, r(y.shape, str(y.dtype))], attrs, differentiable=False))
            if s.differentiable:  # in g: y and x belong together, so differences in one of them mean nothing
                out.append(Sample([v.astype(np.float64) for v in out[-1].inputs], attrs, fixed=(0, 1)))  # type: ignore[union-attr]
    return out


def avg_pool() -> list[Sample]:
    r = Draw("avg_pool")
    out = []
    for x, k, attrs in _POOLS:
        for include in (False, True):
            out.append(Sample([r(x)], dict(kernel=k, count_include_pad=include, **attrs)))
    for d in FLOATS[1:]:
        out.append(Sample([r((1, 5, 5, 3), d)], dict(kernel=(2, 2), pads=(1, 0, 0, 1)), differentiable=False))
    out.append(Sample([r((1, 9, 11, 37))], dict(kernel=(3, 3), strides=(2, 2)), differentiable=False))
    out.append(Sample([r((0, 4, 4, 2))], dict(kernel=(2, 2)), differentiable=False))
    return out


def lp_pool() -> list[Sample]:
    r = Draw("lp_pool")
    out = [Sample([r(x, low=0.5)], dict(kernel=k, p=i % 3 + 1, **attrs)) for i, (x, k, attrs) in enumerate(_POOLS)]
    out += [Sample([r((1, 4, 4, 3), d)], dict(kernel=(2, 2)), differentiable=False) for d in FLOATS]
    return out


def max_unpool() -> list[Sample]:
    r = Draw("max_unpool")

    def places(out: tuple[int, ...], size: tuple[int, ...], k: int) -> np.ndarray:
        """One position within each of the windows of size k that tile the plane, per sample and channel."""
        n, *spatial, c = out
        index = np.zeros(out, np.int64)
        for i, (o, s) in enumerate(zip(spatial, size, strict=True)):
            at = np.arange(o).reshape([-1 if d == i + 1 else 1 for d in range(len(out))]) * k
            index = index * s + at + r.rng.integers(0, k, out)
        return index

    out = [
        Sample([r((1, 2, 2, 3)), places((1, 2, 2, 3), (4, 4), 2)], dict(kernel=(2, 2), strides=(2, 2))),
        Sample([r((2, 2, 3, 2)), places((2, 2, 3, 2), (4, 6), 2)], dict(kernel=(2, 2), strides=(2, 2))),
        Sample([r((1, 3, 2)), places((1, 3, 2), (6,), 2)], dict(kernel=(2,), strides=(2,))),
        Sample([r((1, 2, 2, 2, 1)), places((1, 2, 2, 2, 1), (4, 4, 4), 2)], dict(kernel=(2,) * 3, strides=(2,) * 3)),
        Sample(
            [r((1, 2, 2, 3)), places((1, 2, 2, 3), (5, 5), 2), i64(1, 5, 5, 3)], dict(kernel=(2, 2), strides=(2, 2))
        ),
    ]
    out.append(Sample([r((1, 2, 2, 3), "int8"), places((1, 2, 2, 3), (4, 4), 2)], out[0].attrs, differentiable=False))
    return out


def batch_norm() -> list[Sample]:
    r = Draw("batch_norm")

    def case(x: tuple[int, ...], axis: int = -1, dtype: str = "float32", **more: Any) -> Sample:
        n = (x[axis],)
        vectors = [r(n, dtype), r(n, dtype), r(n, dtype), r(n, dtype, 0.3, 2.0)]
        return Sample(
            [r(x, dtype), *vectors], dict(axis=axis, **more), differentiable=dtype == "float32" and 0 not in x
        )

    out = [case((2, 3, 4)), case((2, 3)), case((2, 3, 2, 2), 1), case((3,)), case((2, 4, 1), 0), case((1, 2, 3, 17))]
    out += [case((2, 3, 4), epsilon=0.1), case((0, 3))] + [case((2, 5, 3), dtype=d) for d in FLOATS[1:]]
    return out


def batch_norm_train() -> list[Sample]:
    r = Draw("batch_norm_train")

    def case(x: tuple[int, ...], axis: int = -1, dtype: str = "float32", mean: float = 0.0, **more: Any) -> Sample:
        n = (x[axis],)
        data = (r(x, dtype) + np.asarray(mean, dtype)).astype(dtype)
        return Sample([data, r(n, dtype, 0.5, 2.0), r(n, dtype)], dict(axis=axis, **more), differentiable=0 not in x)

    out = [case((2, 3, 4)), case((7, 3), epsilon=0.1), case((2, 3, 2, 2), 1, act="relu"), case((3,)), case((0, 3))]
    out += [case((2, 4, 3), 0, act="relu6"), case((1, 9, 17, 67)), case((5, 30, 3), act="relu"), case((500, 16))]
    out += [case((40, 70), mean=300.0), case((9, 6, 33), act="relu6"), case((3, 5), dtype="float64", act="relu")]
    return out


def batch_norm_train_gradient() -> list[Sample]:
    r = Draw("batch_norm_train_gradient")

    def with_gradient(s: Sample) -> Sample:
        x, scale, bias = s.inputs
        n, d = scale.shape, str(x.dtype)  # type: ignore[union-attr]
        rest = [r(n, d, -0.3, 0.3), r(n, d, 0.5, 2.0)]
        return Sample([r(x.shape, d), x, scale, bias, *rest], s.attrs, differentiable=s.differentiable)  # type: ignore[union-attr]

    return [with_gradient(s) for s in batch_norm_train()]


def layer_norm() -> list[Sample]:
    r = Draw("layer_norm")
    out = [
        Sample([r((2, 5))]),
        Sample([r((2, 5)), r((5,))]),
        Sample([r((2, 3, 4)), r((4,)), r((4,))]),
        Sample([r((2, 3, 4)), r((3, 4)), r((3, 4))], dict(axis=1)),
        Sample([r((2, 3, 4)), r((2, 3, 4)), r((4,))], dict(axis=0)),
        Sample([r((2, 3, 4)), r((3, 1)), r((1, 4))], dict(axis=-2, epsilon=0.01)),
        Sample([r((4,)), None, r((4,))], dict(axis=0)),
        Sample([r((3, 1)), r((1,)), r((1,))]),
        Sample([r((2, 67)), r((67,)), r((67,))], differentiable=False),
        Sample([r((0, 4)), r((4,))], differentiable=False),
        Sample([(r((2, 9)) + np.float32(1000)).astype(np.float32)], differentiable=False),  # a mean far from 0
    ]
    return out + [Sample([r((2, 6), d), r((6,), d), r((6,), d)], differentiable=False) for d in FLOATS[1:]]


def rms_norm() -> list[Sample]:
    r = Draw("rms_norm")
    out = [
        Sample([r((2, 5))]),
        Sample([r((2, 3, 4)), r((4,))]),
        Sample([r((2, 3, 4)), r((3, 4))], dict(axis=1, epsilon=0.1)),
        Sample([r((4,)), r((1,))], dict(axis=0)),
        Sample([np.zeros((2, 3), np.float32)], differentiable=False),
        Sample([r((2, 67)), r((67,))], differentiable=False),
        Sample([r((0, 4))], differentiable=False),
    ]
    return out + [Sample([r((2, 6), d), r((6,), d)], differentiable=False) for d in FLOATS[1:]]


def group_norm() -> list[Sample]:
    r = Draw("group_norm")
    out = [
        Sample([r((2, 3, 2, 4)), r((4,)), r((4,))], dict(groups=2)),
        Sample([r((1, 2, 2, 4))], dict(groups=4)),  # instance norm
        Sample([r((2, 3, 6)), r((6,))], dict(groups=1, epsilon=0.01)),
        Sample([r((2, 6)), None, r((6,))], dict(groups=3)),
        Sample([r((1, 2, 2, 2, 4)), r((4,)), r((4,))], dict(groups=2)),
        Sample([r((1, 5, 7, 36)), r((36,)), r((36,))], dict(groups=4), differentiable=False),
        Sample([r((0, 2, 2, 4))], dict(groups=2), differentiable=False),
    ]
    return out + [
        Sample([r((2, 3, 4), d), r((4,), d), r((4,), d)], dict(groups=2), differentiable=False) for d in FLOATS[1:]
    ]


def lrn() -> list[Sample]:
    r = Draw("lrn")
    out = [
        Sample([r((1, 2, 2, 5))]),
        Sample([r((2, 7))], dict(size=3, alpha=0.5, beta=0.6, bias=2.0)),
        Sample([r((2, 3, 6))], dict(size=4, alpha=0.3)),
        Sample([r((1, 2, 2))], dict(size=5, alpha=0.3)),  # a window wider than the channels
        Sample([r((3,))], dict(size=1, alpha=1.0)),
        Sample([r((1, 3, 3, 37))], differentiable=False),
    ]
    return out + [Sample([r((2, 6), d)], dict(size=3, alpha=0.5), differentiable=False) for d in FLOATS[1:]]


def im2col() -> list[Sample]:
    r = Draw("im2col")
    keep = ("strides", "dilations", "pads")
    out = []
    for x, k, _, attrs in _GEOMETRY:
        if "pad_mode" not in attrs and "groups" not in attrs:
            out.append(Sample([r(x)], dict(kernel=k, **{a: v for a, v in attrs.items() if a in keep})))
    for d in ("float16", "float64", "uint8", "int32"):
        out.append(Sample([r((1, 4, 4, 3), d)], dict(kernel=(2, 2), pads=(1, 0, 0, 1)), differentiable=False))
    return [*out, Sample([r((0, 4, 4, 3))], dict(kernel=(2, 2)), differentiable=False)]
