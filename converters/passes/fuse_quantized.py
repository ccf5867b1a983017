"""Turn float ops between dequantize and quantize nodes into integer ops (docs/quantization-ir.md).

    quantize(act(conv(dequantize(x), dequantize(w), b)))   ->  qconv          (also matmul, add, mul, pooling, softmax)
    quantize(f(dequantize(x))), f elementwise              ->  qlut           (any f of one tensor, also x * sigmoid(x))
    quantize(concat(...)), quantize(reshape(...))          ->  concat and reshape of integers
    conv(dequantize(x), dequantize(w)) with a float reader ->  qconv with a float32 result

Dequantize nodes sink through ops that only move data, quantize nodes rise through them, until they meet.  What is left
stays as it is and computes in float; :func:`leftovers` says what and why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir import quantized as ir
from deploykit.converters.ir import walk
from deploykit.converters.ir.layout import ELEMENTWISE, rule
from deploykit.converters.ir.quantized import Params, Tensor
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr, operand
from deploykit.converters.passes.fuse_epilogue import activation
from deploykit.errors import DeploykitError
from deploykit.graph import Graph, Node, Value
from deploykit.ops import get
from deploykit.ops.dispatch import run_reference
from deploykit.ops.samples_quantized import softmax_table

TOLERANCE = "loose"  # 8-bit results may tip over to the next integer

# ops that move elements of input 0 (concat: of all) and compute nothing
MOVES = frozenset(
    "identity reshape flatten squeeze unsqueeze transpose slice gather expand tile split reverse depth_to_space "
    "space_to_depth concat pad".split()
)
CLAMPS = ("relu", "relu6", "clip")
GEOMETRY = ("strides", "dilations", "pads", "pad_mode", "groups")
F32 = np.float32
FINE = 64


def run(graph: Graph) -> dict[str, int]:
    """Fuse in every graph; counts by the integer op that was made.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.op("dequantize", b.input("x", "uint8", (4,)), F32(0.5), np.uint8(3))
    >>> g = b.output(b.op("quantize", b.op("relu", x), F32(0.5), np.uint8(3)), "y")
    >>> run(g), [n.op for n in g.nodes]
    ({'qlut': 1}, ['qlut'])
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        if rw.alive(n) and n.op in MOVES and _sink(rw, n):
            counts["moved"] += 1
    for n in reversed(list(rw.nodes())):
        if rw.alive(n) and n.op == "quantize" and _rise(rw, n):
            counts["moved"] += 1
    for n in rw.nodes():
        if not rw.alive(n) or not n.outputs or n.outputs[0] is None or rw.unused(n.outputs[0]):
            continue
        with rw.before(n):
            new = _fuse(rw, n)
        if new is not None:
            rw.replace(n.outputs[0], new)
            made = new.producer
            counts[made.op if made is not None else "cancelled"] += 1
    rw.commit()
    rw = Rewriter(graph)
    for n in rw.nodes():
        if n.op == "qadd" and _residual(rw, n):
            counts["residual"] += 1
    rw.commit()
    return counts


# ---------------------------------------------------------------- moves
def _sink(rw: Rewriter, n: Node) -> bool:
    """move(dequantize(x)) -> dequantize(move(x))."""
    if len(n.outputs) != 1 and n.op != "split":
        return False
    data = n.inputs if n.op == "concat" else n.inputs[:1]
    found = [ir.source(v) for v in data]
    if n.op in ("transpose", "reshape", "flatten", "squeeze", "unsqueeze") and found[0] is None:
        return _sink_weights(rw, n)
    if any(t is None for t in found):
        return False
    tensors: list[Tensor] = found  # type: ignore[assignment]
    p = tensors[0].params
    if any(t.params != p for t in tensors):
        return False
    inputs: list[Value | None] = [*(t.value for t in tensors), *n.inputs[len(tensors) :]]
    with rw.before(n):
        if n.op == "pad" and not _pad_value(rw, n, inputs, p):
            return False
        outs = rw.op(n.op, *inputs, node=n.name, outputs=len(n.outputs), **n.attrs)
        for old, new in zip(n.outputs, outs, strict=True):
            if old is not None and not rw.unused(old):
                rw.replace(old, _dequantize(rw, new, p))
    return True


