"""``keras.backend.core``: Variable, conversions, shape inference, control flow.  Signatures are Keras' own."""

from __future__ import annotations

import builtins
import contextlib
from typing import Any

import numpy as np
from keras.src import tree
from keras.src.backend.common import KerasVariable, standardize_dtype
from keras.src.backend.common import variables as variables_of_keras
from keras.src.backend.common.dtypes import result_type
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.common.stateless_scope import StatelessScope, get_stateless_scope, in_stateless_scope
from keras.src.backend.common.symbolic_scope import SymbolicScope
from keras.src.backend.config import floatx

from deploykit import dtypes
from deploykit.autodiff import control, numeric, state, tape, tensor
from deploykit.autodiff import variable as variables
from deploykit.autodiff.tensor import Tensor, TraceError
from deploykit.autodiff.trace import Trace
from deploykit.errors import UnsupportedError
from deploykit.graph.dims import Dim
from deploykit.ops.core import F

SUPPORTS_SPARSE_TENSORS = False
SUPPORTS_RAGGED_TENSORS = False
SUPPORTS_COMPLEX_DTYPES = False
IS_THREAD_SAFE = True

# symbolic tensors leave arithmetic to their own operators, by NumPy's protocol
KerasTensor.__array_ufunc__ = None  # type: ignore[attr-defined]


def our_dtype(dtype: Any) -> str:
    """A dtype of Keras by name; UnsupportedError for those that our core lacks."""
    name = standardize_dtype(dtype)
    if name not in dtypes.BY_NAME:
        raise UnsupportedError(
            f"keras_backend: dtype '{name}' is not supported; known: {', '.join(dtypes.BY_NAME)}. "
            "Complex numbers travel as pairs of real tensors (keras.ops.fft and its relatives)."
        )
    return name


_REFLECTED = {
    "add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__", "power": "__rpow__",
    "true_divide": "__rtruediv__", "floor_divide": "__rfloordiv__", "remainder": "__rmod__", "matmul": "__rmatmul__",
}  # fmt: skip


class Variable(KerasVariable):
    """A Keras variable whose value is a ``dk.Variable``: ops, tapes and traces know it."""

    __dk_apply__ = staticmethod(tensor.apply)
    __dk_read__ = True

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy leaves operators to us (``array * variable``); its own functions get the numbers."""
        if method == "__call__" and not kwargs and len(inputs) == 2 and isinstance(inputs[0], np.ndarray):
            own = getattr(type(self), _REFLECTED.get(ufunc.__name__, ""), None)
            if own is not None:
                return own(self, inputs[0])
        arrays = (x.numpy() if isinstance(x, Variable) else x for x in inputs)
        return getattr(ufunc, method)(*arrays, **kwargs)

    def _initialize(self, value: Any) -> None:
        given = convert_to_tensor(value, dtype=self._dtype)
        self._value = variables.Variable(given, trainable=self._trainable, name=self.name, path=self.path)

    def _direct_assign(self, value: Any) -> None:
        self._value.assign(value)

    def _convert_to_tensor(self, value: Any, dtype: Any = None) -> Tensor:
        return convert_to_tensor(value, dtype=dtype)

    @property
    def value(self) -> Tensor:
        """The current value: a tensor that later assignments do not change."""
        if in_stateless_scope():
            given = get_stateless_scope().get_current_value(self)
            if given is not None:
                return self._maybe_autocast(given)
        if self._value is None:  # not initialised yet: a stand-in for shape inference
            return self._maybe_autocast(convert_to_tensor(self._initializer(self._shape, dtype=self._dtype)))
        return self._maybe_autocast(self._value.read())

    @property
    def __dk_variable__(self) -> variables.Variable:
        """What tapes follow: ``tape.gradient(loss, model.trainable_variables)``."""
        return self._value

    def read(self) -> Tensor:
        """As ``value``: what our ops ask for."""
        return self.value

    def __dk_constant__(self) -> Any:
        return self.value.__dk_constant__()

    @property
    def trainable(self) -> bool:
        """Whether optimizers change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        if getattr(self, "_value", None) is not None:
            self._value.trainable = bool(value)


