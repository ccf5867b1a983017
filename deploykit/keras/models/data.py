"""Batches for fit, evaluate and predict: of arrays, of datasets, of any iterable."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from deploykit.autodiff import random, tree
from deploykit.autodiff.tensor import Tensor
from deploykit.errors import InputError


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a batch: a tuple of one to three, or x alone.

    >>> unpack((1, 2))
    (1, 2, None)
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise InputError(f"a batch has {len(data)} parts, expected (x,), (x, y) or (x, y, sample_weight).")
    return (*data, None, None)[:3]  # type: ignore[return-value]


def pack(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, ...]:
    """A batch without the absent parts."""
    return (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)


def class_weights(y: Any, weights: dict[int, float]) -> np.ndarray:
    """Weights of samples by their class; classes not named weigh 1."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        y = y.argmax(1)
    if y.ndim > 2:
        raise InputError("class_weight: labels must be one per sample.")
    table = np.ones(max([*weights, int(y.max(initial=0))]) + 1, np.float32)
    for k, v in weights.items():
        table[int(k)] = v
    return table[y.reshape(-1).astype(np.int64)]


def split(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[Any, Any]:
    """The last ``fraction`` of arrays for validation."""
    if not 0 < fraction < 1:
        raise InputError(f"validation_split: got {fraction}, expected a number between 0 and 1.")
    n = len(tree.flatten(x)[0][0])
    cut = int(n * (1 - fraction))
    if cut in (0, n):
        raise InputError(f"validation_split={fraction} of {n} samples leaves nothing on one side.")
    parts = (x, y, sample_weight)
    first = tuple(None if p is None else tree.map_structure(lambda a: a[:cut], p) for p in parts)
    return first, pack(*(None if p is None else tree.map_structure(lambda a: a[cut:], p) for p in parts))


class Arrays:
    """Batches cut from arrays, shuffled anew each epoch where asked for."""

    def __init__(self, parts: tuple[Any, ...], batch_size: int, shuffle: bool, limit: int | None) -> None:
        self.parts = tree.map_structure(lambda a: a.numpy() if isinstance(a, Tensor) else _narrow(np.asarray(a)), parts)
        sizes = {len(a) if a.ndim else None for a in tree.flatten(self.parts)[0]}
        if len(sizes) != 1 or None in sizes:
            shapes = [a.shape for a in tree.flatten(self.parts)[0]]
            raise InputError(f"x, y and sample_weight must have as many samples; got shapes {shapes}.")
        self.n: int = sizes.pop()  # type: ignore[assignment]
        if not self.n:
            raise InputError("the data is empty: 0 samples.")
        self.batch_size, self.shuffle = batch_size, shuffle
        self.steps = -(-self.n // batch_size)
        if limit is not None:
            self.steps = min(self.steps, limit)

    def peek(self) -> Any:
        """A batch, to learn shapes from."""
        return tree.map_structure(lambda a: a[:1], self.parts)

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of an epoch."""
        order = None
        if self.shuffle:
            order = np.random.default_rng(random.default_generator().key()).permutation(self.n)
        for i in range(self.steps):
            at = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.n))
            if order is None:
                yield tree.map_structure(lambda a, at=at: a[at], self.parts)
            else:
                yield tree.map_structure(lambda a, at=at: a[order[at]], self.parts)


def _narrow(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float32) if a.dtype == np.float64 else a


class Iterable:
    """Batches from something that gives them: a Dataset (each epoch anew) or a generator (on and on)."""

    def __init__(self, source: Any, limit: int | None) -> None:
        self.source, self.limit = source, limit
        self.steps = limit if limit is not None else len(source) if hasattr(source, "__len__") else None
        again = iter(source)
        self._once = again if again is source else None
        self._first: list[Any] = []

    def peek(self) -> Any:
        if self._once is not None:
            self._first = list(itertools.islice(self._once, 1))
            return _arrays(self._first[0]) if self._first else None
        return next((_arrays(b) for b in self.source), None)

    def epoch(self, number: int) -> Iterator[Any]:
        source = itertools.chain(self._first, self._once) if self._once is not None else iter(self.source)
        self._first = []
        for b in itertools.islice(source, self.limit) if self.limit is not None else source:
            yield _arrays(b)
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


class One:
    """A single batch."""

    steps = 1

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def peek(self) -> Any:
        return self.batch


def _arrays(batch: Any) -> Any:
    batch = tuple(batch) if isinstance(batch, list) else batch
    batch = batch if isinstance(batch, tuple) else (batch,)
    return tree.map_structure(lambda a: a if isinstance(a, Tensor) else _narrow(np.asarray(a)), batch)


class _Indexed:
    """A PyDataset: batches by number."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return self.source.num_batches if hasattr(self.source, "num_batches") else len(self.source)

    def __iter__(self) -> Iterator[Any]:
        return (self.source[i] for i in range(len(self)))

    def on_epoch_end(self) -> None:
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


def adapt(x: Any, y: Any, sample_weight: Any, batch_size: int | None, shuffle: bool, class_weight: Any, limit: int | None) -> Any:  # fmt: skip
    """Batches of whatever was given."""
    leaves = tree.flatten(x)[0] if isinstance(x, (list, tuple, dict)) else [x]
    if x is None:
        raise InputError("no data: x is None.")
    if all(isinstance(a, (np.ndarray, Tensor, list, int, float)) for a in leaves) and leaves:
        if isinstance(x, (list, tuple)) and not isinstance(leaves[0], (np.ndarray, Tensor)):
            x = np.asarray(x)
        if isinstance(y, list) and not isinstance(y[0], (np.ndarray, Tensor)):
            y = np.asarray(y)
        if class_weight is not None:
            extra = class_weights(y, class_weight)
            sample_weight = extra if sample_weight is None else np.asarray(sample_weight) * extra
        return Arrays(pack(x, y, sample_weight), batch_size or 32, shuffle, limit)
    if y is not None or sample_weight is not None:
        raise InputError(
            f"x is a {type(x).__name__}, which gives whole batches: y and sample_weight must come from it."
        )
    if class_weight is not None:
        raise InputError("class_weight works with arrays; in a dataset map the weights in.")
    if hasattr(x, "__getitem__") and hasattr(x, "__len__") and not hasattr(x, "__iter__"):
        x = _Indexed(x)
    return Iterable(x, limit)
