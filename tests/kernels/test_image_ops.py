"""The engine's image ops against their references: every option of resize, random geometry, all kinds of dtypes."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

rng = np.random.default_rng(5)
COORDINATES = [
    "half_pixel",
    "asymmetric",
    "align_corners",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "tf_crop_and_resize",
]


def data(shape, dtype=np.float32):
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -1000), min(info.max, 1000), shape, dtype=np.int64).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def close(got, want, tolerance=1e-5):
    assert got.shape == want.shape and got.dtype == want.dtype
    if got.dtype.kind in "iub":
        return np.testing.assert_array_equal(got, want)
    a, b = got.astype(np.float64), want.astype(np.float64)
    scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def check(name, inputs, attrs, tolerance=1e-5):
    close(run_op(name, inputs, attrs), getattr(F, name)(*inputs, **attrs), tolerance)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_options(mode, coordinates):
    for n, (nearest, aspect) in enumerate(
        itertools.product(
            ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"], ["stretch", "not_larger", "not_smaller"]
        )
    ):
        c = int(rng.choice([1, 2, 3, 5, 16, 19]))
        x = data((2, int(rng.integers(1, 9)), int(rng.integers(1, 9)), c))
        attrs = dict(mode=mode, coordinates=coordinates, nearest=nearest, aspect=aspect, axes=(1, 2))
        attrs.update(antialias=bool(n & 1), exclude_outside=bool(n & 2), extrapolation=7.5)
        roi = None
        if coordinates == "tf_crop_and_resize":
            roi = np.array([0.1, -0.2, 0.9, 1.3], np.float32)
        check("resize", [x, roi, None, rng.integers(2, 14, 2)], attrs)
        if aspect == "stretch":
            check("resize", [x, roi, rng.uniform(0.6, 2.5, 2).astype(np.float32)], attrs)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.float16, np.float64, ml_dtypes.bfloat16, np.uint64])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_dtypes(mode, dtype):
    x = data((2, 5, 7, 3), dtype)
    tolerance = 1e-2 if np.dtype(dtype).itemsize == 2 else 1e-5
    for axes, sizes in [((1, 2), [9, 4]), ((1,), [3]), ((2,), [10]), ((3,), [5]), ((0, 1, 2), [3, 8, 5])]:
        check("resize", [x, None, None, np.array(sizes)], dict(mode=mode, axes=axes), tolerance)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_axes(mode):
    x = data((2, 3, 4, 5, 6))
    for axes in [(2, 3), (3, 4), (1, 2, 3), (4, 0), (0, 2, 4), (0, 1, 2, 3, 4), (-1,), (1,)]:
        scales = rng.uniform(0.7, 2.2, len(axes)).astype(np.float32)
        check("resize", [x, None, scales], dict(mode=mode, axes=axes))
    check("resize", [x, None, np.array([1, 1, 2, 2, 1], np.float32)], dict(mode=mode))
    check("resize", [np.float32(3), None, None, np.zeros(0, np.int64)], dict(mode=mode))


def test_resize_large_in_parts():
    x = data((1, 60, 80, 24))
    for mode in ("linear", "nearest"):
        check("resize", [x, None, np.array([2, 2], np.float32)], dict(mode=mode, axes=(1, 2)))
    x = data((1, 3, 200, 150))
    check("resize", [x, None, None, np.array([150, 333])], dict(mode="linear", axes=(2, 3)))
    x = data((1, 100, 90, 3), np.uint8)
    check("resize", [x, None, None, np.array([64, 64])], dict(mode="linear", axes=(1, 2), antialias=True))


def test_resize_wrong():
    x = data((1, 4, 4, 1))
    with pytest.raises(DeploykitError, match="exactly one"):
        run_op("resize", [x, None, None, None])
    with pytest.raises(DeploykitError, match="roi"):
        run_op("resize", [x, None, None, np.array([2, 2])], dict(axes=(1, 2), coordinates="tf_crop_and_resize"))
    with pytest.raises(DeploykitError, match="scale of axis 1"):
        run_op("resize", [x, None, np.array([-1, 2], np.float32)], dict(axes=(1, 2)))
    with pytest.raises(DeploykitError, match="empty"):
        run_op("resize", [data((1, 0, 4, 1)), None, None, np.array([2, 2])], dict(axes=(1, 2)))


@pytest.mark.parametrize("scale", [-1, -0.1, -123456, -1234567, -0.0001, -0.00001234, -3e38, -1e-38, 0, 3e38, np.nan])
def test_numbers_in_messages(scale):
    """The engine writes numbers itself, as C's and Python's %g do."""
    with pytest.raises(DeploykitError) as e:
        run_op("resize", [data((1, 4, 4, 1)), None, np.array([scale, 2], np.float32)], dict(axes=(1, 2)))
    assert f"is {float(np.float32(scale)):g}, expected" in str(e.value)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode, padding):
    for d, corners in itertools.product((1, 2, 3), (False, True)):
        x = data((2, *(int(v) for v in rng.integers(1, 7, d)), 3))
        grid = rng.uniform(-2.5, 2.5, (2, *(int(v) for v in rng.integers(1, 6, d)), d)).astype(np.float32)
        check("grid_sample", [x, grid], dict(mode=mode, padding=padding, align_corners=corners), 1e-5)
    # the grid left over is that of the last round, three coordinates per point
    attrs = {"mode": mode, "padding": padding}
    check("grid_sample", [data((2, 4, 4, 4, 2), np.int16), grid], attrs)
    check("grid_sample", [data((2, 4, 4, 4, 2), np.float64), grid.astype(np.float64)], attrs)
    check("grid_sample", [data((2, 4, 4, 4, 2), np.float16), grid], attrs, 1e-2)


def test_grid_sample_odd_coordinates():
    grid = np.array([[[np.nan], [np.inf], [-np.inf], [1e30], [0.0]]], np.float32).reshape(1, 5, 1)
    for mode in ("linear", "nearest"):
        for padding in ("zeros", "border"):
            got = run_op("grid_sample", [np.ones((1, 6, 2), np.float32), grid], dict(mode=mode, padding=padding))
            assert got.shape == (1, 5, 2) and got[0, 4].tolist() == [1, 1]


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half_pixel", [True, False])
def test_roi_align(half_pixel, mode):
    x = data((3, 9, 11, 5))
    low = rng.uniform(-4, 12, (7, 2))
    rois = np.concatenate([low, low + rng.uniform(-1, 14, (7, 2))], 1).astype(np.float32)
    batch = rng.integers(0, 3, 7)
    for ratio, scale in itertools.product((0, 1, 3), (1.0, 0.5)):
        attrs = dict(mode=mode, half_pixel=half_pixel, sampling_ratio=ratio, spatial_scale=scale)
        check("roi_align", [x, rois, batch], dict(**attrs, output_height=3, output_width=4))
        check("roi_align", [x.astype(np.float64), rois.astype(np.float64), batch], attrs)
    with pytest.raises(DeploykitError, match=r"DK-INDEX.*batch_indices\[1\] is 3"):
        run_op("roi_align", [x, rois[:2], np.array([0, 3])])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64, np.float16])
def test_im2col_and_col2im(dtype):
    for d in (1, 2, 3):
        for _ in range(6):
            image = tuple(int(v) for v in rng.integers(3, 8, d))
            kernel = tuple(int(v) for v in rng.integers(1, 4, d))
            attrs = dict(
                strides=tuple(int(v) for v in rng.integers(1, 3, d)),
                dilations=tuple(int(v) for v in rng.integers(1, 2, d)),
                pads=tuple(int(v) for v in rng.integers(0, 2, 2 * d)),
            )
            x = data((2, *image, 3), dtype)
            check("im2col", [x], dict(attrs, kernel=kernel))
            blocks = int(np.prod(F.im2col(x, kernel=kernel, **attrs).shape[1:-1]))
            cols = data((2, 3 * int(np.prod(kernel)), blocks), dtype)
            check("col2im", [cols, np.array(image), np.array(kernel)], attrs, 1e-2 if dtype == np.float16 else 1e-5)
    with pytest.raises(DeploykitError, match="blocks"):
        run_op("col2im", [data((1, 4, 5)), np.array([4, 4]), np.array([2, 2])])
