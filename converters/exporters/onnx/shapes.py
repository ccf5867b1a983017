"""Shape and layout ops as ONNX nodes."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.onnx.exporter import Site, typed
from deploykit.converters.exporters.onnx.registry import as_int64, exports
from deploykit.converters.exporters.onnx.writer import element_type, to_first, to_last
from deploykit.errors import UnsupportedError
from deploykit.graph import Value


@exports("transpose")
def _transpose(s: Site) -> None:
    """Moves between the two layouts of images cost nothing where the other layout is at hand."""
    w, x, y = s.w, s.x(), s.y
    rank = len(s.attrs["perm"])
    perm = [p % rank for p in s.attrs["perm"]]
    if rank >= 3 and perm == to_first(rank) and x in w.channels_first and y not in w.public:
        w.own[y] = w.channels_first[x]
    elif rank >= 3 and perm == to_last(rank) and y not in w.public and not x.is_constant:
        w.channels_first[y] = w.get(x)  # type: ignore[assignment]
    else:
        s.out(w.node("Transpose", s.get(0), perm=perm or None))


@exports("squeeze", "unsqueeze")
def _squeeze(s: Site) -> None:
    axes = s.data(1)
    if axes is not None and axes.size == 0:  # ONNX reads no axes as all
        s.out(s.w.node("Identity", s.get(0)))
        return
    s.out(s.w.node("Squeeze" if s.node.op == "squeeze" else "Unsqueeze", s.get(0), as_int64(s, 1)))


@exports("split")
def _split(s: Site) -> None:
    n = len(s.node.outputs)
    count = {} if s.value(1) is not None else {"num_outputs": n}
    got = s.w.node("Split", s.get(0), as_int64(s, 1), outputs=[s.w.names.new(f"{s.w.hint}:{i}") for i in range(n)],
                   axis=s.attrs["axis"], **count)  # fmt: skip
    s.outs(got)


# ---- moves along axes: written in the layout in which the input is at hand, for a change of layout costs a Transpose
def first_axis(axis: int, rank: int) -> int:
    """The place of an axis of a channels-last value when it lies channels first."""
    return list(to_first(rank)).index(axis % rank)


def at_hand_first(s: Site, *inputs: Value | None) -> bool:
    """True when one of these values is at hand channels first only, and all have the same rank, 3 or more."""
    ranks = {v.rank for v in inputs if v is not None}
    if len(ranks) != 1 or s.y.rank not in ranks or (s.y.rank or 0) < 3:
        return False
    return any(v is not None and s.w.only_first(v) for v in inputs)


def _axes(s: Site, i: int, rank: int, n: int) -> list[int] | None:
    """The axes that input ``i`` names (default: the first n), non-negative; None when they are not known."""
    if s.value(i) is None:
        return list(range(n))
    axes = s.data(i)
    return None if axes is None else [int(a) % rank for a in axes.reshape(-1)]


@exports("pad")
def _pad(s: Site) -> None:
    w, x, rank = s.w, s.x(0), s.x(0).rank
    pads, axes = s.data(1), None if rank is None else _axes(s, 3, rank, rank)
    if pads is None or rank is None or axes is None:
        s.out(w.node("Pad", s.get(0), as_int64(s, 1), s.get(2), as_int64(s, 3), mode=s.attrs["mode"]))
        return
    # all axes, so that optimisers which overlook the `axes` input read it right
    full = np.zeros((2, rank), np.int64)
    full[:, axes] = pads.reshape(2, -1)
    if at_hand_first(s, x):
        s.out_first(
            w.node(
                "Pad", s.first(0), w.const(full[:, list(to_first(rank))].reshape(-1)), s.get(2), mode=s.attrs["mode"]
            )
        )
    else:
        s.out(w.node("Pad", s.get(0), w.const(full.reshape(-1)), s.get(2), mode=s.attrs["mode"]))


@exports("concat")
def _concat(s: Site) -> None:
    if at_hand_first(s, *s.node.inputs):
        names = [s.first(i) for i in range(len(s.node.inputs))]
        s.out_first(typed(s, "Concat", names, axis=first_axis(s.attrs["axis"], s.y.rank or 0))[0])
    else:
        s.out(typed(s, "Concat", [s.get(i) for i in range(len(s.node.inputs))], axis=s.attrs["axis"])[0])


@exports("slice")
def _slice(s: Site) -> None:
    starts, rank = s.value(1), s.x(0).rank
    n = starts.shape[0] if starts is not None and starts.shape else None
    axes = _axes(s, 3, rank, n) if rank is not None and isinstance(n, int) else None
    if axes is not None and rank is not None and at_hand_first(s, s.x(0)):
        moved = s.w.const(np.array([first_axis(a, rank) for a in axes], np.int64))
        s.out_first(typed(s, "Slice", [s.first(0), as_int64(s, 1), as_int64(s, 2), moved, as_int64(s, 4)])[0])
    else:
        s.out(typed(s, "Slice", [s.get(0), *(as_int64(s, i) for i in range(1, 5))])[0])


@exports("fill")
def _fill(s: Site) -> None:
    from onnx import numpy_helper

    value = s.data(1)
    if value is not None:
        s.out(s.w.node("ConstantOfShape", as_int64(s, 0), value=numpy_helper.from_array(value.reshape(1))))
    else:
        s.out(s.w.node("Expand", s.get(1), as_int64(s, 0)))


@exports("depth_to_space")
def _depth_to_space(s: Site) -> None:
    s.out_first(s.w.node("DepthToSpace", s.first(0), blocksize=s.attrs["block"], mode=s.attrs["mode"].upper()))


@exports("space_to_depth")
def _space_to_depth(s: Site) -> None:
    w, b = s.w, s.attrs["block"]
    if s.attrs["mode"] == "dcr":
        s.out_first(w.node("SpaceToDepth", s.first(0), blocksize=b))
        return
    shape = s.x().shape
    if shape is None or not all(isinstance(d, int) for d in shape[1:]):
        raise UnsupportedError("channel order crd for sizes known only at run time")
    h, wide, c = (int(d) for d in shape[1:])  # type: ignore[arg-type]
    y = w.node("Reshape", s.first(0), w.i64(0, c, h // b, b, wide // b, b))
    y = w.node("Transpose", y, perm=[0, 1, 3, 5, 2, 4])
    s.out_first(w.node("Reshape", y, w.i64(0, c * b * b, h // b, wide // b)))


@exports("eye_like")
def _eye_like(s: Site) -> None:
    dtype = s.attrs["dtype"]
    s.out(s.w.node("EyeLike", s.get(0), k=s.attrs["k"], dtype=element_type(dtypes.dtype(dtype)) if dtype else None))


@exports("reverse")
def _reverse(s: Site) -> None:
    axes = s.attrs["axes"]
    n = len(axes)
    low = np.iinfo(np.int64).min
    s.out(s.w.node("Slice", s.get(0), s.w.i64(*[-1] * n), s.w.i64(*[low] * n), s.w.i64(*axes), s.w.i64(*[-1] * n)))
