"""Sampling at coordinates: gathers of the corners around each, weighted.  Signatures are Keras' own."""

from __future__ import annotations

import itertools

import numpy as np
from keras.src.random.seed_generator import draw_seed

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.image.colours import back, images_of
from deploykit.keras_backend.image.filters import gaussian_blur
from deploykit.keras_backend.linalg import solve
from deploykit.ops.core import F

AFFINE_TRANSFORM_INTERPOLATIONS = {"nearest": 0, "bilinear": 1}
AFFINE_TRANSFORM_FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
MAP_COORDINATES_FILL_MODES = AFFINE_TRANSFORM_FILL_MODES


def _inside(i, n, mode):
    """(places within 0..n-1 for integer places i, where they were inside at all or None)."""
    if mode == "constant":
        ok = F.logical_and(F.greater_equal(i, 0), F.less(i, n))
        return F.minimum(F.maximum(i, 0), n - 1), ok
    if mode == "wrap":
        return F.mod(i, n), None
    if mode == "mirror" and n > 1:  # the ends are not repeated
        i = F.mod(F.abs(i), 2 * (n - 1))
        return F.minimum(i, F.sub(2 * (n - 1), i)), None
    if mode == "reflect":  # the ends are repeated
        i = F.mod(i, 2 * n)
        return F.minimum(i, F.sub(2 * n - 1, i)), None
    return F.minimum(F.maximum(i, 0), n - 1), None


def _sample(rows, sizes, coordinates, order, mode, fill, offset=None):
    """rows [product(sizes) * k, ...] at float coordinates, one tensor per dim; the shape of these, then rows' rest."""
    dtype = coordinates[0].dtype
    options = []
    for c in coordinates:
        if order == 0:
            options.append([(F.cast(F.round(c), dtype="int64"), None)])
        else:
            low = F.floor(c)
            share = F.sub(c, low)
            i = F.cast(low, dtype="int64")
            options.append([(i, F.sub(1.0, share)), (F.add(i, 1), share)])
    total = None
    for corner in itertools.product(*options):
        flat, weight, ok = offset, None, None
        for n, (i, w) in zip(sizes, corner, strict=True):
            i, good = _inside(i, n, mode)
            flat = i if flat is None else F.add(F.mul(flat, n), i)
            weight = w if weight is None else F.mul(weight, w)
            ok = good if ok is None else F.logical_and(ok, good)
        part = N.cast(F.gather(rows, flat, axis=0), dtype)
        more = [1] * (rows.ndim - 1)
        if ok is not None:
            part = F.where(N.reshape(ok, (*ok.shape, *more)), part, np.asarray(fill, dtype))
        if weight is not None:
            part = F.mul(part, N.reshape(weight, (*weight.shape, *more)))
        total = part if total is None else F.add(total, part)
    if dtypes.dtype(rows.dtype).kind != "f":
        total = F.round(total)
    return N.cast(total, rows.dtype)


def _check(interpolation, fill_mode="constant"):
    if interpolation not in AFFINE_TRANSFORM_INTERPOLATIONS:
        raise ValueError(
            "Invalid value for argument `interpolation`. Expected of one "
            f"{set(AFFINE_TRANSFORM_INTERPOLATIONS)}. Received: interpolation={interpolation}"
        )
    if fill_mode not in AFFINE_TRANSFORM_FILL_MODES:
        raise ValueError(
            "Invalid value for argument `fill_mode`. Expected of one "
            f"{set(AFFINE_TRANSFORM_FILL_MODES)}. Received: fill_mode={fill_mode}"
        )


def map_coordinates(inputs, coordinates, order, fill_mode="constant", fill_value=0.0):
    x = convert_to_tensor(inputs)
    at = convert_to_tensor(coordinates)
    if at.shape[0] != x.ndim:
        raise ValueError(
            "First dim of `coordinates` must be the same as the rank of `inputs`. Received inputs with shape: "
            f"{tuple(x.shape)} and coordinate leading dim of {at.shape[0]}"
        )
    if at.ndim < 2:
        raise ValueError(
            f"Invalid coordinates rank: expected at least rank 2. Received input with shape: {tuple(at.shape)}"
        )
    if fill_mode not in MAP_COORDINATES_FILL_MODES:
        raise ValueError(
            f"Invalid value for argument `fill_mode`. Expected one of {set(MAP_COORDINATES_FILL_MODES)}. Received: "
            f"fill_mode={fill_mode}"
        )
    if order not in (0, 1):
        raise ValueError(f"Invalid value for argument `order`. Expected one of [0, 1]. Received: order={order}")
    at = at if dtypes.dtype(at.dtype).kind == "f" else convert_to_tensor(at, "float32")
    return _sample(N.reshape(x, (-1,)), x.shape, [at[i] for i in range(x.ndim)], order, fill_mode, fill_value)


def _warp(x, rows, columns, interpolation, mode, fill):
    """x [N, H, W, C] at rows and columns [N, h, w]."""
    n, h, w, c = x.shape
    batch = np.arange(n, dtype=np.int64).reshape(n, 1, 1)
    order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
    return _sample(N.reshape(x, (n * h * w, c)), (h, w), [rows, columns], order, mode, fill, batch)


