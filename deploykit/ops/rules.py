"""Shape rules shared by passports: broadcasting, axes, reductions, and reading shape-like inputs, all on symbolic dims.

Conventions: a shape is ``None`` (unknown rank) or a tuple of ``int | Dim``.  What cannot be known becomes a fresh dim.
Every dim is exact: when a rule gives an expression, the expression holds for all sizes for which the op is legal, zero
included.  Rules raise :class:`ShapeError` without the op's name; ``infer_op`` puts it in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.errors import ShapeError
from deploykit.graph.dims import Dim, DimLike, Shape, is_non_negative
from deploykit.ops.core import Spec


def error(what: str, got: object = None, expected: object = None) -> ShapeError:
    """The ShapeError of a rule, without the op's name."""
    text = what
    if got is not None:
        text += f"; got {got}"
    if expected is not None:
        text += f", expected {expected}"
    return ShapeError(text + ".")


# ---- dtypes
def require_kind(spec: Spec | None, kinds: str, what: str = "x") -> None:
    """Raise unless the dtype's kind (f i u b) is among ``kinds``; absent inputs pass."""
    if spec is not None and spec.dtype.kind not in kinds:
        words = dict(f="a float", i="a signed integer", u="an unsigned integer", b="bool")
        raise error(f"dtype of {what}", spec.dtype, " or ".join(words[k] for k in kinds))


def require_same_dtype(*specs: Spec | None, what: str = "inputs") -> DType:
    """The common dtype of the inputs that are present; raises when they differ."""
    found = [s.dtype for s in specs if s is not None]
    if any(d is not found[0] for d in found):
        raise error(f"dtypes of {what} differ", ", ".join(map(repr, found)), "one dtype")
    return found[0]


def require_index(spec: Spec | None, what: str) -> None:
    """Raise unless a shape-like or index input is int64 or int32."""
    if spec is not None and spec.dtype not in (dtypes.int64, dtypes.int32):
        raise error(f"dtype of {what}", spec.dtype, "int64 or int32")


def require_rank(spec: Spec | None, low: int, high: int | None = None, what: str = "x") -> None:
    """Raise unless the rank is unknown or within [low, high] (high defaults to low; pass 99 for no limit)."""
    high = low if high is None else high
    if spec is not None and spec.shape is not None and not low <= len(spec.shape) <= high:
        want = f"rank {low}" if low == high else f"rank {low} or more" if high >= 99 else f"rank {low} to {high}"
        raise error(f"shape of {what}", show(spec.shape), want)


def show(shape: Shape | None) -> str:
    """A shape for messages: ``[n, 3]`` or ``?``."""
    return "?" if shape is None else "[" + ", ".join(map(str, shape)) + "]"


# ---- dims
_LONGEST = 4096  # entries of shapes, axes, repeats, sizes of pieces


def product(dims: Iterable[DimLike]) -> DimLike:
    """Product of dims (1 over nothing)."""
    total: DimLike = 1
    for d in dims:
        total = total * d
    return total


def ceil_div(a: DimLike, b: DimLike) -> DimLike:
    """ceil(a / b) for non-negative a and positive b."""
    return (a + b - 1) // b


def fresh_shape(rank: int) -> Shape:
    """``rank`` dims of which nothing is known."""
    return tuple(Dim.fresh() for _ in range(rank))


def provably_ge(a: DimLike, b: DimLike) -> bool:
    """True when a >= b for all sizes, as far as the signs in the difference tell."""
    return is_non_negative(a - b)


def unify_dim(a: DimLike, b: DimLike, what: str = "dims") -> DimLike:
    """One dim for two that must be equal: a number wins over an expression; different numbers are an error."""
    if isinstance(a, int) and isinstance(b, int):
        if a != b:
            raise error(f"{what} differ", f"{a} and {b}")
        return a
    if isinstance(b, int):
        return b
    if isinstance(a, Dim) and a.names and all(n.startswith("?") for n in a.names):
        return b  # a named dim says more than a fresh one
    return a


def unify_shapes(a: Shape | None, b: Shape | None, what: str = "shapes") -> Shape | None:
    """One shape for two that must be equal."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise error(f"{what} differ", f"{show(a)} and {show(b)}")
    return tuple(unify_dim(x, y, f"{what} {show(a)} and {show(b)}: dims") for x, y in zip(a, b, strict=True))


def merge_shapes(a: Shape | None, b: Shape | None) -> Shape | None:
    """What is common to two shapes that may differ (two branches): fresh dims where they do, None when ranks do."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else Dim.fresh() for x, y in zip(a, b, strict=True))