def _pad_value(rw: Rewriter, n: Node, inputs: list[Value | None], p: Params) -> bool:
    """Pads with zero become pads with the zero point."""
    if attr(n, "mode") != "constant":
        return True
    value = operand(n, 2)
    if value is not None and walk.scalar(value) != 0:
        return False
    while len(inputs) < 3:
        inputs.append(None)
    inputs[2] = rw.constant(np.asarray(p.zero_point, p.dtype.np))
    return True


def _sink_weights(rw: Rewriter, n: Node) -> bool:
    """transpose or reshape(dequantize(constant)) with one scale per slice; slices must stay slices."""
    x = n.inputs[0]
    d = None if x is None else x.producer
    shape = walk.static_shape(n.output)
    if d is None or shape is None or not all(v is None or v.is_constant for v in d.inputs):
        return False
    q, scale = walk.data(operand(d, 0)), walk.data(operand(d, 1))
    if q is None or d.op not in ("dequantize", "cast") or (d.op == "dequantize" and attr(d, "block_size")):
        return False
    axis = 0
    if scale is not None and scale.size > 1:
        found = _axis_after(n, q.shape, attr(d, "axis") % q.ndim, shape)
        if found is None:
            return False
        axis = found
    perm = tuple(attr(n, "perm")) or tuple(reversed(range(q.ndim))) if n.op == "transpose" else tuple(range(q.ndim))
    with rw.before(n):
        turned = rw.constant(np.ascontiguousarray(q.transpose(perm)).reshape(shape), d.inputs[0].name)  # type: ignore[union-attr]
        attrs = dict(d.attrs, axis=axis) if d.op == "dequantize" else d.attrs
        rw.replace(n.output, rw.op(d.op, turned, *d.inputs[1:], node=d.name, **attrs))
    return True


def _axis_after(n: Node, before: tuple[int, ...], axis: int, after: tuple[int, ...]) -> int | None:
    """Where an axis of a constant is after a transpose or a reshape, None when it is split or joined."""
    if n.op == "transpose":
        return (tuple(attr(n, "perm")) or tuple(reversed(range(len(before))))).index(axis)
    lead = math.prod(before[:axis])
    for i, d in enumerate(after):
        if d == before[axis] and math.prod(after[:i]) == lead:
            return i
    return None


def _dequantize(rw: Rewriter, v: Value, p: Params) -> Value:
    return rw.op("dequantize", v, F32(p.scale), np.asarray(p.zero_point, p.dtype.np))


def _quantize(rw: Rewriter, v: Value, p: Params) -> Value:
    return rw.op("quantize", v, F32(p.scale), np.asarray(p.zero_point, p.dtype.np), dtype=p.dtype.name)


def _rise(rw: Rewriter, q: Node) -> bool:
    """quantize(move(x)) -> move(quantize(x)); for concat each part is quantized."""
    p = ir.target(q)
    v = q.inputs[0]
    n = None if v is None else v.producer
    if p is None or n is None or n.op not in MOVES or n.op == "split" or len(n.outputs) != 1:
        return False
    if rw.sole_user(v) is not q or (n.op == "concat" and not any(_worth(x) for x in n.inputs)):
        return False
    data = n.inputs if n.op == "concat" else n.inputs[:1]
    if any(x is None or x.dtype is not dtypes.float32 for x in data):
        return False
    with rw.before(q):
        inputs: list[Value | None] = list(n.inputs)
        if n.op == "pad" and not _pad_value(rw, n, inputs, p):
            return False
        for i, x in enumerate(data):
            assert x is not None
            inputs[i] = _quantize(rw, x, p)
        rw.replace(q.output, rw.op(n.op, *inputs, node=n.name, **n.attrs))
    return True


def _worth(v: Value | None) -> bool:
    return ir.source(v) is not None or (v is not None and v.producer is not None and v.producer.op in CORES)