# ---------------------------------------------------------------- conversions
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    if sparse or ragged:
        kind = "sparse" if sparse else "ragged"
        raise ValueError(f"`{kind}=True` is not supported with the deploykit backend")
    name = None if dtype is None else our_dtype(dtype)
    if isinstance(x, Variable):
        x = x.value
    if isinstance(x, Tensor):
        return x if name is None or x.dtype.name == name else _cast(x, name)
    if isinstance(x, KerasTensor):
        raise ValueError(f"a symbolic tensor has no value: {x}. Use it in a functional model only.")
    if name is None:
        name = _dtype_of(x)
    if isinstance(x, (list, tuple)) and any(isinstance(e, (Tensor, KerasVariable)) for e in tree.flatten(x)):
        return numeric.stack([convert_to_tensor(e, name) for e in x])
    a = np.asarray(x)
    if a.dtype == object or a.dtype.kind in "USO":
        raise ValueError(f"Cannot convert {type(x).__name__} of dtype {a.dtype} to a tensor of dtype {name}: {x!r}")
    return Tensor(np.ascontiguousarray(_numbers(a, name)) if a.ndim else np.asarray(_numbers(a, name)))


def _numbers(a: np.ndarray, name: str) -> np.ndarray:
    """An array of its own (tensors never change) with this dtype."""
    with np.errstate(all="ignore"):
        return a.astype(dtypes.dtype(name).np)


def _dtype_of(x: Any) -> str:
    if hasattr(x, "dtype"):
        return our_dtype(x.dtype)
    if isinstance(x, (bool, np.bool_)):
        return "bool"
    if isinstance(x, int):
        return "int32" if -(2**31) <= x < 2**31 else "int64"
    if isinstance(x, float):
        return floatx()
    leaves = tree.flatten(x) if isinstance(x, (list, tuple)) else [np.asarray(x)]
    return our_dtype(result_type(*[getattr(e, "dtype", type(e)) for e in leaves]))


def _cast(x: Tensor, name: str) -> Tensor:
    return numeric.cast(x, name)


def convert_to_numpy(x):
    if isinstance(x, (list, tuple)):
        return np.array([np.asarray(e) for e in x])
    return np.array(x)


def is_tensor(x):
    return isinstance(x, Tensor)


def shape(x):
    return tuple(x.shape)


def standardize_shape(shape):
    """Keras' own, with the unknown dims of an export as None."""
    if isinstance(shape, tuple):
        shape = tuple(None if isinstance(d, Dim) else d for d in shape)
    return variables_of_keras.standardize_shape(shape)


def sizes(shape: Any) -> Any:
    """A shape for ops: unknown dims as scalar tensors, read off the input that has them."""
    if not isinstance(shape, (tuple, list)) or not any(isinstance(d, Dim) for d in shape):
        return shape
    trace = state.trace()
    while trace is not None and trace.outer is not None:
        trace = trace.outer
    inputs = [] if trace is None else trace.builder.graph.inputs

    def size(d: Any) -> Any:
        for v in inputs if isinstance(d, Dim) else ():
            for axis, e in enumerate(v.shape or ()):
                if e == d:
                    return numeric.shape(Tensor(v))[axis]
        return d

    return tuple(size(d) for d in shape)


def cast(x, dtype):
    return convert_to_tensor(x, dtype)


def weak(x: Any) -> Any:
    """What dtype promotion sees: the dtype of a tensor, or the type of a Python number."""
    return getattr(x, "dtype", type(x))


def traced(*xs: Any) -> bool:
    """Whether one of these has no numbers yet."""
    return any(isinstance(x, Tensor) and x.__dk_constant__() is None for x in tree.flatten(xs))


# ---------------------------------------------------------------- shape inference
def compute_output_spec(fn, *args, **kwargs):
    """Trace fn on inputs of the given shapes, unknown dims once as 83 and once as 89; what differs stays unknown."""
    with SymbolicScope(), tape.no_gradient():
        first = _outputs(fn, args, kwargs, 83)
        unknown = any(isinstance(x, KerasTensor) and None in x.shape for x in tree.flatten((args, kwargs)))
        second = _outputs(fn, args, kwargs, 89) if unknown else first
        return tree.map_structure(_spec, first, second)