def _batched(images, data_format):
    x, first = images_of(images, data_format)
    return (x, first, False) if x.ndim == 4 else (N.expand_dims(x, 0), first, True)


def _grid(x):
    """Columns and rows of an image as float32 [1, H, W]."""
    rows, columns = np.meshgrid(np.arange(x.shape[1]), np.arange(x.shape[2]), indexing="ij")
    return columns[None].astype(np.float32), rows[None].astype(np.float32)


def affine_transform(images, transform, interpolation="bilinear", fill_mode="constant", fill_value=0, data_format=None):
    _check(interpolation, fill_mode)
    t = convert_to_tensor(transform, "float32")
    x, first, single = _batched(images, data_format)
    if t.ndim not in (1, 2):
        raise ValueError(
            "Invalid transform rank: expected rank 1 (single transform) or rank 2 (batch of transforms). Received input "
            f"with shape: transform.shape={tuple(t.shape)}"
        )
    t = N.reshape(t, (-1, 8, 1, 1))
    a0, a1, a2, b0, b1, b2 = (t[:, i] for i in range(6))
    columns, rows = _grid(x)
    to_column = F.add(F.add(F.mul(a0, columns), F.mul(a1, rows)), a2)
    to_row = F.add(F.add(F.mul(b0, columns), F.mul(b1, rows)), b2)
    n = x.shape[0]
    to_row, to_column = (N.broadcast_to(v, (n, *v.shape[1:])) for v in (to_row, to_column))
    y = _warp(x, to_row, to_column, interpolation, fill_mode, fill_value)
    return back(N.squeeze(y, 0) if single else y, first)


def compute_homography_matrix(start_points, end_points):
    """[N, 8]: the coefficients that take end points to start points."""
    start, end = convert_to_tensor(start_points, "float32"), convert_to_tensor(end_points, "float32")
    sx, sy, ex, ey = start[..., 0], start[..., 1], end[..., 0], end[..., 1]
    none, one = N.zeros_like(ex), N.ones_like(ex)
    top = N.stack([ex, ey, one, none, none, none, F.neg(F.mul(sx, ex)), F.neg(F.mul(sx, ey))], -1)
    low = N.stack([none, none, none, ex, ey, one, F.neg(F.mul(sy, ex)), F.neg(F.mul(sy, ey))], -1)
    return solve(N.concatenate([top, low], 1), N.concatenate([sx, sy], -1))


def perspective_transform(images, start_points, end_points, interpolation="bilinear", fill_value=0, data_format=None):
    _check(interpolation)
    x, first, single = _batched(images, data_format)
    start, end = convert_to_tensor(start_points, "float32"), convert_to_tensor(end_points, "float32")
    for name, p in (("start_points", start), ("end_points", end)):
        if p.ndim not in (2, 3) or tuple(p.shape[-2:]) != (4, 2):
            raise ValueError(
                f"Invalid {name} shape: expected (4,2) for a single image or (N,4,2) for a batch. "
                f"Received shape: {tuple(p.shape)}"
            )
    if start.shape != end.shape:
        raise ValueError(
            "start_points and end_points must have the same shape. Received "
            f"start_points.shape={tuple(start.shape)}, end_points.shape={tuple(end.shape)}"
        )
    t = compute_homography_matrix(N.reshape(start, (-1, 4, 2)), N.reshape(end, (-1, 4, 2)))
    t = N.reshape(t, (-1, 8, 1, 1))
    c = [t[:, i] for i in range(8)]
    columns, rows = _grid(x)
    below = F.add(F.add(F.mul(c[6], columns), F.mul(c[7], rows)), 1.0)
    to_column = F.div(F.add(F.add(F.mul(c[0], columns), F.mul(c[1], rows)), c[2]), below)
    to_row = F.div(F.add(F.add(F.mul(c[3], columns), F.mul(c[4], rows)), c[5]), below)
    n = x.shape[0]
    to_row, to_column = (N.broadcast_to(v, (n, *v.shape[1:])) for v in (to_row, to_column))
    y = _warp(x, to_row, to_column, interpolation, "constant", fill_value)
    return back(N.squeeze(y, 0) if single else y, first)


def elastic_transform(
    images,
    alpha=20.0,
    sigma=5.0,
    interpolation="bilinear",
    fill_mode="reflect",
    fill_value=0.0,
    seed=None,
    data_format=None,
):
    from deploykit.keras_backend import random

    _check(interpolation, fill_mode)
    x, first, single = _batched(images, data_format)
    alpha, sigma = float(np.asarray(alpha)), float(np.asarray(sigma))
    size = (int(6 * sigma) | 1,) * 2
    seed = draw_seed(seed)
    n, h, w, _ = x.shape
    noise = F.mul(random.normal((n, h, w, 1), seed=seed), sigma)
    moved = gaussian_blur(noise, size, (sigma, sigma), "channels_last")[..., 0]
    columns, rows = _grid(x)
    # one draw moves both coordinates, as Keras draws both from the same seed
    to_column, to_row = (F.add(F.mul(moved, alpha), v) for v in (columns, rows))
    y = _warp(x, to_row, to_column, interpolation, fill_mode, fill_value)
    return back(N.squeeze(y, 0) if single else y, first)
