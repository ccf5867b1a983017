"""Views: ops that give the same elements in the same order under another shape, and how dims go through them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Dim, DimLike, Shape, Value

VIEWS = frozenset(("reshape", "flatten", "squeeze", "unsqueeze"))


def reshape_target(source: Shape | None, target: Shape | None) -> np.ndarray | None:
    """A constant shape operand by which ``reshape`` takes ``source`` to ``target``; None when no constant can say it.

    Numbers stand for themselves, 0 for "as in the source", -1 for at most one unknown dim.

    >>> n = Dim.symbol("n")
    >>> reshape_target((n, 4, 6), (n, 24))
    array([-1, 24])
    """
    if source is None or target is None:
        return None
    if 0 in target or 0 in source:  # 0 would mean "copy"; an empty tensor is not worth more
        return None
    unknown = [i for i, d in enumerate(target) if isinstance(d, Dim)]
    spec: list[int] = [-1 if isinstance(d, Dim) else d for d in target]
    if len(unknown) > 1:
        copied = [i for i in unknown if i < len(source) and source[i] == target[i]]
        # copy as few as needed: -1 survives reshapes of the source better than 0
        for i in copied:
            spec[i] = 0
        left = [i for i in unknown if spec[i] == -1]
        if not left:
            spec[copied[0]] = -1
        if len(left) > 1:
            return None
    return np.array(spec, np.int64)


def view(rw: Rewriter, x: Value, shape: Shape, name: str = "") -> Value | None:
    """``x`` under another shape of as many elements, by one view op; None when no constant operand can say it."""
    if x.shape == tuple(shape):
        return x
    assert x.shape is not None
    ones = [i for i, d in enumerate(x.shape) if d == 1]
    target = reshape_target(x.shape, shape)
    if target is not None:
        return rw.op("reshape", x, target, out=name)
    if tuple(d for d in x.shape if d != 1) == tuple(d for d in shape if d != 1):
        if len(ones) == len(x.shape) - len(shape) and len(shape) < len(x.shape):
            return rw.op("squeeze", x, np.array(ones, np.int64), out=name)
        if ones:
            x = rw.op("squeeze", x, np.array(ones, np.int64))
        new = [i for i, d in enumerate(shape) if d == 1]
        return rw.op("unsqueeze", x, np.array(new, np.int64), out=name) if new else x
    return None


def viewable(source: Shape, target: Shape) -> bool:
    """Whether :func:`view` can take one shape to the other."""
    if tuple(source) == tuple(target) or reshape_target(source, target) is not None:
        return True
    return tuple(d for d in source if d != 1) == tuple(d for d in target if d != 1)


@dataclass(frozen=True)
class Group:
    """Neighbouring dims of a view's input that become neighbouring dims of its output (half-open ranges of axes)."""

    source: tuple[int, ...]
    target: tuple[int, ...]


def groups(source: Shape, target: Shape) -> list[Group] | None:
    """The finest cut of a view into groups with provably equal products; None when it cannot be proved.

    Dims of size 1 stand in groups of their own, with an empty other side.

    >>> groups((2, 12, 5), (2, 3, 4, 5))
    [Group(source=(0,), target=(0,)), Group(source=(1,), target=(1, 2)), Group(source=(2,), target=(3,))]
    """
    out: list[Group] = []
    i = j = 0
    while i < len(source) or j < len(target):
        if i < len(source) and j < len(target) and source[i] == target[j]:
            out.append(Group((i,), (j,)))
            i, j = i + 1, j + 1
            continue
        if i < len(source) and source[i] == 1:
            out.append(Group((i,), ()))
            i += 1
            continue
        if j < len(target) and target[j] == 1:
            out.append(Group((), (j,)))
            j += 1
            continue
        if i >= len(source) or j >= len(target):
            return None
        i0, j0 = i, j
        a: DimLike = source[i]
        b: DimLike = target[j]
        i, j = i + 1, j + 1
        while a != b:
            # extend the side that is smaller: the one whose product divides the other's
            if _divides(a, b) and i < len(source):
                a, i = a * source[i], i + 1
            elif _divides(b, a) and j < len(target):
                b, j = b * target[j], j + 1
            elif isinstance(a, int) and isinstance(b, int):
                if a < b and i < len(source):
                    a, i = a * source[i], i + 1
                elif b < a and j < len(target):
                    b, j = b * target[j], j + 1
                else:
                    return None
            else:
                return None
        out.append(Group(tuple(range(i0, i)), tuple(range(j0, j))))
    return out


def _divides(a: DimLike, b: DimLike) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a != 0 and b % a == 0 and a != b
    if isinstance(b, Dim) and a != b:
        q = b // a if not (isinstance(a, int) and a == 0) else None
        return q is not None and q * a == b
    return False


def elements(shape: Shape) -> DimLike:
    """Number of elements."""
    return math.prod(shape) if all(isinstance(d, int) for d in shape) else _product(shape)  # type: ignore[arg-type]


def _product(shape: Shape) -> DimLike:
    total: DimLike = 1
    for d in shape:
        total = total * d
    return total


# ---------------------------------------------------------------- permutations
def compose(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    """The perm of ``transpose(transpose(x, p), q)``."""
    return tuple(p[i] for i in q)


def inverse(p: tuple[int, ...]) -> tuple[int, ...]:
    """The perm that undoes ``p``."""
    out = [0] * len(p)
    for i, k in enumerate(p):
        out[k] = i
    return tuple(out)


def identity(rank: int) -> tuple[int, ...]:
    """The perm that changes nothing."""
    return tuple(range(rank))


def is_view_perm(shape: Shape, perm: tuple[int, ...]) -> bool:
    """True when a transpose moves only dims of size 1, so that no element moves."""
    kept = [p for p in perm if shape[p] != 1]
    return kept == sorted(kept)


def permuted(shape: Shape, perm: tuple[int, ...]) -> Shape:
    """The shape of the transposed value."""
    return tuple(shape[p] for p in perm)