def _outputs(fn, args, kwargs, size):
    trace = Trace("symbolic")
    count = iter(range(10**6))

    def stand_in(x, eager=False):
        if not isinstance(x, KerasTensor):
            return x
        dims = tuple(size if d is None else d for d in x.shape)
        if eager:
            return Tensor(np.ones(dims, dtypes.dtype(our_dtype(x.dtype)).np))
        return trace.input(f"x{next(count)}", dtypes.dtype(our_dtype(x.dtype)), dims)

    # each time with a scope of its own: what one trace assigns to variables is nothing to the next
    with trace.active(), StatelessScope():
        try:
            given, named = tree.map_structure(stand_in, (args, kwargs))
            return fn(*given, **named)
        except TraceError:
            pass  # something asked for numbers: ones will do
    stack, state.current.traces = state.current.traces, []
    try:
        with StatelessScope():
            given, named = tree.map_structure(lambda x: stand_in(x, True), (args, kwargs))
            return fn(*given, **named)
    finally:
        state.current.traces = stack


def _spec(a, b):
    if isinstance(a, np.ndarray):
        a, b = Tensor(a), Tensor(np.asarray(b))
    if not isinstance(a, Tensor):
        return a
    dims = tuple(p if p == q else None for p, q in zip(a.shape, b.shape, strict=True))
    return KerasTensor(dims, standardize_dtype(a.dtype))


# ---------------------------------------------------------------- control flow
def cond(pred, true_fn, false_fn):
    if isinstance(pred, Variable):
        pred = pred.value
    return control.cond(pred, true_fn, false_fn)


def vectorized_map(function, elements):
    """One call per element, results stacked: our core has no batching transform."""
    leaves = [convert_to_tensor(x) for x in tree.flatten(elements)]
    rows = [function(tree.pack_sequence_as(elements, [x[i] for x in leaves])) for i in range(leaves[0].shape[0])]
    return tree.map_structure(lambda *ys: numeric.stack([convert_to_tensor(y) for y in ys]), *rows)


def map(f, xs):
    return scan(lambda _, x: ((), f(x)), (), xs)[1]


def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    if not callable(f):
        raise TypeError(f"`f` should be a callable. Received: f={f}")
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ValueError(f"`unroll` must be an positive integer or boolean. Received: unroll={unroll}")
    if xs is None and length is None:
        raise ValueError("Got no `xs` to scan over and `length` not provided.")
    leaves = [] if xs is None else [convert_to_tensor(x) for x in tree.flatten(xs)]
    n = int(length) if length is not None else leaves[0].shape[0]
    carry = tree.map_structure(convert_to_tensor, init)
    if state.trace() is not None and traced(carry, leaves) and not in_stateless_scope():
        packed = None if xs is None else tree.pack_sequence_as(xs, leaves)
        return control.scan(f, carry, packed, n, reverse)
    rows = []
    for i in reversed(range(n)) if reverse else range(n):
        carry, y = f(carry, tree.pack_sequence_as(xs, [x[i] for x in leaves]) if leaves else None)
        rows.append(y)
    rows = rows[::-1] if reverse else rows
    if not rows or rows[0] is None:
        return carry, None
    return carry, tree.map_structure(lambda *ys: numeric.stack([convert_to_tensor(y) for y in ys]), *rows)


def associative_scan(f, elems, reverse=False, axis=0):
    """Inclusive prefix combination by doubling: log2(n) rounds of one f over all places."""
    if not callable(f):
        raise TypeError(f"`f` should be a callable. Received: f={f}")
    leaves = [convert_to_tensor(x) for x in tree.flatten(elems)]
    n = leaves[0].shape[axis]
    if any(x.shape[axis] != n for x in leaves):
        raise ValueError(
            "Array inputs to associative_scan must have the same first dimension. "
            f"(saw: {[tuple(x.shape) for x in leaves]})"
        )
    leaves = [numeric.flip(x, axis) for x in leaves] if reverse else leaves
    step = 1
    while step < n:
        left = [numeric.split(x, [n - step], axis)[0] for x in leaves]
        right = [numeric.split(x, [step], axis) for x in leaves]
        both = f(tree.pack_sequence_as(elems, left), tree.pack_sequence_as(elems, [r[1] for r in right]))
        leaves = [numeric.concatenate([r[0], y], axis) for r, y in zip(right, tree.flatten(both), strict=True)]
        step *= 2
    leaves = [numeric.flip(x, axis) for x in leaves] if reverse else leaves
    return tree.pack_sequence_as(elems, leaves)


