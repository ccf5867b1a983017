"""Shape, index and resampling ops whose arguments moved between attributes and inputs over the opsets."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.converters.importers.onnx.reader import dtype_of
from deploykit.errors import FormatError
from deploykit.graph import Value

NO_AXIS = 2147483647  # our sentinel for "the flattened tensor"


def _axes(c: Call) -> Value | None:
    """Axes from input 1 (opset 13 and later) or the attribute."""
    if c.since >= 13:
        return c.opt(1)
    return c.i64(*c.attr("axes")) if c.has("axes") else None


@handles("Squeeze")
def squeeze(c: Call) -> Value:
    return c.op("squeeze", c.x(), _axes(c))


@handles("Unsqueeze")
def unsqueeze(c: Call) -> Value:
    axes = _axes(c)
    if axes is None:
        raise FormatError("axes are missing")
    return c.op("unsqueeze", c.x(), axes)


@handles("Split", since=2)
def split(c: Call) -> Any:
    sizes = c.opt(1) if c.since >= 13 else c.i64(*c.attr("split")) if c.has("split") else None
    count = c.attr("num_outputs", len(c.outputs))
    if count != len(c.outputs):
        raise FormatError(f"num_outputs is {count} but the node has {len(c.outputs)} outputs")
    return c.op("split", c.x(), sizes, outputs=count, axis=c.attr("axis", 0))


@handles("Slice", until=9)
def slice_1(c: Call) -> Value:
    starts, ends = c.attr("starts"), c.attr("ends")
    axes = c.ints("axes", range(len(starts)))
    return c.op("slice", c.x(), c.i64(*starts), c.i64(*ends), c.i64(*axes))  # type: ignore[misc]


_PAD_MODES = ("constant", "reflect", "edge", "wrap")


@handles("Pad", since=2)
def pad(c: Call) -> Value:
    x, mode = c.x(), c.attr("mode", "constant")
    if mode not in _PAD_MODES:
        raise FormatError(f"mode '{mode}'; expected one of {', '.join(_PAD_MODES)}")
    if c.since < 11:
        value = c.scalar(c.attr("value", 0.0), x)
        return c.op("pad", x, c.i64(*c.attr("pads")), value if mode == "constant" else None, mode=mode)
    value = c.opt(2)
    if value is not None and value.shape != ():
        value = c.op("reshape", value, c.i64())
    return c.op("pad", x, c.x(1), value if mode == "constant" else None, c.opt(3), mode=mode)


@handles("EyeLike")
def eye_like(c: Call) -> Value:
    dtype = dtype_of(c.attr("dtype"), "the result").name if c.has("dtype") else ""
    return c.op("eye_like", c.x(), dtype=dtype, k=c.attr("k", 0))


@handles("DepthToSpace")
def depth_to_space(c: Call) -> Value:
    mode = c.attr("mode", "DCR").lower()
    return c.first(c.op("depth_to_space", c.last(c.x()), block=c.attr("blocksize"), mode=mode))


@handles("SpaceToDepth")
def space_to_depth(c: Call) -> Value:
    mode = c.attr("mode", "DCR").lower()
    return c.first(c.op("space_to_depth", c.last(c.x()), block=c.attr("blocksize"), mode=mode))


# ---- index
@handles("Scatter")
def scatter_9(c: Call) -> Value:
    return c.op("scatter_elements", c.x(0), c.x(1), c.x(2), axis=c.attr("axis", 0))


@handles("TopK", until=9)
def top_k_1(c: Call) -> Any:
    return c.op("top_k", c.x(), c.i64(c.attr("k")), outputs=len(c.outputs), axis=c.attr("axis", -1))


@handles("Unique")
def unique(c: Call) -> Any:
    axis = c.attr("axis", NO_AXIS)
    return c.op("unique", c.x(), outputs=len(c.outputs), axis=axis, sorted=bool(c.attr("sorted", 1)))


@handles("Compress")
def compress(c: Call) -> Value:
    return c.op("compress", c.x(0), c.x(1), axis=c.attr("axis", NO_AXIS))


@handles("NonMaxSuppression")
def non_max_suppression(c: Call) -> Value:
    options = [c.opt(i) for i in range(2, c.n)]
    center = bool(c.attr("center_point_box", 0))
    return c.op("non_max_suppression", c.x(0), c.x(1), *options, center_box=center)


# ---- resampling
_COORDINATES = {
    "half_pixel": "half_pixel", "asymmetric": "asymmetric", "align_corners": "align_corners",
    "pytorch_half_pixel": "pytorch_half_pixel", "half_pixel_symmetric": "half_pixel_symmetric",
    "tf_crop_and_resize": "tf_crop_and_resize",
}  # fmt: skip


@handles("Upsample", since=7)
def upsample(c: Call) -> Value:
    scales = c.const(np.array(c.attr("scales"), np.float32)) if c.since < 9 else c.x(1)
    mode = c.attr("mode", "nearest")
    return resize(c, scales, None, None, mode=_mode(mode), coordinates="asymmetric", nearest="floor")


@handles("Resize", until=10)
def resize_10(c: Call) -> Value:
    mode = _mode(c.attr("mode", "nearest"))
    return resize(c, c.x(1), None, None, mode=mode, coordinates="asymmetric", nearest="floor")


@handles("Resize", since=11)
def resize_11(c: Call) -> Value:
    coordinates = c.attr("coordinate_transformation_mode", "half_pixel")
    nearest = c.attr("nearest_mode", "round_prefer_floor")
    mode = _mode(c.attr("mode", "nearest"))
    if coordinates == "tf_half_pixel_for_nn":  # opset 11 only: (x + 0.5) / scale, half a pixel above half_pixel
        if mode != "nearest" or nearest != "floor":
            raise c.unsupported(f"coordinates tf_half_pixel_for_nn with mode {mode}, rounding {nearest}")
        coordinates, nearest = "half_pixel", "round_prefer_ceil"
    if coordinates not in _COORDINATES:
        raise c.unsupported(f"coordinate_transformation_mode '{coordinates}'")
    scales, sizes = c.opt(2), c.opt(3)
    if scales is not None and scales.shape == (0,):
        scales = None
    if sizes is not None and sizes.shape == (0,):
        sizes = None
    if (scales is None) == (sizes is None):
        raise FormatError("exactly one of scales and sizes must be given")
    return resize(
        c, scales, sizes, c.opt(1) if coordinates == "tf_crop_and_resize" else None, c.ints("axes"),
        mode=mode, coordinates=coordinates, nearest=nearest,
        aspect=c.attr("keep_aspect_ratio_policy", "stretch"), cubic_a=c.attr("cubic_coeff_a", -0.75),
        exclude_outside=bool(c.attr("exclude_outside", 0)), antialias=bool(c.attr("antialias", 0)),
        extrapolation=c.attr("extrapolation_value", 0.0),
    )  # fmt: skip


def _mode(text: str) -> str:
    mode = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic"}.get(text)
    if mode is None:
        raise FormatError(f"mode '{text}'; expected nearest, linear or cubic")
    return mode


def resize(
    c: Call, scales: Value | None, sizes: Value | None, roi: Value | None, axes: list[int] | None = None, **attrs: Any
) -> Value:
    """Emit resize; channels last when it leaves the batch and channel dims of an image alone."""
    x = c.x()
    rank = c.rank(x)
    axes = [c.axis(a, rank) for a in axes] if axes else list(range(rank))
    args = [roi, scales, sizes]
    keep = [i for i, a in enumerate(axes) if a >= 2]
    if (
        rank in (3, 4, 5)
        and keep
        and roi is None
        and _copies(c, scales, sizes, [i for i, a in enumerate(axes) if a < 2])
    ):
        if len(keep) < len(axes):
            args = [None if v is None else c.op("gather", v, c.i64(*keep)) for v in args]
        y = c.op("resize", c.last(x), *args, axes=[axes[i] - 1 for i in keep], **attrs)
        return c.first(y)
    return c.op("resize", x, *args, axes=() if axes == list(range(rank)) else axes, **attrs)


def _copies(c: Call, scales: Value | None, sizes: Value | None, places: list[int]) -> bool:
    """Whether the entries at these places certainly leave their axes as they are (places are also axis numbers)."""
    if not places:
        return True
    if scales is not None:
        known = c.known(scales)
        return known is not None and all(known[i] == 1.0 for i in places)
    value = c.body.builder.spec(sizes).value if sizes is not None else None
    shape = c.shape(c.x())
    return value is not None and all(value.reshape(-1)[i] == shape[i] for i in places)
