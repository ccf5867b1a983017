"""Complex numbers: pairs of real tensors while importing.  Fourier transforms make them; magnitudes, angles, parts and
inverse transforms end them.  What only moves or adds up elements is done to both parts by the handler for real ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.converters.importers.pytorch.call import HANDLERS, Call, Complex, handles
from deploykit.errors import UnsupportedError
from deploykit.graph import Value

PART_BY_PART = frozenset(
    "view reshape _unsafe_view permute transpose unsqueeze squeeze expand clone slice select cat stack flip roll split "
    "split_with_sizes unbind index index_select gather constant_pad_nd neg sum mean alias diagonal repeat _to_copy".split()
)


def parts(c: Call, handler: Any) -> Any:
    """The results of a handler for real tensors, where it is asked for complex ones."""
    name = str(c.node.target).split(".")[1]
    own = COMPLEX.get(name)
    if own is not None:
        return own(c)
    if name not in PART_BY_PART or (name == "constant_pad_nd" and c.arg("value")):
        raise UnsupportedError("of complex numbers; take their parts before (torch.view_as_real)")
    env = c.env
    both = []
    for part in ("re", "im"):
        for n in c.node.all_input_nodes:
            v = env[n.name]
            if name in ("cat", "stack") and isinstance(v, Value):
                raise UnsupportedError("of complex and real numbers together")
        own_env = {n.name: getattr(env[n.name], part, env[n.name]) for n in c.node.all_input_nodes}
        inner = Call(c.importer, c.body, own_env, c.node, c.name)
        inner.wants_part = True
        both.append(handler(inner))
    re, im = both
    return [Complex(*p) for p in zip(re, im, strict=True)] if isinstance(re, (list, tuple)) else Complex(re, im)


def _pair(c: Call, v: Any) -> tuple[Value, Value | None]:
    return (v.re, v.im) if isinstance(v, Complex) else (c.tensor(v, c.dtype), None)


def _joined(c: Call, z: Complex) -> Value:
    return c.op("concat", *(c.op("unsqueeze", v, c.i64(-1)) for v in (z.re, z.im)), axis=-1)


def _apart(c: Call, x: Value) -> Complex:
    last = c.rank(x) - 1
    return Complex(*(c.op("gather", x, c.const(np.int64(k)), axis=last) for k in (0, 1)))


def _scaled(c: Call, y: Value, sizes: list[Any], inverse: bool) -> Value:
    """torch's norms: 0 none, 1 by the root of the number of elements, 2 by it.  Our inverse is divided by it."""
    mode = c.number("normalization")
    if mode == (2 if inverse else 0):
        return y
    if not all(isinstance(s, int) for s in sizes):
        raise UnsupportedError("a transform of open length with this norm; fix it (input_shapes=)")
    power = {0: 0.0, 1: -0.5, 2: -1.0}[mode] + inverse
    return c.op("mul", y, c.scalar(math.prod(sizes) ** power, y))


def _axes(c: Call, rank: int) -> list[int]:
    return [c.axis(d, rank) for d in c.ints("dim")]


@handles("_fft_r2c")
def r2c(c: Call) -> Complex:
    x = c.x()
    axes = _axes(c, c.rank(x))
    y = c.op("unsqueeze", x, c.i64(-1))
    for i, a in enumerate(reversed(axes)):
        y = c.op("dft", y, None, c.const(np.int64(a)), onesided=bool(c.arg("onesided")) and i == 0)
    return _apart(c, _scaled(c, y, [c.shape(x)[a] for a in axes], False))


def c2c(c: Call) -> Complex:
    y = _joined(c, c.arg("self"))
    axes, inverse = _axes(c, c.rank(y) - 1), not c.arg("forward")
    sizes = [c.shape(y)[a] for a in axes]
    for a in axes:
        y = c.op("dft", y, None, c.const(np.int64(a)), inverse=inverse)
    return _apart(c, _scaled(c, y, sizes, inverse))


def c2r(c: Call) -> Value:
    y = _joined(c, c.arg("self"))
    axes, length = _axes(c, c.rank(y) - 1), c.arg("last_dim_size")
    n = c.cast(length, "int64") if isinstance(length, Value) else c.const(np.int64(length))
    sizes = [*(c.shape(y)[a] for a in axes[:-1]), length]
    for a in axes[:-1]:
        y = c.op("dft", y, None, c.const(np.int64(a)), inverse=True)
    y = c.op("dft", y, n, c.const(np.int64(axes[-1])), inverse=True, onesided=True)
    return _scaled(c, c.op("squeeze", y, c.i64(-1)), sizes, True)


