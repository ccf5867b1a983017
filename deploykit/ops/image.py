"""Resampling and image geometry, channels last where channels matter."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import prod

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim, DimLike
from deploykit.ops import resample
from deploykit.ops.core import Enum, F, Required, Spec, op
from deploykit.ops.grads import constant_of, known_dim, np_dtype, rank_of, reshape_like
from deploykit.ops.numerics import back, compute, float64, int_range, is_float, wide
from deploykit.ops.rules import (
    axes_of,
    error,
    fresh_shape,
    ints_of,
    length_of,
    product,
    require_index,
    require_kind,
    require_rank,
    require_same_dtype,
    show,
    unify_dim,
    values_of,
)
from deploykit.ops.samples import heavy as heavy_cases
from deploykit.ops.samples import sequence as cases
from deploykit.ops.windows import patches, per_dim, window


def _scaled(d: DimLike, scale: float) -> DimLike:
    """floor(d * scale), symbolic where the scale is a simple binary fraction."""
    if isinstance(d, int):
        return resample.scaled_size(d, scale)
    f = Fraction(float(np.float32(scale)))
    return d * f.numerator // f.denominator if f.denominator <= 64 else Dim.fresh()


def _round_saturate(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats as they are; integers rounded to nearest even and clamped."""
    if dtypes.dtype(dtype).kind not in "iu":
        return back(y, dtype)
    low, high = int_range(dtype)
    return back(np.clip(np.rint(y), low, high), dtype)