# ---------------------------------------------------------------- fusion
def _fuse(rw: Rewriter, n: Node) -> Value | None:
    if n.op in ("conv", "matmul"):  # for float readers; a quantize behind it finds the float form by _float_core
        return _core_alone(rw, n)
    p = ir.target(n)
    if p is None:
        return None
    x = n.inputs[0]
    same = ir.source(x)
    if same is not None and same.params == p:
        return same.value
    for build in (_through_core, _table, _monotone):
        got = build(rw, n, p)
        if got is not None:
            return got
    return None


@dataclass
class Tail:
    """Clamps between an op and its quantize node, in numbers."""

    low: float = -math.inf
    high: float = math.inf

    def bounds(self, p: Params) -> dict[str, int]:
        """The attrs low and high of an integer op."""
        low, high = p.range
        return dict(
            low=low if self.low == -math.inf else max(low, p.index(self.low)),
            high=high if self.high == math.inf else min(high, p.index(self.high)),
        )

    def clip(self, act: tuple[str, float, float]) -> Tail | None:
        """These clamps after one more in front of them; None when the activation is none."""
        name, alpha, beta = act
        low, high = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0), "clip": (alpha, beta)}.get(name, (math.nan, 0.0))
        if math.isnan(low) or low > high:
            return None
        return Tail(min(max(low, self.low), self.high), min(max(high, self.low), self.high))


def _stripped(rw: Rewriter, v: Value | None, user: Node) -> tuple[Node, Tail] | None:
    """The op behind the clamps that only ``user`` reads, and the clamps together."""
    tail = Tail()
    while v is not None and v.producer is not None and v.producer.outputs[0] is v and rw.sole_user(v) is user:
        n = v.producer
        act = activation(n)
        if act is None or act[0] not in CLAMPS:
            return n, tail
        following = tail.clip(act)
        if following is None:
            return None
        v, user, tail = n.inputs[0], n, following
    return None


def _result(p: Params, tail: Tail) -> dict[str, object]:
    return dict(y_zero_point=p.zero_point, dtype=p.dtype.name, **tail.bounds(p))


def _through_core(rw: Rewriter, q: Node, p: Params) -> Value | None:
    found = _stripped(rw, q.inputs[0], q)
    if found is None:
        return None
    n, tail = found
    build = CORES.get(n.op)
    return None if build is None else build(rw, n, p, tail)


# ---- conv and matmul
@dataclass
class Product:
    """The operands of an integer product: inputs a and b, scale of a sum per column, integer bias, attrs."""

    inputs: list[Value | np.ndarray]
    scale: np.ndarray  # float32 [1] or [columns]
    bias: np.ndarray | None
    attrs: dict[str, object]

    def values(self, y_scale: float) -> list[Value | np.ndarray | None]:
        """Inputs of qconv and qmatmul."""
        return [*self.inputs, self.scale / F32(y_scale), self.bias]


def _core_alone(rw: Rewriter, n: Node) -> Value | None:
    """A product of quantized operands whose result is needed in float: one that no quantize node will take up."""
    users = rw.users(n.outputs[0]) if n.outputs[0] is not None else []
    if len(users) == 1 and not rw.is_output(n.output):
        u: Node | None = users[0]
        if u is not None and u.op == "add" and any(ir.source(v) is not None for v in u.inputs):
            u = rw.sole_user(u.output)
        while u is not None and (act := activation(u)) is not None and act[0] in CLAMPS:
            u = rw.sole_user(u.output)
        if u is not None and ir.target(u) is not None:
            return None
    if _own_act(n) is None or attr(n, "act") != "none" or operand(n, 3) is not None:
        return None
    product = _product(n)
    if product is None:
        return None
    return rw.op("q" + n.op, *product.values(1.0), node=n.name, dtype="float32", **product.attrs)


def _own_act(n: Node) -> Tail | None:
    """Clamps of an op's own epilogue; None when it holds more."""
    if attr(n, "act") == "none":
        return Tail()
    return Tail().clip((attr(n, "act"), attr(n, "act_alpha"), attr(n, "act_beta")))


def _product(n: Node) -> Product | None:
    return _conv_product(n) if n.op == "conv" else _matmul_product(n)


