"""The engine's convolutions against the passports' references: random geometry, every algorithm, every dtype."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import DeploykitError
from deploykit.native import run_op
from deploykit.ops.activation import ACTIVATIONS
from deploykit.ops.core import get

# Largest error relative to the largest result.
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}


def normal(rng, shape, dtype="float32"):
    return rng.normal(size=shape).astype(dtypes.dtype(dtype).np)


def weights(rng, shape, dtype="float32"):
    """Scaled so that sums have the size of x: then the error of a sum is small against 1, whatever act makes of it."""
    return (rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(dtypes.dtype(dtype).np)


def check(name, inputs, attrs, threads=1):
    op = get(name)
    want = op.reference(*inputs, **op.complete(attrs))
    got = run_op(name, inputs, attrs, threads=threads)[0]
    assert got.dtype == want.dtype and got.shape == want.shape, (got.shape, want.shape)
    if want.size == 0:
        return got
    g, w = got.astype(np.float64), want.astype(np.float64)
    if want.dtype.kind in "iu":
        np.testing.assert_array_equal(got, want)
    else:
        error = np.abs(g - w).max() / max(np.abs(w).max(), 0.5)
        assert error <= TOLERANCE[dtypes.dtype(want.dtype).name], f"{error:.2e} {attrs} {[np.shape(i) for i in inputs]}"
    return got


def geometry(rng, rank, kernel):
    strides = tuple(int(v) for v in rng.integers(1, 4, rank))
    dilations = tuple(int(v) for v in rng.integers(1, 3, rank))
    pads = tuple(int(v) for v in rng.integers(0, 3, 2 * rank))
    size = tuple(
        max(1, d * (k - 1) + 1 - pads[i] - pads[rank + i]) + int(rng.integers(0, 9 if rank < 3 else 4))
        for i, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    )
    attrs = dict(strides=strides, dilations=dilations)
    mode = rng.integers(0, 5)
    if mode < 3:
        attrs["pads"] = pads
    else:
        attrs["pad_mode"] = ("same_upper", "same_lower")[mode - 3]
    return size, attrs


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["dense", "few", "groups", "depthwise", "multiplier"])
def test_conv(rank, kind):
    rng = np.random.default_rng(rank * 10 + len(kind))
    for i in range(30 if rank < 3 else 12):
        kernel = tuple(int(v) for v in rng.integers(1, 6 if rank < 3 else 4, rank))
        size, attrs = geometry(rng, rank, kernel)
        n, groups = int(rng.integers(1, 3)), 1
        if kind == "dense":
            cg, og = int(rng.integers(9, 40)), int(rng.integers(1, 70))
        elif kind == "few":
            cg, og = int(rng.integers(1, 9)), int(rng.integers(1, 40))
        elif kind == "groups":
            groups, cg, og = int(rng.integers(2, 5)), int(rng.integers(2, 12)), int(rng.integers(1, 20))
        else:
            groups, cg, og = int(rng.integers(2, 70)), 1, 1 if kind == "depthwise" else int(rng.integers(2, 5))
        x = normal(rng, (n, *size, groups * cg))
        w = weights(rng, (groups * og, *kernel, cg))
        bias = normal(rng, groups * og) if i % 3 else None
        attrs["groups"] = groups
        y = check("conv", [x, w, bias], attrs)
        residual = normal(rng, y.shape)
        attrs.update(act=ACTIVATIONS[i % len(ACTIVATIONS)], act_after=bool(i % 2), act_alpha=0.3, act_beta=0.7)
        check("conv", [x, w, bias, residual], attrs)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["pointwise", "depthwise"])
def test_conv_epilogue(act, kind):
    rng = np.random.default_rng(3)
    groups = 1 if kind == "pointwise" else 21
    w = weights(rng, (21, 1, 1, 21) if groups == 1 else (21, 3, 3, 1))
    x = normal(rng, (1, 5, 7, 21)) * 3
    attrs = dict(groups=groups, act=act, act_alpha=0.1, act_beta=0.9, pads=() if groups == 1 else (1, 1, 1, 1))
    for residual in (None, normal(rng, (1, 5, 7, 21))):
        for after in (False, True):
            check("conv", [x, w, normal(rng, 21), residual], dict(attrs, act_after=after))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_conv_dtypes(dtype):
    rng = np.random.default_rng(4)
    for groups, cg, og, k in ((1, 20, 17, 3), (1, 3, 8, 3), (2, 5, 4, 1), (9, 1, 1, 3), (1, 16, 16, 1)):
        x, w = normal(rng, (2, 6, 7, groups * cg), dtype), weights(rng, (groups * og, k, k, cg), dtype)
        attrs = dict(groups=groups, pads=(k // 2,) * 4, act="silu")
        bias = normal(rng, groups * og, dtype)
        check("conv", [x, w, bias], attrs)
        check("conv", [x, w, bias, normal(rng, (2, 6, 7, groups * og), dtype)], dict(attrs, act_after=True))


def test_conv_threads_agree():
    rng = np.random.default_rng(5)
    cases = [
        ((1, 20, 20, 24), (40, 3, 3, 24), 1),
        ((1, 40, 40, 3), (33, 3, 3, 3), 1),
        ((1, 7, 7, 200), (120, 1, 1, 200), 1),
        ((1, 40, 40, 64), (64, 3, 3, 1), 64),
        ((2, 20, 20, 32), (32, 3, 3, 8), 4),
    ]
    for shape, weight, groups in cases:
        inputs = [normal(rng, shape), weights(rng, weight), normal(rng, weight[0])]
        attrs = dict(groups=groups, pads=(weight[1] // 2,) * 4)
        one = check("conv", inputs, attrs)
        for threads in (2, 3, 5):
            np.testing.assert_array_equal(one, run_op("conv", inputs, attrs, threads=threads)[0])


@pytest.mark.parametrize("act", ["none", "relu6", "hard_swish"])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3), 1), ((5, 5), 1), ((5, 5), 2), ((3, 3), 2), ((2, 4), 1), ((1, 7), 1)]
)
def test_depthwise_of_few_rows_is_shared_by_columns(kernel, stride, act):
    """Wide images of one to three rows: every thread has some columns, borders are those of the image, not of its share."""
    rng = np.random.default_rng(23)
    for rows, width, channels in ((1, 61, 16), (3, 50, 40), (2, 200, 7)):
        before = [k // 2 for k in kernel]
        attrs = dict(
            strides=(1, stride),
            pads=(*before, *((k - 1) // 2 for k in kernel)),
            groups=channels,
            act=act,
            act_after=True,
        )
        x = normal(rng, (2, rows, width, channels))
        inputs = [x, weights(rng, (channels, *kernel, 1)), normal(rng, channels)]
        shape = run_op("conv", inputs, attrs, threads=1)[0].shape
        inputs.append(normal(rng, shape))
        one = check("conv", inputs, attrs)
        for threads in (2, 3, 5):
            np.testing.assert_array_equal(one, run_op("conv", inputs, attrs, threads=threads)[0])


def test_conv_many_taps():
    rng = np.random.default_rng(6)
    x = normal(rng, (1, 40, 40, 10))
    check("conv", [x, weights(rng, (3, 36, 36, 10)), normal(rng, 3)], dict(act="relu"))
    check("conv", [x.astype(np.float16), weights(rng, (3, 36, 36, 10), "float16"), normal(rng, 3, "float16")], {})
    check("conv", [normal(rng, (1, 5000, 1)), weights(rng, (7, 2048, 1))], dict(strides=(100,), pads=(50, 3)))


def test_conv_rows_4k_apart():
    """Rows that share a cache set are copied apart first."""
    rng = np.random.default_rng(11)
    for c, stride, n, pad in ((1024, 1, 1, 0), (512, 2, 2, 0), (2048, 1, 1, 1), (1024, 3, 1, 2)):
        inputs = [normal(rng, (n, 7, 9, c)), weights(rng, (65, 1, 1, c)), normal(rng, 65)]
        attrs = dict(strides=(stride, stride), pads=(pad,) * 4, act="relu")
        one = check("conv", inputs, attrs)
        for threads in (2, 5):
            np.testing.assert_array_equal(one, run_op("conv", inputs, attrs, threads=threads)[0])


def test_conv_empty_and_odd():
    rng = np.random.default_rng(7)
    check("conv", [normal(rng, (0, 5, 5, 4)), normal(rng, (6, 3, 3, 4))], {})
    check("conv", [normal(rng, (1, 5, 5, 0)), normal(rng, (6, 3, 3, 0)), normal(rng, 6)], {})
    check("conv", [normal(rng, (1, 5, 5, 3)), normal(rng, (0, 3, 3, 3))], {})
    check("conv", [normal(rng, (1, 9, 9, 3)), normal(rng, (5, 3, 3, 3))], dict(pads=(-1, -2, 0, -1)))
    check("conv", [normal(rng, (1, 9, 9, 12)), normal(rng, (5, 3, 3, 12))], dict(pads=(-1, -2, 0, -1)))
    check("conv", [normal(rng, (1, 9, 9, 12)), normal(rng, (12, 3, 3, 1))], dict(pads=(-1, -2, 0, -1), groups=12))
    check("conv", [normal(rng, (1, 2, 2, 12)), normal(rng, (12, 3, 3, 1))], dict(pads=(4, 4, 4, 4), groups=12))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["dense", "groups", "thin"])
def test_conv_transpose(rank, kind):
    rng = np.random.default_rng(rank * 10 + len(kind))
    for i in range(40 if rank < 3 else 12):
        kernel = tuple(int(v) for v in rng.integers(1, 6 if rank < 3 else 4, rank))
        strides = tuple(int(v) for v in rng.integers(1, 5, rank))
        dilations = tuple(int(v) for v in rng.integers(1, 3, rank))
        size = tuple(int(v) for v in rng.integers(3, 9 if rank < 3 else 5, rank))
        attrs = dict(strides=strides, dilations=dilations)
        mode = i % 5
        if mode < 2:
            attrs["pads"] = tuple(int(v) for v in rng.integers(0, 2, 2 * rank))
            attrs["output_padding"] = tuple(int(v) for v in rng.integers(0, 2, rank))
        elif mode == 2:
            attrs["pad_mode"] = "same_upper"
        elif mode == 3:
            attrs["pad_mode"] = "same_lower"
        else:
            attrs["output_shape"] = tuple(s * z + int(rng.integers(-1, 3)) for s, z in zip(strides, size, strict=True))
            attrs["pad_mode"] = ("explicit", "same_upper")[i // 5 % 2]
        groups = int(rng.integers(2, 4)) if kind == "groups" else 1
        cg, og = (1, 1) if kind == "thin" else (int(rng.integers(1, 30)), int(rng.integers(1, 40)))
        x, w = normal(rng, (2, *size, groups * cg)), weights(rng, (groups * cg, *kernel, og))
        attrs.update(groups=groups, act=ACTIVATIONS[i % len(ACTIVATIONS)], act_alpha=0.3, act_beta=0.7)
        check("conv_transpose", [x, w, normal(rng, groups * og) if i % 3 else None], attrs, threads=1 + i % 3)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_conv_transpose_dtypes(dtype):
    rng = np.random.default_rng(8)
    x, w = normal(rng, (2, 5, 6, 8), dtype), weights(rng, (8, 3, 4, 5), dtype)
    attrs = dict(strides=(2, 2), pads=(1, 1, 1, 1), groups=2)
    check("conv_transpose", [x, w, normal(rng, 10, dtype)], attrs)
    check("conv_transpose", [x, w], dict(attrs, act="gelu"))


def test_conv_transpose_odd():
    rng = np.random.default_rng(9)
    check("conv_transpose", [normal(rng, (1, 3, 3, 4)), weights(rng, (4, 40, 40, 2))], {})
    check("conv_transpose", [normal(rng, (1, 300, 4)), weights(rng, (4, 16, 7)), normal(rng, 7)], dict(strides=(8,)))
    check("conv_transpose", [normal(rng, (1, 1, 4)), weights(rng, (4, 3, 7)), normal(rng, 7)], dict(strides=(1000,)))
    check("conv_transpose", [normal(rng, (1, 2, 4)), weights(rng, (4, 1, 7)), normal(rng, 7)], dict(strides=(900,)))
    check("conv_transpose", [normal(rng, (0, 3, 3, 4)), weights(rng, (4, 2, 2, 2))], {})
    check("conv_transpose", [normal(rng, (1, 30, 30, 64)), weights(rng, (64, 2, 2, 48))], dict(strides=(2, 2)))


@pytest.mark.parametrize("tx", ["int8", "uint8"])
@pytest.mark.parametrize("tw", ["int8", "uint8"])
def test_conv_integer(tx, tw):
    rng = np.random.default_rng(10)

    def ints(dtype, *shape):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)

    for rank in (1, 2, 3):
        for i in range(8):
            kernel = tuple(int(v) for v in rng.integers(1, 4, rank))
            size, attrs = geometry(rng, rank, kernel)
            groups, cg, og = (1, 13, 9) if i % 2 else (3, 5, 2)
            x, w = ints(tx, 2, *size, groups * cg), ints(tw, groups * og, *kernel, cg)
            zx = (None, ints(tx), ints(tx, 1))[i % 3]
            zw = (None, ints(tw), ints(tw, groups * og))[i // 3]
            check("conv_integer", [x, w, zx, zw], dict(attrs, groups=groups), threads=1 + i % 2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_deform_conv(dtype):
    rng = np.random.default_rng(11)
    for groups, offset_groups, c, o, k, stride, dilation in (
        (1, 1, 6, 5, 3, 1, 1),
        (2, 2, 8, 6, 3, 2, 1),
        (1, 4, 8, 20, 2, 1, 2),
        (2, 1, 6, 2, 1, 1, 1),
    ):
        attrs = dict(strides=(stride,) * 2, dilations=(dilation,) * 2, pads=(1, 0, 2, 1))
        x, w = normal(rng, (2, 8, 9, c), dtype), weights(rng, (o, k, k, c // groups), dtype)
        out = tuple((z + p - dilation * (k - 1) - 1) // stride + 1 for z, p in ((8, 3), (9, 1)))
        points = offset_groups * k * k
        offset = (rng.normal(size=(2, *out, 2 * points)) * 2).astype(dtype)
        if dtype == "float16":  # positions are sums in float32 there and in the reference: keep them exact
            offset = (np.round(offset * 4) / 4).astype(dtype)
        mask = rng.uniform(size=(2, *out, points)).astype(dtype)
        attrs.update(groups=groups, offset_groups=offset_groups)
        check("deform_conv", [x, w, offset, normal(rng, o, dtype), mask], attrs, threads=2)
        check("deform_conv", [x, w, offset], attrs)


def test_conv_extreme_geometry():
    rng = np.random.default_rng(12)
    far = 1 << 30
    x = normal(rng, (1, 3, 3, 2))
    attrs = dict(strides=(far, far), pads=(far, far, far, far))
    check_shape = run_op("conv", [x, weights(rng, (4, 3, 3, 2))], attrs)[0].shape
    assert check_shape == (1, 3, 3, 4)  # a padded copy would have 2^62 pixels
    wide = (np.zeros((1, 2, 2, 0), np.float32), np.zeros((3, 1 << 20, 1 << 20, 0), np.float32), normal(rng, 3))
    y = run_op("conv", wide, dict(pads=(1 << 20,) * 4, strides=(1 << 20,) * 2))[0]
    np.testing.assert_array_equal(y, np.broadcast_to(wide[2], y.shape))
    y = run_op("conv_transpose", [wide[0], np.zeros((0, 5000, 50, 3), np.float32), wide[2]], dict(strides=(3, 3)))[0]
    np.testing.assert_array_equal(y, np.broadcast_to(wide[2], y.shape))
    big = [normal(rng, (1, 40, 40, 1)), normal(rng, (1, 36, 36, 1)), np.zeros((1, 5, 5, 2 * 36 * 36), np.float32)]
    with pytest.raises(DeploykitError):
        run_op("deform_conv", big)


def test_conv_errors():
    x, w = np.zeros((1, 5, 5, 4), np.float32), np.zeros((6, 3, 3, 4), np.float32)
    for inputs, attrs in (
        ([x, w], dict(groups=2)),
        ([x, np.zeros((6, 3, 3, 3), np.float32)], {}),
        ([x, np.zeros((6, 7, 7, 4), np.float32)], {}),
        ([x, w, np.zeros(5, np.float32)], {}),
        ([x, w, None, np.zeros((1, 5, 5, 6), np.float32)], {}),
        ([x, w.astype(np.float64)], {}),
        ([x.astype(np.int32), w.astype(np.int32)], {}),
        ([x, w], dict(strides=(0, 1))),
        ([x, w], dict(strides=(1,))),
        ([x, w], dict(pads=(1 << 40, 0, 0, 0))),
        ([x[0, 0], w[0, 0]], {}),
    ):
        with pytest.raises(DeploykitError):
            run_op("conv", inputs, attrs)


@pytest.mark.parametrize(
    ("read", "rows", "kernel", "how"),
    [
        ((2, 19, 21, 35), 29, (3, 3), dict(pads=(1, 1, 1, 1))),  # read along the vectors
        ((3, 40, 41, 3), 40, (5, 3), dict(strides=(2, 2), pads=(0, 2, 1, 0))),  # rows along them
        ((3, 17, 18, 37), 37, (3, 3), dict(strides=(1, 2), pads=(1, 0, 1, 1), groups=37)),  # depthwise
        ((2, 18, 17, 12), 20, (3, 2), dict(groups=4, dilations=(2, 1))),
        ((2, 30, 25, 20), 50, (1, 1), {}),  # all positions are one line
        ((2, 30, 25, 20), 50, (1, 1), dict(strides=(2, 2))),
        ((2, 9, 8, 7, 6), 5, (2, 3, 2), dict(pads=(1, 0, 1, 0, 2, 1))),
        ((4, 300, 5), 9, (7,), dict(dilations=(3,), pads=(20, 1))),
        ((2, 3, 3, 8), 4, (3, 3), dict(pads=(3, 3, 3, 3))),  # taps that hit nothing but padding
    ],
)
def test_weight_gradient(read, rows, kernel, how):
    """Against sums in float64; any number of threads gives the same bits."""
    rng, n = np.random.default_rng(5), len(kernel)
    pads, one = how.get("pads", (0,) * 2 * n), (1,) * n
    strides, dilations = how.get("strides", one), how.get("dilations", one)
    size = [
        (read[1 + i] + pads[i] + pads[n + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(n)
    ]
    x, g = normal(rng, read), normal(rng, (read[0], *size, rows))
    attrs = dict(kernel=kernel, **how)
    op = get("conv_weight_gradient")
    want = op.reference(g.astype(np.float64), x.astype(np.float64), **op.complete(attrs))
    got = run_op("conv_weight_gradient", [g, x], attrs)[0]
    assert got.dtype == np.float32 and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.sqrt(np.prod(size) * read[0]) * 4)
    for threads in (2, 3):
        assert np.array_equal(run_op("conv_weight_gradient", [g, x], attrs, threads=threads)[0], got)
