"""Convolutions, channels last: x [N, spatial..., C], weight OHWI [O, spatial..., C / groups], y [N, spatial..., O]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import DimLike, Shape
from deploykit.ops.activation import ACT_ATTRS
from deploykit.ops.core import Enum, F, Required, Spec, op
from deploykit.ops.epilogue import epilogue, epilogue_gradient
from deploykit.ops.grads import known_dim, rank_of, reshape_like
from deploykit.ops.numerics import back, wide
from deploykit.ops.rules import error, product, require_kind, require_rank, require_same_dtype, show
from deploykit.ops.samples import heavy as cases
from deploykit.ops.windows import Window, correlate, fit, pad_spatial, per_dim, window

# strides, dilations: one per spatial dim, () means ones.  pads: all befores, then all afters (ONNX order), () means
# zeros; pad_mode same_upper / same_lower computes them from the input size (odd one after / before) and wants pads ().
GEOMETRY = dict(strides=(), dilations=(), pads=(), pad_mode=Enum("explicit", "same_upper", "same_lower"), groups=1)


def differ(a: DimLike, b: DimLike) -> bool:
    """True when two sizes are certainly not equal."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def check_shape(what: str, spec: Spec | None, want: Shape) -> None:
    """Raise unless an operand that is present has this shape, as far as known."""
    if spec is None or spec.shape is None:
        return
    if len(spec.shape) != len(want) or any(map(differ, spec.shape, want)):
        raise error(f"shape of {what}", show(spec.shape), show(want))


def _spatial(x: Spec, weight: Spec) -> None:
    """Raise unless the ranks fit 1 to 3 spatial dims."""
    ranks = {len(s.shape) for s in (x, weight) if s.shape is not None}
    if len(ranks) == 2 or any(not 3 <= r <= 5 for r in ranks):
        raise error("ranks of x and weight", f"{show(x.shape)} and {show(weight.shape)}", "the same rank, 3 to 5")


def conv_shape(x: Spec, weight: Spec, groups: int, **geometry: Any) -> Shape | None:
    """Shape of a convolution's result; raises ShapeError where the operands do not fit."""
    _spatial(x, weight)
    if groups < 1:
        raise error("groups", groups, "at least 1")
    if x.shape is None or weight.shape is None:
        return None
    c, cg, o = x.shape[-1], weight.shape[-1], weight.shape[0]
    if differ(c, cg * groups):
        raise error("channels do not fit the weight", f"{c} channels", f"{cg} * {groups} groups = {cg * groups}")
    if isinstance(o, int) and o % groups:
        raise error("output channels", o, f"a multiple of groups = {groups}")
    return (x.shape[0], *window(x.shape[1:-1], weight.shape[1:-1], **geometry).out, o)


# ---- gradients of the linear part, in ops
def known_window(
    x: Any,
    kernel: Sequence[int],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    pad_mode: str,
    ceil_mode: bool = False,
) -> Window:
    """The window over the spatial dims of x; its paddings must be numbers."""
    w = window(tuple(x.shape[1:-1]), tuple(kernel), strides, dilations, pads, pad_mode, ceil_mode)
    if not all(isinstance(p, int) for p in w.before):
        raise ValueError(f"padding '{pad_mode}' needs known sizes; got {x.shape}")
    return w