def _build_product(rw: Rewriter, n: Node, p: Params, tail: Tail) -> Value | None:
    own, product = _own_act(n), _product(n)
    if own is None or product is None:
        return None
    residual, extra = None, {}
    if operand(n, 3) is not None:
        r = ir.source(operand(n, 3))
        if r is None or (attr(n, "act") != "none" and not attr(n, "act_after")):
            return None
        residual = r.value
        extra = dict(residual_scale=_f(r.params.scale / p.scale), residual_zero_point=r.params.zero_point)
    both = Tail(min(max(own.low, tail.low), tail.high), min(max(own.high, tail.low), tail.high))
    values = [*product.values(p.scale), residual]
    return rw.op("q" + n.op, *values, node=n.name, **product.attrs, **extra, **_result(p, both))


def _f(x: float) -> float:
    return float(F32(x))


def symmetric(w: ir.Weights) -> np.ndarray | None:
    """The weights as int8 with zero point 0, None where they do not fit."""
    shape = [-1 if i == w.axis else 1 for i in range(w.q.ndim)] if w.zero_point.size > 1 else ()
    q = w.q - w.zero_point.reshape(shape)
    return q.astype(np.int8) if q.size == 0 or (q.min() >= -128 and q.max() <= 127) else None


def _bias(v: Value | None, scale: np.ndarray, n: int) -> tuple[bool, np.ndarray | None]:
    """(possible, int32 bias in units of ``scale``)."""
    if v is None:
        return True, None
    stored = ir.int32_constant(v)
    if stored is not None and stored[0].size == n and np.allclose(stored[1], scale, rtol=1e-5, atol=0):
        return True, stored[0].reshape(-1)
    b = ir.constant(v)
    if b is None or b.size not in (1, n) or not np.all(scale > 0):  # a channel of scale 0 has no units
        return False, None
    units = np.rint(np.broadcast_to(b.reshape(-1).astype(np.float64), (n,)) / scale)
    if not np.isfinite(units).all() or (units.size and np.abs(units).max() >= 2.0**31):
        return False, None
    return True, units.astype(np.int32)


def _conv_product(n: Node) -> Product | None:
    x, w = ir.source(n.inputs[0]), ir.weights(n.inputs[1])
    if x is None or w is None or (w.scale.size > 1 and w.axis != 0):
        return None
    q = symmetric(w)
    if q is None:
        return None
    scale = F32(x.params.scale) * w.scale
    possible, bias = _bias(operand(n, 2), scale, q.shape[0])
    if not possible:
        return None
    attrs = {k: attr(n, k) for k in GEOMETRY}
    return Product([x.value, q], scale, bias, dict(attrs, x_zero_point=x.params.zero_point))


def _matmul_product(n: Node) -> Product | None:
    a, b = ir.source(n.inputs[0]), ir.source(n.inputs[1])
    w = ir.weights(n.inputs[1])
    y = n.output
    if a is None or y.shape is None or any(v is None or v.rank is None or v.rank < 2 for v in n.inputs[:2]):
        return None
    tb = bool(attr(n, "transpose_b"))
    attrs: dict[str, object] = dict(transpose_a=attr(n, "transpose_a"), transpose_b=tb)
    attrs["x_zero_point"] = a.params.zero_point
    right: Value | np.ndarray
    q = None if w is None else symmetric(w)
    if w is not None and q is not None and (w.scale.size == 1 or w.axis == q.ndim - (2 if tb else 1)):
        right, scale = q, w.scale
    elif b is not None:
        right, scale = b.value, np.array([b.params.scale], F32)
        attrs["b_zero_point"] = b.params.zero_point
    else:
        return None
    scale = F32(a.params.scale) * scale * F32(attr(n, "alpha"))
    bias_value, bias = operand(n, 2), None
    if bias_value is not None:
        columns = y.shape[-1]
        if not isinstance(columns, int) or bias_value.rank is None or bias_value.rank > 1:
            return None
        possible, bias = _bias(bias_value, scale, columns)
        if not possible:
            return None
    return Product([a.value, right], scale, bias, attrs)


