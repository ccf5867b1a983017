"""How each op behaves when its tensors are stored with their dims in another order.

A tensor stored by a perm ``p`` holds ``transpose(v, p)``.  For each op there is a rule with three answers:

* ``ties``: which axis of an input is which axis of an output; by these ties axes get names that run through the graph,
* ``fits``: whether the op can work on inputs stored by given perms and give outputs stored by given perms,
* ``build``: the op that does so, axes remapped, constants transposed.

Ops without a rule, and those whose kernels want channels last (conv, pooling), work on their own order only; the
latter still tie their axes, so that an order of dims can be carried past them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploykit.converters.ir import views, walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr, operand
from deploykit.graph import Node, Value
from deploykit.ops import get

Perm = tuple[int, ...]
Slot = tuple[Value, int]
Tie = tuple[Slot, Slot]
Perms = Sequence[Perm | None]


def moves(v: Value | None) -> bool:
    """Values whose layout is a question: computed ones with a known rank."""
    return v is not None and v.data is None and v.rank is not None


def position(perm: Perm, axis: int) -> int:
    """Where an axis stands after a perm."""
    return perm.index(axis)


def ties_by_place(*values: Value | None) -> list[Tie]:
    """Axis i of each is axis i of the first, counted from the right."""
    live = [v for v in values if moves(v)]
    out: list[Tie] = []
    if live:
        first = max(live, key=lambda v: v.rank)  # type: ignore[union-attr, arg-type, return-value]
        for v in live:
            if v is not first:
                shift = first.rank - v.rank  # type: ignore[union-attr, operator]
                out += [((v, i), (first, i + shift)) for i in range(v.rank)]  # type: ignore[union-attr, misc, arg-type]
    return out


class Rule:
    """The rule of an op that works in its own order only and whose axes are unrelated."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        """Pairs of axes that are the same axis."""
        return []

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        """Whether the op can run in this layout; perms of constants and absent values are None."""
        return all(p is None or p == views.identity(len(p)) for p in (*pin, *pout))

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        """The op on inputs stored by ``pin``; outputs stored by ``pout``."""
        raise NotImplementedError


class Pinned(Rule):
    """Own order only, but inputs and outputs share their axes by place (conv: sample, space, channel)."""

    def __init__(self, *operands: int) -> None:
        self.operands = operands

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.outputs[0], *(operand(n, i) for i in self.operands))


class Elementwise(Rule):
    """Operands broadcast against the result; each must be stored in the result's order."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.outputs[0], *n.inputs)

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        out = pout[0]
        if out is None:
            return False
        for v, p in zip(n.inputs, pin, strict=True):
            if v is None or v.rank == 0:
                continue
            if v.rank is None or (p is not None and not _in_order(p, out)):
                return False
        return True

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        out = pout[0]
        assert out is not None
        args = [broadcast(rw, v, p, out) for v, p in zip(ins, pin, strict=True)]
        return [rw.op(n.op, *args, node=n.name, **n.attrs)]


def _in_order(p: Perm, out: Perm) -> bool:
    """A value of the last ``len(p)`` axes, stored by p, has them in the order of ``out``."""
    shift = len(out) - len(p)
    places = [out.index(a + shift) for a in p]
    return places == sorted(places)


def broadcast(rw: Rewriter, v: Value | None, p: Perm | None, out: Perm) -> Value | None:
    """An operand, made ready to broadcast against a result stored by ``out``."""
    if v is None or v.rank == 0:
        return v
    assert v.rank is not None
    if v.data is not None:
        return transposed_constant(rw, v, out)
    shift = len(out) - v.rank
    missing = [k for k, a in enumerate(out) if a < shift]
    if missing == list(range(shift)):
        return v
    return rw.op("unsqueeze", v, np.array(missing, np.int64))


def transposed_constant(rw: Rewriter, c: Value, out: Perm) -> Value:
    """A constant operand of a broadcasting op in the order of the result, leading dims of size 1 left away."""
    assert c.data is not None
    if c.data.size == 1:
        return c
    full = c.data.reshape((1,) * (len(out) - c.data.ndim) + c.data.shape).transpose(out)
    while full.ndim > 1 and full.shape[0] == 1:
        full = full[0]
    return (
        c
        if full.shape == c.shape and out == views.identity(len(out))
        else rw.constant(np.ascontiguousarray(full), c.name)
    )