def spread(g: Any, weight: Any, x: Any, w: Window, groups: int) -> Any:
    """The gradient of a convolution's input x: each element of g goes back to all that its window read."""
    n = len(w.kernel)
    depthwise = weight.shape[-1] == 1 and weight.shape[0] == groups
    if depthwise and any(s > 1 for s in w.strides) and all(isinstance(d, int) for d in (*g.shape[1:], *x.shape[1:-1])):
        # zeros between the elements of g make it a stride of 1
        g = _apart(g, w.strides)
        before = [d * (k - 1) - b for d, k, b in zip(w.dilations, w.kernel, w.before, strict=True)]
        reach = [d * (k - 1) for d, k in zip(w.dilations, w.kernel, strict=True)]
        after = [i - o - b + r for i, o, b, r in zip(x.shape[1:-1], g.shape[1:-1], before, reach, strict=True)]
        if all(p >= 0 for p in (*before, *after)):
            turned = F.reverse(weight, axes=tuple(range(1, n + 1)))
            return F.conv(g, turned, None, dilations=w.dilations, pads=(*before, *after), groups=groups)
        g = F.slice(g, np.zeros(n, np.int64), np.array(g.shape[1:-1]), np.arange(1, n + 1), np.array(w.strides))
    plain = [d * (k - 1) - b for d, k, b in zip(w.dilations, w.kernel, w.before, strict=True)]
    plain += [
        d * (k - 1) - a if isinstance(a, int) else -1 for d, k, a in zip(w.dilations, w.kernel, w.after, strict=True)
    ]
    if (depthwise or groups == 1) and all(s == 1 for s in w.strides) and all(p >= 0 for p in plain):
        # the transposed form of such a convolution is one with the kernel turned round, for which there are fast kernels
        turned = weight if all(k == 1 for k in w.kernel) else F.reverse(weight, axes=tuple(range(1, n + 1)))
        if groups == 1:
            turned = F.transpose(turned, perm=(n + 1, *range(1, n + 1), 0))
        return F.conv(g, turned, None, dilations=w.dilations, pads=tuple(plain), groups=groups)
    how = dict(strides=w.strides, dilations=w.dilations, groups=groups)
    reach = [s * (o - 1) + d * (k - 1) + 1 for s, o, d, k in zip(w.strides, w.out, w.dilations, w.kernel, strict=True)]
    size = x.shape[1:-1]
    if all(isinstance(d, int) for d in (*size, *reach)):
        left = [r - b - d for r, b, d in zip(reach, w.before, size, strict=True)]
        pads = (*w.before, *(max(v, 0) for v in left))
        return F.conv_transpose(g, weight, **how, pads=pads, output_padding=tuple(max(-v, 0) for v in left))
    full = F.conv_transpose(g, weight, **how, output_padding=tuple(s - 1 for s in w.strides))
    starts = np.array(w.before, np.int64)
    return F.slice(full, starts, F.add(F.shape_of(x, start=1, end=n + 1), starts), np.arange(1, n + 1))


def _apart(x: Any, strides: Sequence[int]) -> Any:
    """x [N, spatial..., C] with strides[i] - 1 zeros behind each element of spatial dim i."""
    n, size, c = len(strides), x.shape[1:-1], x.shape[-1]
    wide = [d for s in size for d in (s, 1)]
    x = F.reshape(x, np.array([-1, *wide, c], np.int64))
    after = [0] * (n + 1) + [s - 1 for s in strides]
    axes = [0, *(2 * i + 1 for i in range(n)), *(2 * i + 2 for i in range(n))]
    pads = np.zeros((2, 2 * n + 2), np.int64)
    for a, p in zip(axes, after, strict=True):
        pads[1, a] = p
    x = F.pad(x, pads.reshape(-1))
    return F.reshape(x, np.array([-1, *(s * k for s, k in zip(size, strides, strict=True)), c], np.int64))


def crop_ends(x: Any, n: Sequence[int]) -> Any:
    """x without the last n[i] elements of each spatial dim."""
    return F.pad(x, np.array([0] * len(n) + [-e for e in n], np.int64), None, np.arange(1, len(n) + 1))


def weight_gradient(rows: Any, read: Any, weight: Any, w: Window, groups: int) -> Any:
    """The gradient of a convolution's weight, in its shape (see conv_weight_gradient)."""
    after = [b if isinstance(b, int) else 0 for b in w.after]
    how = dict(strides=w.strides, dilations=w.dilations, pads=(*w.before, *after), groups=groups)
    got = F.conv_weight_gradient(rows, read, kernel=tuple(w.kernel), **how)
    return got if got.shape == weight.shape else reshape_like(got, weight)