# ---- elementwise pairs
def _add(rw: Rewriter, n: Node, p: Params, tail: Tail) -> Value | None:
    a, b = ir.source(n.inputs[0]), ir.source(n.inputs[1])
    if n.op == "add" and (a is None) != (b is None):
        return _add_to_product(rw, n, n.inputs[0 if a is None else 1], a or b, p, tail)
    if a is None or b is None:
        return None
    sign = -1 if n.op == "sub" else 1
    return rw.op(
        "qadd",
        a.value,
        b.value,
        node=n.name,
        a_scale=_f(a.params.scale / p.scale),
        a_zero_point=a.params.zero_point,
        b_scale=_f(sign * b.params.scale / p.scale),
        b_zero_point=b.params.zero_point,
        **_result(p, tail),
    )


def _add_to_product(rw: Rewriter, n: Node, y: Value | None, r: Tensor | None, p: Params, tail: Tail) -> Value | None:
    """product + dequantize(r): the residual is added before the only rounding that counts.

    The kernels' fast way rounds the product first, so it does, to a FINE part of a step.
    """
    m = None if y is None else y.producer
    if m is None or r is None or m.op not in ("conv", "matmul") or rw.sole_user(m.output) is not n:
        return None
    if attr(m, "act") != "none" or operand(m, 3) is not None or not walk.same_shape(r.value, m.output):
        return None
    product = _product(m)
    if product is None:
        return None
    how = dict(
        mid_scale=1.0 / FINE,
        mid_low=-(1 << 20),
        mid_high=1 << 20,
        residual_scale=_f(r.params.scale / p.scale),
        residual_zero_point=r.params.zero_point,
    )
    values = [*product.values(p.scale / FINE), r.value]
    return rw.op("q" + m.op, *values, node=m.name, **product.attrs, **how, **_result(p, tail))


def _mul(rw: Rewriter, n: Node, p: Params, tail: Tail) -> Value | None:
    a, b = ir.source(n.inputs[0]), ir.source(n.inputs[1])
    if a is None or b is None:
        return None
    one = _origin(a), _origin(b)
    if one[0] is one[1]:
        return None  # x * sigmoid(x) is a table
    return rw.op(
        "qmul",
        a.value,
        b.value,
        node=n.name,
        multiplier=_f(a.params.scale * b.params.scale / p.scale),
        a_zero_point=a.params.zero_point,
        b_zero_point=b.params.zero_point,
        **_result(p, tail),
    )


def _origin(t: Tensor) -> Value | None:
    """The tensor that a table was applied to, else the tensor itself."""
    n = t.value.producer
    return (
        n.inputs[0]
        if n is not None and n.op == "qlut" and n.inputs[1] is not None and n.inputs[1].is_constant
        else t.value
    )


# ---- reductions
def _avg_pool(rw: Rewriter, n: Node, p: Params, tail: Tail) -> Value | None:
    x = ir.source(n.inputs[0])
    if x is None or math.prod(attr(n, "kernel")) > 1 << 16:
        return None
    how = dict(multiplier=_f(x.params.scale / p.scale), x_zero_point=x.params.zero_point)
    return rw.op("qavg_pool", x.value, node=n.name, **walk.attrs(n), **how, **_result(p, tail))


def _mean(rw: Rewriter, n: Node, p: Params, tail: Tail) -> Value | None:
    x, axes = ir.source(n.inputs[0]), operand(n, 1)
    if x is None or x.value.rank is None:
        return None
    known: tuple[int, ...] = ()
    if axes is not None:
        if axes.data is None:
            return None
        known = tuple(int(a) for a in axes.data.reshape(-1))
    if not known and attr(n, "noop_if_empty"):
        return None
    how = dict(axes=known, keepdims=attr(n, "keepdims"), multiplier=_f(x.params.scale / p.scale))
    return rw.op("qmean", x.value, node=n.name, **how, x_zero_point=x.params.zero_point, **_result(p, tail))