@op(
    210,
    "x, roi?, scales?, sizes? -> y",
    attrs=dict(
        axes=(),
        mode=Enum("nearest", "linear", "cubic"),
        coordinates=Enum(
            "half_pixel",
            "asymmetric",
            "align_corners",
            "pytorch_half_pixel",
            "half_pixel_symmetric",
            "tf_crop_and_resize",
        ),
        nearest=Enum("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        aspect=Enum("stretch", "not_larger", "not_smaller"),
        cubic_a=-0.75,
        exclude_outside=False,
        antialias=False,
        extrapolation=0.0,
    ),
)
class resize:
    """ONNX Resize semantics on any axes (() means all): exactly one of scales (float32) or sizes (int64) per axis.
    The other axes are copied, so the op is the same in every layout.

    Sizes are floor(size * scale); coordinates are computed in float32 (see :mod:`deploykit.ops.resample`).  Linear and
    cubic results of integers are rounded to nearest even and saturate.  roi [starts..., ends...] per axis, for
    tf_crop_and_resize only.
    """

    samples = cases.resize

    def infer(x, roi=None, scales=None, sizes=None, *, axes, aspect, coordinates, **_):
        resample.check_choice(scales, sizes)
        require_kind(x, "fiub")
        require_kind(scales, "f", "scales")
        require_index(sizes, "sizes")
        if coordinates == "tf_crop_and_resize" and roi is None:
            raise error("tf_crop_and_resize needs a roi")
        n = length_of(sizes if scales is None else scales)
        if x.shape is None:
            return Spec(x.dtype, fresh_shape(n) if n is not None and not axes else None)
        out = list(x.shape)
        where = axes_of(axes or range(len(out)), len(out))
        if n is not None and n != len(where):
            raise error("length of scales or sizes", n, f"{len(where)}, one per axis")
        if roi is not None and length_of(roi) not in (None, 2 * len(where)):
            raise error("length of roi", length_of(roi), f"{2 * len(where)}")
        wanted = values_of(sizes)
        if scales is not None and scales.value is not None:
            for a, s in zip(where, scales.value, strict=True):
                out[a] = _scaled(out[a], float(s))
        elif wanted is None:
            for a in where:
                out[a] = Dim.fresh()
        elif aspect == "stretch":
            for a, size in zip(where, wanted, strict=True):
                out[a] = size
        elif all(isinstance(v, int) for v in [*wanted, *(out[a] for a in where)]):
            for a in resample.plan(x.shape, where, None, np.array(wanted), None, aspect):
                out[a.axis] = a.n_out
        else:
            for a in where:
                out[a] = Dim.fresh()
        return Spec(x.dtype, tuple(out))

    def reference(x, roi=None, scales=None, sizes=None, **attrs):
        resample.check_choice(scales, sizes)
        crop = attrs["coordinates"] == "tf_crop_and_resize"
        where = axes_of(attrs["axes"] or range(x.ndim), x.ndim)
        nearest = attrs["mode"] == "nearest"
        y = x if nearest else float64(x) if not is_float(x) else wide(x)
        outside = np.zeros((1,) * x.ndim, dtype=bool)
        for a in resample.plan(x.shape, where, scales, sizes, roi if crop else None, attrs["aspect"]):
            if a.n_in == a.n_out and a.scale == 1 and not crop:
                continue
            index, weight, out = resample.axis_taps(a, attrs)
            y = np.take(y, index[:, 0], a.axis) if nearest else resample.along(y, a.axis, index, weight)
            outside = outside | out.reshape([-1 if i == a.axis else 1 for i in range(x.ndim)])
        if outside.any():
            y = np.where(outside, np.asarray(attrs["extrapolation"]).astype(y.dtype), y)
        return _round_saturate(y, x.dtype)

    def vjp(g, y, x, roi=None, scales=None, sizes=None, **attrs):
        # one small matrix per axis, applied backward
        crop = attrs["coordinates"] == "tf_crop_and_resize"
        rank = rank_of(x)
        where = axes_of(attrs["axes"] or range(rank), rank)
        given = [None if t is None else constant_of(t) for t in (roi if crop else None, scales, sizes)]
        if (given[1] is None and given[2] is None) or (crop and given[0] is None):
            raise ValueError("the gradient of resize needs to know scales, sizes and roi")
        still = [] if crop or given[1] is None else [a for a, s in zip(where, given[1], strict=True) if s == 1]
        shape = [1 if a in still else known_dim(x, a) if a in where else 1 for a in range(rank)]
        for a in reversed(resample.plan(shape, where, given[1], given[2], given[0], attrs["aspect"])):
            if a.axis in still or (a.n_in == a.n_out and a.scale == 1 and not crop):
                continue
            m = resample.matrix(a.n_in, *resample.axis_taps(a, attrs)).astype(np_dtype(x))
            to_last = (*(i for i in range(rank) if i != a.axis), a.axis)
            g = F.matmul(F.transpose(g, perm=to_last), m)
            g = F.transpose(g, perm=tuple(int(i) for i in np.argsort(to_last)))
        return g, None, None, None


def _reflect(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Mirror coordinates at both borders until they lie between them."""
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    past = np.abs(np.where(x < low, low - x, x - high))
    turns = np.floor(past / span)
    rest = past - turns * span
    even = turns % 2 == 0
    return np.where(
        x < low,
        np.where(even, low + rest, high - rest),
        np.where(x > high, np.where(even, high - rest, low + rest), x),
    )


@op(
    211,
    "x, grid -> y",
    attrs=dict(
        mode=Enum("linear", "nearest", "cubic"), padding=Enum("zeros", "border", "reflection"), align_corners=False
    ),
    not_differentiable="positions depend on data: the gradient would need a scatter of interpolation weights",
)
class grid_sample:
    """Channels last x [N, spatial..., C]; grid [N, out spatial..., d] of coordinates in [-1, 1], last one = innermost
    spatial dim first (x, y, z).  nearest rounds halves to even; cubic is Keys' kernel with a = -0.75 (ONNX GridSample).
    Padding border clamps coordinates, for cubic the four taps (as PyTorch and onnxruntime do; ONNX leaves it open).
    """

    samples = cases.grid_sample

    def infer(x, grid, *, mode, padding, align_corners):
        require_kind(x, "fiu")
        require_kind(grid, "f", "grid")
        require_rank(x, 3, 5)
        require_rank(grid, 3, 5, "grid")
        if x.shape is None or grid.shape is None:
            rank = len((x.shape or grid.shape) or ()) or None
            return Spec(x.dtype, fresh_shape(rank) if rank else None)
        if len(x.shape) != len(grid.shape):
            raise error("ranks of x and grid", f"{show(x.shape)} and {show(grid.shape)}", "the same rank")
        unify_dim(grid.shape[-1], len(x.shape) - 2, "coordinates per point and spatial dims")
        n = unify_dim(x.shape[0], grid.shape[0], "batch sizes")
        return Spec(x.dtype, (n, *grid.shape[1:-1], x.shape[-1]))

    def reference(x, grid, *, mode, padding, align_corners):
        n, *size, c = x.shape
        points = compute(grid)
        points = points.reshape(n, prod(grid.shape[1:-1]), len(size))[
            ..., ::-1
        ]  # [N, P, d] in the order of the spatial dims
        half = points.dtype.type(0.5)
        low, high, at = [], [], []
        for i, d in enumerate(size):
            low.append(0.0 if align_corners else -0.5)
            high.append(d - 1.0 if align_corners else d - 0.5)
            g = points[..., i]
            v = (g + 1) * half * (d - 1) if align_corners else ((g + 1) * d - 1) * half
            if mode == "nearest":
                v = np.rint(v)
            beyond = (v < low[i]) | (v > high[i])
            if padding == "border" and mode != "cubic":  # cubic clamps each of its taps instead
                v = np.where(beyond, np.clip(v, 0, d - 1), v)
            elif padding == "reflection":
                v = np.where(beyond, _reflect(v, low[i], high[i]), v)
            at.append(v.astype(np.float64))
        data = float64(x)
        batch = np.arange(n)[:, None]
        y = np.zeros((n, points.shape[1], c))
        base = [np.rint(v) if mode == "nearest" else np.floor(v) for v in at]
        offsets = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[mode]
        for shift in itertools.product(offsets, repeat=len(size)):
            weight, inside, index = np.ones(points.shape[:2]), np.ones(points.shape[:2], dtype=bool), []
            for i, d in enumerate(size):
                p = base[i] + shift[i]
                if mode == "linear":
                    weight = weight * (1 - np.abs(at[i] - p))
                elif mode == "cubic":
                    weight = weight * resample.cubic_kernel(at[i] - p, -0.75)
                inside &= (p >= 0) & (p < d)
                if padding == "reflection":
                    p = _reflect(p, low[i], high[i])
                index.append(np.clip(np.nan_to_num(p), 0, d - 1).astype(np.int64))
            if padding == "zeros":
                weight = np.where(inside, weight, 0)
            y += weight[..., None] * data[(batch, *index)]
        return _round_saturate(y.reshape(n, *grid.shape[1:-1], c), x.dtype)


@op(
    212,
    "x, rois, batch_indices -> y",
    attrs=dict(
        mode=Enum("avg", "max"),
        half_pixel=True,
        output_height=1,
        output_width=1,
        sampling_ratio=0,
        spatial_scale=1.0,
    ),
    not_differentiable="positions depend on data: the gradient would need a scatter of interpolation weights",
)
class roi_align:
    """Channels last x [N,H,W,C], rois [R,4] (x1,y1,x2,y2), batch_indices [R], y [R,oh,ow,C]: ONNX RoiAlign,
    Mask R-CNN (He et al. 2017).

    Each bin samples sampling_ratio^2 points (0: ceil(roi size / bins)); avg is their mean, max the largest of all
    weighted corners of all points, as ONNX defines it.  Points further than 1 outside count as zero.
    """

    samples = cases.roi_align

    def infer(x, rois, batch_indices, *, mode, half_pixel, output_height, output_width, sampling_ratio, spatial_scale):
        dtype = require_same_dtype(x, rois)
        require_kind(x, "f")
        require_index(batch_indices, "batch_indices")
        require_rank(x, 4)
        require_rank(rois, 2, what="rois")
        require_rank(batch_indices, 1, what="batch_indices")
        for what, v in (("output_height", output_height), ("output_width", output_width)):
            if v < 1:
                raise error(what, v, "at least 1")
        r: DimLike = Dim.fresh()
        if rois.shape is not None:
            unify_dim(rois.shape[1], 4, "columns of rois")
            r = rois.shape[0]
        if batch_indices.shape is not None:
            r = unify_dim(r, batch_indices.shape[0], "numbers of rois and batch_indices")
        c = x.shape[-1] if x.shape is not None else Dim.fresh()
        return Spec(dtype, (r, output_height, output_width, c))

    def reference(
        x, rois, batch_indices, *, mode, half_pixel, output_height, output_width, sampling_ratio, spatial_scale
    ):
        boxes = compute(rois)
        boxes = boxes * boxes.dtype.type(spatial_scale) - boxes.dtype.type(0.5 if half_pixel else 0)
        data = wide(x)
        y = np.zeros((len(boxes), output_height, output_width, x.shape[-1]), dtype=data.dtype)
        for r, (x1, y1, x2, y2) in enumerate(boxes):
            axes = []
            for start, end, bins, n in ((y1, y2, output_height, x.shape[1]), (x1, x2, output_width, x.shape[2])):
                length = end - start if half_pixel else max(end - start, end.dtype.type(1))
                per_bin = length / bins
                points = sampling_ratio if sampling_ratio > 0 else max(int(np.ceil(per_bin)), 0)
                k = np.arange(bins * points)
                v = start + (k // max(points, 1)) * per_bin + (k % max(points, 1) + 0.5) * per_bin / max(points, 1)
                valid = (v >= -1.0) & (v <= n)
                v = np.maximum(v, 0)
                lo = np.minimum(v.astype(np.int64), n - 1)
                part = np.where(lo >= n - 1, 0, v - lo)
                axes.append((lo, np.minimum(lo + 1, n - 1), part, valid, points))
            (ylo, yhi, wy, oky, py), (xlo, xhi, wx, okx, px) = axes
            if not py or not px:
                continue
            ok = (oky[:, None] & okx)[..., None]
            plane = data[int(batch_indices[r])]
            corners = [
                np.where(ok, (fy[:, None] * fx)[..., None] * plane[iy[:, None], ix], 0)
                for iy, fy in ((ylo, 1 - wy), (yhi, wy))
                for ix, fx in ((xlo, 1 - wx), (xhi, wx))
            ]
            value = sum(corners) if mode == "avg" else np.maximum.reduce(corners)
            value = value.reshape(output_height, py, output_width, px, -1)
            y[r] = value.mean(axis=(1, 3)) if mode == "avg" else value.max(axis=(1, 3))
        return back(y, x.dtype)


@op(213, "x, image_shape, block_shape -> y", attrs=dict(dilations=(), pads=(), strides=()), onnx="Col2Im")
class col2im:
    "ONNX Col2Im: [N, C * prod(block), L] -> [N, C, image...], overlapping blocks add up (channels first)."

    samples = cases.col2im

    def infer(x, image_shape, block_shape, *, dilations, pads, strides):
        require_kind(x, "fiu")
        require_rank(x, 3)
        require_index(image_shape, "image_shape")
        require_index(block_shape, "block_shape")
        image, block = values_of(image_shape), ints_of(block_shape)
        if block is not None and any(k < 1 for k in block):
            raise error("block_shape", block, "positive numbers")
        d = length_of(image_shape) or length_of(block_shape)
        if d is None:
            return Spec(x.dtype, None)
        n: DimLike = x.shape[0] if x.shape is not None else Dim.fresh()
        c: DimLike = Dim.fresh()
        if x.shape is not None and block is not None:
            c = x.shape[1] // prod(block)
            if isinstance(x.shape[1], int) and x.shape[1] % prod(block):
                raise error("rows of x", x.shape[1], f"a multiple of the block's {prod(block)} elements")
            if image is not None:
                w = window(tuple(image), tuple(block), strides, dilations, pads)
                unify_dim(product(w.out), x.shape[2], "number of blocks in the image and in x")
        return Spec(x.dtype, (n, c, *(image if image is not None else fresh_shape(d))))

    def reference(x, image_shape, block_shape, *, dilations, pads, strides):
        image, block = (tuple(int(v) for v in t) for t in (image_shape, block_shape))
        w = window(image, block, strides, dilations, pads)
        n = x.shape[0]
        data = wide(x) if is_float(x) else compute(x)
        cols = data.reshape(n, -1, *block, *w.out)
        before, after = w.before, w.after
        padded = np.zeros(
            (n, cols.shape[1], *(d + max(b, 0) + max(a, 0) for d, b, a in zip(image, before, after, strict=True)))
        )
        padded = padded.astype(data.dtype)
        for index in np.ndindex(*block):
            place = tuple(
                slice(i * dl, i * dl + (o - 1) * s + 1, s)
                for i, dl, o, s in zip(index, w.dilations, w.out, w.strides, strict=True)
            )
            padded[(slice(None), slice(None), *place)] += cols[(slice(None), slice(None), *index)]
        crop = tuple(slice(b, b + d) for b, d in zip(before, image, strict=True))
        return back(padded[(slice(None), slice(None), *crop)], x.dtype)

    def vjp(g, y, x, image_shape, block_shape, **how):
        # patches of the image, brought from channels last to channels first
        block = constant_of(block_shape)
        if block is None:
            raise ValueError("the gradient of col2im needs to know the block")
        c, k, nd = known_dim(g, 1), prod(int(b) for b in block), len(block)
        last = F.transpose(g, perm=(0, *range(2, nd + 2), 1))
        cols = F.im2col(last, kernel=tuple(int(b) for b in block), **how)
        cols = F.reshape(cols, np.array([0, -1, k, c], np.int64))
        return reshape_like(F.transpose(cols, perm=(0, 3, 2, 1)), x), None, None


@op(214, "x -> y", attrs=dict(kernel=Required("ints"), strides=(), dilations=(), pads=()))
class im2col:
    """Channels last patches of [N, spatial..., C], zero padded: [N, out..., kernel elements * C], for two spatial dims
    [N, OH, OW, kh * kw * C]."""

    samples = heavy_cases.im2col

    def infer(x, *, kernel, strides, dilations, pads):
        require_kind(x, "fiu")
        require_rank(x, len(kernel) + 2)
        per_dim("kernel", kernel, len(kernel), 1, 1)
        if x.shape is None:
            return Spec(x.dtype, None)
        w = window(x.shape[1:-1], kernel, strides, dilations, pads)
        return Spec(x.dtype, (x.shape[0], *w.out, x.shape[-1] * prod(kernel)))

    def reference(x, *, kernel, strides, dilations, pads):
        w = window(x.shape[1:-1], kernel, strides, dilations, pads)
        nd = len(kernel)
        view = patches(x, w).transpose(*range(nd + 1), *range(nd + 2, 2 * nd + 2), nd + 1)
        return np.ascontiguousarray(view).reshape(x.shape[0], *w.out, prod(kernel) * x.shape[-1])

    def vjp(g, y, x, *, kernel, **how):
        # overlapping patches add up, channels first and back
        c, k, nd = known_dim(x, -1), prod(kernel), len(kernel)
        cols = F.reshape(g, np.array([0, -1, k, c], np.int64))
        rows = F.reshape(F.transpose(cols, perm=(0, 3, 2, 1)), np.array([0, k * c, -1], np.int64))
        size = np.array([known_dim(x, i + 1) for i in range(nd)], np.int64)
        image = F.col2im(rows, size, np.array(kernel, np.int64), **how)
        return (F.transpose(image, perm=(0, *range(2, nd + 2), 1)),)