def while_loop(cond, body, loop_vars, maximum_iterations=None):
    nest = tree.map_structure(convert_to_tensor, loop_vars)
    return control.while_loop(cond, body, nest, maximum_iterations)


def fori_loop(lower, upper, body_fun, init_val):
    if not traced(lower, upper):
        val = init_val
        for i in range(int(lower), int(upper)):
            val = body_fun(i, val)
        return val
    start = (convert_to_tensor(lower), tree.map_structure(convert_to_tensor, init_val))
    return control.while_loop(lambda i, _: i < upper, lambda i, v: (i + 1, body_fun(i, v)), start)[1]


def switch(index, branches, *operands):
    index = numeric.clip(convert_to_tensor(index, "int32"), 0, len(branches) - 1)
    if not traced(index):
        return branches[int(index)](*operands)

    def pick(k):
        if k == len(branches) - 1:
            return branches[k](*operands)
        return control.cond(numeric.equal(index, k), lambda: branches[k](*operands), lambda: pick(k + 1))

    return pick(0)


# ---------------------------------------------------------------- slices
def _indices(indices: Any) -> Tensor:
    return convert_to_tensor(indices, "int64")


def scatter(indices, values, shape):
    values = convert_to_tensor(values)
    zeros = numeric.zeros(tuple(shape), values.dtype)
    return F.scatter_nd(zeros, _indices(indices), values, reduction="add")


def scatter_update(inputs, indices, updates, reduction=None):
    if reduction not in (None, "add", "max", "min", "mul"):
        raise ValueError(f"Unsupported reduction: {reduction}")
    inputs = convert_to_tensor(inputs)
    updates = convert_to_tensor(updates, inputs.dtype)
    return F.scatter_nd(inputs, _indices(indices), updates, reduction=reduction or "none")


def slice(inputs, start_indices, shape):
    inputs = convert_to_tensor(inputs)
    if len(start_indices) != len(shape):
        raise ValueError(
            "Length of `start_indices` must match length of `shape`. "
            f"Received: start_indices={start_indices}, shape={shape}"
        )
    sizes = [n if s == -1 else s for s, n in zip(shape, inputs.shape, strict=True)]
    if not traced(start_indices):
        at = [int(i) for i in start_indices]
        return inputs[tuple(builtins.slice(i, i + int(n)) for i, n in zip(at, sizes, strict=True))]
    start = numeric.stack([convert_to_tensor(i, "int64") for i in start_indices])
    return F.slice(inputs, start, start + np.array(sizes, np.int64), np.arange(len(sizes)))


def slice_update(inputs, start_indices, updates):
    inputs = convert_to_tensor(inputs)
    updates = convert_to_tensor(updates, inputs.dtype)
    grids = np.meshgrid(*[np.arange(n) for n in updates.shape], indexing="ij")
    places = convert_to_tensor(np.stack(grids, -1), "int64")
    start = numeric.stack([convert_to_tensor(i, "int64") for i in start_indices])
    return F.scatter_nd(inputs, places + start, updates)


def unstack(x, num=None, axis=0):
    return numeric.unstack(convert_to_tensor(x), num, axis)


# ---------------------------------------------------------------- gradients, devices
def stop_gradient(variable):
    return tape.stop_gradient(convert_to_tensor(variable))


def custom_gradient(fun):
    return tape.custom_gradient(fun)


def remat(f):
    """Nothing is kept for memory's sake: the engine plans buffers over the whole step."""
    return f


def random_seed_dtype():
    return "uint32"


@contextlib.contextmanager
def device_scope(device_name):
    """The CPU is the only device."""
    if not isinstance(device_name, str):
        raise ValueError(f"device: got {device_name!r}, expected a string like 'cpu:0'.")
    yield