@op(130, "x, weight, bias?, residual? -> y", attrs=dict(**GEOMETRY, **ACT_ATTRS, act_after=False))
class conv:
    """act(convolution + bias) + residual, or act(convolution + bias + residual) when act_after (the ResNet form).
    Cross-correlation over 1, 2 or 3 spatial dims.

    output size = (size + pads - dilation * (kernel - 1) - 1) // stride + 1.  groups == C with weight [C*m, ..., 1] is
    depthwise.  residual has the shape of y.
    """

    samples = cases.conv

    def infer(x, weight, bias=None, residual=None, *, strides, dilations, pads, pad_mode, groups, **_):
        dtype = require_same_dtype(x, weight, bias, residual)
        require_kind(x, "f")
        geometry = dict(strides=strides, dilations=dilations, pads=pads, pad_mode=pad_mode)
        shape = conv_shape(x, weight, groups, **geometry)
        if weight.shape is not None:
            check_shape("bias", bias, weight.shape[:1])
        if shape is not None:
            check_shape("residual", residual, shape)
        return Spec(dtype, shape)

    def reference(
        x,
        weight,
        bias=None,
        residual=None,
        *,
        strides,
        dilations,
        pads,
        pad_mode,
        groups,
        act,
        act_alpha,
        act_beta,
        act_after,
    ):
        w = window(x.shape[1:-1], weight.shape[1:-1], strides, dilations, pads, pad_mode)
        y = correlate(wide(x), wide(weight), w, groups)
        return epilogue(y, bias, residual, act, act_alpha, act_beta, act_after, x.dtype)

    def vjp(g, y, x, weight, bias=None, residual=None, *, strides, dilations, pads, pad_mode, groups, **tail):
        geometry = dict(strides=strides, dilations=dilations, pads=pads, pad_mode=pad_mode)
        g, gbias, gresidual = epilogue_gradient(
            g, y, bias, residual, **tail, linear=lambda: F.conv(x, weight, **geometry, groups=groups)
        )
        w = known_window(x, [known_dim(weight, i) for i in range(1, rank_of(weight) - 1)], **geometry)
        return spread(g, weight, x, w, groups), weight_gradient(g, x, weight, w, groups), gbias, gresidual


