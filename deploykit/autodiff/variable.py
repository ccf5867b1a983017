"""``dk.Variable``: state that ops read and ``assign`` changes; the engine reads and writes it in place."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import state
from deploykit.autodiff import tensor as tensors
from deploykit.autodiff.tensor import Tensor
from deploykit.errors import ShapeError

ALIGN = 64  # bytes; as many may be read behind the end
_LARGE = 1 << 16  # elements
_numbers = itertools.count()


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros at an address that the engine's vectors like, with room behind."""
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.zeros(count + 2 * ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + count].view(dtype).reshape(shape)


class Variable(tensors.Operators):
    """Mutable state with a fixed shape and dtype.

    value: initial value, array-like (or a function without arguments that gives it).  trainable: whether tapes watch
    it.  name: for people; ``path`` is the name in exported files.

    >>> v = Variable([1.0, 2.0])
    >>> v.assign_add([1.0, 1.0]).numpy()
    array([2., 3.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_snapshot", "buffer", "name", "path", "trainable")
    __array_priority__ = 100.0
    __hash__ = object.__hash__
    __dk_apply__ = staticmethod(tensors.apply)
    __dk_read__ = True

    def __init__(
        self, value: Any, *, trainable: bool = True, dtype: Any = None, name: str = "", path: str = ""
    ) -> None:
        start = tensors.convert_to_tensor(value() if callable(value) else value, dtype).numpy()
        self.buffer = aligned(start.shape, start.dtype)
        if start.size < _LARGE or start.any():  # memory of zeros takes no room before it is written
            self.buffer[...] = start
        self.trainable = trainable
        self.name = name or f"variable_{next(_numbers)}"
        self.path = path or self.name
        self._snapshot: Tensor | None = None

    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype."""
        return self.buffer.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Dims."""
        return self.buffer.shape

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return self.buffer.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.buffer.size

    @property
    def value(self) -> Tensor:
        """The current value: a tensor that later assignments do not change."""
        return self.read()

    def read(self) -> Tensor:
        """As ``value``."""
        trace = state.trace()
        if trace is not None:
            t = trace.read(self)
        else:
            if self._snapshot is None:
                self._snapshot = Tensor(self.buffer)
            t = self._snapshot
        for tape in state.current.tapes:
            tape.saw(self, t)
        return t

    def keep_snapshot(self) -> None:
        """Before the buffer changes: give the tensor read last, which may still be in use, numbers of its own."""
        if self._snapshot is not None:
            self._snapshot.payload = self.buffer.copy()
            self._snapshot = None

    def assign(self, value: Any) -> Variable:
        """Set the value; returns the variable."""
        if state.current.borrowing and isinstance(value, np.ndarray) and not value.flags.writeable:
            if value.dtype == self.dtype and value.shape == self.shape and state.trace() is None:
                self.keep_snapshot()
                self.buffer = value
                return self
        t = tensors.convert_to_tensor(value)
        if t.dtype != self.dtype:
            t = t.astype(self.dtype)
        if tuple(t.shape) != self.shape:
            raise ShapeError(f"variable '{self.path}': assign; got shape {tuple(t.shape)}, expected {self.shape}.")
        trace = state.trace()
        if trace is not None:
            trace.assign(self, t)
        else:
            self.keep_snapshot()
            np.copyto(self.buffer, t.numpy())
        return self

    def assign_add(self, value: Any) -> Variable:
        """Add to the value."""
        return self.assign(self + value)  # type: ignore[operator]

    def assign_sub(self, value: Any) -> Variable:
        """Subtract from the value."""
        return self.assign(self - value)  # type: ignore[operator]

    def numpy(self) -> np.ndarray:
        """A copy of the value."""
        return self.read().numpy() if state.trace() is not None else self.buffer.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.read().__array__(dtype) if state.trace() is not None else self.buffer.astype(dtype or self.dtype)

    def __dk_constant__(self) -> np.ndarray | None:
        return None if state.trace() is not None else self.buffer

    def __len__(self) -> int:
        return len(self.read())

    def __bool__(self) -> bool:
        return bool(self.read())

    def __int__(self) -> int:
        return int(self.read())

    def __float__(self) -> float:
        return float(self.read())

    def __repr__(self) -> str:
        return f"Variable({self.path!r}, {dtypes.dtype(self.dtype)}{list(self.shape)})"
