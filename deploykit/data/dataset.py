"""``dk.data.Dataset``: a lazy chain of steps over elements (arrays, or tuples and dicts of them).

Each pass over a Dataset starts anew.  Order and random choices depend on seeds alone, also with parallel ``map``;
memory is what the steps buffer (shuffle, prefetch, cache) and never grows with the length.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from deploykit.autodiff import tree
from deploykit.errors import InputError

Make = Callable[[], Iterator[Any]]


def _array(x: Any) -> Any:
    """Arrays in tuples and dicts; lists are arrays."""
    if isinstance(x, tuple):
        return tuple(map(_array, x))
    return {k: _array(v) for k, v in x.items()} if isinstance(x, dict) else np.asarray(x)


class Dataset:
    """A sequence of elements that can be passed over again and again.

    >>> d = Dataset.from_tensor_slices((np.arange(4), np.arange(4) * 10))
    >>> [(int(a), int(b)) for a, b in d.shuffle(4, seed=1).take(2)] == [(int(a), int(b)) for a, b in d.shuffle(4, seed=1).take(2)]
    True
    """

    def __init__(self, make: Make, length: int | None = None) -> None:
        self._make, self._length = make, length

    def __iter__(self) -> Iterator[Any]:
        return self._make()

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("the length of this dataset is not known; see cardinality().")
        return self._length

    def cardinality(self) -> int | None:
        """Number of elements, None where unknown or endless."""
        return self._length

    def as_list(self) -> list[Any]:
        """All elements."""
        return list(self)

    as_numpy_iterator = __iter__

    # ---- sources
    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """The slices along dim 0 of an array, or of a nest of arrays of one length."""
        arrays = _array(tensors)
        sizes = {len(a) if a.ndim else -1 for a in tree.flatten(arrays)[0]}
        if len(sizes) != 1 or -1 in sizes:
            shapes = [a.shape for a in tree.flatten(arrays)[0]]
            raise InputError(f"from_tensor_slices: arrays must have one length along dim 0; got shapes {shapes}.")
        n = sizes.pop()
        return Dataset(lambda: (tree.map_structure(lambda a, i=i: a[i], arrays) for i in range(n)), n)

    @staticmethod
    def from_tensors(tensors: Any) -> Dataset:
        """One element."""
        x = _array(tensors)
        return Dataset(lambda: iter([x]), 1)

    @staticmethod
    def from_generator(generator: Callable[[], Iterable[Any]], length: int | None = None) -> Dataset:
        """What a function without arguments gives each time it is called."""
        if not callable(generator):
            raise InputError(
                "from_generator: give a function that returns an iterator, so that it can be started again."
            )
        return Dataset(lambda: (_array(x) for x in generator()), length)

    @staticmethod
    def range(*args: int) -> Dataset:
        """Integers, as Python's range."""
        r = range(*args)
        return Dataset(lambda: (np.int64(i) for i in r), len(r))

    @staticmethod
    def zip(*datasets: Any) -> Dataset:
        """Elements side by side, as long as the shortest."""
        ds = datasets[0] if len(datasets) == 1 and isinstance(datasets[0], (tuple, list)) else datasets
        lengths = [d._length for d in ds]
        n = None if None in lengths else min(lengths)  # type: ignore[type-var]
        return Dataset(lambda: (t for t in zip(*ds, strict=False)), n)

    @staticmethod
    def from_csv(path: Any, label: str | None = None, separator: str = ",") -> Dataset:
        """Rows of a CSV file with a header: dicts of numbers and strings, (dict, label) when a column is named."""
        import csv

        def rows() -> Iterator[Any]:
            with open(path, newline="", encoding="utf-8") as f:
                reader = csv.DictReader(f, delimiter=separator)
                if label is not None and label not in (reader.fieldnames or []):
                    raise InputError(f"{path}: no column '{label}'; columns: {', '.join(reader.fieldnames or [])}.")
                for row in reader:
                    x = {k: _number(v) for k, v in row.items()}
                    yield (x, x.pop(label)) if label is not None else x

        return Dataset(rows)

    @staticmethod
    def from_image_folder(path: Any, size: tuple[int, int], channels: int = 3, labels: bool = True) -> Dataset:
        """uint8 images [height, width, channels] of a folder; with labels (image, class), a sub-folder per class.

        ``class_names`` of the result lists the classes.
        """
        from deploykit.data.sources import image_folder

        return image_folder(path, size, channels, labels)

    @staticmethod
    def from_tfrecord(path: Any) -> Dataset:
        """The records (bytes) of a TFRecord file; checksums are checked."""
        from deploykit.data.sources import tfrecord

        return Dataset(lambda: tfrecord(path))

    # ---- steps
    def map(self, f: Callable[..., Any], num_parallel_calls: int | None = None) -> Dataset:
        """f of each element (of its parts, when it is a tuple); in order, also with several threads."""

        def call(x: Any) -> Any:
            return _array(f(*x) if isinstance(x, tuple) else f(x))

        def parallel() -> Iterator[Any]:
            n = num_parallel_calls or 1
            with ThreadPoolExecutor(n) as pool:
                waiting: deque[Any] = deque()
                source = iter(self)
                for x in itertools.islice(source, 2 * n):
                    waiting.append(pool.submit(call, x))
                while waiting:
                    done = waiting.popleft()
                    for x in itertools.islice(source, 1):
                        waiting.append(pool.submit(call, x))
                    yield done.result()

        serial = num_parallel_calls is None or num_parallel_calls in (0, 1)
        return Dataset((lambda: (call(x) for x in self)) if serial else parallel, self._length)

    def filter(self, f: Callable[..., Any]) -> Dataset:
        """The elements for which f is true."""
        return Dataset(lambda: (x for x in self if bool(f(*x) if isinstance(x, tuple) else f(x))))

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Elements stacked, so many at a time."""
        _positive("batch_size", batch_size)

        def make() -> Iterator[Any]:
            source = iter(self)
            while rows := list(itertools.islice(source, batch_size)):
                if len(rows) < batch_size and drop_remainder:
                    return
                yield _stack(rows)

        n = (
            None
            if self._length is None
            else self._length // batch_size
            if drop_remainder
            else -(-self._length // batch_size)
        )
        return Dataset(make, n)

    def padded_batch(self, batch_size: int, padding_value: float = 0, drop_remainder: bool = False) -> Dataset:
        """Elements of different shapes, filled up to the largest of the batch."""
        _positive("batch_size", batch_size)

        def pad(*xs: np.ndarray) -> np.ndarray:
            to = np.max([x.shape for x in xs], axis=0)
            out = np.full((len(xs), *to), padding_value, xs[0].dtype)
            for i, x in enumerate(xs):
                out[(i, *(slice(d) for d in x.shape))] = x  # type: ignore[index]
            return out

        def make() -> Iterator[Any]:
            source = iter(self)
            while rows := list(itertools.islice(source, batch_size)):
                if len(rows) == batch_size or not drop_remainder:
                    yield tree.map_structure(pad, rows[0], *rows[1:])

        return Dataset(make, self.batch(batch_size, drop_remainder)._length)

    def unbatch(self) -> Dataset:
        """The slices of each element."""
        return Dataset(lambda: (y for x in self for y in Dataset.from_tensor_slices(x)))

    def shuffle(self, buffer_size: int, seed: int | None = None, reshuffle_each_iteration: bool = True) -> Dataset:
        """In random order, from a buffer; with a seed the same order every time (another one for each pass)."""
        _positive("buffer_size", buffer_size)
        passes = itertools.count()
        fixed = seed if seed is not None else int(np.random.default_rng().integers(1 << 31))

        def make() -> Iterator[Any]:
            rng = np.random.default_rng([fixed, next(passes) if reshuffle_each_iteration else 0])
            source = iter(self)
            buffer = list(itertools.islice(source, buffer_size))
            for x in source:
                i = int(rng.integers(len(buffer)))
                out, buffer[i] = buffer[i], x
                yield out
            rng.shuffle(buffer)  # type: ignore[arg-type]
            yield from buffer

        return Dataset(make, self._length)

    def cache(self) -> Dataset:
        """Kept in memory after the first whole pass."""
        kept: list[Any] = []
        full = False

        def make() -> Iterator[Any]:
            nonlocal full
            if full:
                yield from kept
                return
            seen = []
            for x in self:
                seen.append(x)
                yield x
            kept[:] = seen
            full = True

        return Dataset(make, self._length)

    def prefetch(self, buffer_size: int = 2) -> Dataset:
        """Prepared ahead by a thread."""
        _positive("buffer_size", buffer_size)
        end = object()

        def make() -> Iterator[Any]:
            ready: queue.Queue[Any] = queue.Queue(buffer_size)
            stop = threading.Event()

            def put(x: Any) -> bool:
                while not stop.is_set():
                    try:
                        ready.put(x, timeout=0.1)
                        return True
                    except queue.Full:
                        continue
                return False

            def work() -> None:
                try:
                    for x in self:
                        if not put((x, None)):
                            return
                    put((end, None))
                except BaseException as e:  # handed over to the reader
                    put((end, e))

            threading.Thread(target=work, daemon=True).start()
            try:
                while True:
                    x, error = ready.get()
                    if error is not None:
                        raise error
                    if x is end:
                        return
                    yield x
            finally:
                stop.set()

        return Dataset(make, self._length)

    def interleave(self, f: Callable[[Any], Iterable[Any]], cycle_length: int = 2, block_length: int = 1) -> Dataset:
        """Elements of f(x) of several x in turn."""

        def make() -> Iterator[Any]:
            source = iter(self)
            open_ = [iter(f(x)) for x in itertools.islice(source, cycle_length)]
            at = 0
            while open_:
                block = list(itertools.islice(open_[at], block_length))
                yield from block
                if len(block) < block_length:
                    fresh = next(source, None)
                    if fresh is None:
                        del open_[at]
                        at = at % len(open_) if open_ else 0
                        continue
                    open_[at] = iter(f(fresh))
                at = (at + 1) % len(open_)

        return Dataset(make)

    def repeat(self, count: int | None = None) -> Dataset:
        """Again and again (forever by default)."""

        def make() -> Iterator[Any]:
            for _ in itertools.count() if count is None else range(count):
                empty = True
                for x in self:
                    empty = False
                    yield x
                if empty:
                    return

        return Dataset(make, None if count is None or self._length is None else self._length * count)

    def take(self, count: int) -> Dataset:
        """The first elements."""
        n = None if self._length is None else min(self._length, count)
        return Dataset(lambda: itertools.islice(iter(self), count), n)

    def skip(self, count: int) -> Dataset:
        """Without the first elements."""
        n = None if self._length is None else max(self._length - count, 0)
        return Dataset(lambda: itertools.islice(iter(self), count, None), n)

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Every num_shards-th element from index on."""
        return Dataset(lambda: itertools.islice(iter(self), index, None, num_shards))

    def concatenate(self, other: Dataset) -> Dataset:
        """First this, then the other."""
        n = None if self._length is None or other._length is None else self._length + other._length
        return Dataset(lambda: itertools.chain(self, other), n)

    def enumerate(self, start: int = 0) -> Dataset:
        """(number, element)."""
        return Dataset(lambda: ((np.int64(i), x) for i, x in enumerate(self, start)), self._length)

    def window(self, size: int, shift: int | None = None, drop_remainder: bool = False) -> Dataset:
        """Stacked windows of ``size`` elements, ``shift`` apart (default: size)."""
        _positive("size", size)
        step = shift or size

        def make() -> Iterator[Any]:
            source, held = iter(self), deque[Any]()
            while True:
                held.extend(itertools.islice(source, size - len(held)))
                if not held or (len(held) < size and drop_remainder):
                    return
                yield _stack(list(held))
                for _ in range(min(step, len(held))):
                    held.popleft()
                for _ in range(step - size):
                    next(source, None)
                if len(held) < size - step and step < size:
                    return

        return Dataset(make)

    def reduce(self, initial: Any, f: Callable[[Any, Any], Any]) -> Any:
        """f(state, element) over all elements."""
        for x in self:
            initial = f(initial, x)
        return initial


def _stack(rows: Sequence[Any]) -> Any:
    def stack(*xs: Any) -> np.ndarray:
        shapes = {np.shape(x) for x in xs}
        if len(shapes) > 1:
            raise InputError(
                f"batch: elements of different shapes {sorted(shapes)[:4]}; use padded_batch, or resize them."
            )
        return np.stack(xs)

    return tree.map_structure(stack, rows[0], *rows[1:])


def _positive(what: str, n: int) -> None:
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise InputError(f"{what}: got {n!r}, expected 1 or more.")


def _number(text: str) -> Any:
    try:
        return np.float32(text) if any(c in text for c in ".eEnN") else np.int64(text)
    except ValueError:
        return np.str_(text)