def add(c: Call) -> Complex:
    (a, b), (p, q) = _pair(c, c.arg("self")), _pair(c, c.arg("other"))
    name = str(c.node.target).split(".")[1]
    if c.arg("alpha") not in (None, 1):
        raise UnsupportedError("a factor (alpha) of complex numbers")
    none = c.scalar(0, a)
    return Complex(c.op(name, a, p), c.op(name, none if b is None else b, none if q is None else q))


def mul(c: Call) -> Complex:
    (a, b), (p, q) = _pair(c, c.arg("self")), _pair(c, c.arg("other"))
    if b is None or q is None:
        one, (re, im) = (a, (p, q)) if b is None else (p, (a, b))
        return Complex(c.op("mul", re, one), c.op("mul", im, one))
    return Complex(c.op("sub", c.op("mul", a, p), c.op("mul", b, q)), c.op("add", c.op("mul", a, q), c.op("mul", b, p)))


def div(c: Call) -> Complex:
    (a, b), (p, q) = _pair(c, c.arg("self")), _pair(c, c.arg("other"))
    if q is not None or b is None:
        raise UnsupportedError("by complex numbers")
    return Complex(c.op("div", a, p), c.op("div", b, p))


def conj(c: Call) -> Complex:
    z = c.arg("self")
    return Complex(z.re, c.op("neg", z.im))


def magnitude(c: Call) -> Value:
    z = c.arg("self")
    return c.op("sqrt", c.op("add", c.op("square", z.re), c.op("square", z.im)))


def angle(c: Call) -> Value:
    z = c.arg("self")
    return c.op("atan2", z.im, z.re)


def view_as_real(c: Call) -> Value:
    return _joined(c, c.arg("self"))


@handles("view_as_complex")
def view_as_complex(c: Call) -> Complex:
    return _apart(c, c.x())


@handles("complex")
def from_parts(c: Call) -> Complex:
    return Complex(c.x("real"), c.x("imag"))


@handles("polar")
def polar(c: Call) -> Complex:
    size, at = c.x("abs"), c.x("angle")
    return Complex(c.op("mul", size, c.op("cos", at)), c.op("mul", size, c.op("sin", at)))


@handles("unfold_backward")
def unfold_backward(c: Call) -> Value:
    """Windows [..., count along dim, ..., size] added up where they were taken from: the end of an inverse STFT."""
    x, sizes = c.x("grad_in"), c.arg("input_sizes")
    rank = c.rank(x) - 1
    a, size, step = c.axis(c.number("dim"), rank), c.number("size"), c.number("step")
    rest = [i for i in range(rank) if i != a]
    count = c.op("reshape", c.dims(x, a, a + 1), c.i64())
    at = c.op("range", c.const(np.int64(0)), c.op("mul", count, c.const(np.int64(step))), c.const(np.int64(step)))
    at = c.op("add", c.op("unsqueeze", at, c.i64(1)), c.const(np.arange(size)))
    order = c.vector([sizes[i] for i in (a, *rest)])
    zeros = c.op("fill", order, c.scalar(0, x))
    rows = c.transpose(x, (a, rank, *rest))
    if rest:  # the sum of windows comes without the batch
        shape = c.op("concat", c.dims(rows, 0, 2), c.vector([sizes[i] for i in rest]), axis=0)
        rows = c.op("expand", rows, shape)
    y = c.op("scatter_nd", zeros, c.op("unsqueeze", at, c.i64(-1)), rows, reduction="add")
    return c.transpose(y, [1 + rest.index(i) if i != a else 0 for i in range(rank)])


COMPLEX = {
    "_fft_c2c": c2c,
    "_fft_c2r": c2r,
    "add": add,
    "sub": add,
    "mul": mul,
    "div": div,
    "_conj": conj,
    "_conj_physical": conj,
    "abs": magnitude,
    "angle": angle,
    "view_as_real": view_as_real,
}
for _name in ("_fft_c2c", "_fft_c2r", "_conj", "_conj_physical", "view_as_real", "angle"):
    HANDLERS.setdefault(_name, COMPLEX[_name])  # of complex numbers only