def transposed_window(
    size: tuple[DimLike, ...],
    kernel: tuple[DimLike, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    pad_mode: str,
    output_padding: tuple[int, ...],
    output_shape: tuple[int, ...],
) -> Window:
    """Geometry of conv_transpose: ``out`` its output sizes, ``before`` what is cut off the full result at the start;
    ``after`` is what is cut off the end (negative: zeros are added there)."""
    n = len(size)
    strides = per_dim("strides", strides, n, 1, 1)
    dilations = per_dim("dilations", dilations, n, 1, 1)
    extra = per_dim("output_padding", output_padding, n, 0, 0)
    if len(pads) not in (0, 2 * n):
        raise error("pads has the wrong length", pads, f"{2 * n} entries, all befores then all afters")
    if len(output_shape) not in (0, n):
        raise error("output_shape has the wrong length", output_shape, f"{n} spatial sizes")
    out, before, after = [], [], []
    for i in range(n):
        reach = strides[i] * (size[i] - 1) + dilations[i] * (kernel[i] - 1) + 1
        if output_shape or pad_mode != "explicit":
            o = output_shape[i] if output_shape else size[i] * strides[i]
            total = reach + extra[i] - o
            # symbolic sizes cancel here: reach and size * stride grow alike
            if isinstance(total, int):
                total = max(total, 0)
            b = total // 2 if pad_mode == "same_upper" else total - total // 2
        else:
            b = pads[i] if pads else 0
            o = reach + extra[i] - b - (pads[n + i] if pads else 0)
            if isinstance(o, int) and o < 1:
                raise error(f"no output is left after padding (dim {i + 1})", o, "a positive size")
        out.append(o)
        before.append(b)
        after.append(reach - b - o)
    return Window(tuple(out), tuple(kernel), strides, dilations, tuple(before), tuple(after))


@op(
    131,
    "x, weight, bias? -> y",
    attrs=dict(**GEOMETRY, output_padding=(), output_shape=(), **ACT_ATTRS),
)
class conv_transpose:
    """act(transposed convolution + bias); weight [C, spatial..., O / groups], the ONNX weight [C, O/g, k...] with its
    channels last.

    output size = stride * (size - 1) + output_padding + dilation * (kernel - 1) + 1 - pads.  output_shape (spatial
    sizes), when given, fixes the output and the pads follow: total = what the formula leaves over, split evenly with
    the odd one at the end for same_upper, at the start otherwise (ONNX ConvTranspose); same_* without output_shape
    means output = input * stride.  Where the formula gives less than that output, zeros follow at the end.
    """

    samples = cases.conv_transpose

    def infer(x, weight, bias=None, *, strides, dilations, pads, pad_mode, groups, output_padding, output_shape, **_):
        dtype = require_same_dtype(x, weight, bias)
        require_kind(x, "f")
        _spatial(x, weight)
        if groups < 1:
            raise error("groups", groups, "at least 1")
        if x.shape is None or weight.shape is None:
            return Spec(dtype, None)
        c = x.shape[-1]
        if differ(c, weight.shape[0]):
            raise error("channels do not fit the weight", f"{c} channels", f"{weight.shape[0]}")
        if isinstance(c, int) and c % groups:
            raise error("channels are not a multiple of groups", c, f"a multiple of {groups}")
        o = weight.shape[-1] * groups
        check_shape("bias", bias, (o,))
        w = transposed_window(
            x.shape[1:-1], weight.shape[1:-1], strides, dilations, pads, pad_mode, output_padding, output_shape
        )
        return Spec(dtype, (x.shape[0], *w.out, o))

    def reference(
        x,
        weight,
        bias=None,
        *,
        strides,
        dilations,
        pads,
        pad_mode,
        groups,
        output_padding,
        output_shape,
        act,
        act_alpha,
        act_beta,
    ):
        size = x.shape[1:-1]
        w = transposed_window(
            size, weight.shape[1:-1], strides, dilations, pads, pad_mode, output_padding, output_shape
        )
        xw, ww = wide(x), wide(weight)
        cg, og = x.shape[-1] // groups, weight.shape[-1]
        reach = [
            s * (z - 1) + d * (k - 1) + 1 for s, z, d, k in zip(w.strides, size, w.dilations, w.kernel, strict=True)
        ]
        y = np.zeros((x.shape[0], *reach, groups * og), dtype=xw.dtype)
        rows = xw.reshape(-1, groups, cg).transpose(1, 0, 2)
        for index in np.ndindex(*w.kernel):
            mats = ww[(slice(None), *index)].reshape(groups, cg, og)
            part = (rows @ mats).transpose(1, 0, 2).reshape(x.shape[0], *size, groups * og)
            place = tuple(
                slice(i * d, i * d + (z - 1) * s + 1, s)
                for i, d, z, s in zip(index, w.dilations, size, w.strides, strict=True)
            )
            y[(slice(None), *place)] += part
        y = pad_spatial(y, tuple(-b for b in w.before), tuple(-a for a in w.after))
        return epilogue(y, bias, None, act, act_alpha, act_beta, False, x.dtype)

    def vjp(g, y, x, weight, bias=None, *, act, act_alpha, act_beta, **geometry):
        g, gbias, _ = epilogue_gradient(
            g, y, bias, None, act, act_alpha, act_beta, False, linear=lambda: F.conv_transpose(x, weight, **geometry)
        )
        groups = geometry.pop("groups")
        n = rank_of(x) - 2
        size, kernel = ([known_dim(t, i + 1) for i in range(n)] for t in (x, weight))
        w = transposed_window(tuple(size), tuple(kernel), **geometry)
        # what output_padding added at the end depends on nothing; a convolution over the rest goes back
        extra = [max(-int(a), 0) for a in w.after]
        if any(extra):
            g = crop_ends(g, extra)
        pads = (*w.before, *(max(int(a), 0) for a in w.after))
        back_ = dict(strides=w.strides, dilations=w.dilations, pads=pads)
        gx = F.conv(g, weight, **back_, groups=groups)
        reached = known_window(g, kernel, **back_, pad_mode="explicit")
        return gx, weight_gradient(x, g, weight, reached, groups), gbias


def shifted(x: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
    """x - zero_point as float64: sums of products of such 9-bit numbers are exact there, and BLAS is fast."""
    x = x.astype(np.float64)
    return x if zero_point is None else x - np.asarray(zero_point).astype(np.float64)


@op(
    132,
    "x, weight, x_zero_point?, weight_zero_point? -> y",
    attrs=GEOMETRY,
    tolerance="exact",
    not_differentiable="integer op",
)
class conv_integer:
    """Convolution of (x - x_zero_point) with (weight - weight_zero_point), 8-bit in, int32 out (wraps); padding adds
    zeros after the shift.  x_zero_point is a scalar, weight_zero_point a scalar or one per output channel."""

    samples = cases.conv_integer

    def infer(x, weight, x_zero_point=None, weight_zero_point=None, *, groups, **geometry):
        for which, s in (("x", x), ("weight", weight)):
            if s.dtype not in (dtypes.int8, dtypes.uint8):
                raise error(f"dtype of {which}", s.dtype, "int8 or uint8")
        require_same_dtype(x, x_zero_point, what="x and x_zero_point")
        require_same_dtype(weight, weight_zero_point, what="weight and weight_zero_point")
        return Spec(dtypes.int32, conv_shape(x, weight, groups, **geometry))

    def reference(
        x,
        weight,
        x_zero_point=None,
        weight_zero_point=None,
        *,
        strides,
        dilations,
        pads,
        pad_mode,
        groups,
    ):
        w = window(x.shape[1:-1], weight.shape[1:-1], strides, dilations, pads, pad_mode)
        if weight_zero_point is not None and np.size(weight_zero_point) > 1:
            weight_zero_point = np.reshape(weight_zero_point, (-1,) + (1,) * (weight.ndim - 1))
        x_zero_point = None if x_zero_point is None else np.reshape(x_zero_point, ())
        y = correlate(shifted(x, x_zero_point), shifted(weight, weight_zero_point), w, groups)
        return y.astype(np.int64).astype(np.int32)


@op(
    133,
    "x, weight, offset, bias?, mask? -> y",
    attrs=dict(strides=(), dilations=(), pads=(), groups=1, offset_groups=1),
    not_differentiable="positions depend on data: the gradient would need a scatter of bilinear weights",
)
class deform_conv:
    """2-D deformable convolution (Dai et al. 2017; v2 with mask).  x [N,H,W,C], weight OHWI, offset
    [N, OH, OW, offset_groups * kh * kw * 2] with (y, x) pairs innermost, mask [N, OH, OW, offset_groups * kh * kw].
    Bilinear samples; a corner outside the input counts as zero."""

    samples = cases.deform_conv

    def infer(x, weight, offset, bias=None, mask=None, *, strides, dilations, pads, groups, offset_groups):
        dtype = require_same_dtype(x, weight, offset, bias, mask)
        require_kind(x, "f")
        for which, s in (("x", x), ("weight", weight), ("offset", offset), ("mask", mask)):
            require_rank(s, 4, what=which)
        shape = conv_shape(x, weight, groups, strides=strides, dilations=dilations, pads=pads)
        if shape is None:
            return Spec(dtype, None)
        c, o = x.shape[-1], weight.shape[0]
        if offset_groups < 1 or (isinstance(c, int) and c % offset_groups):
            raise error("channels are not a multiple of offset_groups", c, f"a multiple of {offset_groups}")
        check_shape("bias", bias, (o,))
        points = offset_groups * product(weight.shape[1:-1])
        for which, s, n in (("offset", offset, points * 2), ("mask", mask, points)):
            check_shape(which, s, (*shape[:-1], n))
        return Spec(dtype, shape)

    def reference(x, weight, offset, bias=None, mask=None, *, strides, dilations, pads, groups, offset_groups):
        w = window(x.shape[1:-1], weight.shape[1:-1], strides, dilations, pads)
        n, h, wd, c = x.shape
        (oh, ow), (kh, kw) = w.out, w.kernel
        xw, k = wide(x), kh * kw
        off = wide(offset).reshape(n, oh, ow, offset_groups, kh, kw, 2)
        grid_y = np.arange(oh)[:, None] * w.strides[0] - w.before[0] + np.arange(kh) * w.dilations[0]
        grid_x = np.arange(ow)[:, None] * w.strides[1] - w.before[1] + np.arange(kw) * w.dilations[1]
        py = off[..., 0] + grid_y[:, None, None, :, None].astype(off.dtype)
        px = off[..., 1] + grid_x[None, :, None, None, :].astype(off.dtype)
        by_group = xw.reshape(n, h, wd, offset_groups, c // offset_groups)
        batch = np.arange(n).reshape(n, 1, 1, 1, 1, 1)
        which = np.arange(offset_groups).reshape(offset_groups, 1, 1)
        sampled = np.zeros((*py.shape, c // offset_groups), dtype=xw.dtype)
        y0, x0 = np.floor(py), np.floor(px)
        for dy in (0, 1):
            for dx in (0, 1):
                yi, xi = y0 + dy, x0 + dx
                weight_here = (1 - np.abs(py - yi)) * (1 - np.abs(px - xi))
                inside = (yi >= 0) & (yi < h) & (xi >= 0) & (xi < wd)
                yc, xc = (np.clip(v, 0, m - 1).astype(np.int64) for v, m in ((yi, h), (xi, wd)))
                corner = by_group[batch, yc, xc, which]
                sampled += np.where(inside, weight_here, 0)[..., None] * corner
        if mask is not None:
            sampled *= wide(mask).reshape(n, oh, ow, offset_groups, kh, kw, 1)
        cols = np.moveaxis(sampled, 3, 5).reshape(n * oh * ow, k, groups, c // groups)
        cols = cols.transpose(2, 0, 1, 3).reshape(groups, n * oh * ow, -1)
        mats = wide(weight).reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)
        y = (cols @ mats).transpose(1, 0, 2).reshape(n, oh, ow, weight.shape[0])
        return epilogue(y, bias, None, "none", 0.0, 0.0, False, x.dtype)


@op(
    340,
    "rows, read -> y",
    attrs=dict(kernel=Required("ints"), strides=(), dilations=(), pads=(), groups=1),
    profile="training",
)
class conv_weight_gradient:
    """[R, kernel..., C / groups]: for each place of the kernel, the sum over all positions of rows [N, out..., R] times
    what that place of their window reads in ``read`` [N, spatial..., C].  The gradient of conv's weight (rows: the
    gradient of its result) and of conv_transpose's (rows: its input)."""

    samples = cases.conv_weight_gradient

    def infer(rows, read, *, kernel, strides, dilations, pads, groups):
        dtype = require_same_dtype(rows, read)
        require_kind(rows, "f", "rows")
        n = len(kernel)
        if not 1 <= n <= 3:
            raise error("kernel", kernel, "1 to 3 sizes")
        require_rank(rows, n + 2, what="rows")
        require_rank(read, n + 2, what="read")
        if read.shape is None or rows.shape is None:
            return Spec(dtype, None)
        out = window(read.shape[1:-1], kernel, strides, dilations, pads, "explicit").out
        check_shape("rows", rows, (read.shape[0], *out, rows.shape[-1]))
        c, r = read.shape[-1], rows.shape[-1]
        if groups < 1 or (isinstance(c, int) and c % groups) or (isinstance(r, int) and r % groups):
            raise error("groups", groups, f"a divisor of {c} and {r} channels")
        return Spec(dtype, (r, *kernel, c // groups))

    def reference(rows, read, *, kernel, strides, dilations, pads, groups):
        w = window(read.shape[1:-1], kernel, strides, dilations, pads, "explicit")
        x, g = pad_spatial(wide(read), *fit(w, read.shape[1:-1])), wide(rows)
        r, cg = g.shape[-1] // groups, x.shape[-1] // groups
        out = np.zeros((groups * r, *kernel, cg), x.dtype)
        flat = g.reshape(-1, groups, r)
        for place in np.ndindex(*kernel):
            at = [
                slice(p * d, p * d + s * (o - 1) + 1, s)
                for p, d, s, o in zip(place, w.dilations, w.strides, w.out, strict=True)
            ]
            seen = x[(slice(None), *at)].reshape(-1, groups, cg)
            out[(slice(None), *place)] = np.einsum("pgr,pgc->grc", flat, seen).reshape(groups * r, cg)
        return back(out, read.dtype)

    def vjp(g, y, rows, read, *, kernel, strides, dilations, pads, groups):
        how = dict(strides=strides, dilations=dilations, pads=pads, pad_mode="explicit")
        w = known_window(read, kernel, **how)
        return F.conv(read, g, **how, groups=groups), spread(rows, g, read, w, groups)