def broadcast_dim(a: DimLike, b: DimLike) -> DimLike:
    """NumPy's rule for one dim.  Two different unknown sizes give a fresh dim: either may turn out to be 1."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise error("shapes do not broadcast", f"{a} against {b}")
    if isinstance(a, int):
        return a
    if isinstance(b, int):
        return b
    if provably_ge(a, 2):  # then b is 1 or the same
        return a
    return b if provably_ge(b, 2) else Dim.fresh()


def broadcast_shapes(*shapes: Shape | None) -> Shape | None:
    """NumPy's broadcasting over any number of shapes; None when a rank is unknown.

    >>> n = Dim.symbol("n")
    >>> broadcast_shapes((n, 1, 3), (4, 1))
    (n, 4, 3)
    """
    if any(s is None for s in shapes):
        return None
    out: Shape = ()
    for s in shapes:
        assert s is not None
        a, b = (out, s) if len(out) >= len(s) else (s, out)
        try:
            tail = tuple(broadcast_dim(x, y) for x, y in zip(a[len(a) - len(b) :], b, strict=True))
        except ShapeError:
            raise error("shapes do not broadcast", " and ".join(show(t) for t in shapes)) from None
        out = a[: len(a) - len(b)] + tail
    return out


# ---- axes
def axis_of(axis: int, rank: int, what: str = "axis") -> int:
    """A negative axis counted from the end; raises when out of range."""
    if not -rank <= axis < rank:
        raise error(f"{what} is out of range", axis, f"{-rank} to {rank - 1}" if rank else "no axis of a scalar")
    return axis % rank


def axes_of(axes: Iterable[int], rank: int, what: str = "axes") -> tuple[int, ...]:
    """Several axes, normalised, in the order given; raises when one is out of range or named twice."""
    out = tuple(axis_of(int(a), rank, what) for a in axes)
    if len(set(out)) != len(out):
        raise error(f"{what}: a dim is named twice", out)
    return out


def reduce_shape(shape: Shape | None, axes: Sequence[int] | None, keepdims: bool) -> Shape | None:
    """Shape after reducing these axes (None: all)."""
    if shape is None:
        return () if axes is None and not keepdims else None
    gone = set(range(len(shape))) if axes is None else set(axes_of(axes, len(shape)))
    if keepdims:
        return tuple(1 if i in gone else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in gone)


# ---- shape-like inputs
def values_of(spec: Spec | None) -> list[DimLike] | None:
    """The elements of a shape-like input where known: ints, and Dims where they depend on sizes."""
    if spec is None or spec.value is None:
        return None
    return [v if isinstance(v, Dim) else int(v) for v in np.asarray(spec.value).reshape(-1)]


def ints_of(spec: Spec | None) -> list[int] | None:
    """The elements of an integer input where all of them are known numbers."""
    values = values_of(spec)
    return None if values is None or any(isinstance(v, Dim) for v in values) else values  # type: ignore[return-value]


def scalar_of(spec: Spec | None, what: str = "input") -> DimLike | None:
    """The value of a scalar (or one-element) integer input where known."""
    values = values_of(spec)
    if values is None:
        return None
    if len(values) != 1:
        raise error(f"{what} is not a scalar", f"{len(values)} elements")
    return values[0]


def length_of(spec: Spec | None) -> int | None:
    """Number of elements of a shape-like vector where known; one dim is made for each, so a length that a file only
    claims is refused."""
    if spec is None:
        return None
    size: object = np.asarray(spec.value).size if spec.value is not None else None
    if size is None and spec.shape is not None:
        size = product(spec.shape)
    if not isinstance(size, int):
        return None
    if size > _LONGEST:
        raise error("length of a list of sizes or places", size, f"at most {_LONGEST}")
    return size


# ---- ready-made infer functions
def same_as_input(x: Spec, *_: Any, **__: Any) -> Spec:
    """infer: dtype and shape of the first input."""
    return Spec(x.dtype, x.shape)


def same_as(kinds: str) -> Callable[..., Spec]:
    """infer: like the first input, whose dtype must be of one of these kinds."""

    def infer(x: Spec, *_: Any, **__: Any) -> Spec:
        require_kind(x, kinds)
        return Spec(x.dtype, x.shape)

    return infer


def broadcast(kinds: str, result: DType | None = None) -> Callable[..., Spec]:
    """infer: inputs of one dtype of these kinds, broadcast together; ``result`` overrides the dtype."""

    def infer(*xs: Spec, **_: Any) -> Spec:
        dtype = require_same_dtype(*xs)
        for x in xs:
            require_kind(x, kinds, "inputs")
        return Spec(result or dtype, broadcast_shapes(*(x.shape for x in xs)))

    return infer