class Along(Rule):
    """One input and its results in one order; an attr names an axis or axes (softmax, reverse, top_k, batch_norm)."""

    def __init__(self, key: str = "axis", results: int = 1) -> None:
        self.key = key
        self.results = results

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.inputs[0], *n.outputs[: self.results])

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        p = pin[0]
        if p is None or any(q is not None and q != p for q in pout[: self.results]):
            return False
        return all(q is None or q == views.identity(len(q)) for q in pin[1:])

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p = pin[0]
        assert p is not None
        old = attr(n, self.key)
        new: object
        if isinstance(old, tuple):
            new = tuple(position(p, a % len(p)) for a in old)
        else:
            new = position(p, old % len(p))
        return _same(rw, n, ins, **{self.key: new})


class PerTensor(Along):
    """One input and one result in one order, whatever it is; further results are scalars (dynamic_quantize)."""

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        return _same(rw, n, ins)


class PerAxis(Along):
    """quantize and dequantize: the axis matters only when there is one scale per slice; blocks stay in their order."""

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return attr(n, "block_size") == 0 and super().fits(rw, n, pin, pout)

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        scale = n.inputs[1]
        if scale is not None and scale.rank == 0:
            return _same(rw, n, ins)
        return super().build(rw, n, ins, pin, pout)


class Trailing(Rule):
    """Normalisation over the last dims: these must stay last, in their order."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.inputs[0], n.outputs[0])

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        p = pin[0]
        if p is None or pout[0] != p or any(q is not None and q != views.identity(len(q)) for q in pin[1:]):
            return False
        first = attr(n, "axis") % len(p)
        return p[first:] == tuple(range(first, len(p)))

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        return _same(rw, n, ins)


def _same(rw: Rewriter, n: Node, ins: list[Value | None], **attrs: object) -> list[Value | None]:
    got = rw.op(n.op, *ins, node=n.name, outputs=len(n.outputs), **{**n.attrs, **attrs})
    return got  # with ``outputs`` given, always a list


def _drop(p: Perm, gone: set[int]) -> Perm:
    """The perm of what is left when some axes go."""
    kept = [a for a in range(len(p)) if a not in gone]
    return tuple(kept.index(a) for a in p if a not in gone)


class Reduce(Rule):
    """Reductions with known axes, which vanish or stay with size 1."""

    def axes(self, rw: Rewriter, n: Node) -> list[int] | None:
        """The axes reduced over, None when not known."""
        rank = n.inputs[0].rank  # type: ignore[union-attr]
        if rank is None:
            return None
        v = operand(n, 1)
        if v is None:
            return None if attr(n, "noop_if_empty") else list(range(rank))
        known = rw.known(v)
        if known is None or (known.size == 0 and attr(n, "noop_if_empty")):
            return None
        return sorted({int(a) % rank for a in known.reshape(-1)}) if known.size else list(range(rank))

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        x, y, axes = n.inputs[0], n.outputs[0], self.axes(rw, n)
        if axes is None or not moves(x) or not moves(y):
            return []
        assert x is not None and y is not None
        if attr(n, "keepdims"):
            return ties_by_place(x, y)
        kept = [a for a in range(x.rank) if a not in axes]  # type: ignore[arg-type]
        return [((x, a), (y, i)) for i, a in enumerate(kept)]

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        p, axes = pin[0], self.axes(rw, n)
        if p is None or axes is None:
            return False
        return pout[0] == (p if attr(n, "keepdims") else _drop(p, set(axes)))

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p, axes = pin[0], self.axes(rw, n)
        assert p is not None and axes is not None
        return _same(rw, n, [ins[0], self.operand(rw, sorted(position(p, a) for a in axes))], **self.attrs(p, axes))

    def operand(self, rw: Rewriter, axes: list[int]) -> Value | None:
        """The axes as an input."""
        return rw.constant(np.array(axes, np.int64), "axes")

    def attrs(self, p: Perm, axes: list[int]) -> dict[str, object]:
        """The axes as attrs."""
        return {}


class ArgReduce(Reduce):
    """arg_max and arg_min: one axis, in an attr."""

    def axes(self, rw: Rewriter, n: Node) -> list[int] | None:
        rank = n.inputs[0].rank  # type: ignore[union-attr]
        return None if rank is None else [attr(n, "axis") % rank]

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p, axes = pin[0], self.axes(rw, n)
        assert p is not None and axes is not None
        return _same(rw, n, ins, axis=position(p, axes[0]))


class Cumulative(Rule):
    """cumsum, cumprod: a known axis in an input."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.inputs[0], n.outputs[0])

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return pin[0] is not None and pout[0] == pin[0] and rw.known(n.inputs[1]) is not None

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p, axis = pin[0], rw.known(n.inputs[1])
        assert p is not None and axis is not None
        new = rw.constant(np.array(position(p, int(axis.reshape(-1)[0]) % len(p)), np.int64), "axis")
        return _same(rw, n, [ins[0], new])


