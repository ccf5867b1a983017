"""``dk.Tensor``: an array that ops record on tapes and in traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import state
from deploykit.dtypes import DType
from deploykit.errors import DeploykitError
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Value
from deploykit.ops.core import Op
from deploykit.ops.dispatch import coerce, run_reference


class TraceError(DeploykitError):
    """Something was asked of a traced tensor that only a number can answer."""

    code = "DK-TRACE"


if TYPE_CHECKING:

    class Operators:
        """NumPy's operators; :mod:`deploykit.autodiff.numeric` puts them in place."""

        _keras_mask: Any  # of layers: which steps count

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...

else:

    class Operators:
        """As above."""

        __slots__ = ()


class Tensor(Operators):
    """A tensor: an array (``payload`` is an ndarray), or a value of the graph that ``dk.function`` is tracing.

    Operators and indexing follow NumPy; dtypes promote as docs/training-core.md says.  Tensors do not change: state
    lives in ``dk.Variable``.

    >>> x = Tensor(np.float32([1, 2, 3]))
    >>> (x * 2 + 1).numpy()
    array([3., 5., 7.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_keras_mask", "payload")
    __array_priority__ = 100.0
    __hash__ = object.__hash__

    def __init__(self, payload: np.ndarray | Value) -> None:
        self.payload = payload

    # ---- what is known of it
    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype."""
        p = self.payload
        return p.dtype if isinstance(p, np.ndarray) else p.dtype.np  # type: ignore[union-attr]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Dims: sizes, and symbolic ones while tracing."""
        return self.payload.shape  # type: ignore[return-value]

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._array("size").size if self.traced and any(isinstance(d, Dim) for d in self.shape) else _size(self)

    @property
    def traced(self) -> bool:
        """True while it is a value of a graph that is being traced: it has no numbers."""
        return not isinstance(self.payload, np.ndarray)

    @property
    def T(self) -> Tensor:
        """Dims reversed."""
        from deploykit.autodiff import numeric

        return numeric.transpose(self)

    # ---- to NumPy and Python
    def _array(self, what: str) -> np.ndarray:
        p = self.payload
        if isinstance(p, np.ndarray):
            return p
        if p.data is not None:
            return p.data
        raise TraceError(
            f"{what} of a traced tensor: '{p.name}' {p.dtype}{list(p.shape or ())} has no numbers while a dk.function is "
            "traced. Return it from the function, or use dk.cond, dk.while_loop, dk.scan for control flow on values."
        )

    def numpy(self) -> np.ndarray:
        """The array (do not write into it); TraceError while tracing."""
        return self._array("numpy()")

    def item(self) -> Any:
        """The only element as a Python number."""
        return self._array("item()").item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._array("tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self._array("an array")
        if dtype is not None and a.dtype != dtype:
            return a.astype(dtype)
        return a.copy() if copy else a  # what a variable holds now changes with the next assignment

    def __dk_constant__(self) -> np.ndarray | None:
        p = self.payload
        return p if isinstance(p, np.ndarray) else p.data

    def __bool__(self) -> bool:
        return bool(self._array("bool()"))

    def __int__(self) -> int:
        return int(self._array("int()").item())

    def __float__(self) -> float:
        return float(self._array("float()").item())

    def __index__(self) -> int:
        return self._array("an index").__index__()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a tensor without dims.")
        d = self.shape[0]
        if isinstance(d, Dim):
            raise TraceError(f"len() of a traced tensor whose first dim is symbolic ({d}).")
        return d

    def __iter__(self) -> Iterator[Tensor]:
        for i in range(len(self)):
            yield self[i]

    def __repr__(self) -> str:
        if self.traced:
            return f"Tensor(traced, {self.payload!r})"
        return f"Tensor({np.array2string(self.payload, separator=', ', prefix='Tensor(')}, dtype={self.dtype.name})"  # type: ignore[arg-type]

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def astype(self, dtype: Any) -> Tensor:
        """Cast."""
        from deploykit.autodiff import numeric

        return numeric.cast(self, dtype)

    def reshape(self, *shape: Any) -> Tensor:
        """As NumPy's: ``x.reshape(2, -1)`` or ``x.reshape((2, -1))``."""
        from deploykit.autodiff import numeric

        return numeric.reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    # ---- applying ops
    @staticmethod
    def __dk_apply__(op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        return apply(op, inputs, attrs)


def _size(x: Tensor) -> int:
    n = 1
    for d in x.shape:
        n *= d  # type: ignore[operator]
    return n


def is_tensor(x: Any) -> bool:
    """True for tensors and variables."""
    return hasattr(type(x), "__dk_apply__")


def apply(op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    """Apply an op to tensors, variables, arrays and numbers: at once or into the trace, and onto the tapes.

    Results are Tensors; a tuple where the op has several results.
    """
    if op.eager is None:
        op.eager = _make_eager(op)
    ins = [x.read() if hasattr(x, "__dk_read__") else x for x in coerce(op, inputs)]
    payloads = [x.payload if isinstance(x, Tensor) else x for x in ins]
    trace = state.trace()
    if trace is not None and (trace.forced(op) or any(isinstance(p, Value) for p in payloads)):
        trace.note(ins)
        outs = trace.apply(op, payloads, attrs)
    else:
        outs = tuple(run(op, payloads, attrs))
    results = tuple(Tensor(y) for y in outs)
    for tape in state.current.tapes:
        tape.record_op(op, ins, results, attrs)
    return results[0] if len(op.results) == 1 and not op.results[0].variadic else results


# ---- calling the engine
@cache
def _bound() -> bool:
    from deploykit import native_calls

    return native_calls.bind(Tensor, "payload")


_WEAK = (
    "elementwise",
    "unary",
    "convert",
    "activation",
)  # families where numbers take the tensors' dtype, as in coerce


def direct(op: Op, floats: bool = False) -> Callable[..., Any]:
    """The op without attrs as a built-in function of tensors, arrays and None, at least one a tensor.  It knows nothing
    of tapes, and gives NotImplemented for what it does not take: traced tensors, variables, other dtypes, errors.

    floats: refuse integers.
    """
    from deploykit import native_calls

    kernel = None
    one = len(op.results) == 1 and not op.results[0].variadic
    if one and not op.flags & {"random", "effect"} and not any(a.required for a in op.attrs.values()) and _bound():
        numbers = native_calls.NUMBERS if op.family in _WEAK else 0
        kernel = native_calls.prepare(op, {}, 1, native_calls.TENSORS | numbers | native_calls.FLOATS_ONLY * floats)
    return _refuse if kernel is None else kernel


def _refuse(*inputs: Any) -> Any:
    return NotImplemented


def record(op: Op, inputs: tuple[Any, ...], y: Tensor) -> None:
    """Put what :func:`direct` did onto the tapes of this thread."""
    for tape in state.current.tapes:
        tape.record_direct(op, inputs, y)


def _make_eager(op: Op) -> Callable[..., Any]:
    kernel = direct(op)
    if not any(a.required for a in op.attrs.values()):
        op.complete({})  # remembers the defaults, for tapes
    if kernel is _refuse:
        return _refuse

    def eager(*inputs: Any) -> Any:
        y = kernel(*inputs)
        if state.busy and y is not NotImplemented:
            record(op, inputs, y)
        return y

    return eager


_KERNELS: dict[str, bool] = {}
_PREPARED: dict[Any, Callable[..., Any] | None] = {}
_MOST_PREPARED = 4096  # attrs that differ from call to call are not worth more memory


def run(op: Op, arrays: list[Any], attrs: dict[str, Any]) -> Any:
    """Run one op on arrays: on the engine where it has a kernel, else by its reference."""
    from deploykit import native

    if op.name not in _KERNELS:
        _KERNELS[op.name] = native.available() and native.has_kernel(op.name)
    if not _KERNELS[op.name]:
        return run_reference(op, [None if x is None else np.asarray(x) for x in arrays], attrs)
    given = dict(attrs)
    n = given.pop("n_outputs", None)
    given = {k: v for k, v in given.items() if v != op.attrs[k].default}
    kernel = _prepared(op, given, n)
    if kernel is not None:
        y = kernel(*arrays)
        if y is not NotImplemented:
            return y if isinstance(y, tuple) else (y,)
    return native.run_op(op.name, arrays, given, n)


def _prepared(op: Op, given: dict[str, Any], n: int | None) -> Callable[..., Any] | None:
    key = (op.name, n, *given.items())
    try:
        return _PREPARED[key]
    except TypeError:  # an attr that is a graph
        return None
    except KeyError:
        if len(_PREPARED) >= _MOST_PREPARED or op.flags & {"random", "effect"} or not _bound():
            return None
    from deploykit import native_calls

    outputs = n or sum(not r.variadic for r in op.results) or 1
    kernel = _PREPARED[key] = native_calls.prepare(op, given, outputs, 0)
    return kernel


def convert_to_tensor(x: Any, dtype: Any = None) -> Tensor:
    """A tensor of anything array-like.  Python floats become float32, Python ints int32, arrays keep their dtype.

    >>> convert_to_tensor([1.5, 2]).dtype
    dtype('float32')
    """
    if hasattr(x, "__dk_read__"):
        x = x.read()
    if isinstance(x, Tensor) and (dtype is None or dtypes.dtype(dtype) is dtypes.dtype(x.dtype)):
        return x
    from deploykit.autodiff import numeric

    if isinstance(x, Tensor):
        return numeric.cast(x, dtype)
    if isinstance(x, (list, tuple)) and any(is_tensor(e) for e in _leaves(x)):
        t = numeric.stack([convert_to_tensor(e, dtype) for e in x])
        return t
    a = np.asarray(x) if dtype is None else np.asarray(x, dtype=dtypes.dtype(dtype).np)
    if dtype is None and not hasattr(x, "dtype"):
        a = a.astype({"float64": np.float32, "int64": np.int32}.get(a.dtype.name, a.dtype))
    dtypes.dtype(a.dtype)  # objects and strings are refused here
    return Tensor(np.ascontiguousarray(a) if a.ndim else a)


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, (list, tuple)):
        for e in x:
            yield from _leaves(e)
    else:
        yield x


def dtype_of(x: Any) -> DType:
    """The DType of a tensor, variable or array."""
    return dtypes.dtype(x.dtype)
