"""NumPy-like functions on tensors (variables, arrays, numbers), made of ops: names and arguments as in ``numpy`` and
``keras.ops``.  Dtypes promote as :mod:`deploykit.autodiff.promote` says; results are Tensors."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import state
from deploykit.autodiff.promote import common
from deploykit.autodiff.tensor import Tensor, convert_to_tensor, direct, dtype_of
from deploykit.errors import ShapeError
from deploykit.graph import growth
from deploykit.graph.dims import Dim
from deploykit.ops import F, Op, get
from deploykit.ops.grads import shape_value

all_of = builtins.all
Axis = int | Sequence[int] | None


# ---- to one dtype
def _same(*xs: Any, floats: bool = False) -> list[Tensor]:
    first = xs[0]
    if type(first) is Tensor and all_of(type(x) is Tensor and x.dtype is first.dtype for x in xs) and not floats:
        return list(xs)
    d = common(*xs)
    if floats and d.kind != "f":
        d = dtypes.float32
    return [convert_to_tensor(x, d) for x in xs]


def _float(x: Any) -> Tensor:
    t = convert_to_tensor(x)
    return t if dtype_of(t).kind == "f" else cast(t, "float32")


def _binary(name: str, floats: bool = False) -> Callable[[Any, Any], Tensor]:
    def f(x1: Any, x2: Any) -> Tensor:
        return get(name)(*_same(x1, x2, floats=floats))

    f.__name__ = name
    f.__doc__ = f"The op ``{name}``, element by element, after promotion to one dtype."
    return f


def _unary(name: str, floats: bool = False) -> Callable[[Any], Tensor]:
    def f(x: Any) -> Tensor:
        return get(name)(_float(x) if floats else convert_to_tensor(x))

    f.__name__ = name
    f.__doc__ = f"The op ``{name}``, element by element."
    return f


add = _binary("add")
subtract = _binary("sub")
multiply = _binary("mul")
divide = _binary("div", floats=True)
floor_divide = _binary("floor_div")
mod = _binary("mod")
maximum = _binary("maximum")
minimum = _binary("minimum")
arctan2 = _binary("atan2", floats=True)
equal = _binary("equal")
not_equal = _binary("not_equal")
less = _binary("less")
less_equal = _binary("less_equal")
greater = _binary("greater")
greater_equal = _binary("greater_equal")
bitwise_and = _binary("bitwise_and")
bitwise_or = _binary("bitwise_or")
bitwise_xor = _binary("bitwise_xor")
negative = _unary("neg")
abs = _unary("abs")
sign = _unary("sign")
square = _unary("square")
floor = _unary("floor", floats=True)
ceil = _unary("ceil", floats=True)
round = _unary("round", floats=True)
exp = _unary("exp", floats=True)
log = _unary("log", floats=True)
log1p = _unary("log1p", floats=True)
expm1 = _unary("expm1", floats=True)
sqrt = _unary("sqrt", floats=True)
rsqrt = _unary("rsqrt", floats=True)
sin = _unary("sin", floats=True)
cos = _unary("cos", floats=True)
tan = _unary("tan", floats=True)
arcsin = _unary("asin", floats=True)
arccos = _unary("acos", floats=True)
arctan = _unary("atan", floats=True)
sinh = _unary("sinh", floats=True)
cosh = _unary("cosh", floats=True)
tanh = _unary("tanh", floats=True)
arcsinh = _unary("asinh", floats=True)
arccosh = _unary("acosh", floats=True)
arctanh = _unary("atanh", floats=True)
erf = _unary("erf", floats=True)
reciprocal = _unary("reciprocal", floats=True)
relu = _unary("relu")
relu6 = _unary("relu6", floats=True)
sigmoid = _unary("sigmoid", floats=True)
softplus = _unary("softplus", floats=True)
softsign = _unary("softsign", floats=True)
silu = _unary("silu", floats=True)
isnan = _unary("is_nan", floats=True)
isinf = _unary("is_inf", floats=True)


def power(x1: Any, x2: Any) -> Tensor:
    """x1 ** x2."""
    if isinstance(x2, (int, float)) and not isinstance(x2, bool) and x2 == 2:
        return square(convert_to_tensor(x1))
    return F.pow(*_same(x1, x2))


def logical_and(x1: Any, x2: Any) -> Tensor:
    """Element by element, on truth values."""
    return F.logical_and(cast(x1, "bool"), cast(x2, "bool"))


def logical_or(x1: Any, x2: Any) -> Tensor:
    """Element by element, on truth values."""
    return F.logical_or(cast(x1, "bool"), cast(x2, "bool"))


def logical_not(x: Any) -> Tensor:
    """Element by element, on truth values."""
    return F.logical_not(cast(x, "bool"))


def cast(x: Any, dtype: Any) -> Tensor:
    """x as another dtype (floats to integers: cut off)."""
    t = convert_to_tensor(x)
    d = dtypes.dtype(dtype)
    return t if dtype_of(t) is d else F.cast(t, dtype=d.name)


def where(condition: Any, x1: Any, x2: Any) -> Tensor:
    """x1 where the condition holds, x2 elsewhere."""
    a, b = _same(x1, x2)
    return F.where(cast(condition, "bool"), a, b)


def clip(x: Any, x_min: Any, x_max: Any) -> Tensor:
    """min(max(x, x_min), x_max)."""
    t = convert_to_tensor(x)
    if isinstance(x_min, (int, float)) and isinstance(x_max, (int, float)):
        d = common(t, x_min, x_max)
        return F.clip(convert_to_tensor(t, d), np.asarray(x_min).astype(d.np), np.asarray(x_max).astype(d.np))
    return minimum(maximum(t, x_min), x_max)


# ---- shapes
def shape(x: Any) -> tuple[Any, ...]:
    """Dims; where they are symbolic, scalar tensors that will know them."""
    t = convert_to_tensor(x)
    if not builtins.any(isinstance(d, Dim) for d in t.shape):
        return tuple(t.shape)
    dims = F.shape_of(t)
    return tuple(
        d if not isinstance(d, Dim) else F.squeeze(F.gather(dims, np.array([i])), np.array([0]))
        for i, d in enumerate(t.shape)
    )


def _ints(values: Any) -> Any:
    """A shape operand: an int64 vector; parts may be tensors."""
    if isinstance(values, (int, np.integer)):
        values = (values,)
    if isinstance(values, Tensor):
        return cast(values, "int64")
    if builtins.any(isinstance(v, Tensor) for v in values):
        return F.concat(*(F.reshape(cast(v, "int64"), np.array([1])) for v in values), axis=0)
    return np.array([int(v) for v in values], np.int64)


def reshape(x: Any, newshape: Any) -> Tensor:
    """The same elements under another shape; one dim may be -1."""
    t = convert_to_tensor(x)
    if isinstance(newshape, (tuple, list)) and builtins.any(isinstance(d, Dim) for d in newshape):
        known = [d for d in newshape if isinstance(d, Dim)]
        newshape = [
            (-1 if len(known) == 1 else shape(t)[t.shape.index(d)]) if isinstance(d, Dim) else d for d in newshape
        ]
    to = _ints(newshape)
    return F.reshape(t, to, allow_zero=not (isinstance(to, np.ndarray) and (to == -1).any()))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Dims in another order (reversed by default)."""
    t = convert_to_tensor(x)
    perm = tuple(reversed(range(t.ndim))) if axes is None else tuple(a % t.ndim for a in axes)
    return t if perm == tuple(range(t.ndim)) else F.transpose(t, perm=perm)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two dims exchanged."""
    t = convert_to_tensor(x)
    order = list(range(t.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(t, order)


def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Dims moved to other places."""
    t = convert_to_tensor(x)
    src = [s % t.ndim for s in ([source] if isinstance(source, int) else source)]
    dst = [d % t.ndim for d in ([destination] if isinstance(destination, int) else destination)]
    order = [i for i in range(t.ndim) if i not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return transpose(t, order)


def expand_dims(x: Any, axis: Any) -> Tensor:
    """New dims of size 1."""
    return F.unsqueeze(convert_to_tensor(x), _ints(axis))


def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Without dims of size 1 (all, or those named)."""
    t = convert_to_tensor(x)
    axes = [i for i, d in enumerate(t.shape) if d == 1] if axis is None else axis
    return F.squeeze(t, _ints(axes)) if not (isinstance(axes, list) and not axes) else t


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """x repeated to a shape."""
    return F.expand(convert_to_tensor(x), _ints(shape))


def concatenate(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Joined along a dim."""
    return F.concat(*_same(*xs), axis=axis) if len(xs) > 1 else convert_to_tensor(xs[0])


def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Joined along a new dim."""
    ts = _same(*xs)
    return concatenate([expand_dims(t, axis) for t in ts], axis)


def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """The slices along a dim."""
    t = convert_to_tensor(x)
    n = num if num is not None else t.shape[axis]
    if not isinstance(n, int):
        raise ShapeError(f"unstack: dim {axis} of {t.shape} is symbolic; give num.")
    if n == 1:
        return [squeeze(t, axis)]
    return [squeeze(p, axis) for p in split(t, n, axis)]


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Pieces along a dim: so many equal ones, or cut at these places."""
    t = convert_to_tensor(x)
    n = t.shape[axis]
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if not isinstance(n, int) or n % k:
            raise ShapeError(f"split: dim {axis} of size {n}, expected a multiple of {k}.")
        sizes = [n // k] * k
    else:
        cuts = [0, *indices_or_sections, n]
        sizes = [b - a for a, b in zip(cuts, cuts[1:], strict=False)]
    return [t] if len(sizes) == 1 else list(F.split(t, np.array(sizes, np.int64), axis=axis, n_outputs=len(sizes)))


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Tensor:
    """Rows around, as NumPy's pad; modes constant, reflect, edge, wrap."""
    t = convert_to_tensor(x)
    width = np.asarray(pad_width)
    width = np.broadcast_to(width, (t.ndim, 2))
    value = None if constant_values is None else np.asarray(constant_values).astype(t.dtype)
    return F.pad(t, width.T.reshape(-1).astype(np.int64), value, mode=mode)


def tile(x: Any, repeats: Any) -> Tensor:
    """The whole repeated along each dim."""
    t = convert_to_tensor(x)
    r = [repeats] if isinstance(repeats, int) else list(repeats)
    while len(r) < t.ndim:
        r.insert(0, 1)
    while t.ndim < len(r):
        t = expand_dims(t, 0)
    return F.tile(t, _ints(r))


def repeat(x: Any, repeats: int, axis: int | None = None) -> Tensor:
    """Each element (slice along axis) so many times."""
    t = convert_to_tensor(x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    axis %= t.ndim
    n = t.shape[axis]
    if not isinstance(n, int):
        raise ShapeError(f"repeat: dim {axis} of {t.shape} is symbolic.")
    each = np.asarray(repeats, object)  # Python's integers: a product of theirs does not wrap around
    total = int(each.sum()) * (n if each.size == 1 else 1)
    growth.take("what is repeated", (total if total > 0 else 0,), 8)
    return F.gather(t, np.repeat(np.arange(n), repeats), axis=axis)


def flip(x: Any, axis: Axis = None) -> Tensor:
    """Reversed along dims (all by default)."""
    t = convert_to_tensor(x)
    return F.reverse(
        t, axes=tuple(range(t.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    )


def roll(x: Any, shift: int, axis: int) -> Tensor:
    """Rotated along a dim."""
    t = convert_to_tensor(x)
    n = t.shape[axis]
    if not isinstance(n, int):
        raise ShapeError(f"roll: dim {axis} of {t.shape} is symbolic.")
    k = shift % n if n else 0
    return concatenate(split(t, [n - k], axis)[::-1], axis) if k else t


# ---- making tensors
def zeros(shape: Any, dtype: Any = "float32") -> Tensor:
    """Zeros."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = "float32") -> Tensor:
    """Ones."""
    return full(shape, 1, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """One value everywhere."""
    d = dtypes.dtype(dtype) if dtype is not None else common(fill_value)
    to = _ints(shape)
    if isinstance(to, np.ndarray) and not isinstance(fill_value, Tensor):
        growth.take("a constant", tuple(map(int, to)), d.np.itemsize)  # a file may ask for terabytes
        return Tensor(np.full(tuple(to), fill_value, d.np))
    return convert_to_tensor(
        F.fill(to, cast(fill_value, d) if isinstance(fill_value, Tensor) else np.asarray(fill_value).astype(d.np))
    )


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros in x's shape."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones in x's shape."""
    return full_like(x, 1, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """One value in x's shape."""
    t = convert_to_tensor(x)
    to = shape_value(t)
    return full(to if isinstance(to, Tensor) else tuple(to), fill_value, dtype or t.dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """Numbers at equal distances."""
    start, stop = (0, start) if stop is None else (start, stop)
    d = dtypes.dtype(dtype) if dtype is not None else common(start, stop, step)
    if builtins.any(isinstance(v, Tensor) and v.traced for v in (start, stop, step)):
        return F.range(*(cast(v, d) for v in (start, stop, step)))
    return Tensor(np.arange(*(np.asarray(v).item() for v in (start, stop, step))).astype(d.np))


def linspace(start: float, stop: float, num: int = 50) -> Tensor:
    """num numbers from start to stop."""
    return Tensor(np.linspace(start, stop, num, dtype=np.float32))


def eye(n: int, m: int | None = None, dtype: Any = "float32") -> Tensor:
    """Ones on the diagonal."""
    return Tensor(np.eye(n, m, dtype=dtypes.dtype(dtype).np))


def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = "float32") -> Tensor:
    """A new axis with 1 at the place that the element says; outside 0..num_classes - 1 all zeros."""
    t = cast(x, "int64")
    inside = F.logical_and(F.greater_equal(t, np.int64(0)), F.less(t, np.int64(num_classes)))
    t = F.where(inside, t, np.int64(num_classes))
    d = dtypes.dtype(dtype).np
    return F.one_hot(t, np.int64(num_classes), np.array([0, 1], d), axis=axis)


# ---- reductions
def _axes(x: Tensor, axis: Axis) -> np.ndarray | None:
    if axis is None:
        return None
    axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
    if [a for a in axes if not -x.ndim <= a < x.ndim]:
        raise ShapeError(f"axis {axis} of a tensor of rank {x.ndim}; allowed are {-x.ndim} to {x.ndim - 1}.")
    return np.array([a % x.ndim for a in axes], np.int64)


def _reduction(name: str, floats: bool = False, grow: bool = False) -> Callable[..., Tensor]:
    def f(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        t = _float(x) if floats else convert_to_tensor(x)
        if grow and dtype_of(t).kind in "biu" and dtype_of(t).bits < 32:
            t = cast(t, "int32")
        axes = _axes(t, axis)
        if axes is not None and axes.size == 0:
            return t
        return get(name)(t, axes, keepdims=keepdims)

    f.__name__ = name
    f.__doc__ = f"The op ``{name}`` over ``axis`` (None: all; a number or several)."
    return f


sum = _reduction("reduce_sum", grow=True)
mean = _reduction("reduce_mean", floats=True)
max = _reduction("reduce_max")
min = _reduction("reduce_min")
prod = _reduction("reduce_prod", grow=True)
logsumexp = _reduction("reduce_log_sum_exp", floats=True)
amax, amin = max, min


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether one of the elements is true."""
    return cast(max(cast(cast(x, "bool"), "int32"), axis, keepdims), "bool")


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true."""
    return cast(min(cast(cast(x, "bool"), "int32"), axis, keepdims), "bool")


def var(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean squared distance from the mean."""
    t = _float(x)
    return mean(square(t - mean(t, axis, keepdims=True)), axis, keepdims)  # type: ignore[operator]


def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Square root of the variance."""
    return sqrt(var(x, axis, keepdims))


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Place of the largest (int32)."""
    return _arg("arg_max", x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Place of the smallest (int32)."""
    return _arg("arg_min", x, axis, keepdims)


def _arg(name: str, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    t = convert_to_tensor(x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    return cast(get(name)(t, axis=axis, keepdims=keepdims), "int32")


def cumsum(x: Any, axis: int = 0) -> Tensor:
    """Running sums."""
    return F.cumsum(convert_to_tensor(x), np.int64(axis))


# ---- products
def matmul(x1: Any, x2: Any) -> Tensor:
    """Matrix product with NumPy's rules for batches and vectors."""
    return F.matmul(*_same(x1, x2))


def dot(x1: Any, x2: Any) -> Tensor:
    """NumPy's dot."""
    a, b = _same(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return F.mul(a, b)
    return matmul(a, b) if b.ndim <= 2 else tensordot(a, b, ([-1], [-2]))


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Einstein summation."""
    return F.einsum(*_same(*operands), equation=subscripts)


def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Tensor:
    """Sum over pairs of dims."""
    a, b = _same(x1, x2)
    if isinstance(axes, int):
        left, right = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        left, right = ([v] if isinstance(v, int) else list(v) for v in axes)
        left, right = [v % a.ndim for v in left], [v % b.ndim for v in right]
    letters = "abcdefghijklmnopqrstuvwxyz"
    la = letters[: a.ndim]
    fresh = iter(letters[a.ndim :])
    lb = "".join(la[left[right.index(i)]] if i in right else next(fresh) for i in range(b.ndim))
    out = "".join(c for i, c in enumerate(la) if i not in left) + "".join(c for i, c in enumerate(lb) if i not in right)
    return einsum(f"{la},{lb}->{out}", a, b)


def outer(x1: Any, x2: Any) -> Tensor:
    """Products of all pairs."""
    return multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


# ---- picking
def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Slices at these places along a dim (of the flat tensor by default); negative ones count from the end."""
    t = convert_to_tensor(x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    return F.gather(t, _index(indices), axis=axis)


def _index(indices: Any) -> Any:
    i = convert_to_tensor(indices)
    return i if dtype_of(i).name in ("int32", "int64") else cast(i, "int64")


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """One element of each line along a dim."""
    return F.gather_elements(convert_to_tensor(x), _index(indices), axis=axis)


def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """(the k largest of the last dim, their places as int32)."""
    values, places = F.top_k(convert_to_tensor(x), np.array([k], np.int64), axis=-1, sorted=sorted)
    return values, cast(places, "int32")


def sort(x: Any, axis: int = -1) -> Tensor:
    """In rising order along a dim."""
    return _sorted(x, axis)[0]


def argsort(x: Any, axis: int = -1) -> Tensor:
    """The places that would sort (int32)."""
    return cast(_sorted(x, axis)[1], "int32")


def _sorted(x: Any, axis: int) -> Any:
    t = convert_to_tensor(x)
    n = t.shape[axis]
    return F.top_k(
        t, np.array([n], np.int64) if isinstance(n, int) else _ints([shape(t)[axis]]), axis=axis, largest=False
    )


# ---- of neural networks
def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along a dim."""
    return F.softmax(_float(x), axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)), without overflow."""
    return F.log_softmax(_float(x), axis=axis)


def broadcast_arrays(*xs: Any) -> list[Tensor]:
    """All in their common shape."""
    ts = [convert_to_tensor(x) for x in xs]
    to = np.broadcast_shapes(*(tuple(t.shape) for t in ts))  # type: ignore[arg-type]
    return [t if tuple(t.shape) == to else broadcast_to(t, to) for t in ts]


# ---- operators
def _install() -> None:
    from deploykit.autodiff.indexing import getitem
    from deploykit.autodiff.variable import Variable

    arithmetic = {
        "add": add,
        "sub": subtract,
        "mul": multiply,
        "truediv": divide,
        "floordiv": floor_divide,
        "mod": mod,
        "pow": power,
        "matmul": matmul,
    }
    compare = dict(eq=equal, ne=not_equal, lt=less, le=less_equal, gt=greater, ge=greater_equal)
    for cls in (Tensor, Variable):
        for dunder, f in arithmetic.items():
            name = {"truediv": "div", "floordiv": "floor_div"}.get(dunder, dunder)
            setattr(cls, f"__{dunder}__", _operator(f, name))
            setattr(cls, f"__r{dunder}__", lambda a, b, f=f: _operate(f, b, a))
        for dunder, f in compare.items():
            setattr(cls, f"__{dunder}__", _operator(f, f.__name__))
        for dunder, both in {"and": (logical_and, bitwise_and), "or": (logical_or, bitwise_or)}.items():
            setattr(cls, f"__{dunder}__", lambda a, b, both=both: _bits(both, a, b))
            setattr(cls, f"__r{dunder}__", lambda a, b, both=both: _bits(both, b, a))
        for dunder, g in dict(neg=negative, abs=abs, invert=_invert, getitem=getitem).items():
            setattr(cls, f"__{dunder}__", g)


def _invert(x: Any) -> Tensor:
    return logical_not(x) if dtype_of(x).kind == "b" else F.bitwise_not(x)


def _operator(f: Callable[[Any, Any], Tensor], name: str) -> Callable[[Any, Any], Any]:
    """``a + b`` and the like: tensors of one dtype take the shortest way into the engine."""
    kernel: Callable[..., Any] | None = None
    op: Any = None

    def operator(a: Any, b: Any) -> Any:
        nonlocal kernel, op
        if kernel is None:
            op = get(name)
            op.complete({})  # remembers the defaults, for tapes
            kernel = direct(op, floats=name == "div")
        y = kernel(a, b)
        if y is NotImplemented:
            return _operate(f, a, b)
        if state.busy:
            for tape in state.current.tapes:
                tape.record_direct(op, (a, b), y)
        return y

    return operator


def _operate(f: Callable[[Any, Any], Tensor], a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str) or a is None or b is None:
        return NotImplemented
    return f(a, b)


def _bits(both: tuple[Any, Any], a: Any, b: Any) -> Tensor:
    a, b = _same(a, b)
    return both[0](a, b) if dtype_of(a).kind == "b" else both[1](a, b)


def op(name: str) -> Op:
    """The passport of an op, to call it on tensors: ``op("conv")(x, w, strides=(2, 2))``."""
    return get(name)


_install()