class Concat(Rule):
    """All parts in one order."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.outputs[0], *n.inputs)

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return pout[0] is not None and all(
            (v is not None and v.is_constant) or p == pout[0] for v, p in zip(n.inputs, pin, strict=True)
        )

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p = pout[0]
        assert p is not None
        parts = [
            rw.constant(np.ascontiguousarray(v.data.transpose(p)), v.name)
            if v is not None and v.data is not None
            else v
            for v in ins
        ]
        return _same(rw, n, parts, axis=position(p, attr(n, "axis") % len(p)))


class Split(Along):
    """All pieces in one order."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.inputs[0], *n.outputs)

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return pin[0] is not None and all(q is None or q == pin[0] for q in pout)


class ByAxes(Rule):
    """slice and pad: operands that go along with an axes operand, which is made explicit and remapped."""

    def __init__(self, axes: int, first: int) -> None:
        self.place = axes  # input that holds the axes
        self.first = first  # input whose length tells how many there are by default

    def axes(self, rw: Rewriter, n: Node) -> list[int] | None:
        """The axes in the order of the other operands, None when not known."""
        rank = n.inputs[0].rank  # type: ignore[union-attr]
        v = operand(n, self.place)
        if rank is None:
            return None
        if v is not None:
            known = rw.known(v)
            return None if known is None else [int(a) % rank for a in known.reshape(-1)]
        if n.op == "pad":
            return list(range(rank))
        length = walk.static_shape(n.inputs[self.first])  # type: ignore[arg-type]
        return None if length is None else list(range(length[0]))

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.inputs[0], n.outputs[0])

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return pin[0] is not None and pout[0] == pin[0] and self.axes(rw, n) is not None

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p, axes = pin[0], self.axes(rw, n)
        assert p is not None and axes is not None
        args = list(ins) + [None] * (self.place + 1 - len(ins))
        args[self.place] = rw.constant(np.array([position(p, a) for a in axes], np.int64), "axes")
        return _same(rw, n, args)


class Resize(Rule):
    """resize works on any axes; they are named in an attr."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.inputs[0], n.outputs[0])

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return pin[0] is not None and pout[0] == pin[0]

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p = pin[0]
        assert p is not None
        axes = attr(n, "axes") or tuple(range(len(p)))
        return _same(rw, n, ins, axes=tuple(position(p, a % len(p)) for a in axes))


class ByRank(Rule):
    """expand and tile: a known vector with one entry per dim of the result."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        return ties_by_place(n.outputs[0], n.inputs[0])

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        if rw.known(n.inputs[1]) is None or pout[0] is None or pin[0] is None:
            return False
        return _in_order(pin[0], pout[0])

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        out, vector = pout[0], rw.known(n.inputs[1])
        assert out is not None and vector is not None
        full = np.ones(len(out), np.int64)
        full[len(out) - vector.size :] = vector.reshape(-1)
        return _same(rw, n, [broadcast(rw, ins[0], pin[0], out), rw.constant(full[list(out)], "shape")])