def _softmax(rw: Rewriter, n: Node, p: Params, tail: Tail) -> Value | None:
    x = ir.source(n.inputs[0])
    if x is None or x.value.rank is None or attr(n, "axis") % max(x.value.rank, 1) != x.value.rank - 1:
        return None
    table = softmax_table(x.params.scale)
    return rw.op("qsoftmax", x.value, table, node=n.name, multiplier=_f(1 / p.scale), **_result(p, tail))


CORES: dict[str, Callable[[Rewriter, Node, Params, Tail], Value | None]] = {
    "conv": _build_product,
    "matmul": _build_product,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "avg_pool": _avg_pool,
    "reduce_mean": _mean,
    "softmax": _softmax,
}


# ---- functions of one tensor
def _table(rw: Rewriter, q: Node, p: Params) -> Value | None:
    """qlut for any elementwise function, evaluated on all 256 integers by the references of its ops."""
    v = q.inputs[0]
    assert v is not None
    leaves: dict[Value, Tensor] = {}
    order = _elementwise_cone(v, leaves)
    if order is None or not leaves:
        return None
    origins = {_origin(t) for t in leaves.values()}
    if len(origins) != 1:
        return None
    (origin,) = origins
    if origin is None or origin.shape is None or origin.shape != v.shape or origin.dtype not in ir.BYTES:
        return None
    numbers = np.arange(256, dtype=np.uint8).view(origin.dtype.np)  # type: ignore[union-attr]
    env = {leaf: _leaf_values(t, origin, numbers) for leaf, t in leaves.items()}
    try:
        table = _evaluate([*order, q], env)
    except (ArithmeticError, DeploykitError, TypeError, ValueError):
        return None
    return rw.op("qlut", origin, table, node=q.name)


def _leaf_values(t: Tensor, origin: Value, numbers: np.ndarray) -> np.ndarray:
    q = numbers
    if t.value is not origin:
        table = walk.data(t.value.producer.inputs[1])  # type: ignore[union-attr]
        assert table is not None
        q = table[numbers.view(np.uint8)]
    return (q.astype(np.int32) - t.params.zero_point).astype(F32) * F32(t.params.scale)


def _elementwise_cone(v: Value, leaves: dict[Value, Tensor], limit: int = 16) -> list[Node] | None:
    """The elementwise nodes between dequantized tensors and v, in order; None when something else is in between."""
    order: list[Node] = []
    seen: set[Value] = set()

    def visit(x: Value) -> bool:
        if x in seen or (x.data is not None and x.data.size == 1):
            return True
        seen.add(x)
        t = ir.source(x)
        if t is not None:
            leaves[x] = t
            return True
        n = x.producer
        if n is None or rule(n) is not ELEMENTWISE or len(n.outputs) != 1 or get(n.op).family == "convert":
            return False
        if len(order) >= limit or not all(i is None or visit(i) for i in n.inputs):
            return False
        order.append(n)
        return True

    return order if visit(v) else None


def _evaluate(order: list[Node], env: dict[Value, np.ndarray]) -> np.ndarray:
    out = np.zeros(0)
    for n in order:
        op = get(n.op)
        ins = [None if x is None else env[x] if x in env else np.asarray(x.data).reshape(()) for x in n.inputs]
        (out,) = run_reference(op, ins, op.complete(n.attrs))
        env[n.output] = np.asarray(out)
    return out


def _monotone(rw: Rewriter, q: Node, p: Params) -> Value | None:
    """quantize(max_pool or resize(dequantize(x))): the op on the integers, then a table when the parameters differ."""
    found = _stripped(rw, q.inputs[0], q)
    if found is None:
        return None
    n, tail = found
    if n.op not in ("max_pool", "resize", "reduce_max", "reduce_min"):
        return None
    x = ir.source(n.inputs[0])
    if x is None or (n.op == "max_pool" and not _window_meets_input(n)):
        return None
    if n.op == "resize" and attr(n, "coordinates") == "tf_crop_and_resize":
        return None
    with_ints: list[Value | None] = [x.value, *n.inputs[1:]]
    y = rw.op(n.op, *with_ints, node=n.name, outputs=1, **n.attrs)[0]
    low, high = (tail.bounds(p)[k] for k in ("low", "high"))
    if x.params == p and (low, high) == p.range:
        return y
    numbers = np.arange(256, dtype=np.uint8).view(x.params.dtype.np)
    real = (numbers.astype(np.int32) - x.params.zero_point).astype(F32) * F32(x.params.scale)
    quotient = np.rint(real / F32(p.scale)).astype(np.float64) + p.zero_point
    return rw.op("qlut", y, np.clip(quotient, low, high).astype(p.dtype.np), node=q.name)