class Gather(Rule):
    """An axis is replaced (index vector) or dropped (scalar index); the others keep their order."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        x, i, y = n.inputs[0], n.inputs[1], n.outputs[0]
        if not moves(x) or not moves(y) or i is None or i.rank is None or i.rank > 1:
            return []
        assert x is not None and y is not None
        if i.rank == 1:
            return ties_by_place(x, y)
        axis = attr(n, "axis") % x.rank  # type: ignore[operator]
        kept = [a for a in range(x.rank) if a != axis]  # type: ignore[arg-type]
        return [((x, a), (y, k)) for k, a in enumerate(kept)]

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        p, i = pin[0], n.inputs[1]
        if p is None or i is None or i.rank is None or i.rank > 1:
            return False
        return pout[0] == (p if i.rank == 1 else _drop(p, {attr(n, "axis") % len(p)}))

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p = pin[0]
        assert p is not None
        return _same(rw, n, ins, axis=position(p, attr(n, "axis") % len(p)))


class View(Rule):
    """reshape and its relatives: legal in an order in which each group of dims that merges or splits stays together."""

    def groups(self, n: Node) -> list[views.Group] | None:
        """How dims of the input become dims of the output, None when it cannot be proved."""
        x, y = n.inputs[0], n.outputs[0]
        if x is None or y is None or x.shape is None or y.shape is None:
            return None
        if 0 in x.shape or 0 in y.shape:
            return None
        return views.groups(x.shape, y.shape)

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        x, y = n.inputs[0], n.outputs[0]
        if not moves(x) or not moves(y):
            return []
        assert x is not None and y is not None
        return [
            ((x, g.source[0]), (y, g.target[0])) for g in self.groups(n) or [] if len(g.source) == len(g.target) == 1
        ]

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        x, y, p, q, groups = n.inputs[0], n.outputs[0], pin[0], pout[0], self.groups(n)
        if p is None or q is None or groups is None:
            return False
        assert x is not None and y is not None and x.shape is not None and y.shape is not None
        a = _sequence(p, x.shape, [g.source for g in groups])
        b = _sequence(q, y.shape, [g.target for g in groups])
        return a is not None and a == b and views.viewable(views.permuted(x.shape, p), views.permuted(y.shape, q))

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        x, y, q = ins[0], n.outputs[0], pout[0]
        assert x is not None and y is not None and y.shape is not None and q is not None
        return [views.view(rw, x, views.permuted(y.shape, q))]


def _sequence(p: Perm, shape: tuple, groups: list[tuple[int, ...]]) -> list[int] | None:
    """The groups in the order in which a tensor stored by p runs through them; None when one is torn or turned."""
    owner = {a: k for k, g in enumerate(groups) for a in g}
    out: list[int] = []
    last = -1
    for a in p:
        if shape[a] == 1:
            continue
        k = owner[a]
        if out and out[-1] == k:
            if a < last:
                return None
        elif k in out:
            return None
        else:
            out.append(k)
        last = a
    return out


class ShapeOf(Rule):
    """The shape of a tensor in any order, its entries put back in place."""

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        return pin[0] is not None

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        p = pin[0]
        assert p is not None
        if n.op == "size_of":
            return _same(rw, n, ins)
        order = list(views.inverse(p))[slice(*_bounds(attr(n, "start"), attr(n, "end"), len(p)))]
        return [rw.op("gather", rw.op("shape_of", ins[0]), np.array(order, np.int64), node=n.name)]


def _bounds(start: int, end: int, rank: int) -> tuple[int, int]:
    start, end = (max(0, min(rank, i + rank if i < 0 else i)) for i in (start, end))
    return start, end


class MatMul(Rule):
    """Batch dims in one order; the last two of an operand may change places (transpose_a, transpose_b)."""

    def ties(self, rw: Rewriter, n: Node) -> list[Tie]:
        a, b, y = n.inputs[0], n.inputs[1], n.outputs[0]
        if y is None or y.rank is None or any(v is None or v.rank is None or v.rank < 2 for v in (a, b)):
            return []
        assert a is not None and b is not None
        ta, tb, r = bool(attr(n, "transpose_a")), bool(attr(n, "transpose_b")), y.rank
        out: list[Tie] = []
        for v in (a, b):
            if moves(v):
                out += [((v, i), (y, i + r - v.rank)) for i in range(v.rank - 2)]  # type: ignore[operator, arg-type]
        if moves(a):
            out.append(((a, a.rank - 1 if ta else a.rank - 2), (y, r - 2)))  # type: ignore[operator]
        if moves(b):
            out.append(((b, b.rank - 2 if tb else b.rank - 1), (y, r - 1)))  # type: ignore[operator]
        if moves(a) and moves(b):
            out.append(((a, a.rank - 2 if ta else a.rank - 1), (b, b.rank - 1 if tb else b.rank - 2)))  # type: ignore[operator]
        return out + ties_by_place(y, operand(n, 3))

    def fits(self, rw: Rewriter, n: Node, pin: Perms, pout: Perms) -> bool:
        y = pout[0]
        if y is None or len(y) < 2 or y[-2:] != (len(y) - 2, len(y) - 1):
            return False
        batch = y[:-2]
        plain = batch == views.identity(len(batch))
        for v, p in zip(n.inputs[:2], pin[:2], strict=True):
            if v is None or v.rank is None or v.rank < 2:
                return False
            if not plain and v.rank != 2 and v.rank != len(y):
                return False
            if v.is_constant:
                if not plain and v.rank > 2:
                    return False
                continue
            if p is None or set(p[-2:]) != {len(p) - 2, len(p) - 1}:
                return False
            if v.rank == len(y) and p[:-2] != batch:
                return False
            if v.rank < len(y) and p[:-2] != views.identity(len(p) - 2):
                return False
        bias, residual = operand(n, 2), operand(n, 3)
        if bias is not None and (bias.rank is None or (bias.rank > 1 and y != views.identity(len(y)))):
            return False
        if len(pin) > 2 and pin[2] is not None and pin[2] != views.identity(len(pin[2])):
            return False
        return residual is None or residual.is_constant or pin[3] == y

    def build(self, rw: Rewriter, n: Node, ins: list[Value | None], pin: Perms, pout: Perms) -> list[Value | None]:
        flags = {}
        for key, p in zip(("transpose_a", "transpose_b"), pin[:2], strict=True):
            turned = p is not None and p[-2:] == (len(p) - 1, len(p) - 2)
            flags[key] = bool(attr(n, key)) != turned
        y = pout[0]
        assert y is not None
        args = list(ins)
        if len(args) > 3 and args[3] is not None and args[3].data is not None:
            args[3] = rw.constant(np.ascontiguousarray(args[3].data.transpose(y)), args[3].name)
        return _same(rw, n, args, **flags)


ELEMENTWISE, PLAIN = Elementwise(), Rule()
_REDUCE = Reduce()
RULES: dict[str, Rule] = {
    "softmax": Along(),
    "log_softmax": Along(),
    "reverse": Along("axes"),
    "top_k": Along(results=2),
    "batch_norm": Along(),
    "quantize": PerAxis(),
    "dequantize": PerAxis(),
    "dynamic_quantize": PerTensor(),
    "layer_norm": Trailing(),
    "rms_norm": Trailing(),
    "arg_max": ArgReduce(),
    "arg_min": ArgReduce(),
    "cumsum": Cumulative(),
    "cumprod": Cumulative(),
    "concat": Concat(),
    "split": Split(),
    "slice": ByAxes(3, 1),
    "pad": ByAxes(3, 1),
    "resize": Resize(),
    "expand": ByRank(),
    "tile": ByRank(),
    "gather": Gather(),
    "shape_of": ShapeOf(),
    "size_of": ShapeOf(),
    "matmul": MatMul(),
    "conv": Pinned(0, 3),
    "conv_transpose": Pinned(0),
    "conv_integer": Pinned(0),
    "qconv": Pinned(0, 4),
    "qavg_pool": Pinned(0),
    "qadd": ELEMENTWISE,
    "qmul": ELEMENTWISE,
    "deform_conv": Pinned(0),
    "max_pool": Pinned(0),
    "avg_pool": Pinned(0),
    "lp_pool": Pinned(0),
    "group_norm": Pinned(0),
    "lrn": Pinned(0),
    "depth_to_space": Pinned(0),
    "space_to_depth": Pinned(0),
    "grid_sample": Pinned(0),
    "trilu": Pinned(0),
    "attention": Pinned(0),
    **dict.fromkeys(views.VIEWS, View()),
}
_FAMILIES = ("elementwise", "unary", "convert", "activation")


def rule(n: Node) -> Rule:
    """The layout rule of a node."""
    found = RULES.get(n.op)
    if found is not None:
        return found
    op = get(n.op)
    if op.family == "reduce" and n.op.startswith("reduce_"):
        return _REDUCE
    return ELEMENTWISE if op.family in _FAMILIES else PLAIN