def _window_meets_input(n: Node) -> bool:
    """No window lies in the padding alone, whose result is no number of the input."""
    kernel, pads = attr(n, "kernel"), attr(n, "pads")
    return not pads or all(max(pads[i], pads[i + len(kernel)]) < k for i, k in enumerate(kernel))


# ---- residuals
def _residual(rw: Rewriter, n: Node) -> bool:
    """qadd(qconv(x), r) -> qconv with a residual, rounded in between as before: the same bits, one pass less."""
    for i, key, other in ((0, "a", "b"), (1, "b", "a")):
        y, r = n.inputs[i], n.inputs[1 - i]
        p = None if y is None else y.producer
        if p is None or p.op not in ("qconv", "qmatmul") or rw.sole_user(y) is not n or y is r:  # type: ignore[arg-type]
            continue
        if operand(p, 4) is not None or attr(p, "mid_scale") != 0 or attr(p, "dtype") == "float32":
            continue
        if p.op == "qconv" and attr(p, "groups") > 1:
            continue
        if r is None or not walk.same_shape(r, y) or n.output.shape != y.shape or r.is_constant:  # type: ignore[union-attr]
            continue
        if attr(p, "y_zero_point") != attr(n, f"{key}_zero_point"):
            continue
        assert y is not None and y.dtype is not None
        least, most = Params(1.0, 0, y.dtype).range
        zero = attr(p, "y_zero_point")
        attrs = {
            **p.attrs,
            "mid_scale": attr(n, f"{key}_scale"),
            "mid_low": max(attr(p, "low"), least) - zero,
            "mid_high": min(attr(p, "high"), most) - zero,
            "residual_scale": attr(n, f"{other}_scale"),
            "residual_zero_point": attr(n, f"{other}_zero_point"),
            "y_zero_point": attr(n, "y_zero_point"),
            "low": attr(n, "low"),
            "high": attr(n, "high"),
            "dtype": n.output.dtype.name,  # type: ignore[union-attr]
        }
        with rw.before(n):
            inputs = [*p.inputs, None, None][:4]
            rw.replace(n.output, rw.op(p.op, *inputs, r, node=p.name, **attrs))
        return True
    return False


# ---------------------------------------------------------------- what is left
def leftovers(graph: Graph) -> Counter[str]:
    """Why quantize and dequantize nodes inside a graph are left, with how often; those at its inputs and outputs are
    not counted, they are meant to be there."""
    reasons: Counter[str] = Counter()
    for g in graph.walk():
        readers = g.consumers()
        for n in g.nodes:
            if n.op == "quantize":
                p = n.inputs[0].producer if n.inputs[0] is not None else None
                if p is not None:
                    reasons[f"{p.op}: {_why(p)}"] += 1
            elif n.op == "dequantize" and n.inputs[0] is not None and n.inputs[0].producer is not None:
                for r in readers.get(n.output, []):
                    reasons[f"{r.op}: {_why(r)}"] += 1
    return reasons


def _why(n: Node) -> str:
    if n.op in ("conv", "matmul"):
        if _own_act(n) is None:
            return f"activation {attr(n, 'act')} needs quantize and dequantize in front of it"
        if ir.source(n.inputs[0]) is None:
            return "its input is not quantized per tensor"
        w = ir.weights(n.inputs[1])
        if w is None and ir.source(n.inputs[1]) is None:
            return "its weights are not quantized"
        if w is not None and symmetric(w) is None:
            return "its weights are not symmetric"
        return "weights per other axis than the output channels, or a bias that does not fit"
    if n.op in CORES:
        return "an operand or the result is not quantized"
    if n.op in ("quantize", "dequantize"):
        return "parameters are not per-tensor constants"
    return "no integer form"
